//! Label maps from files.
//!
//! NIfTI-1 is read here and not by `volseg-io`: eval refuses spacings that a viewer may repair, and needs no digest of
//! the file, which would cost more than the metrics.

use crate::exit::Verdict;
use anyhow::{Context, bail};
use std::{
    fs::File,
    io::{BufReader, Read},
    path::Path,
};
use volseg_geometry::{Affine, AnyVolume, Volume, Voxel};

/// Most voxels of one map: 2^33.
const MOST_VOXELS: usize = 1 << 33;
/// Deflate cannot shrink more than this; a header that asks for more than the file can hold is refused before allocation.
const MOST_RATIO: u64 = 1032;

/// A label map as stored.
pub(super) struct Loaded {
    pub(super) volume: AnyVolume,
    pub(super) slope: f64,
    pub(super) intercept: f64,
    /// A picture: its spacing is pixels.
    pub(super) picture: bool,
    pub(super) warnings: Vec<String>,
}

fn unreadable(path: &Path, why: impl std::fmt::Display) -> anyhow::Error {
    Verdict::Unreadable(format!("{}: {why}", path.display())).into()
}

/// Reads a file. `any_spacing`: the caller replaces the spacing, so that a bad one in the file is no error.
pub(super) fn load(path: &Path, any_spacing: bool) -> anyhow::Result<Loaded> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    if [".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"].iter().any(|e| name.ends_with(e)) {
        return picture(path);
    }
    if !name.ends_with(".nii") && !name.ends_with(".nii.gz") {
        return other(path);
    }
    let file = File::open(path).map_err(|e| unreadable(path, e))?;
    let size = file.metadata().map_err(|e| unreadable(path, e))?.len();
    if name.ends_with(".gz") {
        let stream = flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(1 << 17, file));
        nifti(path, stream, size.saturating_mul(MOST_RATIO), any_spacing)
    } else {
        nifti(path, file, size, any_spacing)
    }
}

/// NRRD, MetaImage, NIfTI pairs and what else `volseg-io` knows.
fn other(path: &Path) -> anyhow::Result<Loaded> {
    let image = volseg_io::read(path, &volseg_io::ReadOptions::default()).map_err(|e| unreadable(path, e))?;
    let volseg_io::Image { volume, slope, intercept, warnings, .. } = image;
    Ok(Loaded { volume, slope, intercept, picture: false, warnings })
}

fn picture(path: &Path) -> anyhow::Result<Loaded> {
    let image = image::open(path).map_err(|e| unreadable(path, e))?;
    let dim = [image.width() as usize, image.height() as usize, 1];
    let affine = Affine::from_spacing_mm([1.0; 3]);
    let volume = match image {
        image::DynamicImage::ImageLuma8(p) => Volume::from_vec(p.into_raw(), dim, affine)?.into(),
        image::DynamicImage::ImageLuma16(p) => Volume::from_vec(p.into_raw(), dim, affine)?.into(),
        other => {
            let rgb = other.to_rgb8();
            if rgb.pixels().any(|p| p.0[0] != p.0[1] || p.0[0] != p.0[2]) {
                bail!("{}: found a coloured picture, expected one grey channel of label ids", path.display());
            }
            Volume::from_vec(rgb.pixels().map(|p| p.0[0]).collect::<Vec<u8>>(), dim, affine)?.into()
        }
    };
    Ok(Loaded { volume: two_values(volume)?, slope: 1.0, intercept: 0.0, picture: true, warnings: Vec::new() })
}

/// Masks of values {0, 255} are read as {0, 1}.
fn two_values(volume: AnyVolume) -> anyhow::Result<AnyVolume> {
    match volume {
        AnyVolume::U8(mut v) if v.voxels().iter().all(|&p| p == 0 || p == 255) => {
            v.voxels_mut().iter_mut().for_each(|p| *p = (*p).min(1));
            Ok(v.into())
        }
        other => Ok(other),
    }
}

/// Fields of a header in its byte order.
struct Header<'a> {
    bytes: &'a [u8; 352],
    swapped: bool,
}

impl Header<'_> {
    fn take<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut b = [0; N];
        b.iter_mut().zip(self.bytes.iter().skip(at)).for_each(|(b, v)| *b = *v);
        if self.swapped {
            b.reverse();
        }
        b
    }
    fn i16(&self, at: usize) -> i16 {
        i16::from_le_bytes(self.take(at))
    }
    fn f32(&self, at: usize) -> f64 {
        f64::from(f32::from_le_bytes(self.take(at)))
    }
}

