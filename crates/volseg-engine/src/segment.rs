//! The whole job for one image.

use crate::assemble::assemble;
use crate::body::{View, stack_of};
use crate::outcome::{Observer, Segmentation, Stage};
use crate::pass::{Answer, Question, STEPS};
use crate::planes::join_planes;
use crate::readings::{ask, ask_all};
use crate::report::{SliceConfidence, ThresholdCounts, Timings};
use crate::{CANDIDATE_THRESHOLDS, Error, Model, Prompt, PromptMode, PromptSet, Request, cleanup, guess_modality};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;
use volseg_geometry::{Modality, OrganId, Plane, SliceStack};
use volseg_io::Image;
use volseg_model::embedded::Network;

/// Organs that the embedded model looks for by default.
#[must_use]
pub(crate) fn organs_of(modality: Modality) -> Vec<OrganId> {
    let ids: &[u8] = match modality {
        Modality::Ct => &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        Modality::Xray => &[16],
        Modality::Ultrasound => &[17],
        Modality::Mr => &[],
    };
    ids.iter().filter_map(|&i| OrganId::new(i)).collect()
}

/// Segments one image. `threads` workers read one slice each; labels are the same at any number of threads.
///
/// # Errors
/// A request, prompts or input that cannot be used; memory beyond the budget; a stop by the observer.
pub fn segment(
    image: &Image,
    model: &Model,
    request: &Request,
    threads: usize,
    observer: &dyn Observer,
) -> Result<Segmentation, Error> {
    if let PromptMode::Given { prompts, origin } = &request.prompts
        && let [first, rest @ ..] = &prompts[..]
        && !rest.is_empty()
    {
        let of_plane = |set: &PromptSet, part: Request| {
            let prompts = PromptMode::Given { prompts: vec![set.clone()], origin: origin.clone() };
            segment(image, model, &Request { prompts, ..part }, threads, observer)
        };
        return join_planes(image, request, (first, rest), &of_plane);
    }
    let Model::Embedded { networks, .. } = model else {
        return crate::sam::segment(image, model, request, threads, observer);
    };
    let began = Instant::now();
    let volume = &image.volume;
    let picture = image.is_picture();
    let dim = volume.dim();
    let declared = request.modality.or(image.modality).or_else(|| implied(request));
    let guess = guess_modality(volume, image.slope, image.intercept, picture, declared);
    let mut warnings = guess.warnings;
    let plane = request.prompts.sets().first().and_then(|set| set.plane).or(request.plane);
    let stack = stack_of(image, plane.unwrap_or(Plane::Axial));
    let modality = match guess.modality {
        Some(m) => m,
        None => decide_picture(networks.of(None)?, image, request, stack)?,
    };
    let network = networks.of(Some(modality))?;
    if modality == Modality::Mr {
        if let PromptMode::Organ = request.prompts {
            return Err(Error::Request(
                "the embedded model was not trained on MR and knows no organ of it by name; give boxes or points with \
                 --prompts, import a model that was, or give --modality if this is not MR"
                    .into(),
            ));
        }
        warnings.push("the embedded model was not trained on MR: it follows the prompts alone".into());
    }
    if plane.is_some_and(|p| p != Plane::Axial) && modality == Modality::Ct {
        warnings.push("the embedded model was trained on axial slices; other planes are untested".into());
    }
    let mut organs = match (&request.organs, &request.prompts) {
        (Some(list), _) => list.clone(),
        (None, PromptMode::Organ) => organs_of(modality),
        (None, PromptMode::Given { .. }) => request.prompts.organs(),
    };
    if let PromptMode::Organ = request.prompts {
        let known = organs_of(modality);
        if request.skip_unknown && organs.iter().any(|o| known.contains(o)) {
            organs.retain(|o| known.contains(o));
        }
        if let Some(o) = organs.iter().find(|o| !known.contains(o)) {
            return Err(Error::Request(format!(
                "the embedded model cannot find {o} in this modality by name; it knows {}. Give a box or points with --prompts",
                known.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            )));
        }
    }
    let view =
        View::new(volume, image.slope, image.intercept, stack, modality, request.window, network.config.side, picture);
    let at_once = request.at_once(!network.device().is_cpu()).min(stack.slices.max(1));
    let needed =
        |slices_in_work| plan_bytes(dim, stack.slices, organs.len(), network.config.side, slices_in_work, request);
    let workers = workers(request.memory, (threads, at_once), needed)?;
    let mut answers = if guess.constant {
        vec![Vec::new(); stack.slices]
    } else {
        run(network, image, &view, &organs, request, workers, observer)?
    };
    let network_s = began.elapsed().as_secs_f64();
    observer.progress(Stage::Assemble, 0, 1);
    let spacing = volume.affine().spacing_mm()[stack.frame.axes[2]];
    if let PromptMode::Organ = request.prompts {
        let side = view.side;
        if modality == Modality::Ct {
            cleanup::smooth(&mut answers, &organs, spacing, side * side);
        }
        let sided = modality == Modality::Ct && plane.unwrap_or(Plane::Axial) != Plane::Sagittal;
        cleanup::largest_parts(&mut answers, &organs, side, sided);
    }
    let confidence = confidence(&answers, &organs);
    let cleanup_s = began.elapsed().as_secs_f64() - network_s;
    let (labels, probabilities) =
        assemble(&answers, &view, dim, *volume.affine(), &organs, request.threshold, request.keep_probabilities)?;
    let mut candidates = Vec::new();
    if request.candidates {
        for t in CANDIDATE_THRESHOLDS {
            candidates.push((t, assemble(&answers, &view, dim, *volume.affine(), &organs, t, false)?.0));
        }
    }
    observer.progress(Stage::Assemble, 1, 1);
    let total_s = began.elapsed().as_secs_f64();
    let timings =
        Timings { network_s, cleanup_s, assemble_s: total_s - cleanup_s - network_s, total_s, ..Timings::default() };
    Ok(Segmentation { labels, organs, probabilities, candidates, modality, warnings, confidence, timings })
}

