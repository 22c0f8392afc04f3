//! The weights file of the embedded network: f16 safetensors with the configuration in its metadata.

use super::Config;
use crate::weights::digest_of;
use crate::{Error, Params};
use candle_core::{DType, Device, Tensor};
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

/// No embedded-type weights file is larger.
const MAX_BYTES: u64 = 256 << 20;

/// Name of the architecture in the metadata.
pub const ARCH: &str = "volseg-embedded";

/// What a training can say of the licence of its weights.
pub const LICENCE: &str = "not stated: depends on the data it was trained on";

/// Weights of a [`super::Network`].
pub struct Weights {
    /// Sizes of the network.
    pub config: Config,
    /// Tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Training steps behind them.
    pub steps: usize,
}

impl Weights {
    /// Reads a file written by [`Weights::write`].
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Malformed`] for a file of another kind, numbers that are not finite, or an absurd size.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { what: format!("read weights {}", path.display()), source };
        let found = std::fs::metadata(path).map_err(io)?.len();
        if found > MAX_BYTES {
            return Err(Error::Malformed { reason: format!("{found} bytes, at most {MAX_BYTES} are read") });
        }
        Self::from_bytes(&std::fs::read(path).map_err(io)?)
    }

    /// Sizes of the network, from the header of a file's bytes.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn config_of(bytes: &[u8]) -> Result<Config, Error> {
        Ok(Self::header(bytes)?.0)
    }

    /// Sizes, and steps of training.
    fn header(bytes: &[u8]) -> Result<(Config, usize), Error> {
        let malformed = |reason: String| Error::Malformed { reason };
        let (_, header) = safetensors::SafeTensors::read_metadata(bytes).map_err(|e| malformed(e.to_string()))?;
        let meta = header.metadata().clone().unwrap_or_default();
        match meta.get("arch").map(String::as_str) {
            Some(ARCH) => {}
            other => {
                return Err(malformed(format!("architecture is {}, expected {ARCH}", other.unwrap_or("not stated"))));
            }
        }
        let config: Config = serde_json::from_str(meta.get("config").map_or("", String::as_str))
            .map_err(|e| malformed(format!("config in the metadata: {e}")))?;
        config.check().map_err(|e| malformed(e.to_string()))?;
        Ok((config, meta.get("steps").and_then(|s| s.parse().ok()).unwrap_or(0)))
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// As [`Weights::read`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let malformed = |reason: String| Error::Malformed { reason };
        let (config, steps) = Self::header(bytes)?;
        let file = safetensors::SafeTensors::deserialize(bytes).map_err(|e| malformed(e.to_string()))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors() {
            let dtype = match view.dtype() {
                safetensors::Dtype::F16 => DType::F16,
                safetensors::Dtype::F32 => DType::F32,
                other => return Err(malformed(format!("tensor {name} is {other:?}, expected F16 or F32"))),
            };
            let t = Tensor::from_raw_buffer(view.data(), dtype, view.shape(), &Device::Cpu)?.to_dtype(DType::F32)?;
            if t.flatten_all()?.to_vec1::<f32>()?.iter().any(|v| !v.is_finite()) {
                return Err(malformed(format!("tensor {name} holds a value that is not finite")));
            }
            tensors.insert(name, t);
        }
        Ok(Self { config, tensors, steps })
    }

    /// Writes the weights as f16 (positions' frequencies stay f32) with the digest of the tensors; equal weights give equal bytes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let mut half = BTreeMap::new();
        for (name, t) in &self.tensors {
            let dtype = if name == "decoder.frequencies" { DType::F32 } else { DType::F16 };
            half.insert(name.clone(), t.to_dtype(dtype)?);
        }
        let config = serde_json::to_string(&self.config).map_err(|e| Error::Malformed { reason: e.to_string() })?;
        let meta = [
            ("arch", ARCH.to_owned()),
            ("config", config),
            ("format", "volseg-weights/1".to_owned()),
            ("licence", LICENCE.to_owned()),
            ("prompts", "organ".to_owned()),
            ("steps", self.steps.to_string()),
        ];
        write_weights(path, &half, meta.map(|(k, v)| (k.to_owned(), v)).into())
    }
}

/// Names and shapes of the tensors of a network by its configuration in JSON.
pub(crate) fn shapes(config: &str) -> Result<BTreeMap<String, Vec<usize>>, Error> {
    let config: Config = serde_json::from_str(config)
        .map_err(|e| Error::Malformed { reason: format!("config in the metadata: {e}") })?;
    let params = Params::trainable(0, BTreeMap::new());
    super::Network::new(&config, &params)?;
    Ok(params.tensors().into_iter().map(|(name, t)| (name, t.dims().to_vec())).collect())
}

/// Writes tensors beside `path`, syncs and renames, so that a reader never sees half a file. The metadata gets the digest of the
/// tensors, as [`crate::weights::WeightsFile::verify`] compares it.
///
/// # Errors
/// [`Error::Io`]; [`Error::Malformed`] if the tensors cannot be stored.
pub fn write_weights(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    mut metadata: BTreeMap<String, String>,
) -> Result<(), Error> {
    let bytes = safetensors::serialize(tensors, None).map_err(|e| Error::Malformed { reason: e.to_string() })?;
    metadata.insert("sha256".to_owned(), digest_of(&bytes)?);
    let metadata: HashMap<String, String> = metadata.into_iter().collect();
    let bytes = safetensors::serialize(tensors, Some(metadata.clone()))
        .map_err(|e| Error::Malformed { reason: e.to_string() })?;
    // The library writes metadata in hash order; sorted keys make equal weights equal files.
    let bytes = sort_metadata(&bytes, &metadata).unwrap_or(bytes);
    let io = |source| Error::Io { what: format!("write {}", path.display()), source };
    let beside = path.with_extension("partial");
    let write = || -> std::io::Result<()> {
        let mut f = std::fs::File::create(&beside)?;
        f.write_all(&bytes)?;
        f.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|e| {
        let _ = std::fs::remove_file(&beside);
        io(e)
    })
}

fn sort_metadata(bytes: &[u8], meta: &HashMap<String, String>) -> Option<Vec<u8>> {
    let length = usize::try_from(u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?)).ok()?;
    let text = std::str::from_utf8(bytes.get(8..8 + length)?).ok()?;
    let sorted: BTreeMap<_, _> = meta.iter().collect();
    let unsorted = serde_json::to_string(meta).ok()?;
    let sorted = serde_json::to_string(&sorted).ok()?;
    // Same members in another order: same length, so offsets stay right.
    let text = text.replacen(&unsorted, &sorted, 1);
    let mut out = bytes.get(..8)?.to_vec();
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(bytes.get(8 + length..)?);
    (out.len() == bytes.len()).then_some(out)
}
