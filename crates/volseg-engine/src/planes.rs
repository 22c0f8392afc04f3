//! Prompts in several planes of a volume: one run a plane, and each voxel goes to the organ that is likeliest in any of them.

use crate::outcome::Segmentation;
use crate::{CANDIDATE_THRESHOLDS, Error, PromptSet, Request};
use volseg_geometry::{LabelMap, Volume};
use volseg_io::Image;

/// [`crate::segment()`] for prompts of more than one plane; `of_plane` is it for those of one.
///
/// # Errors
/// Those of `of_plane`.
pub(crate) fn join_planes(
    image: &Image,
    request: &Request,
    (first, rest): (&PromptSet, &[PromptSet]),
    of_plane: &dyn Fn(&PromptSet, Request) -> Result<Segmentation, Error>,
) -> Result<Segmentation, Error> {
    let organs = request.organs.clone().unwrap_or_else(|| request.prompts.organs());
    let dim = image.volume.dim();
    let voxels: usize = dim.iter().product();
    let values = voxels * organs.len();
    // The likeliest of all planes stands beside the probabilities of the plane in work.
    let bytes = 4 * values as u64;
    let memory = request.memory.map(|m| m.saturating_sub(bytes));
    let mut best = vec![0f32; values];
    let mut run = |set: &PromptSet| {
        let organs_asked = Some(organs.clone());
        let (plane, keep_probabilities, candidates) = (None, true, false);
        let part = Request { organs: organs_asked, plane, keep_probabilities, candidates, memory, ..request.clone() };
        let mut done = of_plane(set, part).map_err(|e| match (e, request.memory) {
            (Error::Memory { needed_mib, .. }, Some(m)) => {
                Error::Memory { needed_mib: needed_mib + (bytes >> 20), allowed_mib: m >> 20 }
            }
            (e, _) => e,
        })?;
        let found = done.probabilities.take().unwrap_or_default();
        for (organ, of_organ) in done.organs.iter().zip(found.chunks_exact(voxels.max(1))) {
            let Some(k) = organs.iter().position(|o| o == organ) else { continue };
            best[k * voxels..(k + 1) * voxels].iter_mut().zip(of_organ).for_each(|(b, v)| *b = b.max(*v));
        }
        Ok::<_, Error>(done)
    };
    let mut all = run(first)?;
    for set in rest {
        let done = run(set)?;
        all.warnings.extend(done.warnings);
        all.confidence.extend(done.confidence);
        all.timings.network_s += done.timings.network_s;
        all.timings.cleanup_s += done.timings.cleanup_s;
        all.timings.assemble_s += done.timings.assemble_s;
        all.timings.total_s += done.timings.total_s;
    }
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
