//! One run of the module.

use super::{
    arguments::{Arguments, Region},
    progress::{Progress, say},
};
use crate::{exit::usage_error, global::Precision, inputs, request::load_model};
use anyhow::{Context, bail};
use candle_core::Device;
use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};
use volseg_engine::{Model, OpenCase, Prompt, Request, segment, statistics};
use volseg_geometry::{LabelMap, Modality, OrganId, PixelBox, Plane, Volume, keep_largest_3d};
use volseg_io::{AtomicFile, Image, LabelName};

/// Temporary folders of runs that ended or were killed lie here.
const SCRATCH: &str = "volseg-slicer";

/// A label map with the organs that were looked for; no organ: one object of unknown kind with the value 1.
struct Found {
    labels: LabelMap,
    organs: Vec<OrganId>,
}

pub(super) fn run(a: &Arguments) -> anyhow::Result<()> {
    let progress = Progress::begin("reading the volume");
    let scratch = Scratch::new().context("no temporary folder can be made")?;
    if !a.output.to_string_lossy().ends_with(".nrrd") {
        return Err(usage_error("the output must end in .seg.nrrd"));
    }
    let image = inputs::image(&a.input, None)?;
    if image.frames > 1 || image.rgb().is_some() {
        bail!("the volume has {} values a voxel; choose a scalar volume", image.frames.max(3));
    }
    let model = load_model(&model_name(a)?, &Device::Cpu, Precision::F32)?;
    progress.at(0.05, "reading slices");
    let image = Arc::new(image);
    let mut found = if a.points.is_empty() && a.boxes.is_empty() && a.prior.is_none() {
        by_name(a, &image, &model, &progress)?
    } else {
        by_prompts(a, &image, model, &progress)?
    };
    if a.keep_largest {
        let values: Vec<u8> =
            if found.organs.is_empty() { vec![1] } else { found.organs.iter().map(|o| o.get()).collect() };
        for value in values {
            keep_largest_3d(&mut found.labels, value, 1.0);
        }
    }
    progress.at(0.9, "writing");
    write(a, &image, &found, &scratch)?;
    progress.end();
    Ok(())
}

/// `embedded`, or a weights file of the model folder.
fn model_name(a: &Arguments) -> anyhow::Result<String> {
    let Some(name) = a.model.as_deref().filter(|m| *m != "embedded") else { return Ok("embedded".into()) };
    let folder = a.model_dir.clone().or_else(volseg_model::weights::folder);
    let file = folder.map(|f| f.join(format!("{name}.safetensors"))).filter(|f| f.is_file());
    let file = file.ok_or_else(|| {
        anyhow::anyhow!("the model {name} is not installed: make {name}.safetensors with `volseg weights import` and name its folder")
    })?;
    Ok(file.to_string_lossy().into_owned())
}

fn by_name(a: &Arguments, image: &Image, model: &Model, progress: &Progress) -> anyhow::Result<Found> {
    let request = Request {
        organs: (!a.organs.is_empty()).then(|| a.organs.clone()),
        modality: modality(a, image),
        threshold: a.threshold,
        ..Request::default()
    };
    let result = segment(image, model, &request, threads(a), progress)?;
    for warning in image.warnings.iter().chain(&result.warnings) {
        say(&format!("Note: {}", warning.replace('<', " ")));
    }
    Ok(Found { labels: result.labels, organs: result.organs })
}

/// A file written by Slicer does not say what it is: volumes are taken for CT.
fn modality(a: &Arguments, image: &Image) -> Option<Modality> {
    a.modality.or(image.modality)
}

fn threads(a: &Arguments) -> usize {
    if a.threads > 0 { a.threads } else { std::thread::available_parallelism().map_or(1, usize::from) }
}

/// A box in voxels: first and one past the last index along each stored axis.
type Voxels = [Range<usize>; 3];

