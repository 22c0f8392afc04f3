/// What went wrong in a network or a weights file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The weights lack a tensor of this architecture.
    #[error("weights have no tensor {name}")]
    MissingTensor {
        /// Its name.
        name: String,
    },
    /// A tensor of the weights has another shape.
    #[error("tensor {name} has shape {found:?}, expected {expected:?}")]
    TensorShape {
        /// Its name.
        name: String,
        /// Shape in the file.
        found: Vec<usize>,
        /// Shape of the architecture.
        expected: Vec<usize>,
    },
    /// The weights file breaks its format.
    #[error("weights file is malformed: {reason}")]
    Malformed {
        /// How.
        reason: String,
    },
    /// The weights are of another family than the caller can use.
    #[error("weights are of architecture {found}, expected {expected}")]
    WrongArch {
        /// In the file.
        found: String,
        /// What is usable here.
        expected: String,
    },
    /// The tensors of a file do not make up its architecture.
    #[error("weights do not fit {arch}: {fit}")]
    Unfit {
        /// The architecture.
        arch: String,
        /// What is missing, misshaped or extra.
        fit: crate::weights::Fit,
    },
    /// A number of the weights is infinite or no number.
    #[error("tensor {name} holds a value that is not finite")]
    NotFinite {
        /// The tensor.
        name: String,
    },
    /// The numbers of a file are not those it was written with.
    #[error("weights are damaged: SHA-256 of the tensors is {found}, expected {expected}")]
    Digest {
        /// Of the tensors as they are.
        found: String,
        /// In the metadata.
        expected: String,
    },
    /// A GPU was asked for and cannot be used.
    #[error("cuda:{number} cannot be used: {reason}")]
    NoGpu {
        /// Which one.
        number: usize,
        /// Why not.
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
    /// The operating system said no.
    #[error("could not {what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The tensor back end failed.
    #[error("tensor operation failed: {0}")]
    Device(#[from] candle_core::Error),
}

impl Error {
    /// Whether a weights file is missing or not what it says it is.
    #[must_use]
    pub fn is_unreadable_input(&self) -> bool {
        match self {
            Self::Io { what, .. } => what.starts_with("read"),
            Self::MissingTensor { .. }
            | Self::TensorShape { .. }
            | Self::Malformed { .. }
            | Self::Unfit { .. }
            | Self::NotFinite { .. }
            | Self::Digest { .. } => true,
            _ => false,
        }
    }
}
