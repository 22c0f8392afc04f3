use super::{file::digest_label, hex};
use crate::Error;
use crate::config::{Arch, SamConfig};
use candle_core::Tensor;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Writes `f32` tensors one at a time, in the order of their names, so that memory stays at one tensor. The metadata gains
/// the digest of the tensors as `sha256`. The file appears under its name when it is whole, and not at all on failure.
pub(super) fn write(
    path: &Path,
    shapes: &BTreeMap<String, Vec<usize>>,
    metadata: BTreeMap<String, String>,
    tensor: impl FnMut(&str, &[usize]) -> Result<Tensor, Error>,
) -> Result<String, Error> {
    let beside = beside(path);
    let result = fill(&beside, path, shapes, metadata, tensor);
    if result.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    result
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.partial", std::process::id()))
}

fn fill(
    beside: &Path,
    path: &Path,
    shapes: &BTreeMap<String, Vec<usize>>,
    mut metadata: BTreeMap<String, String>,
    mut tensor: impl FnMut(&str, &[usize]) -> Result<Tensor, Error>,
) -> Result<String, Error> {
    let io = |source| Error::Io { what: format!("write {}", path.display()), source };
    // As long as the digest that replaces it at the end.
    metadata.insert("sha256".into(), "0".repeat(64));
    let mut file = BufWriter::with_capacity(1 << 20, File::create(beside).map_err(io)?);
    file.write_all(&header(shapes, &metadata)?).map_err(io)?;
    let mut hash = Sha256::new();
    let mut bytes = Vec::new();
    for (name, shape) in shapes {
        let t = tensor(name, shape)?;
        if t.dims() != shape {
            let (found, expected) = (t.dims().to_vec(), shape.clone());
            return Err(Error::TensorShape { name: name.clone(), found, expected });
        }
        hash.update(digest_label(name, shape));
        let values = t.flatten_all()?.to_vec1::<f32>()?;
        for part in values.chunks(1 << 18) {
            bytes.clear();
            bytes.extend(part.iter().flat_map(|v| v.to_le_bytes()));
            hash.update(&bytes);
            file.write_all(&bytes).map_err(io)?;
        }
    }
    let digest = hex(&hash.finalize());
    metadata.insert("sha256".into(), digest.clone());
    file.seek(SeekFrom::Start(0)).map_err(io)?;
    file.write_all(&header(shapes, &metadata)?).map_err(io)?;
    let file = file.into_inner().map_err(|e| io(e.into_error()))?;
    file.sync_all().map_err(io)?;
    std::fs::rename(beside, path).map_err(io)?;
    Ok(digest)
}

/// Length and JSON, padded with blanks so that tensors are aligned.
fn header(shapes: &BTreeMap<String, Vec<usize>>, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>, Error> {
    let mut map = serde_json::Map::new();
    map.insert("__metadata__".into(), serde_json::json!(metadata));
    let mut at = 0usize;
    for (name, shape) in shapes {
        let end = at + 4 * shape.iter().product::<usize>();
        map.insert(name.clone(), serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": [at, end] }));
        at = end;
    }
    let mut text = serde_json::to_string(&map).map_err(|e| Error::Malformed { reason: e.to_string() })?;
    while text.len() % 8 != 0 {
        text.push(' ');
    }
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(text.as_bytes());
    Ok(out)
}

/// Writes the tensors of a trained network of SAM's family as a weights file, with architecture, sizes and licence in its
/// metadata. Returns the digest of the tensors.
///
/// # Errors
/// [`Error::MissingTensor`], [`Error::TensorShape`], [`Error::Io`].
pub fn save(
    path: &Path,
    arch: Arch,
    config: &SamConfig,
    licence: &str,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<String, Error> {
    write(path, &config.tensors(), metadata(arch, config, licence)?, |name, _| {
        tensors.get(name).cloned().ok_or_else(|| Error::MissingTensor { name: name.to_owned() })
    })
}

/// What stands in every file beside the digest.
pub(super) fn metadata(arch: Arch, config: &SamConfig, licence: &str) -> Result<BTreeMap<String, String>, Error> {
    Ok(BTreeMap::from([
        ("arch".to_owned(), arch.name().to_owned()),
        ("config".to_owned(), serde_json::to_string(config).map_err(|e| Error::Malformed { reason: e.to_string() })?),
        ("format".to_owned(), "volseg-weights/1".to_owned()),
        ("prompts".to_owned(), "chain".to_owned()),
        ("licence".to_owned(), licence.to_owned()),
    ]))
}
