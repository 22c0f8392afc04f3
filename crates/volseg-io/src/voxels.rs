//! From stored bytes to volumes: one copy at most, none where the bytes can be shared.

use crate::{
    Error, ReadOptions, Result,
    source::{Shared, stream_error},
};
use std::io::{self, Read};
use volseg_geometry::{Affine, AnyVolume, Volume, Voxel, VoxelKind, Voxels};

/// Runs a body with `$T` standing for the Rust type of a [`VoxelKind`].
macro_rules! with_kind {
    ($kind:expr, $T:ident => $body:expr) => {
        match $kind {
            volseg_geometry::VoxelKind::U8 => {
                type $T = u8;
                $body
            }
            volseg_geometry::VoxelKind::I8 => {
                type $T = i8;
                $body
            }
            volseg_geometry::VoxelKind::U16 => {
                type $T = u16;
                $body
            }
            volseg_geometry::VoxelKind::I16 => {
                type $T = i16;
                $body
            }
            volseg_geometry::VoxelKind::U32 => {
                type $T = u32;
                $body
            }
            volseg_geometry::VoxelKind::I32 => {
                type $T = i32;
                $body
            }
            volseg_geometry::VoxelKind::U64 => {
                type $T = u64;
                $body
            }
            volseg_geometry::VoxelKind::I64 => {
                type $T = i64;
                $body
            }
            volseg_geometry::VoxelKind::F32 => {
                type $T = f32;
                $body
            }
            volseg_geometry::VoxelKind::F64 => {
                type $T = f64;
                $body
            }
        }
    };
}
pub(crate) use with_kind;

/// How a file stores its voxels.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// For error texts.
    pub format: &'static str,
    pub kind: VoxelKind,
    pub big_endian: bool,
    pub dim: [usize; 3],
    /// Volumes in the file.
    pub frames: usize,
    /// The frames alternate voxel by voxel (a vector at each voxel) instead of following each other.
    pub interleaved: bool,
    pub affine: Affine,
}

impl Layout {
    /// Checks the sizes against the limits and makes a layout of one frame.
    pub(crate) fn new(
        format: &'static str,
        kind: VoxelKind,
        big_endian: bool,
        dim: [u64; 3],
        frames: u64,
        affine: Affine,
        options: &ReadOptions,
    ) -> Result<Self> {
        if let Some(axis) = dim.iter().position(|&d| d == 0) {
            return Err(Error::malformed(format, format!("size of axis {axis} is 0")));
        }
        options.limits.voxels(&[dim[0], dim[1], dim[2], frames])?;
        let affine = match affine.check() {
            Ok(()) => affine,
            Err(_) if !options.check_grid => Affine::from_spacing_mm([1.0; 3]),
            Err(e) => return Err(Error::malformed(format, e.to_string())),
        };
        // In range: the product is within a usize.
        let dim = dim.map(|d| d as usize);
        Ok(Self { format, kind, big_endian, dim, frames: frames as usize, interleaved: false, affine })
    }

    /// Voxels of one frame.
    pub(crate) fn count(&self) -> usize {
        self.dim.iter().product()
    }

    /// Bytes of all frames.
    pub(crate) fn bytes(&self) -> u64 {
        self.count() as u64 * self.frames as u64 * self.kind.bytes() as u64
    }

    /// The frame to read: the chosen one, or the only one.
    pub(crate) fn frame(&self, chosen: Option<usize>) -> Result<usize> {
        match chosen {
            None if self.frames == 1 => Ok(0),
            None => Err(Error::unsupported(
                self.format,
                format!("without --frame more than one value a voxel ({} volumes or channels)", self.frames),
            )),
            Some(n) if n < self.frames => Ok(n),
            Some(n) => Err(Error::InvalidArgument {
                what: "frame",
                found: n.to_string(),
                expected: format!("0 to {}", self.frames - 1),
            }),
        }
    }

    fn swapped(&self) -> bool {
        self.big_endian != cfg!(target_endian = "big") && self.kind.bytes() > 1
    }

    /// The voxels of a frame that stand in `bytes` from `start` on: shared if order and alignment allow, else copied.
    pub(crate) fn share(&self, bytes: &Shared, start: usize, frame: Option<usize>) -> Result<AnyVolume> {
        let frame = self.frame(frame)?;
        let held = (**bytes).as_ref().len();
        if (held.saturating_sub(start) as u64) < self.bytes() {
            let found = held.saturating_sub(start);
            return Err(Error::malformed(
                self.format,
                format!("truncated: {found} bytes of voxels found, expected {}", self.bytes()),
            ));
        }
        if !self.swapped() && (!self.interleaved || self.frames == 1) {
            let first = start + frame * self.count() * self.kind.bytes();
            let shared = with_kind!(self.kind, T => {
                Voxels::<T>::shared(bytes.clone(), first, self.count())
                    .map(|v| Volume::new(v, self.dim, self.affine).map(AnyVolume::from))
            });
            if let Some(volume) = shared {
                return Ok(volume?);
            }
        }
        self.read(&mut (**bytes).as_ref().get(start..).unwrap_or(&[]), Some(frame))
    }

    /// Reads a frame from a stream that stands at the first voxel. The stream is left behind the last voxel of the frame.
    pub(crate) fn read(&self, stream: &mut dyn Read, frame: Option<usize>) -> Result<AnyVolume> {
        let frame = self.frame(frame)?;
        with_kind!(self.kind, T => {
            let voxels: Vec<T> = if self.interleaved && self.frames > 1 {
                let all: Vec<T> = self.fill(stream, self.count() * self.frames)?;
                all.into_iter().skip(frame).step_by(self.frames).collect()
            } else {
                let skipped = (frame * self.count() * self.kind.bytes()) as u64;
                skip(stream, skipped).map_err(|e| stream_error(self.format, e))?;
                self.fill(stream, self.count())?
            };
            Ok(Volume::from_vec(voxels, self.dim, self.affine)?.into())
        })
    }

