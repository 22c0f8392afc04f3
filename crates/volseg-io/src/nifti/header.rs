use super::FORMAT;
use crate::{Error, ReadOptions, Result, voxels::Layout};
use volseg_geometry::{Affine, VoxelKind};

/// Bytes of a NIfTI-1 header.
pub(super) const SHORTEST: usize = 348;
/// Bytes of a NIfTI-2 header.
pub(super) const LONGEST: usize = 540;

/// The geometry of a NIfTI file in its own terms; names are those of `nifti1.h`. Numbers of NIfTI-1 are `f32` widened.
#[derive(Clone, Debug, PartialEq)]
pub struct NiftiHeader {
    /// 1 or 2.
    pub version: u8,
    /// Sizes of the first three axes.
    pub dim: [u64; 3],
    /// `pixdim[0]` is the sign of the third axis of the qform.
    pub pixdim: [f64; 8],
    /// Units of space and time.
    pub xyzt_units: u8,
    /// What the qform maps to; 0 none.
    pub qform_code: i16,
    /// What the sform maps to; 0 none.
    pub sform_code: i16,
    /// `quatern_b`, `quatern_c`, `quatern_d`.
    pub quatern: [f64; 3],
    /// `qoffset_x`, `qoffset_y`, `qoffset_z`.
    pub qoffset: [f64; 3],
    /// `srow_x`, `srow_y`, `srow_z`.
    pub srow: [[f64; 4]; 3],
}

impl NiftiHeader {
    /// Voxel sizes as nibabel takes them: absolute, 0 reads as 1.
    fn zooms(&self) -> [f64; 3] {
        [1, 2, 3].map(|a| if self.pixdim[a] == 0.0 { 1.0 } else { self.pixdim[a].abs() })
    }

    /// Millimetres of one unit of space in this header.
    #[must_use]
    pub fn millimetres(&self) -> f64 {
        match self.xyzt_units & 7 {
            1 => 1000.0,
            3 => 0.001,
            _ => 1.0,
        }
    }

    /// The affine by the qform.
    #[must_use]
    pub fn qform(&self) -> Affine {
        let [mut b, mut c, mut d] = self.quatern;
        let square = b * b + c * c + d * d;
        let mut a = 0.0;
        if square <= 1.0 {
            a = (1.0 - square).sqrt();
        } else {
            // Rounded: a turn by 180 degrees about (b, c, d).
            let length = square.sqrt();
            (b, c, d) = (b / length, c / length, d / length);
        }
        let [x, y, z] = self.zooms();
        let z = if self.pixdim[0] < 0.0 { -z } else { z };
        let r = [
            [a * a + b * b - c * c - d * d, 2.0 * (b * c - a * d), 2.0 * (b * d + a * c)],
            [2.0 * (b * c + a * d), a * a + c * c - b * b - d * d, 2.0 * (c * d - a * b)],
            [2.0 * (b * d - a * c), 2.0 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ];
        let o = self.qoffset;
        Affine { rows: [0, 1, 2].map(|i| [r[i][0] * x, r[i][1] * y, r[i][2] * z, o[i]]) }
    }

    /// The grid where neither form is given: centred, first axis towards the left (as nibabel).
    fn base(&self) -> Affine {
        let [x, y, z] = self.zooms();
        let step = [-x, y, z];
        let mut affine = Affine { rows: [[0.0; 4]; 3] };
        for (a, row) in affine.rows.iter_mut().enumerate() {
            row[a] = step[a];
            row[3] = -(self.dim[a].saturating_sub(1) as f64) / 2.0 * step[a];
        }
        affine
    }

    /// Index to RAS mm: sform, else qform, else pixdim alone; not checked. Also says what was odd.
    pub(super) fn affine(&self) -> (Affine, Vec<String>) {
        let mut warnings = Vec::new();
        let mut affine = if self.sform_code > 0 {
            Affine { rows: self.srow }
        } else if self.qform_code > 0 {
            self.qform()
        } else {
            warnings.push("no orientation in the header: sides of the patient are a guess".into());
            self.base()
        };
        let unit = self.millimetres();
        if unit != 1.0 {
            warnings.push(format!("lengths in the header are of {unit} mm and were converted"));
            affine.rows.iter_mut().flatten().for_each(|v| *v *= unit);
        }
        if self.sform_code > 0 && self.qform_code > 0 {
            let mut q = self.qform();
            q.rows.iter_mut().flatten().for_each(|v| *v *= unit);
            let shift = affine.largest_corner_shift_mm(&q, self.dim.map(|d| d as usize));
            if shift.is_nan() || shift > 0.1 {
                warnings.push(format!("sform and qform differ by {shift:.3} mm at a corner; the sform counts"));
            }
        }
        if [1, 2, 3].iter().any(|&a| self.pixdim[a] <= 0.0) {
            warnings.push("a pixdim is not positive".into());
        }
        if affine.shear() > 1e-3 {
            warnings.push("the axes are not at right angles".into());
        }
        (affine, warnings)
    }
}

/// Everything that reading needs.
#[derive(Clone, Debug)]
pub(super) struct Parsed {
    pub(super) header: NiftiHeader,
    pub(super) size: usize,
    pub(super) big_endian: bool,
    pub(super) single: bool,
    pub(super) vox_offset: u64,
    pub(super) slope: f64,
    pub(super) intercept: f64,
    datatype: i16,
    frames: u64,
    warnings: Vec<String>,
}

/// Whether bytes start with a NIfTI header.
pub(crate) fn is_header(bytes: &[u8]) -> bool {
    size(bytes).is_some()
}

/// Size of the header that bytes start with.
pub(super) fn size(bytes: &[u8]) -> Option<usize> {
    let first: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
    [SHORTEST, LONGEST]
        .into_iter()
        .find(|&s| u32::from_le_bytes(first) as usize == s || u32::from_be_bytes(first) as usize == s)
}

struct Fields<'a> {
    bytes: &'a [u8],
    big_endian: bool,
}

