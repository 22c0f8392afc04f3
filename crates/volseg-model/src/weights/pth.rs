use super::pickle::{Id, Node, Pickle};
use super::{file::decode, malformed};
use crate::Error;
use candle_core::{Device, Tensor};
use safetensors::Dtype;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use zip::ZipArchive;

/// Descriptions of tensors and optimizer take under 1 MiB for the largest SAM.
const MAX_PICKLE: u64 = 8 << 20;
const MAX_ENTRIES: usize = 1 << 16;

/// A torch checkpoint: a zip of one pickle, which is read as data and never run, and raw tensors.
pub(crate) struct Checkpoint {
    path: PathBuf,
    zip: Mutex<ZipArchive<BufReader<File>>>,
    tensors: BTreeMap<String, Strided>,
}

struct Strided {
    dtype: Dtype,
    /// Bytes of a number.
    width: usize,
    shape: Vec<usize>,
    stride: Vec<usize>,
    offset: usize,
    /// Name in the zip.
    entry: String,
    /// Bytes of the entry.
    bytes: u64,
}

impl Checkpoint {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { what: format!("read checkpoint {}", path.display()), source };
        let file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        let mut zip = match ZipArchive::new(BufReader::new(file)) {
            Ok(zip) => zip,
            Err(e) => return malformed(format!("its zip archive is not usable: {e}")),
        };
        if zip.len() > MAX_ENTRIES {
            return malformed(format!("it has {} entries, at most {MAX_ENTRIES}", zip.len()));
        }
        let mut sizes = BTreeMap::new();
        for n in 0..zip.len() {
            let entry = match zip.by_index_raw(n) {
                Ok(entry) => entry,
                Err(e) => return malformed(format!("its zip archive is not usable: {e}")),
            };
            let Ok(name) = entry.name() else { return malformed("an entry's name is not usable") };
            // torch stores without compression; whatever claims more than the file holds is a bomb.
            if entry.compression() != zip::CompressionMethod::Stored || entry.size() > size {
                return malformed(format!("entry {name} is compressed or larger than the file"));
            }
            sizes.insert(name.into_owned(), entry.size());
        }
        let pickles: Vec<&String> = sizes.keys().filter(|n| n.ends_with("/data.pkl")).collect();
        let [name] = pickles[..] else {
            return malformed(format!("it has {} entries named data.pkl, expected one", pickles.len()));
        };
        let length = sizes.get(name).copied().unwrap_or(0);
        if length > MAX_PICKLE {
            return malformed(format!("its pickle has {length} bytes, at most {MAX_PICKLE} are read"));
        }
        let mut bytes = Vec::with_capacity(length as usize);
        match zip.by_name(name) {
            Ok(entry) => entry.take(MAX_PICKLE).read_to_end(&mut bytes).map_err(io)?,
            Err(e) => return malformed(format!("its zip archive is not usable: {e}")),
        };
        let pickle = Pickle::read(&bytes)?;
        let folder = name.strip_suffix("data.pkl").unwrap_or_default().to_owned();
        let mut tensors = BTreeMap::new();
        for (name, value) in state(&pickle)? {
            if let Some(tensor) = describe(&pickle, &name, value, &folder, &sizes)? {
                tensors.insert(name, tensor);
            }
        }
        if tensors.is_empty() {
            return malformed("it holds no tensors, neither at the top nor under \"model\"");
        }
        // Trained on several devices at once, every name has this prefix.
        if tensors.keys().all(|k| k.starts_with("module.")) {
            tensors = tensors.into_iter().map(|(k, v)| (k["module.".len()..].to_owned(), v)).collect();
        }
        Ok(Self { path: path.to_owned(), zip: Mutex::new(zip), tensors })
    }

    pub(super) fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.tensors.iter().map(|(k, t)| (k.clone(), t.shape.clone())).collect()
    }

    pub(super) fn read(&self, name: &str) -> Result<Tensor, Error> {
        let t = self.tensors.get(name).ok_or_else(|| Error::MissingTensor { name: name.to_owned() })?;
        if !matches!(t.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64) {
            return malformed(format!("tensor {name} is {:?}, expected F32, F16, BF16 or F64", t.dtype));
        }
        let mut bytes = Vec::with_capacity(t.bytes as usize);
        let mut zip = self.zip.lock().unwrap_or_else(PoisonError::into_inner);
        match zip.by_name(&t.entry) {
            // The archive's own checksum is compared at the end.
            Ok(mut entry) => entry
                .read_to_end(&mut bytes)
                .map_err(|source| Error::Io { what: format!("read checkpoint {}", self.path.display()), source })?,
            Err(e) => return malformed(format!("tensor {name}: {e}")),
        };
        let values = decode(t.dtype, &bytes, t.width);
        drop(bytes);
        let values =
            t.gather(values).ok_or_else(|| Error::Malformed { reason: format!("tensor {name} leaves its storage") })?;
        super::file::finite(name, &values)?;
        Ok(Tensor::from_vec(values, t.shape.clone(), &Device::Cpu)?)
    }
}

