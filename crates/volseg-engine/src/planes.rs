//! Prompts in several planes of a volume: one run a plane, and each voxel goes to the organ that is likeliest in any of them.

use crate::outcome::{Observer, Segmentation};
use crate::{CANDIDATE_THRESHOLDS, Error, Model, PromptMode, Request, segment};
use volseg_geometry::{LabelMap, OrganId, Volume};
use volseg_io::Image;

/// [`segment()`] for prompts of more than one plane.
pub(crate) fn segment_each(
    image: &Image,
    model: &Model,
    request: &Request,
    threads: usize,
    observer: &dyn Observer,
) -> Result<Segmentation, Error> {
    let PromptMode::Given { prompts: sets, origin } = &request.prompts else {
        return Err(Error::Prompts("prompts in several planes, expected organs by name".into()));
    };
    let mut organs: Vec<OrganId> = match &request.organs {
        Some(list) => list.clone(),
        None => request.prompts.given().map(|p| p.organ).collect(),
    };
    organs.sort();
    organs.dedup();
    let dim = image.volume.dim();
    let voxels: usize = dim.iter().product();
    let mut best = vec![0f32; voxels * organs.len()];
    let memory = request.memory.map(|m| m.saturating_sub(4 * best.len() as u64));
    let mut all: Option<Segmentation> = None;
    for set in sets {
        let part = Request {
            organs: Some(organs.clone()),
            plane: None,
            prompts: PromptMode::Given { prompts: vec![set.clone()], origin: origin.clone() },
            keep_probabilities: true,
            candidates: false,
            memory,
            ..request.clone()
        };
        let mut done = segment(image, model, &part, threads, observer)?;
        let probabilities = done.probabilities.take().unwrap_or_default();
        for (organ, values) in done.organs.iter().zip(probabilities.chunks_exact(voxels.max(1))) {
            let Some(k) = organs.iter().position(|o| o == organ) else { continue };
            best[k * voxels..(k + 1) * voxels].iter_mut().zip(values).for_each(|(b, v)| *b = b.max(*v));
        }
        match &mut all {
            None => all = Some(done),
            Some(first) => {
                first.warnings.extend(done.warnings);
                first.confidence.extend(done.confidence);
                first.timings.network_s += done.timings.network_s;
                first.timings.cleanup_s += done.timings.cleanup_s;
                first.timings.assemble_s += done.timings.assemble_s;
                first.timings.total_s += done.timings.total_s;
            }
        }
    }
    let mut all = all.ok_or_else(|| Error::Prompts("found none".into()))?;
    all.warnings.sort();
    all.warnings.dedup();
    let labels = |threshold: f32| -> Result<LabelMap, Error> {
        let mut ids = vec![0u8; voxels];
        for (n, id) in ids.iter_mut().enumerate() {
            let mut most = threshold;
            for (k, organ) in organs.iter().enumerate() {
                if best[k * voxels + n] > most {
                    (most, *id) = (best[k * voxels + n], organ.get());
                }
            }
        }
        Ok(Volume::from_vec(ids, dim, *image.volume.affine())?)
    };
    all.labels = labels(request.threshold)?;
    if request.candidates {
        all.candidates = CANDIDATE_THRESHOLDS.iter().map(|&t| Ok((t, labels(t)?))).collect::<Result<_, Error>>()?;
    }
    all.organs = organs;
    all.probabilities = request.keep_probabilities.then_some(best);
    Ok(all)
}
