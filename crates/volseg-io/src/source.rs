//! The bytes of an input: mapped files and gzip streams, behind limits.

use crate::{Error, Limits, Result, mmap};
use flate2::bufread::GzDecoder;
use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    sync::Arc,
};

/// Bytes that volumes may share: a map of a file, or memory.
pub(crate) type Shared = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// The bytes of a file. Regular files are mapped, anything else (a pipe) is read.
pub(crate) fn open(path: &Path, limits: &Limits) -> Result<Shared> {
    let cannot = || Error::io("read", path);
    let mut file = File::open(path).map_err(cannot())?;
    let metadata = file.metadata().map_err(cannot())?;
    if metadata.is_dir() {
        return Err(cannot()(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    if metadata.is_file() && metadata.len() > 0 {
        limits.file(metadata.len())?;
        return Ok(Arc::new(mmap::map(&file).map_err(cannot())?));
    }
    let mut bytes = Vec::new();
    (&mut file).take(limits.max_file_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(cannot())?;
    limits.file(bytes.len() as u64)?;
    Ok(Arc::new(bytes))
}

/// Whether bytes start a gzip member.
pub(crate) fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// Reads all members of a gzip file; the check sum of each member is compared when its end is reached.
pub(crate) struct Gunzip<'a> {
    member: Option<GzDecoder<&'a [u8]>>,
    left: u64,
    allowed: u64,
    /// Bytes after the last member that are no gzip.
    pub(crate) junk: usize,
}

impl<'a> Gunzip<'a> {
    pub(crate) fn new(bytes: &'a [u8], limits: &Limits) -> Self {
        let allowed = limits.max_inflated_bytes;
        Self { member: Some(GzDecoder::new(bytes)), left: allowed, allowed, junk: 0 }
    }

    /// Reads to the end of the last member and gives the number of bytes.
    pub(crate) fn drain(&mut self, format: &'static str) -> Result<u64> {
        io::copy(self, &mut io::sink()).map_err(|e| stream_error(format, e))
    }
}

impl Read for Gunzip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let n = member.read(buffer)?;
            if n > 0 || buffer.is_empty() {
                self.left = self
                    .left
                    .checked_sub(n as u64)
                    .ok_or_else(|| io::Error::other(TooMuch { allowed: self.allowed }))?;
                return Ok(n);
            }
            let rest = self.member.take().map_or(&[][..], GzDecoder::into_inner);
            if is_gzip(rest) {
                self.member = Some(GzDecoder::new(rest));
            } else if rest.iter().any(|&b| b != 0) {
                self.junk = rest.len();
            }
        }
        Ok(0)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("more than {allowed} bytes after decompression")]
struct TooMuch {
    allowed: u64,
}

/// An error of a stream of bytes as an error of the format.
pub(crate) fn stream_error(format: &'static str, error: io::Error) -> Error {
    if let Some(TooMuch { allowed }) = error.get_ref().and_then(|e| e.downcast_ref::<TooMuch>()) {
        return Error::Limit { what: "bytes after decompression", found: allowed.saturating_add(1), allowed: *allowed };
    }
    if error.kind() == io::ErrorKind::UnexpectedEof {
        Error::malformed(format, "truncated: the data end too early")
    } else {
        Error::malformed(format, format!("compressed data are damaged ({error})"))
    }
}
