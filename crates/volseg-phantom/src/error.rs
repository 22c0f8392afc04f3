use thiserror::Error;

/// What a caller can get wrong when asking for a phantom.
#[derive(Debug, Error)]
pub enum Error {
    /// The grid cannot be filled.
    #[error(
        "a phantom's grid has 1 to {most_voxels} voxels of 0.2 to 20 mm, but {dim:?} voxels of {spacing_mm:?} mm were asked for"
    )]
    Grid {
        /// Voxels along x, y, z.
        dim: [usize; 3],
        /// Voxel sizes in mm.
        spacing_mm: [f64; 3],
        /// Most voxels allowed.
        most_voxels: usize,
    },
    /// A picture's side is out of range.
    #[error("a phantom picture has a side of 64 to 4096 pixels, but {found} were asked for")]
    Picture {
        /// The side asked for.
        found: usize,
    },
    /// The grid was refused.
    #[error(transparent)]
    Geometry(#[from] volseg_geometry::Error),
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