fn by_prompts(a: &Arguments, image: &Arc<Image>, model: Model, progress: &Progress) -> anyhow::Result<Found> {
    let organ = match a.organs.as_slice() {
        [] => None,
        [one] => Some(*one),
        many => bail!("points and boxes show one organ, but {} are named; name one or none", many.len()),
    };
    let case = OpenCase::new(image.clone(), Arc::new(model), modality(a, image), Some(Plane::Axial))?;
    let named = organ.filter(|o| case.organs().contains(o));
    let dim = image.volume.dim();
    let points =
        a.points.iter().map(|(p, inside)| Ok((voxel(image, *p)?, *inside))).collect::<anyhow::Result<Vec<_>>>()?;
    let boxes = a.boxes.iter().map(|b| box_of(image, b)).collect::<anyhow::Result<Vec<Voxels>>>()?;
    let value = organ.map_or(1, OrganId::get);
    let mut labels: LabelMap = Volume::zeros(dim, *image.volume.affine())?;
    if let Some(path) = &a.prior {
        refine(&case, path, image, named, a.threshold, value, &mut labels)?;
    }
    let whole: Voxels = dim.map(|n| 0..n);
    let parts = if boxes.is_empty() && !points.is_empty() {
        vec![(whole, false)]
    } else {
        boxes.into_iter().map(|b| (b, true)).collect()
    };
    let count = parts.len().max(1) as f64;
    for (n, (part, bounded)) in parts.iter().enumerate() {
        let seeds = seeds(&case, part, *bounded, &points, named);
        if seeds.is_empty() {
            bail!("no point lies inside the object: give at least one inside point");
        }
        let slices = part[case.stack().frame.axes[2]].clone();
        let read = |s: usize| case.read(s).map(Arc::new);
        let told = |done: usize, total: usize| {
            progress.at(
                0.05 + 0.85 * (n as f64 + done as f64 / total.max(1) as f64) / count,
                &format!("slice {done} of {total}"),
            );
            Ok(())
        };
        for (slice, answer) in case.follow(&seeds, slices, a.threshold, &read, &told)? {
            paint(&case, slice, &answer.mask(a.threshold), part, value, &mut labels);
        }
    }
    Ok(Found { labels, organs: organ.into_iter().collect() })
}

/// Prompts on the slices of a part that hold inside points; for a box without any, on its middle slice.
fn seeds(
    case: &OpenCase,
    part: &Voxels,
    bounded: bool,
    points: &[([usize; 3], f32)],
    organ: Option<OrganId>,
) -> Vec<Prompt> {
    let [x, y, across] = case.stack().frame.axes;
    let within = |p: &[usize; 3]| (0..3).all(|a| part[a].contains(&p[a]));
    let mut slices: Vec<usize> = points.iter().filter(|p| p.1 > 0.5 && within(&p.0)).map(|p| p.0[across]).collect();
    if slices.is_empty() && bounded {
        slices.push((part[across].start + part[across].end - 1) / 2);
    }
    slices.sort_unstable();
    slices.dedup();
    let bounds = bounded.then(|| PixelBox {
        x0: part[x].start as f32,
        y0: part[y].start as f32,
        x1: part[x].end as f32,
        y1: part[y].end as f32,
    });
    slices
        .into_iter()
        .filter_map(|slice| {
            let here = points.iter().filter(|p| p.0[across] == slice && (!bounded || within(&p.0)));
            let points = here.map(|(p, inside)| [p[x] as f32, p[y] as f32, *inside]).collect();
            Some(Prompt {
                organ: organ.or(OrganId::new(1))?,
                named: organ.is_some(),
                slice,
                bounds,
                rough: false,
                points,
                text: None,
            })
        })
        .collect()
}

/// An earlier mask: each of its slices is asked for again inside the mask's box.
fn refine(
    case: &OpenCase,
    path: &Path,
    image: &Image,
    organ: Option<OrganId>,
    threshold: f32,
    value: u8,
    labels: &mut LabelMap,
) -> anyhow::Result<()> {
    let prior = inputs::on_grid_of(inputs::labels(path)?.0, image).context("the prior mask does not fit the volume")?;
    let stack = *case.stack();
    let whole: Voxels = labels.dim().map(|n| 0..n);
    for slice in 0..stack.slices {
        let [w, h] = stack.size;
        let at = |p: usize| prior.voxels().get(stack.linear(p % w, p / w, slice)).copied().unwrap_or(0);
        let mask: Vec<u8> = (0..w * h).map(at).collect();
        let Some(bounds) = PixelBox::of_mask(&mask, w) else { continue };
        let any = OrganId::new(1).context("no organ")?;
        let prompt = Prompt {
            organ: organ.unwrap_or(any),
            named: organ.is_some(),
            slice,
            bounds: Some(bounds),
            rough: true,
            points: Vec::new(),
            text: None,
        };
        if let Some(answer) = case.answer(&case.read(slice)?, &prompt)? {
            paint(case, slice, &answer.mask(threshold), &whole, value, labels);
        }
    }
    Ok(())
}

/// Puts a mask of stored pixels into the volume, inside `part`.
fn paint(case: &OpenCase, slice: usize, mask: &[u8], part: &Voxels, value: u8, labels: &mut LabelMap) {
    let stack = *case.stack();
    let [x, y, _] = stack.frame.axes;
    let w = stack.size[0];
    let voxels = labels.voxels_mut();
    for (p, _) in mask.iter().enumerate().filter(|(_, v)| **v != 0) {
        if part[x].contains(&(p % w))
            && part[y].contains(&(p / w))
            && let Some(v) = voxels.get_mut(stack.linear(p % w, p / w, slice))
        {
            *v = value;
        }
    }
}

/// Continuous voxel index of a place in LPS mm.
fn index(image: &Image, lps: [f64; 3]) -> anyhow::Result<[f64; 3]> {
    Ok(image.volume.affine().inverse()?.apply([-lps[0], -lps[1], lps[2]]))
}

