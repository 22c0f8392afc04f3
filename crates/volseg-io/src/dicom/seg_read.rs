//! A DICOM segmentation as a label map.

use super::{
    FORMAT, color,
    file::{File, Place},
    geometry,
    pixels::{Pixels, Samples},
    seg::TRACKING,
    series::{Slice, digest},
};
use crate::{Error, Image, LabelName, ReadOptions, Result, voxels};
use volseg_geometry::{OrganId, Volume};

/// What the pixels of a frame mean.
#[derive(Clone, Copy, PartialEq)]
enum Meaning {
    /// Inside the frame's segment or not.
    Binary,
    /// Inside from this value on.
    Fraction { from: u16 },
    /// Segment numbers.
    Labels,
}

/// Reads the only SEG of `files`: segment numbers on the grid of its frames; later segments lie above earlier ones. Slices
/// between frames that have none are empty. Our own files give the label values that they were made of.
pub(super) fn read(
    files: &[File],
    slices: Vec<Slice>,
    pixels: &Pixels,
    options: &ReadOptions,
    mut warnings: Vec<String>,
) -> Result<Image> {
    let [file] = files else {
        return Err(Error::unsupported(FORMAT, format!("{} segmentations at once (give one file)", files.len())));
    };
    let meaning = match file.text(0x0062_0001).as_str() {
        "FRACTIONAL" => {
            let most = file.short(0x0062_000e).unwrap_or(255);
            let from = most.div_ceil(2).max(1);
            warnings.push(format!("a FRACTIONAL segmentation: values from {from} of {most} on count as inside"));
            Meaning::Fraction { from }
        }
        "LABELMAP" => Meaning::Labels,
        _ => Meaning::Binary,
    };
    // Palettes colour segments; their numbers are what counts.
    let mut pixels = pixels.clone();
    pixels.photometric = "MONOCHROME2".into();
    let (layers, affine) = grid(&slices, &mut warnings)?;
    let dim = [usize::from(pixels.columns), usize::from(pixels.rows), layers.iter().max().map_or(1, |m| m + 1)];
    options.limits.voxels(&dim.map(|d| d as u64))?;
    let segments = file.data.items(file.held(), 0x0062_0002)?;
    let mut labels = Vec::new();
    let mut values = Vec::new();
    for s in &segments {
        let number = s.short(file.held(), 0x0062_0004).unwrap_or(1);
        let tracked = s.text(file.held(), 0x0062_0020).unwrap_or_default();
        values.push((number, tracked.strip_prefix(TRACKING).and_then(|v| v.parse::<u16>().ok())));
        let name = s.text(file.held(), 0x0062_0005).unwrap_or_default();
        let name = name.parse::<OrganId>().map_or(name, |id| id.organ().name.to_owned());
        let words = [0, 2, 4].map(|at| s.short_at(file.held(), 0x0062_000d, at));
        let rgb = if let [Some(l), Some(a), Some(b)] = words { Some(color::from_cielab([l, a, b])) } else { None };
        labels.push(LabelName { value: number.into(), name, rgb });
    }
    let own = meaning != Meaning::Labels && !values.is_empty() && values.iter().all(|v| v.1.is_some());
    let value_of = |number: u16| {
        let tracked = values.iter().find(|v| own && v.0 == number).and_then(|v| v.1);
        tracked.unwrap_or(number.max(1))
    };
    for label in labels.iter_mut().filter(|_| own) {
        label.value = value_of(label.value as u16).into();
    }
    let mut out: Vec<u16> = voxels::zeros(dim.iter().product())?;
    let mut covered = 0usize;
    // By segment, so that the later one lies above whatever the order of the frames.
    let mut order: Vec<(&Slice, usize)> = slices.iter().zip(layers).collect();
    order.sort_by_key(|(s, layer)| (s.place.segment, *layer));
    for (s, layer) in order {
        let target = out.iter_mut().skip(layer * pixels.count());
        let value = value_of(s.place.segment);
        let mut set = |o: &mut u16, v: u16| {
            let new = match meaning {
                Meaning::Labels => v,
                Meaning::Binary if v != 0 => value,
                Meaning::Fraction { from } if v >= from => value,
                _ => return,
            };
            covered += usize::from(*o != 0 && new != 0);
            *o = new;
        };
        match pixels.frame(file, s.frame)?.0 {
            Samples::Bytes(v) => target.zip(v).for_each(|(o, v)| set(o, v.into())),
            Samples::Words(v) => target.zip(v).for_each(|(o, v)| set(o, v)),
            _ => return Err(Error::unsupported(FORMAT, "a segmentation of this kind")),
        }
    }
    if covered > 0 {
        warnings.push(format!("segments overlap in {covered} voxels; the later one counts"));
    }
    let mut image = Image::from_volume(Volume::from_vec(out, dim, affine)?.into());
    image.labels = labels;
    image.format = Some("DICOM SEG");
    if options.digest {
        image.sha256 = digest(files);
    }
    image.warnings = warnings;
    Ok(image)
}