/// The hippocampus is seen in MR alone.
fn implied(request: &Request) -> Option<Modality> {
    let seen_in_mr = |o: OrganId| (18..=19).contains(&o.get());
    let prompted = request.prompts.organs();
    let asked = request.organs.as_ref().unwrap_or(&prompted);
    (!asked.is_empty() && asked.iter().all(|o| seen_in_mr(*o))).then_some(Modality::Mr)
}

/// X-ray or ultrasound: whichever first mask the network is surer of. Asked-for organs decide if they can.
pub(crate) fn decide_picture(
    net: &Network,
    image: &Image,
    request: &Request,
    stack: SliceStack,
) -> Result<Modality, Error> {
    let asks = |id: u8| request.organs.as_ref().is_some_and(|l| l.iter().any(|o| o.get() == id));
    if asks(16) || asks(17) {
        return Ok(if asks(16) { Modality::Xray } else { Modality::Ultrasound });
    }
    let view =
        View::new(&image.volume, image.slope, image.intercept, stack, Modality::Xray, None, net.config.side, true);
    let lungs_and_tumour: Vec<OrganId> = [16, 17].into_iter().filter_map(OrganId::new).collect();
    let answers = ask(net, &image.volume, &view, 0, &Question::Organs(&lungs_and_tumour))?;
    let score = |id: u8| {
        answers.iter().find(|a| a.organ == id).map_or(0.0, |a| {
            f64::from(a.iou) * a.logits.iter().filter(|&&l| l > 0).count() as f64 / a.logits.len() as f64
        })
    };
    // Lungs fill a quarter of an X-ray; anything else is closer to an ultrasound.
    Ok(if score(16) > 0.05 && score(16) > score(17) { Modality::Xray } else { Modality::Ultrasound })
}

/// What the case will need beside the input: labels, kept logits of all organs on all slices, workers.
fn plan_bytes(dim: [usize; 3], slices: usize, organs: usize, side: usize, threads: usize, request: &Request) -> u64 {
    let voxels = dim.iter().product::<usize>() as u64;
    let kept = (slices * organs * side * side * 2) as u64;
    let probabilities = if request.keep_probabilities { voxels * organs as u64 * 4 } else { 0 };
    voxels + kept + workers_bytes(threads) + probabilities
}

/// As many threads and slices a thread as fit into the allowed memory: fewer slices first, then fewer threads. Labels are the same
/// at any number. `needed` tells the bytes for a number of slices in work.
///
/// # Errors
/// [`Error::Memory`] if one slice at a time is too much.
pub(crate) fn workers(
    allowed: Option<u64>,
    (threads, at_once): (usize, usize),
    needed: impl Fn(usize) -> u64,
) -> Result<(usize, usize), Error> {
    let Some(allowed) = allowed else { return Ok((threads, at_once)) };
    let mut fewer = (1..=at_once).rev().map(|n| (threads, n)).chain((1..threads).rev().map(|t| (t, 1)));
    fewer
        .find(|(t, n)| needed(t * n) <= allowed)
        .ok_or_else(|| Error::Memory { needed_mib: needed(1).div_ceil(1 << 20), allowed_mib: allowed >> 20 })
}

/// What the workers of the embedded network need, whatever the case.
pub(crate) fn workers_bytes(threads: usize) -> u64 {
    (160 << 20) * threads as u64 + (64 << 20)
}

