use std::path::PathBuf;

/// What went wrong in training.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration cannot be used.
    #[error("configuration: {0}")]
    Config(String),
    /// A data set is not as expected.
    #[error("data set: {0}")]
    Data(String),
    /// Nothing that a data set could be lies where it should.
    #[error("data set: {0}")]
    NoSet(String),
    /// A file of a data set cannot be read: a set has hundreds, so it is named.
    #[error("data set: {file}")]
    File {
        /// Its name.
        file: String,
        /// Why not.
        #[source]
        source: volseg_io::Error,
    },
    /// Weights to begin with cannot be used.
    #[error("weights {}", file.display())]
    Weights {
        /// Their file.
        file: PathBuf,
        /// Why not.
        #[source]
        source: volseg_model::Error,
    },
    /// A checkpoint cannot be resumed.
    #[error("checkpoint: {0}")]
    Checkpoint(String),
    /// Another process writes into the folder of a run.
    #[error("another run writes into {}; wait for its end, or give another folder", folder.display())]
    Busy {
        /// The folder.
        folder: PathBuf,
    },
    /// A number that is none: the training has diverged.
    #[error("step {step}: the loss is {loss}; lower the learning rate")]
    Diverged {
        /// The step.
        step: usize,
        /// Its loss.
        loss: f32,
    },
    /// A file could not be read or written.
    #[error("could not {what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// An image or a file of judgements cannot be used.
    #[error(transparent)]
    Case(#[from] volseg_engine::Error),
    /// An image cannot be read.
    #[error(transparent)]
    Image(#[from] volseg_io::Error),
    /// Two label maps cannot be compared.
    #[error(transparent)]
    Metrics(#[from] volseg_metrics::Error),
    /// No prompt could be made.
    #[error(transparent)]
    Prompt(#[from] volseg_prompt::Error),
    /// The network failed.
    #[error(transparent)]
    Model(#[from] volseg_model::Error),
}

impl Error {
    /// Whether a file that was given is missing or broken, so that trying again does not help.
    #[must_use]
    pub fn is_unreadable_input(&self) -> bool {
        match self {
            Self::NoSet(_) => true,
            Self::Io { what, .. } => what.starts_with("read") || what.starts_with("list"),
            Self::File { source, .. }
            | Self::Image(source)
            | Self::Prompt(volseg_prompt::Error::Io(source))
            | Self::Case(volseg_engine::Error::Io(source)) => source.is_unreadable_input(),
            Self::Weights { source, .. } | Self::Model(source) => source.is_unreadable_input(),
            _ => false,
        }
    }
}

impl From<candle_core::Error> for Error {
    fn from(e: candle_core::Error) -> Self {
        Self::Model(e.into())
    }
}
