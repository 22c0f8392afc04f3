use super::{Fit, Weights, hex, malformed};
use crate::config::{Arch, SamConfig};
use crate::{Error, Init};
use candle_core::{Device, Tensor};
use safetensors::{Dtype, tensor::Metadata};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// No header is longer; that of the largest SAM is under 100 KiB.
const MAX_HEADER: u64 = 16 << 20;
const MAX_TENSORS: usize = 1 << 16;
const MAX_AXES: usize = 8;

/// An open safetensors file. Its header was checked; tensors are read when asked for.
pub struct WeightsFile {
    place: Place,
    file: Mutex<Box<dyn Reader>>,
    /// Offset of the first tensor.
    start: u64,
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, Entry>,
}

/// Where the bytes are: in a file, or in the program.
enum Place {
    File(PathBuf),
    Program(&'static [u8]),
}

trait Reader: Read + Seek + Send {}

impl<T: Read + Seek + Send> Reader for T {}

impl Place {
    /// A reader of its own, so that tensors can be read at the same time.
    fn open(&self) -> Result<Box<dyn Reader>, Error> {
        Ok(match self {
            Self::File(path) => Box::new(File::open(path).map_err(|e| self.io(e))?),
            Self::Program(bytes) => Box::new(Cursor::new(*bytes)),
        })
    }

    fn io(&self, source: std::io::Error) -> Error {
        let name = match self {
            Self::File(path) => path.display().to_string(),
            Self::Program(_) => "embedded".into(),
        };
        Error::Io { what: format!("read weights {name}"), source }
    }
}

struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    first: u64,
    bytes: usize,
}

impl WeightsFile {
    /// Opens a file and checks its header, before anything of its size is allocated.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Malformed`] for a header that is too long, unreadable, or whose offsets overlap, leave
    /// gaps or the file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let place = Place::File(path.to_owned());
        let meta = std::fs::metadata(path).map_err(|e| place.io(e))?;
        Self::new(place, if meta.is_file() { meta.len() } else { 0 })
    }

    /// Weights that are part of the program.
    ///
    /// # Errors
    /// As [`WeightsFile::open`].
    pub fn shipped(bytes: &'static [u8]) -> Result<Self, Error> {
        Self::new(Place::Program(bytes), bytes.len() as u64)
    }

    fn new(place: Place, bytes: u64) -> Result<Self, Error> {
        let io = |e| place.io(e);
        let mut file = place.open()?;
        if bytes < 8 {
            return malformed(format!("{bytes} bytes are no safetensors file"));
        }
        let mut length = [0u8; 8];
        file.read_exact(&mut length).map_err(io)?;
        // A header may well be 0x80 bytes long, but not so long as the next bytes of a checkpoint would make it.
        let torch = length.starts_with(b"PK") || length[0] == 0x80;
        let length = u64::from_le_bytes(length);
        if torch && length > MAX_HEADER {
            return malformed(
                "this is a torch checkpoint, which can run code; convert it with `volseg weights import`",
            );
        }
        if length > MAX_HEADER || length > bytes - 8 {
            return malformed(format!(
                "its header claims {length} bytes, at most {} are possible",
                MAX_HEADER.min(bytes - 8)
            ));
        }
        let mut header = vec![0u8; length as usize];
        file.read_exact(&mut header).map_err(io)?;
        let header: Metadata = match serde_json::from_slice(&header) {
            Ok(header) => header,
            Err(e) => return malformed(format!("its header is not usable: {e}")),
        };
        let start = 8 + length;
        if start + header.data_len() as u64 != bytes {
            let expected = start + header.data_len() as u64;
            return malformed(format!("it has {bytes} bytes, its header expects {expected}"));
        }
        let mut tensors = BTreeMap::new();
        for (name, info) in header.tensors() {
            if info.shape.len() > MAX_AXES || tensors.len() >= MAX_TENSORS {
                return malformed(format!("more than {MAX_AXES} axes or {MAX_TENSORS} tensors"));
            }
            let (first, end) = info.data_offsets;
            let entry = Entry { dtype: info.dtype, shape: info.shape.clone(), first: first as u64, bytes: end - first };
            tensors.insert(name, entry);
        }
        let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
        Ok(Self { place, file: Mutex::new(file), start, metadata, tensors })
    }

    /// The metadata of the header.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Names, types and shapes.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, String, &[usize])> {
        self.tensors.iter().map(|(k, e)| (k.as_str(), format!("{:?}", e.dtype), e.shape.as_slice()))
    }

    /// Bytes of the file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.start + self.tensors.values().map(|e| e.bytes as u64).sum::<u64>()
    }

    /// Names and shapes.
    #[must_use]
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.tensors.iter().map(|(k, e)| (k.clone(), e.shape.clone())).collect()
    }

    /// Architecture and sizes of a network of SAM's family.
    ///
    /// # Errors
    /// [`Error::WrongArch`] for other networks, [`Error::Malformed`] for a file without architecture or configuration.
    pub fn sam(&self) -> Result<(Arch, SamConfig), Error> {
        let Some(arch) = self.metadata.get("arch") else {
            return malformed("it does not say its architecture; convert it with `volseg weights import`");
        };
        let expected = || "sam-med2d, sam or medsam".to_owned();
        let arch = arch.parse().map_err(|_| Error::WrongArch { found: arch.clone(), expected: expected() })?;
        let config = SamConfig::from_json(self.metadata.get("config").map_or("", String::as_str))?;
        Ok((arch, config))
    }

    /// What of the file fits the architecture it names.
    ///
    /// # Errors
    /// As [`WeightsFile::sam`].
    pub fn fit(&self) -> Result<Fit, Error> {
        let config = self.metadata.get("config").map_or("", String::as_str);
        let expected = match self.metadata.get("arch").map(String::as_str) {
            Some(crate::clip::ARCH) => crate::clip::ClipConfig::from_json(config)?.tensors(),
            Some(crate::medvint::ARCH) => crate::medvint::MedVintConfig::from_json(config)?.tensors(),
            Some(crate::embedded::ARCH) => crate::embedded::shapes(config)?,
            _ => self.sam()?.1.tensors(),
        };
        Ok(Fit::new(&expected, &self.shapes()))
    }

    /// A tensor as `f32`.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::NotFinite`], [`Error::Io`], or [`Error::Malformed`] for numbers of another kind.
    pub fn read(&self, name: &str) -> Result<Tensor, Error> {
        let entry = self.tensors.get(name).ok_or_else(|| Error::MissingTensor { name: name.to_owned() })?;
        let width = match entry.dtype {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::BF16 => 2,
            Dtype::F64 => 8,
            other => return malformed(format!("tensor {name} is {other:?}, expected F32, F16, BF16 or F64")),
        };
        let mut bytes = vec![0u8; entry.bytes];
        self.with_file(|file| {
            file.seek(SeekFrom::Start(self.start + entry.first))?;
            file.read_exact(&mut bytes)
        })?;
        let values = decode(entry.dtype, &bytes, width);
        finite(name, &values)?;
        Ok(Tensor::from_vec(values, entry.shape.clone(), &Device::Cpu)?)
    }

    /// SHA-256 of the tensors: name, shape and bytes of each, in the order of the file.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn content_digest(&self) -> Result<String, Error> {
        let io = |e| self.place.io(e);
        let mut file = self.place.open()?;
        file.seek(SeekFrom::Start(self.start)).map_err(io)?;
        let mut order: Vec<_> = self.tensors.iter().collect();
        order.sort_by_key(|(_, e)| e.first);
        let mut hash = Sha256::new();
        let mut buffer = vec![0u8; 1 << 20];
        for (name, entry) in order {
            hash.update(digest_label(name, &entry.shape));
            let mut left = entry.bytes;
            while left > 0 {
                let part = buffer.len().min(left);
                file.read_exact(&mut buffer[..part]).map_err(io)?;
                hash.update(&buffer[..part]);
                left -= part;
            }
        }
        Ok(hex(&hash.finalize()))
    }

    /// SHA-256 of the whole file, as `sha256sum` prints it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn file_digest(&self) -> Result<String, Error> {
        let mut hash = Sha256::new();
        std::io::copy(&mut self.place.open()?, &mut hash).map_err(|e| self.place.io(e))?;
        Ok(hex(&hash.finalize()))
    }

    /// Compares the tensors with the digest in the metadata.
    ///
    /// # Errors
    /// [`Error::Digest`] if they differ, [`Error::Malformed`] if there is none.
    pub fn verify(&self) -> Result<(), Error> {
        let Some(expected) = self.metadata.get("sha256").cloned() else {
            return malformed("it has no digest in its metadata");
        };
        let found = self.content_digest()?;
        if found == expected { Ok(()) } else { Err(Error::Digest { found, expected }) }
    }

    fn with_file(&self, f: impl FnOnce(&mut dyn Reader) -> std::io::Result<()>) -> Result<(), Error> {
        f(&mut **self.file.lock().unwrap_or_else(PoisonError::into_inner)).map_err(|e| self.place.io(e))
    }
}

