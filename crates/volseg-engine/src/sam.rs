//! Networks of SAM's family on the slices that prompts name, exactly as their official predictors compute them.

use crate::body::stack_of;
use crate::outcome::{Observer, Segmentation, Stage};
use crate::report::{SliceConfidence, ThresholdCounts, Timings};
use crate::segment::workers;
use crate::{CANDIDATE_THRESHOLDS, Error, Model, Prompt, PromptMode, Request, guess_modality};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use volseg_geometry::{LabelMap, Modality, PixelBox, Plane, SliceStack, Volume, Window};
use volseg_io::Image;
use volseg_model::picture::Picture;
use volseg_model::prompt_encoder::Point;
use volseg_model::sam::{Embedding, PromptSet, SamModel};
use volseg_model::share::on_this_thread;

/// One organ's answer on a slice: probabilities of the shown slice, row by row.
struct Answer {
    organ: u8,
    probabilities: Vec<f32>,
    iou: f32,
}

pub(crate) fn segment(
    image: &Image,
    model: &Model,
    request: &Request,
    threads: usize,
    observer: &dyn Observer,
) -> Result<Segmentation, Error> {
    let Model::Sam { model, .. } = model else {
        return Err(Error::Request("this model is not of SAM's family".into()));
    };
    let PromptMode::Given { prompts: sets, .. } = &request.prompts else {
        return Err(Error::Request(
            "a model of SAM's family does not know organs by name: give boxes or points with --prompts FILE.json \
             (or boxes-from:LABELS to evaluate)"
                .into(),
        ));
    };
    let none = crate::PromptSet::default();
    let prompts = sets.first().unwrap_or(&none);
    let began = Instant::now();
    let volume = &image.volume;
    let dim = volume.dim();
    let picture = image.is_picture();
    let guess = guess_modality(volume, image.slope, image.intercept, picture, request.modality.or(image.modality));
    let modality = guess.modality.unwrap_or(Modality::Xray);
    let stack = stack_of(image, prompts.plane.or(request.plane).unwrap_or(Plane::Axial));
    let bounds = if picture { None } else { Some(grey_bounds(image, request.window)) };
    let mut organs = request.prompts.organs();
    if let Some(list) = &request.organs {
        organs.retain(|o| list.contains(o));
    }
    let mut slices: Vec<usize> =
        prompts.prompts.iter().filter(|p| organs.contains(&p.organ)).map(|p| p.slice).collect();
    slices.dedup();
    let voxels: usize = dim.iter().product();
    let at_once = request.at_once(model.is_on_gpu());
    let kept = if request.keep_probabilities { voxels * organs.len() * 4 } else { 0 };
    // Weights are already loaded; each worker holds the activations of one slice.
    let needed = |slices_in_work: usize| (voxels + kept + slices_in_work * (400 << 20)) as u64;
    let (threads, at_once) = workers(request.memory, (threads, at_once), needed)?;
    let mut labels: LabelMap = Volume::zeros(dim, *volume.affine())?;
    let mut candidates: Vec<(f32, LabelMap)> = Vec::new();
    if request.candidates {
        for t in CANDIDATE_THRESHOLDS {
            candidates.push((t, labels.clone()));
        }
    }
    let mut probabilities = request.keep_probabilities.then(|| vec![0f32; voxels * organs.len()]);
    let mut ious: Vec<(usize, u8, f64)> = Vec::new();
    let mut counts: BTreeMap<u8, ThresholdCounts> = BTreeMap::new();
    let done = AtomicUsize::new(0);
    // Small chunks bound the memory: full-size probabilities of a chunk only.
    for chunk in slices.chunks(if model.is_on_gpu() { at_once } else { threads * at_once }) {
        if observer.stopped() {
            return Err(Error::Interrupted);
        }
        let pictures =
            chunk.par_iter().map(|&s| shown_picture(image, &stack, s, bounds)).collect::<Result<Vec<_>, _>>()?;
        let embeddings = model.embed_all(&pictures, at_once)?;
        let answers: Vec<Result<Vec<Answer>, Error>> = chunk
            .par_iter()
            .zip(&embeddings)
            .map(|(&slice, embedding)| {
                let mine: Vec<&Prompt> =
                    prompts.prompts.iter().filter(|p| p.slice == slice && organs.contains(&p.organ)).collect();
                let token = |p: &Prompt| text_token(model, prompts, p);
                let work = || one_slice(model, embedding, &stack, &mine, &token);
                // The last slices, too few for all threads, are worked on by several together.
                let out = if chunk.len() < threads { work() } else { on_this_thread(work) };
                observer.progress(Stage::Network, done.fetch_add(1, Ordering::Relaxed) + 1, slices.len());
                out
            })
            .collect();
        for (&slice, answers) in chunk.iter().zip(answers) {
            let answers = answers?;
            let (first, column, row) = stack.shown_strides(slice);
            let [w, h] = stack.shown_size();
            let place = |p: usize| (first as isize + column * (p % w) as isize + row * (p / w) as isize) as usize;
            let wanted = std::iter::once((request.threshold, &mut labels));
            for (threshold, map) in wanted.chain(candidates.iter_mut().map(|(t, m)| (*t, m))) {
                let out = map.voxels_mut();
                for p in 0..w * h {
                    let mut best = threshold;
                    for a in &answers {
                        if a.probabilities[p] > best {
                            best = a.probabilities[p];
                            out[place(p)] = a.organ;
                        }
                    }
                }
            }
            for a in &answers {
                ious.push((slice, a.organ, f64::from(a.iou)));
                let above = |p: &f32| (*p > CANDIDATE_THRESHOLDS[0], *p > CANDIDATE_THRESHOLDS[3]);
                counts.entry(a.organ).or_default().add(a.probabilities.iter().map(above));
                if let Some(all) = &mut probabilities {
                    let k = organs.iter().position(|o| o.get() == a.organ).unwrap_or(0);
                    for (p, v) in a.probabilities.iter().enumerate() {
                        all[k * voxels + place(p)] = *v;
                    }
                }
            }
        }
    }
    let confidence = organs
        .iter()
        .filter_map(|o| {
            let mine: Vec<_> = ious.iter().filter(|i| i.1 == o.get()).collect();
            let weakest = mine.iter().min_by(|a, b| a.2.total_cmp(&b.2))?;
            Some(SliceConfidence {
                organ: o.to_string(),
                mean_predicted_iou: mine.iter().map(|i| i.2).sum::<f64>() / mine.len() as f64,
                weakest_slice: weakest.0,
                weakest_predicted_iou: weakest.2,
                slices: mine.len(),
                candidate_dice: counts.get(&o.get()).copied().unwrap_or_default().dice(),
            })
        })
        .collect();
    let total_s = began.elapsed().as_secs_f64();
    Ok(Segmentation {
        labels,
        organs,
        probabilities,
        candidates,
        modality,
        warnings: guess.warnings,
        confidence,
        timings: Timings { network_s: total_s, total_s, ..Timings::default() },
    })
}

