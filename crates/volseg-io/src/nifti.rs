//! NIfTI-1 and NIfTI-2: `.nii`, `.nii.gz`, `.hdr` + `.img`. Rules for slope and affine are those of nibabel.

mod header;
mod names;
mod write;

pub use header::NiftiHeader;
pub(crate) use header::is_header;
pub(crate) use write::{write, write_pair};

use crate::{
    Error, Header, Image, ReadOptions, Result,
    source::{self, Gunzip, Shared, stream_error},
    voxels::{Layout, skip},
};
use header::Parsed;
use std::{
    io::Read,
    path::{Path, PathBuf},
};

pub(crate) const FORMAT: &str = "NIfTI";
/// Extensions are names and notes; more is not read.
const MOST_EXTENSION_BYTES: u64 = 64 << 20;

pub(crate) fn read(path: &Path, bytes: &Shared, options: &ReadOptions) -> Result<Image> {
    // The voxels of a pair were named: its header stands beside.
    if !source::is_gzip((**bytes).as_ref()) && !is_header((**bytes).as_ref()) {
        let header = sibling(path, "hdr");
        let head = source::open(&header, &options.limits)?;
        let parsed = Parsed::new((*head).as_ref())?;
        return pair(&parsed, bytes, options, &[&header, path]);
    }
    if source::is_gzip((**bytes).as_ref()) {
        return gzipped(path, (**bytes).as_ref(), options);
    }
    let parsed = Parsed::new((**bytes).as_ref())?;
    if !parsed.single {
        let data = ["img", "img.gz"].map(|e| sibling(path, e)).into_iter().find(|p| p.exists());
        let data = data.unwrap_or_else(|| sibling(path, "img"));
        return pair(&parsed, &source::open(&data, &options.limits)?, options, &[path, &data]);
    }
    let (layout, mut warnings) = parsed.layout(options)?;
    let start = parsed.vox_offset as usize;
    let names = names_in((**bytes).as_ref(), &parsed, start as u64)?;
    let volume = layout.share(bytes, start, options.frame)?;
    let end = start as u64 + layout.bytes();
    let length = (**bytes).as_ref().len() as u64;
    if length > end {
        warnings.push(format!("{} bytes after the voxels were ignored", length - end));
    }
    image(volume, parsed, layout, warnings, names)
}

fn gzipped(path: &Path, bytes: &[u8], options: &ReadOptions) -> Result<Image> {
    let limits = &options.limits;
    let mut stream = Gunzip::new(bytes, limits);
    let mut head = [0u8; header::LONGEST];
    stream.read_exact(&mut head[..header::SHORTEST]).map_err(|e| not_nifti(e, &head))?;
    let size = header::size(&head).ok_or_else(|| Error::malformed(FORMAT, "the gzip stream holds no NIfTI header"))?;
    stream.read_exact(&mut head[header::SHORTEST..size]).map_err(|e| stream_error(FORMAT, e))?;
    let parsed = Parsed::new(&head[..size])?;
    if !parsed.single {
        let data = ["img.gz", "img"].map(|e| sibling(path, e)).into_iter().find(|p| p.exists());
        let data = data.unwrap_or_else(|| sibling(path, "img.gz"));
        return pair(&parsed, &source::open(&data, limits)?, options, &[path, &data]);
    }
    let (layout, mut warnings) = parsed.layout(options)?;
    limits.inflated(FORMAT, parsed.vox_offset.saturating_add(layout.bytes()), bytes.len() as u64)?;
    layout.frame(options.frame)?;
    let between = parsed.vox_offset - size as u64;
    let names = if between <= MOST_EXTENSION_BYTES {
        let mut start = head[..size].to_vec();
        (&mut stream).take(between).read_to_end(&mut start).map_err(|e| stream_error(FORMAT, e))?;
        names_in(&start, &parsed, parsed.vox_offset)?
    } else {
        skip(&mut stream, between).map_err(|e| stream_error(FORMAT, e))?;
        Vec::new()
    };
    let volume = layout.read(&mut stream, options.frame)?;
    let rest = stream.drain(FORMAT)?;
    let unread = (layout.frames - 1 - options.frame.unwrap_or(0)) as u64 * (layout.bytes() / layout.frames as u64);
    if rest < unread {
        return Err(Error::malformed(FORMAT, "truncated: the data end too early"));
    }
    if rest > unread || stream.junk > 0 {
        warnings.push(format!("{} bytes after the voxels were ignored", rest - unread + stream.junk as u64));
    }
    image(volume, parsed, layout, warnings, names)
}

fn not_nifti(error: std::io::Error, head: &[u8]) -> Error {
    match stream_error(FORMAT, error) {
        Error::Malformed { .. } if head.iter().all(|&b| b == 0) => {
            Error::malformed(FORMAT, "the gzip stream is damaged or holds no header")
        }
        other => other,
    }
}

/// Header and voxels in two files.
fn pair(parsed: &Parsed, data: &Shared, options: &ReadOptions, files: &[&Path]) -> Result<Image> {
    let (layout, warnings) = parsed.layout(options)?;
    let held: &[u8] = (**data).as_ref();
    let volume = if source::is_gzip(held) {
        options.limits.inflated(FORMAT, parsed.vox_offset.saturating_add(layout.bytes()), held.len() as u64)?;
        let mut stream = Gunzip::new(held, &options.limits);
        skip(&mut stream, parsed.vox_offset).map_err(|e| stream_error(FORMAT, e))?;
        let volume = layout.read(&mut stream, options.frame)?;
        stream.drain(FORMAT)?;
        volume
    } else {
        let start = usize::try_from(parsed.vox_offset).unwrap_or(usize::MAX);
        layout.share(data, start, options.frame)?
    };
    let mut image = image(volume, parsed.clone(), layout, warnings, Vec::new())?;
    if options.digest {
        image.sha256 = crate::sha256_files(files)?;
    }
    Ok(image)
}

fn image(
    volume: volseg_geometry::AnyVolume,
    parsed: Parsed,
    layout: Layout,
    warnings: Vec<String>,
    labels: Vec<crate::LabelName>,
) -> Result<Image> {
    let mut image = Image::from_volume(volume);
    image.slope = parsed.slope;
    image.intercept = parsed.intercept;
    image.frames = layout.frames;
    image.warnings = warnings;
    image.sides_known = parsed.header.sform_code > 0 || parsed.header.qform_code > 0;
    image.labels = labels;
    image.format = Some(FORMAT);
    image.header = Header::Nifti(Box::new(parsed.header));
    Ok(image)
}

/// Label names in the extensions between header and voxels.
fn names_in(start: &[u8], parsed: &Parsed, voxels: u64) -> Result<Vec<crate::LabelName>> {
    let end = usize::try_from(voxels).unwrap_or(usize::MAX).min(start.len());
    let Some(region) = start.get(parsed.size..end).filter(|r| r.len() >= 4 && r[0] != 0) else { return Ok(Vec::new()) };
    names::read(&region[4..], parsed.big_endian)
}

/// The same name with another ending: `a.nii.gz` and `a.hdr` are siblings.
fn sibling(path: &Path, ending: &str) -> PathBuf {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    path.with_file_name(format!("{stem}.{ending}"))
}
