//! From files to one volume: choice of the series, order of the slices, voxels.

use super::{
    FORMAT,
    file::{File, Place},
    geometry,
    origin::Origin,
    pixels::{Pixels, Samples},
    seg_read,
};
use crate::{
    Error, Image, ReadOptions, Result, Series, SeriesInfo,
    digest::{of_digests, sha256},
    voxels,
};
use rayon::prelude::*;
use std::{collections::BTreeMap, sync::Arc};
use volseg_geometry::{AnyVolume, Modality, Volume, Voxel, VoxelKind};

/// One frame of a file and where it lies.
pub(super) struct Slice {
    pub(super) file: usize,
    pub(super) frame: usize,
    pub(super) place: Place,
    instance: f64,
    time: f64,
}

/// Reads the chosen series.
pub(super) fn read(files: Vec<File>, options: &ReadOptions) -> Result<Image> {
    // By series, then by what makes a stack: size and orientation (a localizer in the series is apart).
    let mut series: BTreeMap<String, BTreeMap<String, Vec<usize>>> = BTreeMap::new();
    for (n, file) in files.iter().enumerate() {
        let pixels = Pixels::of(file)?;
        pixels.check_frames(file)?;
        let orientation = file.places()?.first().and_then(|p| p.orientation);
        let turned = orientation.map_or_else(String::new, |o| format!("{:?}", o.map(|v| (v * 1e3).round() as i64)));
        let stack = format!("{:05}x{:05}x{}{turned}", pixels.rows, pixels.columns, pixels.samples);
        series.entry(file.text(0x0020_000e)).or_default().entry(stack).or_default().push(n);
    }
    let infos = series.iter().map(|(uid, stacks)| info(uid, stacks, &files)).collect::<Result<Vec<_>>>()?;
    let chosen = match &options.series {
        None if infos.len() == 1 => 0,
        None => return Err(Error::SeveralSeries { series: infos }),
        Some(Series::Number(n)) if (1..=infos.len()).contains(n) => n - 1,
        Some(Series::Uid(uid)) if infos.iter().any(|i| i.uid == *uid) => {
            infos.iter().position(|i| i.uid == *uid).unwrap_or(0)
        }
        Some(_) => return Err(Error::SeveralSeries { series: infos }),
    };
    let mut warnings = Vec::new();
    let stacks = series.into_values().nth(chosen).unwrap_or_default();
    let parts = stacks.len();
    let stack = stacks.into_values().max_by_key(Vec::len).unwrap_or_default();
    if parts > 1 {
        warnings.push(format!("the series holds {parts} stacks of other size or orientation; the largest was taken"));
    }
    let mut files: Vec<Option<File>> = files.into_iter().map(Some).collect();
    let files: Vec<File> = stack.into_iter().filter_map(|n| files.get_mut(n)?.take()).collect();
    stack_image(files, options, warnings)
}

fn info(uid: &str, stacks: &BTreeMap<String, Vec<usize>>, files: &[File]) -> Result<SeriesInfo> {
    let largest = stacks.values().max_by_key(|v| v.len()).map_or(&[][..], Vec::as_slice);
    let mut slices = 0;
    for &n in largest {
        slices += files[n].frames()?;
    }
    let first = largest.first().map(|&n| &files[n]);
    let side = |tag| first.and_then(|f| f.short(tag)).map_or(0, usize::from);
    Ok(SeriesInfo {
        uid: uid.to_owned(),
        modality: first.map(File::modality).unwrap_or_default(),
        number: first.map(|f| f.text(0x0020_0011)).unwrap_or_default(),
        slices,
        size: [side(0x0028_0011), side(0x0028_0010)],
    })
}

