//! Weights files: safetensors that carry their architecture, configuration, digest and licence. Only [`import`] reads
//! pickles.

mod source;
pub use source::Weights;