impl Strided {
    fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// The tensor's numbers in row-major order.
    fn gather(&self, storage: Vec<f32>) -> Option<Vec<f32>> {
        let mut expected = 1;
        let dense = self.shape.iter().zip(&self.stride).rev().all(|(&n, &s)| {
            let fits = n == 1 || s == expected;
            expected *= n;
            fits
        });
        if dense {
            let whole = self.offset == 0 && storage.len() == self.count();
            return if whole { Some(storage) } else { Some(storage.get(self.offset..)?.get(..self.count())?.to_vec()) };
        }
        let mut at = vec![0usize; self.shape.len()];
        let mut out = Vec::with_capacity(self.count());
        for _ in 0..self.count() {
            let place: usize = at.iter().zip(&self.stride).map(|(a, s)| a * s).sum();
            out.push(*storage.get(self.offset + place)?);
            for (a, n) in at.iter_mut().zip(&self.shape).rev() {
                *a += 1;
                if *a < *n {
                    break;
                }
                *a = 0;
            }
        }
        Some(out)
    }
}

/// The named values of the dictionary under `model`, or of the pickle itself.
fn state(pickle: &Pickle) -> Result<Vec<(String, Id)>, Error> {
    let named = |id: Id| match pickle.node(id) {
        Node::Dict(items) => items.iter().filter_map(|&(k, v)| Some((pickle.text(k)?.to_owned(), v))).collect(),
        _ => Vec::new(),
    };
    let top: Vec<(String, Id)> = named(pickle.root);
    if top.is_empty() {
        return malformed("it is no dictionary of tensors (save a state dict, not a whole module)");
    }
    for key in ["model", "state_dict", "model_state_dict"] {
        if let Some((_, inner)) = top.iter().find(|(k, v)| k == key && matches!(pickle.node(*v), Node::Dict(_))) {
            return Ok(named(*inner));
        }
    }
    Ok(top)
}

/// What a value says of a tensor; `None` for values that are none.
fn describe(
    pickle: &Pickle,
    name: &str,
    value: Id,
    folder: &str,
    sizes: &BTreeMap<String, u64>,
) -> Result<Option<Strided>, Error> {
    let Node::Call(mut callable, mut args) = *pickle.node(value) else { return Ok(None) };
    // A parameter or a tensor of a subclass wraps the plain one.
    for _ in 0..4 {
        let inner = pickle.tuple(args).unwrap_or_default();
        match pickle.global(callable) {
            Some(("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state")) => {
                let Some(Node::Call(c, a)) = inner.first().map(|&i| pickle.node(i)) else { return Ok(None) };
                (callable, args) = (*c, *a);
            }
            Some(("torch._tensor", "_rebuild_from_type_v2")) => {
                let [c, _, a, ..] = *inner else { return Ok(None) };
                (callable, args) = (c, a);
            }
            _ => break,
        }
    }
    if pickle.global(callable) != Some(("torch._utils", "_rebuild_tensor_v2")) {
        return Ok(None);
    }
    let bad = |reason: String| Error::Malformed { reason: format!("tensor {name}: {reason}") };
    let numbers = |id: Id| -> Option<Vec<usize>> {
        pickle.tuple(id)?.iter().map(|&i| usize::try_from(pickle.int(i)?).ok()).collect()
    };
    let parts = (|| {
        let [storage, offset, shape, stride, ..] = *pickle.tuple(args)? else { return None };
        let Node::Persistent(storage) = *pickle.node(storage) else { return None };
        let [_, class, key, ..] = *pickle.tuple(storage)? else { return None };
        let offset = usize::try_from(pickle.int(offset)?).ok()?;
        Some((pickle.global(class)?.1, pickle.text(key)?, offset, numbers(shape)?, numbers(stride)?))
    })();
    let Some((class, key, offset, shape, stride)) = parts else {
        return Err(bad("its description is not usable".into()));
    };
    let (dtype, width) = match class {
        "FloatStorage" => (Dtype::F32, 4),
        "HalfStorage" => (Dtype::F16, 2),
        "BFloat16Storage" => (Dtype::BF16, 2),
        "DoubleStorage" => (Dtype::F64, 8),
        "LongStorage" => (Dtype::I64, 8),
        "IntStorage" => (Dtype::I32, 4),
        "ShortStorage" => (Dtype::I16, 2),
        "CharStorage" => (Dtype::I8, 1),
        "ByteStorage" => (Dtype::U8, 1),
        "BoolStorage" => (Dtype::BOOL, 1),
        other => return Err(bad(format!("unknown storage {other}"))),
    };
    let entry = format!("{folder}data/{key}");
    let bytes = *sizes.get(&entry).ok_or_else(|| bad(format!("the archive has no {entry}")))?;
    if shape.len() != stride.len() || shape.len() > 8 {
        return Err(bad(format!("shape {shape:?} with strides {stride:?}")));
    }
    // The last number that shape and strides reach lies inside the stored bytes, and there are no more numbers than bytes.
    let reach =
        shape.iter().zip(&stride).try_fold(offset, |at, (&n, &s)| at.checked_add(n.saturating_sub(1).checked_mul(s)?));
    let count = shape.iter().try_fold(1usize, |n, &s| n.checked_mul(s));
    let stored = bytes / width as u64;
    match (reach, count) {
        (Some(reach), Some(count)) if (reach as u64) < stored && count as u64 <= stored => {}
        (_, Some(0)) => {}
        _ => return Err(bad(format!("shape {shape:?} from {offset} leaves its storage of {stored} numbers"))),
    }
    Ok(Some(Strided { dtype, width, shape, stride, offset, entry, bytes }))
}
