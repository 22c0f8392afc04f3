/// What went wrong while prompts were made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller asked for something that cannot be done; the text names the way out.
    #[error("{0}")]
    Request(String),
    /// The image is not what prompts can be made from.
    #[error("input: {0}")]
    Input(String),
    /// A service that answers questions failed.
    #[error("{0}")]
    Backend(String),
    /// No gradient reaches the layer, so that no channel can be ranked.
    #[error("layer {0} has no gradient in this network; use norm1_patch or block_patch")]
    Degenerate(&'static str),
    /// Someone asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// A file.
    #[error(transparent)]
    Io(#[from] volseg_io::Error),
    /// The network.
    #[error(transparent)]
    Model(#[from] volseg_model::Error),
    /// A grid.
    #[error(transparent)]
    Geometry(#[from] volseg_geometry::Error),
}

impl From<candle_core::Error> for Error {
    fn from(e: candle_core::Error) -> Self {
        Self::Model(e.into())
    }
}
