//! Networks of volseg on candle: the embedded model, SAM-Med2D, SAM and MedSAM, and their weights.

pub mod clip;
pub mod config;
#[cfg(feature = "cuda")]
mod cuda;
mod device;
pub mod embedded;
mod error;
pub mod grad_ops;
pub mod loss;
pub mod mask_decoder;
pub mod medvint;
pub mod ops;
mod params;
pub mod picture;
pub mod prompt_encoder;
pub mod resample;
pub mod sam;
pub mod share;
pub mod vit;
pub mod weights;

pub use device::gpu;
pub use error::Error;
pub use params::{Init, Params};
