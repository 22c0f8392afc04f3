use crate::{Error, Result, Series};

/// The most that an input may ask for. Checked before memory is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Voxels of one volume (of all frames, if a file holds several).
    pub max_voxels: u64,
    /// Bytes of one file on disk.
    pub max_file_bytes: u64,
    /// Bytes that one file or archive may become when decompressed.
    pub max_inflated_bytes: u64,
}

impl Limits {
    /// The usual ones, with at most so many bytes of memory for the volume of a file: two a voxel, and whatever it is unpacked to.
    #[must_use]
    pub fn within_memory(bytes: Option<u64>) -> Self {
        let (usual, bytes) = (Self::default(), bytes.unwrap_or(u64::MAX));
        Self {
            max_voxels: usual.max_voxels.min(bytes / 2),
            max_inflated_bytes: usual.max_inflated_bytes.min(bytes),
            ..usual
        }
    }
}

impl Default for Limits {
    /// 2³⁰ voxels (a CT of 512 × 512 × 4096), files of 8 GiB, 8 GiB decompressed.
    fn default() -> Self {
        Self { max_voxels: 1 << 30, max_file_bytes: 8 << 30, max_inflated_bytes: 8 << 30 }
    }
}

/// No compressor in use here can make more than this many bytes of one (deflate: 1032).
const MOST_INFLATION: u64 = 1040;

impl Limits {
    /// Number of voxels of `dim` times `frames`, if within the limit.
    ///
    /// # Errors
    /// [`Error::Limit`] beyond `max_voxels` (and on overflow).
    pub fn voxels(&self, dim: &[u64]) -> Result<usize> {
        let found = dim.iter().try_fold(1u64, |n, &d| n.checked_mul(d)).unwrap_or(u64::MAX);
        self.within("voxels", found, self.max_voxels)
    }

    pub(crate) fn file(&self, bytes: u64) -> Result<usize> {
        self.within("bytes of a file", bytes, self.max_file_bytes)
    }

    /// A decompressed size that a header announces: within the limit, and possible for `compressed` bytes.
    pub(crate) fn inflated(&self, format: &'static str, bytes: u64, compressed: u64) -> Result<usize> {
        if bytes > compressed.saturating_mul(MOST_INFLATION).saturating_add(1 << 16) {
            return Err(Error::malformed(
                format,
                format!("truncated: {bytes} bytes announced, but {compressed} compressed bytes cannot hold them"),
            ));
        }
        self.within("bytes after decompression", bytes, self.max_inflated_bytes)
    }

    pub(crate) fn within(&self, what: &'static str, found: u64, allowed: u64) -> Result<usize> {
        match usize::try_from(found) {
            Ok(n) if found <= allowed => Ok(n),
            _ => Err(Error::Limit { what, found, allowed }),
        }
    }
}

/// How to read.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// The most that the input may ask for.
    pub limits: Limits,
    /// Which series of a DICOM folder or archive; `None` if there must be one only.
    pub series: Option<Series>,
    /// Which volume of a file with several (a 4th axis); `None` if there must be one only.
    pub frame: Option<usize>,
    /// Compute [`crate::Image::sha256`]; off where nobody asks for it, since it costs more than to map a file.
    pub digest: bool,
    /// A grid that cannot be used (a spacing of 0 or NaN) is an error; off, voxels of 1 mm along the axes stand for it, for
    /// callers that put their own spacing in its place.
    pub check_grid: bool,
    /// Intensities of MONOCHROME1 pictures as they are shown, dark being low; off, as they are stored. Those of CT, MR and nuclear
    /// medicine are measurements and always as stored (PS3.3 C.7.6.3.1.2 is about display).
    pub as_shown: bool,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { limits: Limits::default(), series: None, frame: None, digest: true, check_grid: true, as_shown: true }
    }
}
