//! Writing: what is to be written, in one form for all formats.

use crate::{
    DicomOptions, Error, Format, Header, Image, LabelName, Result, dicom, metaimage, nifti, nrrd, picture,
    voxels::{converted, range, rescaled},
};
use std::path::Path;
use volseg_geometry::{Affine, AnyVolume, LabelMap, OrganId, VoxelKind};

/// Deflate level of all compressed outputs: between level 1 (fast) and 6 (small). `examples/gzip_levels.rs` measures them.
pub(crate) const GZIP_LEVEL: u32 = 3;

/// What a format's writer gets.
pub(crate) struct Content<'a> {
    /// Voxels of all frames, native byte order, first index fastest.
    pub(crate) bytes: &'a [u8],
    pub(crate) kind: VoxelKind,
    pub(crate) dim: [usize; 3],
    pub(crate) frames: usize,
    pub(crate) affine: Affine,
    pub(crate) slope: f64,
    pub(crate) intercept: f64,
    pub(crate) header: &'a Header,
    pub(crate) names: &'a [LabelName],
    /// Organs by id, where the voxels are organ ids.
    pub(crate) organs: &'a [OrganId],
}

/// Writes an image; the format is chosen by the name's ending. The voxels stay what they are. Slope and intercept are kept
/// where the format has them (NIfTI), else applied exactly.
///
/// # Errors
/// [`Error::CannotHold`] if the format cannot hold the image; [`Error::Io`]. Nothing is left behind then.
pub fn write(path: &Path, image: &Image) -> Result<()> {
    let format = Format::of_output(path)?;
    if format == Format::DicomSeg {
        return Err(Error::CannotHold {
            format: "DICOM SEG",
            what: "an image without the DICOM series whose slices it labels".into(),
        });
    }
    if format == Format::Png
        && let Some(rgb) = image.rgb()
    {
        return picture::write_rgb(path, rgb, image.volume.dim());
    }
    let scaled = matches!(format, Format::Nifti | Format::NiftiGz | Format::NiftiPair);
    let volume = if scaled { image.volume.clone() } else { rescaled(&image.volume, image.slope, image.intercept)? };
    let volume = if format == Format::SegNrrd { as_labels(&volume)? } else { volume };
    let (slope, intercept) = if scaled { (image.slope, image.intercept) } else { (1.0, 0.0) };
    dispatch(
        path,
        format,
        &Content {
            bytes: volume.bytes(),
            kind: volume.kind(),
            dim: volume.dim(),
            frames: 1,
            affine: *volume.affine(),
            slope,
            intercept,
            header: &image.header,
            names: &image.labels,
            organs: &[],
        },
    )
}

/// Writes a label map on the grid of `reference` (its affine bit by bit), with the names of `organs` where the format has
/// a place for them: `.seg.nrrd` and `.dcm` (names, colours, terminology) and NIfTI (a label table). `.dcm` needs a DICOM
/// series as `reference`; [`crate::write_dicom_seg`] has more options.
///
/// # Errors
/// As [`write()`]; [`Error::InvalidArgument`] if the map is not as large as `reference`.
pub fn write_labels(path: &Path, labels: &LabelMap, reference: &Image, organs: &[OrganId]) -> Result<()> {
    same_size(labels.dim(), reference)?;
    let names: Vec<LabelName> = organs.iter().map(|&id| id.into()).collect();
    let format = Format::of_output(path)?;
    if format == Format::DicomSeg {
        return dicom::write_dicom_seg(path, labels, reference, &names, &DicomOptions::default());
    }
    dispatch(
        path,
        format,
        &Content {
            bytes: labels.voxels(),
            kind: VoxelKind::U8,
            dim: labels.dim(),
            frames: 1,
            affine: *reference.volume.affine(),
            slope: 1.0,
            intercept: 0.0,
            header: &reference.header,
            names: &names,
            organs,
        },
    )
}

