/// What can go wrong when a preview is drawn.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Labels and image do not lie on the same grid.
    #[error("the labels have {found:?} voxels, the image has {expected:?}")]
    Grid {
        /// Size of the label map.
        found: [usize; 3],
        /// Size of the image.
        expected: [usize; 3],
    },
    /// The volume has no voxels.
    #[error("there is nothing to draw: the volume has {dim:?} voxels")]
    Empty {
        /// Its size.
        dim: [usize; 3],
    },
    /// The picture could not be encoded.
    #[error("the preview could not be encoded as PNG")]
    Encode(#[source] image::ImageError),
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