/// The values that become 0 and 255. Without a window the whole volume's range, as SAM-Med2D was trained (specs: organs.md
/// section 3).
pub(crate) fn grey_bounds(image: &Image, window: Option<Window>) -> (f32, f32) {
    let n: usize = image.volume.dim().iter().product();
    let value = |i: usize| (image.volume.value(i) * image.slope + image.intercept) as f32;
    match window {
        Some(Window::Range { low, high }) => (low, high),
        Some(percentile) => {
            let step = (n / 1_000_000).max(1);
            percentile.bounds(&(0..n).step_by(step).map(value).collect::<Vec<_>>())
        }
        None => (0..n)
            .map(value)
            .filter(|v| v.is_finite())
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v))),
    }
}

/// What the image encoder made of one slice.
pub(crate) struct SamReading(Embedding);

impl SamReading {
    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> usize {
        4 * self.0.features.elem_count()
    }
}

/// Reads a slice; `bounds` are the values that become 0 and 255 (pictures keep their own).
pub(crate) fn read(
    model: &SamModel,
    image: &Image,
    stack: &SliceStack,
    slice: usize,
    bounds: Option<(f32, f32)>,
) -> Result<SamReading, Error> {
    Ok(SamReading(model.embed(&shown_picture(image, stack, slice, bounds)?)?))
}

