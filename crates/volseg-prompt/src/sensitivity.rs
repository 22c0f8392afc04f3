//! Does the text matter? Class activation maps of image-text models often show the same whatever is asked.

use crate::Error;
use crate::chain::{ChainRequest, Target, input_of};
use crate::saliency::{Cam, Saliency};
use serde::Serialize;
use volseg_io::Image;
use volseg_model::clip::ClipModel;

/// Words that name nothing in any picture.
const NONSENSE: [&str; 3] = ["xyzzy", "lorem ipsum dolor", "purple tuesday engine"];

/// Below this a text hardly changes its map.
pub const BLIND_BELOW: f32 = 0.2;

/// How much a text decides its map, on the slice that fits it best.
#[derive(Clone, Debug, Serialize)]
pub struct Sensitivity {
    /// The text.
    pub text: String,
    /// Stored index of the slice.
    pub slice: usize,
    /// 1 less the mean correlation with the maps of the other texts, 0..1: 0 means that the text does not matter.
    pub sensitivity: f32,
    /// Mean correlation with the maps of other organs.
    pub correlation_organs: f32,
    /// Mean correlation with the maps of nonsense.
    pub correlation_nonsense: f32,
}

/// Compares each target's map with those of `others` and of nonsense. `similarity[target][slice]` is from [`crate::chain::Chain`].
///
/// # Errors
/// Whatever the network meets.
pub fn sensitivity(
    image: &Image,
    model: &ClipModel,
    saliency: &dyn Saliency,
    targets: &[Target],
    others: &[String],
    similarity: &[Vec<f32>],
    request: &ChainRequest,
) -> Result<Vec<Sensitivity>, Error> {
    let mut found = Vec::with_capacity(targets.len());
    for (target, scores) in targets.iter().zip(similarity) {
        let slice = (0..scores.len()).rev().max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap_or(0);
        let others: Vec<&String> = others.iter().filter(|o| **o != target.text).collect();
        let mut texts = vec![target.text.clone()];
        texts.extend(others.iter().map(|o| (*o).clone()));
        texts.extend(NONSENSE.map(str::to_owned));
        let maps = saliency.maps(model, &input_of(image, model, request, slice)?, &model.encode_texts(&texts)?)?;
        let Some((own, rest)) = maps.split_first() else { continue };
        let (organs, nonsense) = rest.split_at(others.len());
        let mean =
            |list: &[Cam]| list.iter().map(|c| correlation(&own.low, &c.low)).sum::<f32>() / list.len().max(1) as f32;
        let all = mean(rest);
        found.push(Sensitivity {
            text: target.text.clone(),
            slice,
            sensitivity: (1.0 - all).clamp(0.0, 1.0),
            correlation_organs: mean(organs),
            correlation_nonsense: mean(nonsense),
        });
    }
    Ok(found)
}

/// Pearson's correlation; two maps of which one is flat are alike only if both are.
fn correlation(a: &[f32], b: &[f32]) -> f32 {
    let n = a.len().max(1) as f64;
    let mean = |v: &[f32]| v.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let (ma, mb) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0f64, 0f64, 0f64);
    for (x, y) in a.iter().zip(b) {
        let (x, y) = (f64::from(*x) - ma, f64::from(*y) - mb);
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    match (aa < 1e-12, bb < 1e-12) {
        (true, true) => 1.0,
        (false, false) => (ab / (aa * bb).sqrt()) as f32,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_maps_correlate_and_flat_ones_do_not() {
        assert!((correlation(&[0.0, 1.0, 0.5], &[0.0, 0.5, 0.25]) - 1.0).abs() < 1e-6);
        assert!((correlation(&[0.0, 1.0], &[1.0, 0.0]) + 1.0).abs() < 1e-6);
        assert_eq!(correlation(&[0.0; 3], &[0.0, 1.0, 0.0]), 0.0);
        assert_eq!(correlation(&[0.0; 3], &[1.0; 3]), 1.0);
    }
}
