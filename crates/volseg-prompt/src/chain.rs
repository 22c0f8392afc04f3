//! From an image and words to boxes and points: saliency, dense CRF, largest parts, for a volume as a whole.
//!
//! In a volume, slices are joined: an organ is looked for in the run of slices whose similarity with its text speaks for it,
//! its maps are smoothed across slices, its parts are taken in 3D, its boxes change smoothly.

mod edges;
mod look;
mod outcome;
mod place;
mod presence;
mod request;

pub use outcome::{Chain, ChainPrompt, ChainTimings, Fallback, Trace, View};
pub use presence::Calibration;
pub use request::{ChainRequest, Target};

use crate::Error;
use crate::crf::{DenseCrf, Guide};
use crate::saliency::{Cam, Saliency, stretch};
use edges::EdgeCalibration;
use look::Look;
use place::{Parts, points_within, smooth_boxes};
use presence::{interval, probability, relative, smoothed};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use volseg_geometry::{Modality, PixelBox, Plane};
use volseg_io::Image;
use volseg_model::clip::{ClipModel, Fit, normalised};

/// Slices further apart than this are not smoothed together, mm.
const SMOOTH_BELOW_MM: f64 = 6.0;

/// Makes the prompts of one image. `progress(done, total)` is called from any thread; it answers whether to go on.
///
/// # Errors
/// No targets, an image without pixels, metadata of the weights that cannot be read, a stop, whatever the network meets.
pub fn prompts(
    image: &Image,
    model: &ClipModel,
    saliency: &dyn Saliency,
    targets: &[Target],
    request: &ChainRequest,
    progress: &(dyn Fn(usize, usize) -> bool + Sync),
) -> Result<Chain, Error> {
    let began = Instant::now();
    if targets.is_empty() {
        return Err(Error::Request("nothing to look for: name organs or texts".into()));
    }
    let look = Look::new(image, request);
    if image.volume.dim().contains(&0) {
        return Err(Error::Input("the image has no pixels".into()));
    }
    let slices = look.stack.slices;
    let texts: Vec<String> = targets.iter().map(|t| t.text.clone()).collect();
    let features = model.encode_texts(&texts)?;
    let calibration = Calibration::of(model)?;
    let edges = EdgeCalibration::of(model, request.modality)?;
    let joined = request.join && !image.is_picture() && slices > 1;
    let mut warnings = Vec::new();
    if !image.sides_known() && targets.iter().any(|t| Parts::of(t.organ, 0.1, true).side != 0) {
        let of = if image.is_picture() { "in a picture" } else { "in this volume, whose header has no orientation" };
        warnings.push(format!("left and right are unknown {of}: parts of sided organs are kept on either side"));
    }
    // Which half is left is known by the affine in planes that show both sides.
    let sided = image.sides_known() && request.plane.unwrap_or(Plane::Axial) != Plane::Sagittal;

    let none = match &calibration {
        Some(c) => Some(model.encode_texts(std::slice::from_ref(&c.none))?.concat()),
        None => None,
    };
    let dot = |a: &[f32], b: &[f32]| model.scale * a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    let wholes: Vec<Vec<f32>> = (0..slices)
        .into_par_iter()
        .map(|s| {
            let input = look.input(&look.picture(s)?, &model.config);
            let side = model.config.image_size;
            let x = candle_core::Tensor::from_vec(input, (1, 3, side, side), &candle_core::Device::Cpu)?;
            Ok(normalised(&model.network.vision.forward(&x)?)?.flatten_all()?.to_vec1()?)
        })
        .collect::<Result<_, Error>>()?;
    let similarity: Vec<Vec<f32>> = features.iter().map(|t| wholes.iter().map(|w| dot(w, t)).collect()).collect();
    let log_odds: Vec<Vec<f32>> = match (&calibration, &none) {
        (Some(c), Some(none)) => {
            let nothing: Vec<f32> = wholes.iter().map(|w| dot(w, none)).collect();
            similarity.iter().map(|v| v.iter().zip(&nothing).map(|(s, n)| c.log_odds(*s, *n)).collect()).collect()
        }
        _ => similarity.iter().map(|v| relative(v)).collect(),
    };
    let ranges: Vec<Option<Range<usize>>> =
        log_odds.iter().map(|v| if joined { interval(&smoothed(v)) } else { Some(0..slices) }).collect();
    if joined && calibration.is_none() {
        warnings.push(
            "these weights have no calibration of presence: where an organ begins and ends is judged within the volume only, \
             and an absent organ is not noticed"
                .into(),
        );
    }
    for (t, range) in targets.iter().zip(&ranges) {
        if range.is_none() {
            warnings.push(format!("{}: no slice looks like it, so there is no prompt", t.text));
        }
    }
    let mut timings = ChainTimings { slices, presence_s: began.elapsed().as_secs_f64(), ..ChainTimings::default() };

    let wanted: Vec<Vec<usize>> = (0..slices)
        .map(|s| (0..targets.len()).filter(|&t| ranges[t].as_ref().is_some_and(|r| r.contains(&s))).collect())
        .collect();
    let total = wanted.iter().filter(|w| !w.is_empty()).count();
    let done = AtomicUsize::new(0);
    let cams: Vec<Result<Vec<(usize, Cam)>, Error>> = wanted
        .par_iter()
        .enumerate()
        .map(|(s, wanted)| {
            if wanted.is_empty() {
                return Ok(Vec::new());
            }
            let input = look.input(&look.picture(s)?, &model.config);
            let texts: Vec<Vec<f32>> = wanted.iter().map(|&t| features[t].clone()).collect();
            let maps = saliency.maps(model, &input, &texts)?;
            if !progress(done.fetch_add(1, Ordering::Relaxed) + 1, total) {
                return Err(Error::Interrupted);
            }
            Ok(wanted.iter().copied().zip(maps).collect())
        })
        .collect();
    let mut cams = cams.into_iter().collect::<Result<Vec<_>, _>>()?;
    timings.maps = cams.iter().map(Vec::len).sum();
    let spacing = image.volume.affine().spacing_mm()[look.stack.frame.axes[2]];
    if joined && spacing <= SMOOTH_BELOW_MM {
        smooth_maps(&mut cams);
    }
    timings.saliency_s = began.elapsed().as_secs_f64() - timings.presence_s;

    let masked = masks(&look, &cams, request)?;
    timings.crf_runs = timings.maps;
    timings.crf_s = began.elapsed().as_secs_f64() - timings.presence_s - timings.saliency_s;
    let maker = Maker { look: &look, image, targets, request, edges: &edges, joined, sided };
    let mut prompts = Vec::new();
    for t in 0..targets.len() {
        let (mut made, missing) = maker.target(t, &cams, &masked);
        for p in &mut made {
            p.trace.presence = calibration.as_ref().map(|_| probability(log_odds[t][p.slice]));
            p.trace.similarity = similarity[t][p.slice];
        }
        if missing && ranges[t].is_some() {
            warnings.push(format!("{}: its maps are empty, so there is no prompt", targets[t].text));
        }
        prompts.extend(made);
    }
    prompts.sort_by_key(|p| (p.slice, p.target));
    if request.keep_views {
        for p in &mut prompts {
            if let Some(view) = &mut p.view {
                view.rgb = look.guide(&look.picture(p.slice)?);
            }
        }
    }
    let saliency = request.keep_saliency.then(|| volumes(&look, &cams, targets.len(), image));
    let presence = if calibration.is_some() {
        log_odds.iter().map(|v| v.iter().map(|&l| probability(l)).collect()).collect()
    } else {
        Vec::new()
    };
    timings.total_s = began.elapsed().as_secs_f64();
    let plane = (!image.is_picture()).then(|| request.plane.unwrap_or(Plane::Axial));
    Ok(Chain { plane, prompts, similarity, presence, saliency, warnings, timings })
}