/// The layer of each frame, and the grid. Frames at one place share a layer.
fn grid(slices: &[Slice], warnings: &mut Vec<String>) -> Result<(Vec<usize>, volseg_geometry::Affine)> {
    let Some(orientation) = slices.first().and_then(|s| s.place.orientation) else {
        // Of pictures without a place: the n-th frame of each segment belongs to the n-th picture.
        let mut met = std::collections::BTreeMap::<u16, usize>::new();
        let layers = slices
            .iter()
            .map(|s| {
                let n = met.entry(s.place.segment).or_default();
                *n += 1;
                *n - 1
            })
            .collect();
        let places: Vec<&Place> = slices.iter().map(|s| &s.place).take(1).collect();
        return Ok((layers, geometry::affine(&places, warnings)?));
    };
    if slices.iter().any(|s| s.place.orientation != Some(orientation) || s.place.position.is_none()) {
        return Err(Error::unsupported(
            FORMAT,
            "a segmentation with frames of different orientation or without a place",
        ));
    }
    let at = |s: &Slice| s.place.position.map_or(0.0, |p| geometry::along(p, &orientation));
    let mut sorted: Vec<&Slice> = slices.iter().collect();
    sorted.sort_by(|a, b| at(a).total_cmp(&at(b)));
    let mut places: Vec<(f64, &Place)> = Vec::new();
    for s in sorted {
        if places.last().is_none_or(|p| at(s) - p.0 >= geometry::SAME_PLACE_MM) {
            places.push((at(s), &s.place));
        }
    }
    // Empty frames may be left out: the stated distance, or the least there is, says how many lie between.
    let least = places.windows(2).map(|w| w[1].0 - w[0].0).fold(f64::INFINITY, f64::min);
    let stated = slices[0].place.between.filter(|s| *s > 0.0);
    let fits = |step: f64| {
        places.iter().all(|p| {
            let n = (p.0 - places[0].0) / step;
            (n - n.round()).abs() < 0.05
        })
    };
    let step = stated.into_iter().chain([least]).find(|&s| s.is_finite() && fits(s));
    let index: Vec<usize> = match step {
        // Far apart within reason: what a file claims is checked against the limit of voxels by the caller.
        Some(step) => places.iter().map(|p| ((p.0 - places[0].0) / step).round().min(1e9) as usize).collect(),
        None => (0..places.len()).collect(),
    };
    let layers = slices
        .iter()
        .map(|s| {
            let n = places.partition_point(|p| p.0 <= at(s) + geometry::SAME_PLACE_MM / 2.0).saturating_sub(1);
            index.get(n).copied().unwrap_or(0)
        })
        .collect();
    let ends: Vec<&Place> = places.iter().map(|p| p.1).collect();
    let count = index.last().map_or(1, |n| n + 1);
    Ok((layers, geometry::affine_of(&ends, count, warnings)?))
}
