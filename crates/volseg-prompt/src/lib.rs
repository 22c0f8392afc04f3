//! Prompts for a promptable network with nobody to give them: saliency of an image-text model, a dense CRF, the largest
//! component, then a box, points and a text token.

pub mod chain;
pub mod crf;
mod error;
pub mod saliency;
pub mod sensitivity;
pub mod vqa;

pub use error::Error;
