//! Weights files: safetensors that carry their architecture, configuration, digest and licence. Only [`import`] reads
//! pickles.

mod checkpoint;
mod convert;
mod file;
mod fit;
mod folder;
mod import;
mod import_clip;
mod import_medvint;
mod pickle;
mod pth;
mod source;
mod write;

pub(crate) use checkpoint::Checkpoint;
pub use convert::convert_from_sam;
pub use file::WeightsFile;
pub(crate) use file::digest_of;
pub use fit::Fit;
pub use folder::{find, folder, installed};
pub use import::{ImportOptions, Imported, import};
pub use import_clip::{ClipImportOptions, ImportedClip, holds_clip, import_clip};
pub use import_medvint::{ImportedMedVint, MedVintImportOptions, holds_medvint, import_medvint};
pub use source::Weights;
pub use write::save;

use crate::Error;

fn malformed<T>(reason: impl Into<String>) -> Result<T, Error> {
    Err(Error::Malformed { reason: reason.into() })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