/// Slices as people see them: the part that is looked at, in the window of the request.
pub struct Renderer<'a>(Look<'a>);

impl<'a> Renderer<'a> {
    /// Of an image, as [`prompts`] would look at it.
    #[must_use]
    pub fn new(image: &'a Image, request: &ChainRequest) -> Self {
        Self(Look::new(image, request))
    }

    /// Columns, rows and one byte a pixel of a stored slice.
    ///
    /// # Errors
    /// [`Error::Model`] for a slice without pixels.
    pub fn grey(&self, slice: usize) -> Result<(usize, usize, Vec<u8>), Error> {
        let picture = self.0.picture(slice)?;
        let grey = |p: &[u8; 3]| {
            let [r, g, b] = p.map(u32::from);
            ((299 * r + 587 * g + 114 * b + 500) / 1000) as u8
        };
        Ok((picture.width(), picture.height(), picture.values().as_chunks::<3>().0.iter().map(grey).collect()))
    }
}

/// The network's input of a slice.
pub(crate) fn input_of(
    image: &Image,
    model: &ClipModel,
    request: &ChainRequest,
    slice: usize,
) -> Result<Vec<f32>, Error> {
    let look = Look::new(image, request);
    Ok(look.input(&look.picture(slice)?, &model.config))
}

/// Whether an 8-bit picture that nobody described looks more like an X-ray or an ultrasound.
///
/// # Errors
/// Whatever the network meets.
pub fn picture_modality(image: &Image, model: &ClipModel) -> Result<Modality, Error> {
    let dim = image.volume.dim();
    let grey = || image.volume.to_f32(image.slope, image.intercept);
    let rgb = match image.rgb() {
        Some(rgb) => rgb.to_vec(),
        None => grey().iter().flat_map(|v| [v.clamp(0.0, 255.0) as u8; 3]).collect(),
    };
    let picture = volseg_model::picture::Picture::rgb(dim[0], dim[1], rgb)?;
    let input = volseg_model::clip::fit_picture(&picture, &model.config, Fit::Squash);
    let side = model.config.image_size;
    let x = candle_core::Tensor::from_vec(input, (1, 3, side, side), &candle_core::Device::Cpu)?;
    let whole = model.encode_images(&x)?.concat();
    let texts = model.encode_texts(&["lungs".to_owned(), "breast tumor".to_owned()])?;
    let score = |t: &[f32]| t.iter().zip(&whole).map(|(a, b)| a * b).sum::<f32>();
    let scores: Vec<f32> = texts.iter().map(|t| score(t)).collect();
    Ok(if scores[0] >= scores[1] { Modality::Xray } else { Modality::Ultrasound })
}