/// A slice as the network takes it.
fn shown_picture(
    image: &Image,
    stack: &SliceStack,
    slice: usize,
    bounds: Option<(f32, f32)>,
) -> Result<Picture, Error> {
    let [w, h] = stack.shown_size();
    Ok(match (bounds, image.rgb()) {
        (None, Some(rgb)) => Picture::rgb(w, h, rgb.to_vec())?,
        _ => {
            let mut grey = vec![0u8; w * h];
            let (low, high) = bounds.unwrap_or((0.0, 255.0));
            let scale = if high > low { 255.0 / (high - low) } else { 0.0 };
            stack.for_each_shown(slice, |p, l| {
                let v = (image.volume.value(l) * image.slope + image.intercept) as f32;
                grey[p] = ((v - low) * scale).clamp(0.0, 255.0).round() as u8;
            });
            Picture::grey(w, h, &grey)?
        }
    })
}

/// Logits of the shown slice, row by row, and the predicted IoU.
pub(crate) fn decode(
    model: &SamModel,
    reading: &SamReading,
    stack: &SliceStack,
    prompt: &Prompt,
) -> Result<(Vec<f32>, f32), Error> {
    let decoded = model.decode(&reading.0, &[shown(stack, prompt, Vec::new())])?;
    let one = decoded.first().ok_or_else(|| Error::Request("the model gave no mask".into()))?;
    // Through probabilities, since MedSAM enlarges those.
    let logit = |p: f32| (p.max(1e-7) / (1.0 - p).max(1e-7)).ln();
    Ok((model.postprocess(&reading.0, one).into_iter().map(logit).collect(), one.iou))
}

fn one_slice(
    model: &SamModel,
    embedding: &Embedding,
    stack: &SliceStack,
    prompts: &[&Prompt],
    token: &dyn Fn(&Prompt) -> Result<Option<Vec<f32>>, Error>,
) -> Result<Vec<Answer>, Error> {
    let set = |p: &&Prompt| Ok(shown(stack, p, token(p)?.into_iter().collect()));
    let sets = prompts.iter().map(set).collect::<Result<Vec<PromptSet>, Error>>()?;
    let decoded = model.decode(embedding, &sets)?;
    let mut answers: Vec<Answer> = Vec::new();
    for (p, d) in prompts.iter().zip(&decoded) {
        let probabilities = model.postprocess(embedding, d);
        match answers.iter_mut().find(|a| a.organ == p.organ.get()) {
            Some(a) => {
                for (x, y) in a.probabilities.iter_mut().zip(&probabilities) {
                    *x = x.max(*y);
                }
                a.iou = a.iou.min(d.iou);
            }
            None => answers.push(Answer { organ: p.organ.get(), probabilities, iou: d.iou }),
        }
    }
    Ok(answers)
}

/// The token of a prompt's text, if the network reads texts and the text's feature is known.
fn text_token(model: &SamModel, prompts: &crate::PromptSet, p: &Prompt) -> Result<Option<Vec<f32>>, Error> {
    match p.text.as_ref().and_then(|text| prompts.texts.get(text)) {
        Some(feature) if model.config().text.is_some() => Ok(Some(model.text_token(feature)?)),
        _ => Ok(None),
    }
}

/// A prompt in shown pixels, in the predictor's convention: pixel centres at whole numbers, boxes end-exclusive.
fn shown(stack: &SliceStack, p: &Prompt, tokens: Vec<Vec<f32>>) -> PromptSet {
    let points = p
        .points
        .iter()
        .map(|&[x, y, inside]| {
            let (u, v) = stack.to_shown(x + 0.5, y + 0.5);
            Point { x: u - 0.5, y: v - 0.5, label: if inside > 0.5 { 1 } else { 0 } }
        })
        .collect();
    let bounds = p.bounds.map(|b| {
        let ((ax, ay), (bx, by)) = (stack.to_shown(b.x0, b.y0), stack.to_shown(b.x1, b.y1));
        PixelBox { x0: ax.min(bx), y0: ay.min(by), x1: ax.max(bx), y1: ay.max(by) }
    });
    PromptSet { points, bounds, tokens, ..PromptSet::default() }
}
