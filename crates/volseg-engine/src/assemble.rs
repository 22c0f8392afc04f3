//! From the network's grid back to the input's: one slice at a time, overlaps to the likelier organ.

use crate::Error;
use crate::body::View;
use crate::pass::{Answer, STEPS};
use rayon::prelude::*;
use volseg_geometry::{LabelMap, OrganId, Volume, resize_bilinear_into};

/// Slices enlarged at the same time.
const CHUNK: usize = 16;

/// Labels on the input's grid, and probabilities if asked: `organs.len()` volumes one after the other, input order.
pub(crate) fn assemble(
    answers: &[Vec<Answer>],
    view: &View,
    dim: [usize; 3],
    affine: volseg_geometry::Affine,
    organs: &[OrganId],
    threshold: f32,
    keep_probabilities: bool,
) -> Result<(LabelMap, Option<Vec<f32>>), Error> {
    let mut labels: LabelMap = Volume::zeros(dim, affine)?;
    let voxels: usize = dim.iter().product();
    let mut probabilities = keep_probabilities.then(|| vec![0f32; voxels * organs.len()]);
    let cut = (threshold / (1.0 - threshold)).ln();
    let [x0, y0, w, h] = view.crop;
    let side = view.side;
    for first in (0..answers.len()).step_by(CHUNK) {
        let chunk = &answers[first..(first + CHUNK).min(answers.len())];
        let done: Vec<(Vec<u8>, Vec<(u8, Vec<f32>)>)> = chunk
            .par_iter()
            .map(|slice| {
                let (mut best, mut ids) = (vec![cut; w * h], vec![0u8; w * h]);
                let mut kept = Vec::new();
                let mut large = vec![0f32; w * h];
                for a in slice {
                    let small: Vec<f32> = a.logits.iter().map(|&l| f32::from(l) / STEPS).collect();
                    resize_bilinear_into(&small, side, side, w, h, &mut large);
                    for ((l, b), id) in large.iter().zip(&mut best).zip(&mut ids) {
                        if *l > *b {
                            *b = *l;
                            *id = a.organ;
                        }
                    }
                    if keep_probabilities {
                        kept.push((a.organ, large.iter().map(|l| 1.0 / (1.0 + (-l).exp())).collect()));
                    }
                }
                (ids, kept)
            })
            .collect();
        for (n, (ids, kept)) in done.iter().enumerate() {
            if answers[first + n].is_empty() {
                continue;
            }
            let (start, column, row) = view.stack.shown_strides(first + n);
            let place =
                |x: usize, y: usize| (start as isize + column * (x0 + x) as isize + row * (y0 + y) as isize) as usize;
            let out = labels.voxels_mut();
            for y in 0..h {
                for x in 0..w {
                    if ids[y * w + x] != 0 {
                        out[place(x, y)] = ids[y * w + x];
                    }
                }
            }
            if let Some(p) = &mut probabilities {
                for (organ, values) in kept {
                    let Some(k) = organs.iter().position(|o| o.get() == *organ) else { continue };
                    for y in 0..h {
                        for x in 0..w {
                            p[k * voxels + place(x, y)] = values[y * w + x];
                        }
                    }
                }
            }
        }
    }
    Ok((labels, probabilities))
}