fn run(
    net: &Network,
    image: &Image,
    view: &View,
    organs: &[OrganId],
    request: &Request,
    (threads, at_once): (usize, usize),
    observer: &dyn Observer,
) -> Result<Vec<Vec<Answer>>, Error> {
    let slices = view.stack.slices;
    let skip = |s: usize| {
        let n = view.anatomical(s);
        request.fast && slices > 8 && n % 2 == 1 && n + 1 < slices
    };
    let results: Vec<Mutex<Vec<Answer>>> = (0..slices).map(|_| Mutex::default()).collect();
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    let (next, done, stop) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let mine = |slice: usize| -> Vec<Prompt> {
        let Some(set) = request.prompts.sets().first() else { return Vec::new() };
        let from = set.prompts.partition_point(|p| p.slice < slice);
        let to = set.prompts.partition_point(|p| p.slice <= slice);
        set.prompts[from..to].iter().filter(|p| organs.contains(&p.organ)).cloned().collect()
    };
    let ask_some = |part: std::ops::Range<usize>| -> Result<(), Error> {
        if observer.stopped() {
            return Err(Error::Interrupted);
        }
        let prompts: Vec<Vec<Prompt>> = part.clone().map(mine).collect();
        let asked: Vec<(usize, Question<'_>)> = part
            .zip(&prompts)
            .filter_map(|(slice, mine)| match request.prompts {
                PromptMode::Organ if skip(slice) || view.is_blank(&image.volume, slice) => None,
                PromptMode::Organ => Some((slice, Question::Organs(organs))),
                PromptMode::Given { .. } if mine.is_empty() => None,
                PromptMode::Given { .. } => Some((slice, Question::Prompts(mine))),
            })
            .collect();
        let answers = ask_all(net, &image.volume, view, &asked)?;
        asked.iter().zip(answers).for_each(|((slice, _), a)| *lock(&results[*slice]) = a);
        Ok(())
    };
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let first = next.fetch_add(at_once, Ordering::Relaxed);
            if first >= slices {
                return;
            }
            let part = first..(first + at_once).min(slices);
            let count = part.len();
            if let Err(e) = ask_some(part) {
                lock(&failed).get_or_insert(e);
                stop.store(true, Ordering::Relaxed);
            }
            observer.progress(Stage::Network, done.fetch_add(count, Ordering::Relaxed) + count, slices);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, slices.max(1)) {
            // One thread inside each worker: two threads in one slice gain little (specs: candle.md section 2.2).
            scope.spawn(|| match rayon::ThreadPoolBuilder::new().num_threads(1).build() {
                Ok(pool) => pool.install(work),
                Err(_) => work(),
            });
        }
    });
    if let Some(e) = lock(&failed).take() {
        return Err(e);
    }
    let mut answers: Vec<Vec<Answer>> =
        results.into_iter().map(|m| m.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)).collect();
    for s in (0..slices).filter(|&s| skip(s)) {
        answers[s] = between(&answers[s - 1], &answers[s + 1]);
    }
    Ok(answers)
}

/// The mean of two slices, for those that `fast` leaves out.
fn between(before: &[Answer], after: &[Answer]) -> Vec<Answer> {
    before
        .iter()
        .filter_map(|a| {
            let b = after.iter().find(|b| b.organ == a.organ)?;
            let logits = a.logits.iter().zip(&b.logits).map(|(&x, &y)| ((i32::from(x) + i32::from(y)) / 2) as i16);
            Some(Answer { organ: a.organ, logits: logits.collect(), iou: a.iou.min(b.iou) })
        })
        .collect()
}

fn confidence(answers: &[Vec<Answer>], organs: &[OrganId]) -> Vec<SliceConfidence> {
    let [low, .., high] = CANDIDATE_THRESHOLDS.map(|t| ((t / (1.0 - t)).ln() * STEPS) as i16);
    organs
        .iter()
        .filter_map(|o| {
            let found: Vec<(usize, f64)> = answers
                .iter()
                .enumerate()
                .flat_map(|(s, v)| v.iter().filter(|a| a.organ == o.get()).map(move |a| (s, f64::from(a.iou))))
                .collect();
            let weakest = found.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1))?;
            let mut counts = ThresholdCounts::default();
            for a in answers.iter().flatten().filter(|a| a.organ == o.get()) {
                counts.add(a.logits.iter().map(|&l| (l > low, l > high)));
            }
            Some(SliceConfidence {
                organ: o.to_string(),
                mean_predicted_iou: found.iter().map(|f| f.1).sum::<f64>() / found.len() as f64,
                weakest_slice: weakest.0,
                weakest_predicted_iou: weakest.1,
                slices: found.len(),
                candidate_dice: counts.dice(),
            })
        })
        .collect()
}

fn lock<T>(m: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    m.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_allowance_takes_fewer_workers() {
        let needed = |n: usize| 10 + 5 * n as u64;
        let plan = |allowed| workers(allowed, (4, 3), needed).ok();
        assert_eq!(plan(None), Some((4, 3)));
        assert_eq!(plan(Some(70)), Some((4, 3)));
        assert_eq!(plan(Some(69)), Some((4, 2)));
        assert_eq!(plan(Some(29)), Some((3, 1)));
        assert_eq!(plan(Some(15)), Some((1, 1)));
        assert_eq!(plan(Some(14)), None);
    }
}