impl Fields<'_> {
    fn take<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut out = [0u8; N];
        if let Some(found) = self.bytes.get(at..at + N) {
            out.copy_from_slice(found);
        }
        if self.big_endian {
            out.reverse();
        }
        out
    }
    fn i16(&self, at: usize) -> i16 {
        i16::from_le_bytes(self.take(at))
    }
    fn i32(&self, at: usize) -> i32 {
        i32::from_le_bytes(self.take(at))
    }
    fn i64(&self, at: usize) -> i64 {
        i64::from_le_bytes(self.take(at))
    }
    fn f32(&self, at: usize) -> f64 {
        f64::from(f32::from_le_bytes(self.take(at)))
    }
    fn f64(&self, at: usize) -> f64 {
        f64::from_le_bytes(self.take(at))
    }
}

impl Parsed {
    pub(super) fn new(bytes: &[u8]) -> Result<Self> {
        let size = size(bytes).ok_or_else(|| Error::malformed(FORMAT, "the file holds no header"))?;
        if bytes.len() < size {
            return Err(Error::malformed(
                FORMAT,
                format!("truncated: header of {} bytes, expected {size}", bytes.len()),
            ));
        }
        let big_endian = bytes[0] == 0;
        let f = Fields { bytes, big_endian };
        let two = size == LONGEST;
        let at = |one: usize, second: usize| if two { second } else { one };
        let real = |one: usize, second: usize| if two { f.f64(second) } else { f.f32(one) };
        let dim: [i64; 8] = std::array::from_fn(|n| if two { f.i64(16 + 8 * n) } else { i64::from(f.i16(40 + 2 * n)) });
        let code = |one: usize, second: usize| if two { f.i32(second) as i16 } else { f.i16(one) };
        let magic: [u8; 3] = [0, 1, 2].map(|n| bytes.get(at(344, 4) + n).copied().unwrap_or(0));
        let single = match &magic {
            b"n+1" | b"n+2" => true,
            b"ni1" | b"ni2" => false,
            _ => return Err(Error::unsupported(FORMAT, "a header without the NIfTI mark (Analyze 7.5)")),
        };
        if !(1..=7).contains(&dim[0]) {
            return Err(Error::malformed(FORMAT, format!("dim[0] is {}, expected 1 to 7", dim[0])));
        }
        let used = dim[0] as usize;
        let length = |n: usize| if n <= used { dim[n] } else { 1 };
        if let Some(n) = (1..=used).find(|&n| dim[n] < 1) {
            return Err(Error::malformed(FORMAT, format!("dim[{n}] is {}, expected at least 1", dim[n])));
        }
        let frames = (4..=7).try_fold(1u64, |p, n| p.checked_mul(length(n) as u64)).unwrap_or(u64::MAX);
        let header = NiftiHeader {
            version: if two { 2 } else { 1 },
            dim: [1, 2, 3].map(|n| length(n) as u64),
            pixdim: std::array::from_fn(|n| real(76 + 4 * n, 104 + 8 * n)),
            xyzt_units: if two { f.i32(500) as u8 } else { bytes[123] },
            qform_code: code(252, 344),
            sform_code: code(254, 348),
            quatern: std::array::from_fn(|n| real(256 + 4 * n, 352 + 8 * n)),
            qoffset: std::array::from_fn(|n| real(268 + 4 * n, 376 + 8 * n)),
            srow: std::array::from_fn(|r| std::array::from_fn(|c| real(280 + 16 * r + 4 * c, 400 + 32 * r + 8 * c))),
        };
        let first = if single { size + 4 } else { 0 };
        let offset = if two { f.i64(168) as f64 } else { f.f32(108) };
        // 0 is written by some for "right behind the header".
        let offset = if offset == 0.0 { first as f64 } else { offset };
        if !(first as f64..=1e15).contains(&offset) || offset.fract() != 0.0 {
            return Err(Error::malformed(
                FORMAT,
                format!("vox_offset is {offset}, expected a whole number from {first}"),
            ));
        }
        let (slope, intercept) = (real(112, 176), real(116, 184));
        let mut warnings = Vec::new();
        let (slope, intercept) = if slope == 0.0 || !slope.is_finite() {
            (1.0, 0.0)
        } else if intercept.is_finite() {
            (slope, intercept)
        } else {
            return Err(Error::malformed(FORMAT, format!("scl_inter is {intercept} where scl_slope is {slope}")));
        };
        if used > 4 && frames > 1 {
            warnings.push(format!("the file has {used} axes; those from the 4th on count as one"));
        }
        let datatype = f.i16(at(70, 12));
        Ok(Self {
            header,
            size,
            big_endian,
            single,
            vox_offset: offset as u64,
            slope,
            intercept,
            datatype,
            frames,
            warnings,
        })
    }

