/// What went wrong in a case.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller asked for something that cannot be done; the text names the way out.
    #[error("{0}")]
    Request(String),
    /// A prompt file that breaks its format or does not fit the image.
    #[error("prompts: {0}")]
    Prompts(String),
    /// The input is not what the model can work on.
    #[error("input: {0}")]
    Input(String),
    /// The smallest plan needs more memory than allowed.
    #[error(
        "this case needs about {needed_mib} MiB, --memory allows {allowed_mib} MiB; allow more, or ask for fewer threads, fewer \
         organs or no probabilities"
    )]
    Memory {
        /// Planned need.
        needed_mib: u64,
        /// Allowed.
        allowed_mib: u64,
    },
    /// A manifest, site key or result that breaks its format.
    #[error("{what}: {reason}")]
    Record {
        /// Which kind of file.
        what: &'static str,
        /// What was found and what was expected.
        reason: String,
    },
    /// Someone asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// A file.
    #[error(transparent)]
    Io(#[from] volseg_io::Error),
    /// The network.
    #[error(transparent)]
    Model(#[from] volseg_model::Error),
    /// A preview.
    #[error(transparent)]
    Preview(#[from] volseg_preview::Error),
    /// A grid.
    #[error(transparent)]
    Geometry(#[from] volseg_geometry::Error),
}
