//! MedVInT-TD: a picture and a question to an answer in words (specs: medvint.md). A residual network looks, learned queries
//! gather what it saw into a few tokens, and a LLaMA that reads them before the question writes the answer.

mod config;
mod language;
mod layout;
mod model;
mod queries;
mod tokenizer;
mod vision;

pub use config::{LanguageConfig, MedVintConfig, QueryConfig, VisionConfig};
pub use language::Precision;
pub use layout::ARCH;
pub(crate) use layout::{MedVintSource, is_medvint};
pub use model::{Generation, MedVint};
pub use tokenizer::SentencePieces;