/// The voxel of a point.
fn voxel(image: &Image, lps: [f64; 3]) -> anyhow::Result<[usize; 3]> {
    let at = index(image, lps)?.map(f64::round);
    let dim = image.volume.dim();
    if (0..3).any(|a| !(at[a] >= 0.0 && at[a] < dim[a] as f64)) {
        return Err(usage_error(format!(
            "the point {}, {}, {} mm (LPS) lies outside the volume",
            lps[0] + 0.0,
            lps[1] + 0.0,
            lps[2] + 0.0
        )));
    }
    Ok(at.map(|v| v as usize))
}

/// The voxels that enclose all eight corners of a box, inside the volume.
fn box_of(image: &Image, region: &Region) -> anyhow::Result<Voxels> {
    let (mut low, mut high) = ([f64::INFINITY; 3], [f64::NEG_INFINITY; 3]);
    for corner in 0..8u8 {
        let side = |a: u8| if corner >> a & 1 == 1 { 1.0 } else { -1.0 };
        let reach = [side(0) * region.half[0], side(1) * region.half[1], side(2) * region.half[2]];
        let mut place = region.centre;
        for (p, row) in place.iter_mut().zip(&region.axes) {
            *p += row.iter().zip(reach).map(|(m, r)| m * r).sum::<f64>();
        }
        for (a, v) in index(image, place)?.into_iter().enumerate() {
            low[a] = low[a].min(v);
            high[a] = high[a].max(v);
        }
    }
    let dim = image.volume.dim();
    let mut out: Voxels = [0..0, 0..0, 0..0];
    for a in 0..3 {
        let (first, last) = (low[a].round().max(0.0), high[a].round().min(dim[a] as f64 - 1.0));
        if first > last {
            let [x, y, z] = region.centre;
            return Err(usage_error(format!("the box around {x}, {y}, {z} mm (LPS) lies outside the volume")));
        }
        out[a] = first as usize..last as usize + 1;
    }
    Ok(out)
}

fn write(a: &Arguments, image: &Image, found: &Found, scratch: &Scratch) -> anyhow::Result<()> {
    let part = scratch.0.join("mask.seg.nrrd");
    if found.organs.is_empty() {
        let mut out = Image::from_volume(found.labels.clone().into());
        out.labels = vec![LabelName { value: 1, name: "object".into(), rgb: Some([230, 159, 0]) }];
        volseg_io::write(&part, &out)?;
    } else {
        volseg_io::write_labels(&part, &found.labels, image, &found.organs)?;
    }
    let measured = match found.organs.as_slice() {
        [] => OrganId::new(1).map_or_else(Vec::new, |o| {
            let mut m = statistics(&found.labels, &image.volume, image.slope, image.intercept, &[o]);
            m.iter_mut().for_each(|m| m.name = "object".into());
            m
        }),
        organs => statistics(&found.labels, &image.volume, image.slope, image.intercept, organs),
    };
    let there: Vec<_> = measured.iter().filter(|m| m.voxels > 0).collect();
    if let Some(path) = &a.volumes {
        let rows: String = measured.iter().map(|m| format!("{},{:.4}\n", m.name, m.volume_ml)).collect();
        AtomicFile::write(path, format!("Segment,Volume [ml]\n{rows}").as_bytes())?;
    }
    put(&part, &a.output)?;
    if let Some(path) = &a.returns {
        let names: Vec<&str> = there.iter().map(|m| m.name.as_str()).collect();
        let summary = if names.is_empty() { "nothing found".to_owned() } else { format!("found {}", names.join(" ")) };
        let text = format!("segmentCount={}\nsummary={summary}\n", there.len());
        AtomicFile::write(path, text.as_bytes())?;
    }
    Ok(())
}

/// Moves a finished file to its place; across file systems through a file beside it.
fn put(from: &Path, to: &Path) -> anyhow::Result<()> {
    if fs::rename(from, to).is_err() {
        AtomicFile::write(to, &fs::read(from)?)?;
    }
    Ok(())
}

/// The run's own temporary folder. Slicer cancels by killing, so a run removes what dead runs before it left.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Self> {
        let all = std::env::temp_dir().join(SCRATCH);
        fs::create_dir_all(&all)?;
        for old in fs::read_dir(&all)?.flatten() {
            if !lives(&old) {
                let _ = fs::remove_dir_all(old.path());
            }
        }
        let own = all.join(std::process::id().to_string());
        fs::create_dir_all(&own)?;
        Ok(Self(own))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
        // Stays if another run works beside this one.
        if let Some(all) = self.0.parent() {
            let _ = fs::remove_dir(all);
        }
    }
}

/// Whether the run of a folder still works. Where processes cannot be looked up, folders live a day.
fn lives(folder: &fs::DirEntry) -> bool {
    if Path::new("/proc/self").exists() {
        return Path::new("/proc").join(folder.file_name()).exists();
    }
    let age = folder.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
    age.is_some_and(|age| age.as_secs() < 24 * 3600)
}