/// Maps of neighbouring slices with weights 1, 2, 1, before they are stretched, so that a weak slice stays weak.
fn smooth_maps(cams: &mut [Vec<(usize, Cam)>]) {
    let old: Vec<BTreeMap<usize, Vec<f32>>> =
        cams.iter().map(|v| v.iter().map(|(t, c)| (*t, c.raw.clone())).collect()).collect();
    for (s, list) in cams.iter_mut().enumerate() {
        for (t, cam) in list {
            let (mut sum, mut weight) = (vec![0f32; cam.raw.len()], 0f32);
            let before = s.checked_sub(1).and_then(|p| old[p].get(t));
            let after = old.get(s + 1).and_then(|v| v.get(t));
            for (map, w) in [(before, 1.0), (old[s].get(t), 2.0), (after, 1.0)] {
                if let Some(map) = map {
                    sum.iter_mut().zip(map).for_each(|(a, v)| *a += w * v);
                    weight += w;
                }
            }
            cam.low = sum.iter().map(|v| v / weight).collect();
            stretch(&mut cam.low);
        }
    }
}

/// For each slice and its targets: the map and the CRF's mask on the masks' grid.
type Masked = Vec<Vec<(usize, Vec<f32>, Vec<u8>)>>;

fn masks(look: &Look<'_>, cams: &[Vec<(usize, Cam)>], request: &ChainRequest) -> Result<Masked, Error> {
    let [w, h] = look.size;
    let Some(first) = cams.iter().position(|c| !c.is_empty()) else { return Ok(vec![Vec::new(); cams.len()]) };
    // The lattice of the smoothness term only knows the size: one for all slices.
    let shared = DenseCrf::new(w, h, Guide::Rgb(&look.guide(&look.picture(first)?)), &request.crf)?;
    cams.par_iter()
        .enumerate()
        .map(|(s, cams)| {
            if cams.is_empty() {
                return Ok(Vec::new());
            }
            let maps: Vec<Vec<f32>> = cams.iter().map(|(_, c)| look.enlarged(&c.low, c.grid, [w, h])).collect();
            let crf = shared.for_picture(Guide::Rgb(&look.guide(&look.picture(s)?)))?;
            let refined = crf.refine(&maps.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
            let mask = |q: Vec<f32>| q.iter().map(|&v| u8::from(v > 0.5)).collect();
            Ok(cams.iter().zip(maps).zip(refined).map(|(((t, _), map), q)| (*t, map, mask(q))).collect())
        })
        .collect()
}

struct Maker<'a> {
    look: &'a Look<'a>,
    image: &'a Image,
    targets: &'a [Target],
    request: &'a ChainRequest,
    edges: &'a EdgeCalibration,
    joined: bool,
    sided: bool,
}

