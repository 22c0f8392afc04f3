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
