//! BiomedCLIP: a vision transformer and a BERT that put pictures and words into one space (specs: biomedclip.md). Every size
//! comes from [`ClipConfig`]; tensors have the published names.

mod config;
mod input;
mod layout;
mod model;
mod text;
mod tokenizer;
mod vision;

pub use config::{ClipConfig, TextConfig, VisionConfig};
pub use input::{Fit, fit_picture};
pub(crate) use layout::{ClipSource, is_clip};
pub use model::{ARCH, ClipModel, ClipNetwork, normalised};
pub use text::TextTower;
pub use tokenizer::WordPieces;
pub use vision::{Site, Split, VisionTower};

/// The small image-text model that ships inside (model card: docs/explanation/model-card.md; licence:
/// weights/WEIGHTS-LICENSE.md). It knows the organs of volseg and stands in until BiomedCLIP is imported.
pub static SHIPPED: &[u8] = include_bytes!("../weights/clip.safetensors");