impl Maker<'_> {
    /// Prompts of one target; whether there are none although maps were made.
    fn target(&self, t: usize, cams: &[Vec<(usize, Cam)>], masked: &Masked) -> (Vec<ChainPrompt>, bool) {
        let of = |s: usize| masked[s].iter().find(|m| m.0 == t);
        let here: Vec<usize> = (0..masked.len()).filter(|&s| of(s).is_some()).collect();
        let parts = Parts::of(self.targets[t].organ, self.request.second_part, self.sided);
        let crf: Vec<Vec<u8>> = here.iter().filter_map(|&s| of(s).map(|m| m.2.clone())).collect();
        let map = |s: usize| of(s).map_or(&[][..], |m| m.1.as_slice());
        let width = self.look.size[0];
        // Slices of one volume are judged together, else each alone.
        let groups: Vec<Range<usize>> = if self.joined {
            std::iter::once(0..here.len()).collect()
        } else {
            (0..here.len()).map(|n| n..n + 1).collect()
        };
        let mut made = Vec::new();
        for group in groups {
            let slices = &here[group.clone()];
            let mut masks = crf[group].to_vec();
            let (mut fallback, mut found) = (Fallback::None, parts.keep(&mut masks, width));
            if found == 0 {
                fallback = Fallback::Cam;
                masks = slices.iter().map(|&s| map(s).iter().map(|&v| u8::from(v >= 0.5)).collect()).collect();
                found = parts.keep(&mut masks, width);
            }
            if found == 0 && !self.joined {
                fallback = Fallback::WholeImage;
                masks.iter_mut().for_each(|m| m.fill(1));
            }
            let mut boxes: Vec<Option<PixelBox>> = masks.iter().map(|m| PixelBox::of_mask(m, width)).collect();
            if self.joined {
                smooth_boxes(&mut boxes);
            }
            for ((&s, mask), bounds) in slices.iter().zip(&masks).zip(boxes) {
                let Some(bounds) = bounds else { continue };
                let edges = (fallback == Fallback::None).then_some(self.edges);
                let corrected = edges.and_then(|e| e.apply(self.targets[t].organ, bounds, self.look.size));
                let peak = cams[s].iter().find(|c| c.0 == t).map_or(0.0, |c| c.1.peak);
                let trace = Trace {
                    text: self.targets[t].text.clone(),
                    similarity: 0.0,
                    presence: None,
                    peak,
                    fallback,
                    parts: found,
                    mask_pixels: mask.iter().filter(|&&v| v != 0).count(),
                    joined: self.joined,
                    box_calibrated: corrected.is_some(),
                };
                made.push(self.prompt(t, s, mask, corrected.unwrap_or(bounds), map(s), trace));
            }
        }
        let missing = made.is_empty();
        (made, missing)
    }

    fn prompt(
        &self,
        t: usize,
        slice: usize,
        mask: &[u8],
        bounds: PixelBox,
        saliency: &[f32],
        trace: Trace,
    ) -> ChainPrompt {
        let [w, _] = self.look.size;
        let seed = format!("{} {} {} {slice}", self.request.seed, self.image.sha256, self.targets[t].text);
        let chosen = points_within(mask, w, bounds, self.request.points, seed.as_bytes());
        let [ax, ay] = self.look.to_stored(bounds.x0, bounds.y0);
        let [bx, by] = self.look.to_stored(bounds.x1, bounds.y1);
        let [sw, sh] = self.look.stack.size;
        let inside = |v: f32, n: usize| v.round().clamp(0.0, n.saturating_sub(1) as f32);
        let place = |&p: &usize| {
            let [x, y] = self.look.to_stored((p % w) as f32 + 0.5, (p / w) as f32 + 0.5);
            // The predictor's pixels have their centres at whole numbers.
            [inside(x - 0.5, sw), inside(y - 0.5, sh)]
        };
        ChainPrompt {
            target: t,
            slice,
            bounds: PixelBox { x0: ax.min(bx), y0: ay.min(by), x1: ax.max(bx), y1: ay.max(by) },
            points: chosen.iter().map(place).collect(),
            trace,
            view: self.request.keep_views.then(|| View {
                size: self.look.size,
                rgb: Vec::new(),
                saliency: saliency.to_vec(),
                mask: mask.to_vec(),
                bounds,
                points: chosen.clone(),
            }),
        }
    }
}

/// Maps on the input's grid, one volume a target.
fn volumes(look: &Look<'_>, cams: &[Vec<(usize, Cam)>], targets: usize, image: &Image) -> Vec<f32> {
    let voxels: usize = image.volume.dim().iter().product();
    let mut out = vec![0f32; voxels * targets];
    let [x0, y0, w, h] = look.crop;
    for (s, list) in cams.iter().enumerate() {
        let (first, column, row) = look.stack.shown_strides(s);
        for (t, cam) in list {
            let map = look.enlarged(&cam.low, cam.grid, [w, h]);
            for (p, v) in map.iter().enumerate() {
                let (x, y) = (x0 + p % w, y0 + p / w);
                out[t * voxels + (first as isize + column * x as isize + row * y as isize) as usize] = *v;
            }
        }
    }
    out
}