fn same_size(dim: [usize; 3], reference: &Image) -> Result<()> {
    let expected = reference.volume.dim();
    if dim == expected {
        return Ok(());
    }
    Err(Error::InvalidArgument {
        what: "label map",
        found: format!("{dim:?} voxels"),
        expected: format!("{expected:?}, as the image has"),
    })
}

/// The bytes of an uncompressed `.nrrd` of label values on the grid of `reference`: for answers over a network, where
/// compression would take longer than the way.
///
/// # Errors
/// [`Error::InvalidArgument`] if the map is not as large as `reference`; [`Error::CannotHold`] for a grid without an inverse.
pub fn nrrd_bytes(labels: &AnyVolume, reference: &Image) -> Result<Vec<u8>> {
    same_size(labels.dim(), reference)?;
    nrrd::raw(&Content {
        bytes: labels.bytes(),
        kind: labels.kind(),
        dim: labels.dim(),
        frames: 1,
        affine: *reference.volume.affine(),
        slope: 1.0,
        intercept: 0.0,
        header: &reference.header,
        names: &[],
        organs: &[],
    })
}

/// Writes `count` maps of 32-bit floats that follow each other in `values`, each on the grid of `reference`: a 4th axis for
/// more than one.
///
/// # Errors
/// As [`write()`]; [`Error::InvalidArgument`] if `values` are not `count` maps.
pub fn write_f32(path: &Path, values: &[f32], count: usize, reference: &Image) -> Result<()> {
    let dim = reference.volume.dim();
    let expected = dim.iter().product::<usize>().checked_mul(count);
    if Some(values.len()) != expected || count == 0 {
        return Err(Error::InvalidArgument {
            what: "maps",
            found: format!("{} values", values.len()),
            expected: format!("{count} maps of {dim:?}"),
        });
    }
    dispatch(
        path,
        Format::of_output(path)?,
        &Content {
            bytes: bytemuck::cast_slice(values),
            kind: VoxelKind::F32,
            dim,
            frames: count,
            affine: *reference.volume.affine(),
            slope: 1.0,
            intercept: 0.0,
            header: &reference.header,
            names: &[],
            organs: &[],
        },
    )
}

fn dispatch(path: &Path, format: Format, content: &Content<'_>) -> Result<()> {
    match format {
        Format::Nifti => nifti::write(path, content, false),
        Format::NiftiGz => nifti::write(path, content, true),
        Format::NiftiPair => nifti::write_pair(path, content),
        Format::Nrrd => nrrd::write(path, content, nrrd::Form::Plain),
        Format::SegNrrd => nrrd::write(path, content, nrrd::Form::Segmentation),
        Format::NrrdDetached => nrrd::write(path, content, nrrd::Form::Detached),
        Format::Mha => metaimage::write(path, content, false),
        Format::Mhd => metaimage::write(path, content, true),
        Format::Png => picture::write(path, content),
        Format::DicomSeg => Err(Error::CannotHold { format: "DICOM SEG", what: "anything but a label map".into() }),
    }
}

/// The voxels as 8 or 16 unsigned bits.
fn as_labels(volume: &AnyVolume) -> Result<AnyVolume> {
    if matches!(volume.kind(), VoxelKind::U8 | VoxelKind::U16) {
        return Ok(volume.clone());
    }
    let (low, high) = range(volume).unwrap_or((0.0, 0.0));
    let count: usize = volume.dim().iter().product();
    if low < 0.0 || high > 65535.0 || (0..count).any(|n| volume.value(n).fract() != 0.0 || volume.value(n).is_nan()) {
        return Err(Error::CannotHold {
            format: ".seg.nrrd",
            what: format!(
                "values from {low} to {high}: it is for whole numbers from 0 to 65535 (use .nrrd for images)"
            ),
        });
    }
    converted(volume, if high > 255.0 { VoxelKind::U16 } else { VoxelKind::U8 }, 1.0, 0.0)
}