fn stack_image(files: Vec<File>, options: &ReadOptions, mut warnings: Vec<String>) -> Result<Image> {
    let Some(first) = files.first() else { return Err(Error::malformed(FORMAT, "no slices")) };
    let pixels = Pixels::of(first)?;
    let kind = pixels.kind(first);
    let mut slices = Vec::new();
    for (n, file) in files.iter().enumerate() {
        let number = |tag| file.decimal(tag).unwrap_or(0.0);
        let time = number(0x0020_0100).max(number(0x0020_0012));
        for (frame, place) in file.places()?.into_iter().enumerate() {
            slices.push(Slice { file: n, frame, place, instance: number(0x0020_0013), time });
        }
        options.limits.voxels(&[pixels.count() as u64, slices.len() as u64])?;
        let other = Pixels::of(file)?;
        if other.kind(file) != kind {
            return Err(Error::unsupported(FORMAT, "slices of different voxel types in one series"));
        }
    }
    if first.is_segmentation() {
        return seg_read::read(&files, slices, &pixels, options, warnings);
    }
    let placed = slices.iter().all(|s| s.place.position.is_some() && s.place.orientation.is_some());
    let mut frames = 1;
    if placed {
        if slices.len() > 1 {
            frames = order(&mut slices, &files, &mut warnings)?;
        }
    } else if slices.len() > 1 {
        // Pictures that follow each other in time.
        slices.sort_by(|a, b| {
            (a.instance, a.frame).partial_cmp(&(b.instance, b.frame)).unwrap_or(std::cmp::Ordering::Equal)
        });
        frames = slices.len();
        warnings.push("the slices have no position in the patient".into());
    }
    let layers = slices.len() / frames;
    let frame = match options.frame {
        None if frames == 1 => 0,
        None if !placed => {
            return Err(Error::unsupported(
                FORMAT,
                format!(
                    "a series of {frames} pictures without position and orientation in the patient (--frame N takes one)"
                ),
            ));
        }
        None => {
            return Err(Error::unsupported(
                FORMAT,
                format!("without --frame more than one volume in a series ({frames})"),
            ));
        }
        Some(n) if n < frames => n,
        Some(n) => {
            return Err(Error::InvalidArgument {
                what: "frame",
                found: n.to_string(),
                expected: format!("0 to {}", frames - 1),
            });
        }
    };
    // `order` puts the volumes one after another.
    let slices: Vec<Slice> = slices.into_iter().skip(frame * layers).take(layers).collect();
    let places: Vec<&Place> = slices.iter().map(|s| &s.place).collect();
    let affine = geometry::affine(&places, &mut warnings)?;
    let dim = [usize::from(pixels.columns), usize::from(pixels.rows), layers];
    if slices.iter().any(|s| s.place.stretched) {
        warnings.push("ImageOrientationPatient is no pair of unit vectors; their directions were taken".into());
    }
    let (volume, rgb) = load(&files, &slices, &pixels, kind, dim, affine)?;
    let mut image = Image::from_volume(volume);
    rescale(&mut image, &slices, &pixels, &mut warnings)?;
    if pixels.photometric == "MONOCHROME1" {
        let measured = matches!(first.modality().as_str(), "CT" | "MR" | "PT" | "NM");
        warnings.push(turn_around(&mut image, &pixels, options.as_shown && !measured).into());
    }
    image.picture = layers == 1 && !placed;
    if rgb.is_some() && layers > 1 || kind == VoxelKind::U8 && pixels.samples == 3 {
        warnings.push("colours were turned into grey values".into());
        image.lost = (layers > 1).then_some("colours");
    }
    image.rgb = if layers == 1 { rgb } else { None };
    image.modality = modality(&first.modality());
    let held: &[u8] = (*first.original).as_ref();
    if [&b"MZ"[..], b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe"].iter().any(|m| held.starts_with(m)) {
        warnings.push("the preamble of a file is that of a program (CVE-2019-11687)".into());
    }
    if image.modality == Some(Modality::Ultrasound) || first.text(0x0028_0301) == "YES" {
        warnings.push("names may be burned into the pixels".into());
    }
    image.origin = Origin::of(&files, slices.iter().map(|s| (s.file, s.frame, &s.place))).map(Arc::new);
    image.frames = frames;
    image.format = Some(FORMAT);
    if options.digest {
        image.sha256 = digest(&files);
    }
    image.warnings = warnings;
    Ok(image)
}

pub(super) fn digest(files: &[File]) -> String {
    of_digests(files.par_iter().map(|f| sha256((*f.original).as_ref())).collect())
}

/// Modality of a header's text; `None` for those that no model here knows.
pub(super) fn modality(text: &str) -> Option<Modality> {
    match text {
        "CT" => Some(Modality::Ct),
        "MR" => Some(Modality::Mr),
        "US" | "IVUS" => Some(Modality::Ultrasound),
        "CR" | "DX" | "RF" | "XA" | "MG" | "PX" => Some(Modality::Xray),
        _ => None,
    }
}