fn nifti(path: &Path, mut from: impl Read, most_bytes: u64, any_spacing: bool) -> anyhow::Result<Loaded> {
    let mut bytes = [0u8; 352];
    // A header alone is 348 bytes; data never starts before 352.
    from.read_exact(&mut bytes).map_err(|e| unreadable(path, format!("header cannot be read: {e}")))?;
    let length = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let swapped = match length {
        348 => false,
        _ if length.swap_bytes() == 348 => true,
        _ => return Err(unreadable(path, format!("found header size {length}, expected 348 (NIfTI-1)"))),
    };
    if &bytes[344..347] != b"n+1" {
        return Err(unreadable(path, "the magic of NIfTI-1 is missing"));
    }
    let h = Header { bytes: &bytes, swapped };
    let axes = h.i16(40);
    if !(1..=7).contains(&axes) {
        return Err(unreadable(path, format!("found {axes} axes, expected 1 to 7")));
    }
    let mut dim = [1usize; 3];
    let mut total = 1usize;
    for a in 0..axes as usize {
        let n = h.i16(42 + 2 * a);
        let size = usize::try_from(n).ok().filter(|&n| n > 0);
        let size = size.ok_or_else(|| unreadable(path, format!("found size {n} of axis {a}, expected 1 or more")))?;
        match dim.get_mut(a) {
            Some(d) => *d = size,
            None if size > 1 => bail!("{}: found {size} volumes on axis {a}, expected one label map", path.display()),
            None => {}
        }
        total = total
            .checked_mul(size)
            .filter(|&t| t <= MOST_VOXELS)
            .ok_or_else(|| unreadable(path, format!("found more than {MOST_VOXELS} voxels")))?;
    }
    let mut warnings = Vec::new();
    let affine = affine(&h, &mut warnings, any_spacing).with_context(|| path.display().to_string())?;
    let offset = h.f32(108);
    if !(offset.is_finite() && (0.0..1e9).contains(&offset)) {
        return Err(unreadable(path, format!("found data offset {offset}, expected 352 or more")));
    }
    let skip = (offset as u64).saturating_sub(352);
    std::io::copy(&mut from.by_ref().take(skip), &mut std::io::sink()).map_err(|e| unreadable(path, e))?;
    macro_rules! read {
        ($t:ty) => {{ voxels::<$t>(path, from, total, dim, affine, swapped, most_bytes)?.into() }};
    }
    let volume = match h.i16(70) {
        2 => read!(u8),
        4 => read!(i16),
        8 => read!(i32),
        16 => read!(f32),
        64 => read!(f64),
        256 => read!(i8),
        512 => read!(u16),
        768 => read!(u32),
        1024 => read!(i64),
        1280 => read!(u64),
        other => return Err(unreadable(path, format!("found data type {other}, expected integers or floats"))),
    };
    let (slope, intercept) = (h.f32(112), h.f32(116));
    let scaled = slope != 0.0 && slope.is_finite() && intercept.is_finite();
    let (slope, intercept) = if scaled { (slope, intercept) } else { (1.0, 0.0) };
    Ok(Loaded { volume, slope, intercept, picture: false, warnings })
}

fn voxels<T: Voxel>(
    path: &Path,
    mut from: impl Read,
    total: usize,
    dim: [usize; 3],
    affine: Affine,
    swapped: bool,
    most_bytes: u64,
) -> anyhow::Result<Volume<T>> {
    let size = size_of::<T>();
    if (total as u64).saturating_mul(size as u64) > most_bytes {
        return Err(unreadable(path, format!("truncated: its header asks for {total} voxels of {size} bytes")));
    }
    let mut out: Vec<T> = Vec::new();
    out.try_reserve_exact(total).map_err(|e| unreadable(path, e))?;
    out.resize(total, T::default());
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut out);
    from.read_exact(bytes).map_err(|e| unreadable(path, format!("voxels cannot be read (truncated?): {e}")))?;
    if swapped {
        bytes.chunks_mut(size).for_each(<[u8]>::reverse);
    }
    Ok(Volume::from_vec(out, dim, affine)?)
}

/// Largest relative difference between the affine's column lengths and `pixdim`.
const PIXDIM_TOLERANCE: f64 = 1e-3;

fn affine(h: &Header<'_>, warnings: &mut Vec<String>, any_spacing: bool) -> anyhow::Result<Affine> {
    let unit = match h.bytes[123] & 7 {
        1 => 1000.0,
        3 => 0.001,
        _ => 1.0,
    };
    let pixdim = [80, 84, 88].map(|at| h.f32(at) * unit);
    let pixdim = [0, 1, 2].map(|a| if a as i16 >= h.i16(40) && pixdim[a] == 0.0 { 1.0 } else { pixdim[a] });
    let bad = pixdim.iter().position(|s| !(s.is_finite() && *s > 0.0));
    if let Some(axis) = bad.filter(|_| !any_spacing) {
        return Err(volseg_metrics::Error::Spacing { axis, found: pixdim[axis] }.into());
    }
    if bad.is_some() {
        return Ok(Affine::from_spacing_mm([1.0; 3]));
    }
    let affine = if h.i16(254) > 0 {
        Affine { rows: [280, 296, 312].map(|row| [0, 4, 8, 12].map(|c| h.f32(row + c) * unit)) }
    } else if h.i16(252) > 0 {
        let [b, c, d] = [256, 260, 264].map(|at| h.f32(at));
        let a = (1.0 - (b * b + c * c + d * d)).max(0.0).sqrt();
        let flip = if h.f32(76) < 0.0 { -1.0 } else { 1.0 };
        let rotation = [
            [a * a + b * b - c * c - d * d, 2.0 * (b * c - a * d), 2.0 * (b * d + a * c)],
            [2.0 * (b * c + a * d), a * a + c * c - b * b - d * d, 2.0 * (c * d - a * b)],
            [2.0 * (b * d - a * c), 2.0 * (c * d + a * b), a * a + d * d - c * c - b * b],
        ];
        let step = [pixdim[0], pixdim[1], pixdim[2] * flip];
        let columns = [0, 1, 2].map(|j| [0, 1, 2].map(|i| rotation[i][j] * step[j]));
        Affine::from_columns(columns, [268, 272, 276].map(|at| h.f32(at) * unit))
    } else {
        Affine::from_spacing_mm(pixdim)
    };
    affine.check()?;
    let found = affine.spacing_mm();
    if (0..3).any(|a| (found[a] / pixdim[a] - 1.0).abs() > PIXDIM_TOLERANCE) {
        warnings.push(format!("spacing {found:?} mm of the affine is used; pixdim says {pixdim:?}"));
    }
    Ok(affine)
}