impl Weights for WeightsFile {
    fn tensor(&self, name: &str, shape: &[usize], _: Init) -> Result<Tensor, Error> {
        let entry = self.tensors.get(name).ok_or_else(|| Error::MissingTensor { name: name.to_owned() })?;
        if entry.shape != shape {
            let (found, expected) = (entry.shape.clone(), shape.to_vec());
            return Err(Error::TensorShape { name: name.to_owned(), found, expected });
        }
        self.read(name)
    }
}

/// [`WeightsFile::content_digest`] of the bytes of a file.
pub(crate) fn digest_of(bytes: &[u8]) -> Result<String, Error> {
    let broken = |e: safetensors::SafeTensorError| Error::Malformed { reason: e.to_string() };
    let (_, header) = safetensors::SafeTensors::read_metadata(bytes).map_err(broken)?;
    let file = safetensors::SafeTensors::deserialize(bytes).map_err(broken)?;
    let mut hash = Sha256::new();
    for name in header.offset_keys() {
        let tensor = file.tensor(&name).map_err(broken)?;
        hash.update(digest_label(&name, tensor.shape()));
        hash.update(tensor.data());
    }
    Ok(hex(&hash.finalize()))
}

pub(super) fn digest_label(name: &str, shape: &[usize]) -> String {
    format!("{name} {shape:?}\n")
}

pub(super) fn finite(name: &str, values: &[f32]) -> Result<(), Error> {
    // The sum of squares would overflow; a product with zero is zero for every finite number and never otherwise.
    let bad = values.chunks(4096).any(|c| c.iter().map(|v| v * 0.0).sum::<f32>() != 0.0);
    if bad { Err(Error::NotFinite { name: name.to_owned() }) } else { Ok(()) }
}

pub(super) fn decode(dtype: Dtype, bytes: &[u8], width: usize) -> Vec<f32> {
    let numbers = bytes.chunks_exact(width);
    match dtype {
        Dtype::F16 => numbers.map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Dtype::BF16 => numbers.map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Dtype::F64 => {
            numbers.map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32).collect()
        }
        _ => numbers.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
    }
}
