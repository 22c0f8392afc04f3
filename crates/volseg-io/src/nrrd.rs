//! NRRD: `.nrrd`, `.nhdr`, `.seg.nrrd` (specs: slicer.md A6). World axes of the file may be RAS, LAS or LPS.

mod fields;
mod segments;
mod write;

pub(crate) use segments::colour;
pub(crate) use write::{Form, raw, write};

use crate::{
    Error, Image, ReadOptions, Result,
    digest::sha256_files,
    number_text, side_file,
    source::{Gunzip, Shared, stream_error},
    voxels::{Layout, skip},
};
use fields::Fields;
use std::path::{Path, PathBuf};
use volseg_geometry::AnyVolume;

pub(crate) const FORMAT: &str = "NRRD";

pub(crate) fn read(path: &Path, bytes: &Shared, options: &ReadOptions) -> Result<Image> {
    let held: &[u8] = (**bytes).as_ref();
    let fields = Fields::parse(held)?;
    let mut warnings = Vec::new();
    let mut layout = fields.layout(options, &mut warnings)?;
    let segments = segments::Segments::of(&fields)?;
    let mut files: Vec<PathBuf> = vec![path.to_owned()];
    // Layers of a segmentation are joined into one map; everything else with a 4th axis needs a choice.
    let joined = options.frame.is_none() && layout.frames > 1 && !segments.is_empty();
    if joined {
        limits_of_layers(&layout)?;
    } else {
        layout.frame(options.frame)?;
    }
    let source: Source = match fields.data_files()? {
        None => Source { bytes: bytes.clone(), start: fields.end },
        Some(names) => {
            let mut parts = Vec::new();
            let mut total = 0u64;
            for name in &names {
                let part = side_file::open(FORMAT, path, name, &options.limits)?;
                total = total.saturating_add((*part).as_ref().len() as u64);
                options.limits.file(total)?;
                files.push(side_file::resolve(FORMAT, path, name)?);
                parts.push(part);
            }
            match parts.as_slice() {
                [one] => Source { bytes: one.clone(), start: 0 },
                many => {
                    let all: Vec<u8> = many.iter().flat_map(|p| (**p).as_ref().iter().copied()).collect();
                    Source { bytes: std::sync::Arc::new(all), start: 0 }
                }
            }
        }
    };
    let volume = if joined {
        let dim = layout.dim;
        let layers = (0..layout.frames)
            .map(|n| voxels(&fields, &layout, &source, options, Some(n), &mut warnings))
            .collect::<Result<Vec<_>>>()?;
        layout.frames = 1;
        segments.join(&layers, dim, layout.affine, &mut warnings)?
    } else {
        voxels(&fields, &layout, &source, options, options.frame, &mut warnings)?
    };
    let mut image = Image::from_volume(volume);
    image.frames = layout.frames;
    image.labels = segments.names(joined);
    warnings.dedup();
    image.warnings = warnings;
    image.sides_known = fields.sides_known();
    image.format = Some(FORMAT);
    if options.digest && files.len() > 1 {
        image.sha256 = sha256_files(&files)?;
    }
    Ok(image)
}

struct Source {
    bytes: Shared,
    start: usize,
}

fn limits_of_layers(layout: &Layout) -> Result<()> {
    if layout.frames > 255 {
        Err(Error::unsupported(FORMAT, format!("{} layers of segments", layout.frames)))
    } else {
        Ok(())
    }
}

fn voxels(
    fields: &Fields,
    layout: &Layout,
    source: &Source,
    options: &ReadOptions,
    frame: Option<usize>,
    warnings: &mut Vec<String>,
) -> Result<AnyVolume> {
    let held: &[u8] = (*source.bytes).as_ref();
    let start = after_lines(held, source.start, fields.whole("line skip")?)?;
    let encoding = fields.encoding()?;
    let byte_skip = fields.integer("byte skip")?;
    match encoding {
        "raw" => {
            let start = match byte_skip {
                -1 => usize::try_from((held.len() as u64).checked_sub(layout.bytes()).ok_or_else(|| {
                    Error::malformed(
                        FORMAT,
                        format!("truncated: {} bytes, expected {} of voxels", held.len(), layout.bytes()),
                    )
                })?)
                .unwrap_or(usize::MAX),
                n => start.saturating_add(usize::try_from(n).unwrap_or(usize::MAX)),
            };
            let extra = (held.len().saturating_sub(start) as u64).saturating_sub(layout.bytes());
            if extra > 0 {
                warnings.push(format!("{extra} bytes after the voxels were ignored"));
            }
            layout.share(&source.bytes, start, frame)
        }
        "gzip" => {
            let compressed = held.get(start..).unwrap_or(&[]);
            options.limits.inflated(FORMAT, layout.bytes(), compressed.len() as u64)?;
            let mut stream = Gunzip::new(compressed, &options.limits);
            skip(&mut stream, u64::try_from(byte_skip).unwrap_or(0)).map_err(|e| stream_error(FORMAT, e))?;
            let volume = layout.read(&mut stream, frame)?;
            let rest = stream.drain(FORMAT)?;
            let unread = if layout.interleaved {
                0
            } else {
                layout.bytes() / layout.frames as u64 * (layout.frames - 1 - frame.unwrap_or(0)) as u64
            };
            if rest < unread {
                return Err(Error::malformed(FORMAT, "truncated: the data end too early"));
            }
            Ok(volume)
        }
        _ => number_text::voxels(held.get(start..).unwrap_or(&[]), layout, frame),
    }
}

fn after_lines(bytes: &[u8], mut start: usize, lines: u64) -> Result<usize> {
    for _ in 0..lines {
        let rest = bytes.get(start..).unwrap_or(&[]);
        let end = rest
            .iter()
            .position(|&b| b == b'\n')
            .ok_or_else(|| Error::malformed(FORMAT, "line skip leads past the end"))?;
        start += end + 1;
    }
    Ok(start)
}