    fn fill<T: Voxel>(&self, stream: &mut dyn Read, count: usize) -> Result<Vec<T>> {
        let mut voxels: Vec<T> = zeros(count)?;
        read_whole(stream, bytemuck::cast_slice_mut(&mut voxels), self.format)?;
        if self.swapped() {
            swap(&mut voxels);
        }
        Ok(voxels)
    }
}

/// Fills `out`, or says how much there was.
fn read_whole(stream: &mut dyn Read, out: &mut [u8], format: &'static str) -> Result<()> {
    let mut found = 0;
    while found < out.len() {
        match stream.read(&mut out[found..]) {
            Ok(n) if n > 0 => found += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() != io::ErrorKind::UnexpectedEof => return Err(stream_error(format, e)),
            _ => {
                let expected = out.len();
                return Err(Error::malformed(
                    format,
                    format!("truncated: {found} bytes of voxels found, expected {expected}"),
                ));
            }
        }
    }
    Ok(())
}

/// `count` zeros, or an error if the system has no such memory.
pub(crate) fn zeros<T: Voxel>(count: usize) -> Result<Vec<T>> {
    let no_memory = |_| Error::Limit { what: "voxels in memory", found: count as u64, allowed: 0 };
    // Asked for first, since `vec!` ends the process where this can fail. `vec!` of zeros takes untouched pages.
    Vec::<T>::new().try_reserve_exact(count).map_err(no_memory)?;
    Ok(vec![T::default(); count])
}

/// Turns the byte order of numbers around.
pub(crate) fn swap<T: Voxel>(voxels: &mut [T]) {
    match size_of::<T>() {
        2 => bytemuck::cast_slice_mut::<T, u16>(voxels).iter_mut().for_each(|v| *v = v.swap_bytes()),
        4 => bytemuck::cast_slice_mut::<T, u32>(voxels).iter_mut().for_each(|v| *v = v.swap_bytes()),
        8 => bytemuck::cast_slice_mut::<T, u64>(voxels).iter_mut().for_each(|v| *v = v.swap_bytes()),
        _ => {}
    }
}

/// Reads past `count` bytes.
pub(crate) fn skip(stream: &mut dyn Read, count: u64) -> io::Result<()> {
    let skipped = io::copy(&mut stream.take(count), &mut io::sink())?;
    if skipped == count { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Least and greatest finite stored value.
pub(crate) fn range(volume: &AnyVolume) -> Option<(f64, f64)> {
    fn of<T: Voxel>(voxels: &[T]) -> Option<(f64, f64)> {
        let mut finite = voxels.iter().copied().filter(|v| v.to_f64().is_finite());
        let first = finite.next()?;
        let (low, high) =
            finite.fold((first, first), |(l, h), v| (if v < l { v } else { l }, if v > h { v } else { h }));
        Some((low.to_f64(), high.to_f64()))
    }
    match volume {
        AnyVolume::U8(v) => of(v.voxels()),
        AnyVolume::I8(v) => of(v.voxels()),
        AnyVolume::U16(v) => of(v.voxels()),
        AnyVolume::I16(v) => of(v.voxels()),
        AnyVolume::U32(v) => of(v.voxels()),
        AnyVolume::I32(v) => of(v.voxels()),
        AnyVolume::U64(v) => of(v.voxels()),
        AnyVolume::I64(v) => of(v.voxels()),
        AnyVolume::F32(v) => of(v.voxels()),
        AnyVolume::F64(v) => of(v.voxels()),
    }
}

/// The intensities as voxels of slope 1: whole numbers where slope and intercept are whole, else the smallest float that
/// holds every value exactly.
pub(crate) fn rescaled(volume: &AnyVolume, slope: f64, intercept: f64) -> Result<AnyVolume> {
    if slope == 1.0 && intercept == 0.0 {
        return Ok(volume.clone());
    }
    let (low, high) = range(volume).unwrap_or((0.0, 0.0));
    let (a, b) = (low * slope + intercept, high * slope + intercept);
    let (low, high) = (a.min(b), a.max(b));
    let whole =
        !matches!(volume.kind(), VoxelKind::F32 | VoxelKind::F64) && slope.fract() == 0.0 && intercept.fract() == 0.0;
    let kind = if whole && high.abs().max(low.abs()) < 9e15 {
        let fits = |l: f64, h: f64| low >= l && high <= h;
        if fits(-32768.0, 32767.0) {
            VoxelKind::I16
        } else if fits(0.0, 65535.0) {
            VoxelKind::U16
        } else if fits(-2147483648.0, 2147483647.0) {
            VoxelKind::I32
        } else {
            VoxelKind::I64
        }
    } else {
        let count: usize = volume.dim().iter().product();
        let exact = |n| {
            let v = volume.value(n) * slope + intercept;
            f64::from(v as f32) == v || v.is_nan()
        };
        if (0..count).all(exact) { VoxelKind::F32 } else { VoxelKind::F64 }
    };
    converted(volume, kind, slope, intercept)
}

/// The intensities in another type; the caller knows that they fit.
pub(crate) fn converted(volume: &AnyVolume, kind: VoxelKind, slope: f64, intercept: f64) -> Result<AnyVolume> {
    with_kind!(kind, T => {
        let mut out: Vec<T> = zeros(volume.dim().iter().product())?;
        for (n, o) in out.iter_mut().enumerate() {
            *o = (volume.value(n) * slope + intercept) as T;
        }
        Ok(Volume::from_vec(out, volume.dim(), *volume.affine())?.into())
    })
}
