/// What can be wrong with a value handed to this crate.
#[derive(Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// The number of voxels does not fit the dimensions.
    #[error("{found} voxels given, but {dim:?} needs {expected}")]
    VoxelCount {
        /// Voxels given.
        found: usize,
        /// Voxels that the dimensions need.
        expected: usize,
        /// The dimensions.
        dim: [usize; 3],
    },
    /// The product of the dimensions does not fit the machine.
    #[error("dimensions {dim:?} are too large")]
    TooLarge {
        /// The dimensions.
        dim: [usize; 3],
    },
    /// An affine without an inverse, or with entries that are no numbers.
    #[error("affine is not usable: {reason}")]
    Affine {
        /// Why.
        reason: String,
    },
    /// Two grids differ where they must not.
    #[error("grids differ: {reason}")]
    Grid {
        /// Where and by how much.
        reason: String,
    },
    /// An argument outside its range.
    #[error("{what}: found {found}, expected {expected}")]
    InvalidArgument {
        /// Which argument.
        what: &'static str,
        /// What was given.
        found: String,
        /// What is allowed.
        expected: String,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
