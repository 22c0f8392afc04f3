use super::{WeightsFile, malformed, pth};
use crate::Error;
use candle_core::Tensor;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// What `import` reads: a torch checkpoint or safetensors with the official names.
pub(crate) enum Checkpoint {
    Torch(pth::Checkpoint),
    Safetensors(WeightsFile),
}

impl Checkpoint {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let mut start = [0u8; 8];
        let read = std::fs::File::open(path).and_then(|mut f| f.read(&mut start));
        let n = read.map_err(|source| Error::Io { what: format!("read {}", path.display()), source })?;
        match &start[..n] {
            [b'P', b'K', 3, 4, ..] => Ok(Self::Torch(pth::Checkpoint::open(path)?)),
            // The length of a safetensors header may begin with these two bytes, but its upper half is zero.
            [0x80, 2..=5, _, _, upper @ ..] if upper.iter().any(|&b| b != 0) => malformed(
                "it is in the form of torch before 1.6; load it there and save it again with torch.save(state_dict, file)",
            ),
            _ => Ok(Self::Safetensors(WeightsFile::open(path)?)),
        }
    }

    pub(crate) fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        match self {
            Self::Torch(c) => c.shapes(),
            Self::Safetensors(f) => f.shapes(),
        }
    }

    /// A tensor as `f32`.
    pub(crate) fn read(&self, name: &str) -> Result<Tensor, Error> {
        match self {
            Self::Torch(c) => c.read(name),
            Self::Safetensors(f) => f.read(name),
        }
    }

    pub(crate) fn metadata(&self) -> BTreeMap<String, String> {
        match self {
            Self::Torch(_) => BTreeMap::new(),
            Self::Safetensors(f) => f.metadata().clone(),
        }
    }
}