    pub(super) fn layout(&self, options: &ReadOptions) -> Result<(Layout, Vec<String>)> {
        let kind = kind(self.datatype)?;
        options.limits.voxels(&[self.header.dim[0], self.header.dim[1], self.header.dim[2], self.frames])?;
        let (affine, mut warnings) = self.header.affine();
        warnings.splice(0..0, self.warnings.iter().cloned());
        let layout = Layout::new(FORMAT, kind, self.big_endian, self.header.dim, self.frames, affine, options)?;
        Ok((layout, warnings))
    }
}

fn kind(datatype: i16) -> Result<VoxelKind> {
    Ok(match datatype {
        2 => VoxelKind::U8,
        4 => VoxelKind::I16,
        8 => VoxelKind::I32,
        16 => VoxelKind::F32,
        64 => VoxelKind::F64,
        256 => VoxelKind::I8,
        512 => VoxelKind::U16,
        768 => VoxelKind::U32,
        1024 => VoxelKind::I64,
        1280 => VoxelKind::U64,
        1 => return Err(Error::unsupported(FORMAT, "datatype 1 (one bit a voxel)")),
        32 | 1792 | 2048 => return Err(Error::unsupported(FORMAT, format!("datatype {datatype} (complex numbers)"))),
        128 | 2304 => return Err(Error::unsupported(FORMAT, format!("datatype {datatype} (colours)"))),
        1536 => return Err(Error::unsupported(FORMAT, "datatype 1536 (128-bit floats)")),
        other => return Err(Error::malformed(FORMAT, format!("datatype is {other}, which NIfTI does not have"))),
    })
}

/// The datatype code of a kind.
pub(super) fn code(kind: VoxelKind) -> i16 {
    match kind {
        VoxelKind::U8 => 2,
        VoxelKind::I16 => 4,
        VoxelKind::I32 => 8,
        VoxelKind::F32 => 16,
        VoxelKind::F64 => 64,
        VoxelKind::I8 => 256,
        VoxelKind::U16 => 512,
        VoxelKind::U32 => 768,
        VoxelKind::I64 => 1024,
        VoxelKind::U64 => 1280,
    }
}
