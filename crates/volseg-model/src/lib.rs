//! Networks of volseg on candle: the embedded model, SAM-Med2D, SAM and MedSAM, and their weights.

pub mod embedded;
mod error;
pub mod grad_ops;
mod params;

pub use error::Error;
pub use params::{Init, Params};