/// Sorts along the normal; gives the number of volumes that lie at the same places.
fn order(slices: &mut Vec<Slice>, files: &[File], warnings: &mut Vec<String>) -> Result<usize> {
    let orientation = slices.first().and_then(|s| s.place.orientation).unwrap_or([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    let at = |s: &Slice| s.place.position.map_or(0.0, |p| geometry::along(p, &orientation));
    slices.sort_by(|a, b| {
        at(a)
            .total_cmp(&at(b))
            .then(a.time.total_cmp(&b.time))
            .then(a.instance.total_cmp(&b.instance))
            .then((a.file, a.frame).cmp(&(b.file, b.frame)))
    });
    let mut groups: Vec<Vec<Slice>> = Vec::new();
    for s in slices.drain(..) {
        match groups.last_mut() {
            Some(g) if g.last().is_some_and(|l| (at(l) - at(&s)).abs() < geometry::SAME_PLACE_MM) => g.push(s),
            _ => groups.push(vec![s]),
        }
    }
    let mut dropped = 0;
    for group in &mut groups {
        let mut seen: Vec<&[u8]> = Vec::new();
        group.retain(|s| {
            let file = &files[s.file];
            let own = file
                .data
                .value(super::dataset::PIXELS)
                .filter(|_| s.frame == 0)
                .and_then(|v| file.held().get(v.range.clone()));
            let again = own.is_some_and(|o| seen.contains(&o)) && file.frames().is_ok_and(|n| n == 1);
            seen.extend(own);
            dropped += usize::from(again);
            !again
        });
    }
    if dropped > 0 {
        warnings.push(format!("{dropped} slices were there twice and were left out"));
    }
    let frames = groups.first().map_or(1, Vec::len);
    if groups.iter().any(|g| g.len() != frames) {
        let most = groups.iter().map(Vec::len).max().unwrap_or(1);
        return Err(Error::malformed(
            FORMAT,
            format!("1 to {most} different slices at one position: the series mixes acquisitions"),
        ));
    }
    // The n-th of each place makes the n-th volume.
    let mut groups: Vec<_> = groups.into_iter().map(Vec::into_iter).collect();
    for _ in 0..frames {
        slices.extend(groups.iter_mut().filter_map(Iterator::next));
    }
    Ok(frames)
}

fn load(
    files: &[File],
    slices: &[Slice],
    pixels: &Pixels,
    kind: VoxelKind,
    dim: [usize; 3],
    affine: volseg_geometry::Affine,
) -> Result<(AnyVolume, Option<Vec<u8>>)> {
    let mut rgb = None;
    let volume = voxels::with_kind!(kind, T => {
        let mut out: Vec<T> = voxels::zeros(dim.iter().product())?;
        let colours = out
            .par_chunks_mut(pixels.count())
            .zip(slices)
            .map(|(target, slice)| {
                let file = &files[slice.file];
                let own = Pixels::of(file)?;
                let (samples, rgb) = own.frame(file, slice.frame)?;
                copy(&samples, target)?;
                Ok(rgb)
            })
            .collect::<Result<Vec<_>>>()?;
        if let [Some(_)] = colours.as_slice() {
            rgb = colours.into_iter().next().flatten();
        }
        Volume::from_vec(out, dim, affine)?.into()
    });
    Ok((volume, rgb))
}

fn copy<T: Voxel>(samples: &Samples, target: &mut [T]) -> Result<()> {
    let bytes: &[u8] = match samples {
        Samples::Bytes(v) => v,
        Samples::Words(v) => bytemuck::cast_slice(v),
        Samples::Longs(v) => bytemuck::cast_slice(v),
        Samples::Floats(v) => bytemuck::cast_slice(v),
        Samples::Doubles(v) => bytemuck::cast_slice(v),
    };
    let target: &mut [u8] = bytemuck::cast_slice_mut(target);
    if bytes.len() < target.len() {
        return Err(Error::malformed(FORMAT, "truncated: fewer pixels than the header says"));
    }
    target.copy_from_slice(&bytes[..target.len()]);
    Ok(())
}

/// Slope and intercept of the image; where they differ between slices, they are applied.
fn rescale(image: &mut Image, slices: &[Slice], pixels: &Pixels, warnings: &mut Vec<String>) -> Result<()> {
    let mut odd = false;
    let each: Vec<(f64, f64)> = slices
        .iter()
        .map(|s| {
            let (slope, intercept) = (s.place.slope.unwrap_or(1.0), s.place.intercept.unwrap_or(0.0));
            let usable = [slope != 0.0 && slope.is_finite() && slope.abs() < 1e30, intercept.is_finite()];
            odd |= usable.contains(&false);
            (if usable[0] { slope } else { 1.0 }, if usable[1] { intercept } else { 0.0 })
        })
        .collect();
    if odd {
        warnings.push("RescaleSlope or RescaleIntercept is no usable number; 1 or 0 stands for it".into());
    }
    let Some(&(slope, intercept)) = each.first() else { return Ok(()) };
    if each.iter().all(|&e| e == (slope, intercept)) {
        (image.slope, image.intercept) = (slope, intercept);
    } else {
        warnings.push("slope or intercept differ between slices and were applied".into());
        let (dim, n) = (image.volume.dim(), pixels.count());
        let mut out: Vec<f32> = voxels::zeros(dim.iter().product())?;
        for (k, (chunk, (slope, intercept))) in out.chunks_mut(n).zip(each).enumerate() {
            image.volume.read_f32(k * n, slope, intercept, chunk);
        }
        image.volume = Volume::from_vec(out, dim, *image.volume.affine())?.into();
    }
    Ok(())
}

/// MONOCHROME1 is shown with low values bright. Stored values stay; as intensities, if `shown`, dark is low as everywhere else.
fn turn_around(image: &mut Image, pixels: &Pixels, shown: bool) -> &'static str {
    if !shown {
        return "MONOCHROME1: viewers show high values dark; the intensities are as stored";
    }
    image.intercept += image.slope * pixels.greatest();
    image.slope = -image.slope;
    "MONOCHROME1: intensities were turned around"
}
