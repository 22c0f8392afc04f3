//! A model on the pictures of one part, in every way it can be asked, at the pictures' own size.

use crate::align::{AlignConfig, Item, of_picture};
use crate::pictures::Picture;
use crate::preference::iou;
use crate::{Asked, Error};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use volseg_geometry::resize_bilinear;
use volseg_model::Params;
use volseg_model::embedded::{Network, PromptRow, Weights};

/// Thresholds that the validation part chooses from.
const TRIED: [f32; 9] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];

/// Means over a test part.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Scores {
    /// Pictures of the test part, or its CTs.
    pub(super) pictures: usize,
    /// Prompts of the experiment, threshold 0.5.
    pub(super) dice: f64,
    pub(super) iou: f64,
    /// The threshold with the best Dice on the validation part, and what it gives on the test part.
    pub(super) threshold: f32,
    pub(super) tuned: f64,
    /// The network's first mask alone: encoder, way back up and a mask head, which is a U-Net.
    pub(super) first: f64,
    /// The answer given to the decoder as a prompt once more (the idea of SAM-SP).
    pub(super) again: f64,
    /// A box around the true mask, exact.
    pub(super) boxed: f64,
    /// CTs: mean surface Dice over the organs, at threshold 0.5 and tuned.
    pub(super) surface: Option<[f64; 2]>,
    /// CTs: Dice and surface Dice of each organ at threshold 0.5, means over cases.
    pub(super) organs: BTreeMap<String, [f64; 2]>,
    /// Seconds that the run behind it took.
    pub(super) seconds: f64,
}

/// One picture's logits at its own size.
pub(super) struct Shown {
    pub(super) first: Vec<f32>,
    pub(super) asked: Vec<f32>,
    again: Vec<f32>,
    boxed: Vec<f32>,
}

pub(super) fn read(path: &Path) -> Result<Network, Error> {
    let weights = Weights::read(path)?;
    Ok(Network::new(&weights.config, &Params::given(weights.tensors))?)
}

pub(super) fn show(net: &Network, p: &Picture, config: &AlignConfig, place: u64) -> Result<Shown, Error> {
    let (side, [w, h]) = (net.config.side, p.size);
    let token = usize::from(p.organ.get()) - 1;
    let mut first = Vec::new();
    let item: Item = of_picture(net, p, config, place, &mut |dense| {
        if let Some(logits) = dense.get(token) {
            first.clone_from(logits);
        }
    })?;
    let mut again = PromptRow { organ: Some(token), ..PromptRow::default() };
    again.set_first_mask(&item.reference, side);
    let bounds = item.truth.as_ref().and_then(|t| volseg_geometry::PixelBox::of_mask(t, side));
    let boxed = PromptRow { bounds: bounds.map(|b| [b.x0, b.y0, b.x1, b.y1]), ..PromptRow::default() };
    let features = item.features.as_ref().ok_or_else(|| Error::Data("a picture was not read".into()))?;
    let logits = net.decoder.forward(features, &[again, boxed])?.logits.to_vec2::<f32>()?;
    let full = |z: &[f32]| resize_bilinear(z, side, side, w, h);
    let [again, boxed] = [0, 1].map(|n| logits.get(n).map_or_else(Vec::new, |z| full(z)));
    Ok(Shown { first: full(&first), asked: full(&item.reference), again, boxed })
}

fn logit(p: f32) -> f32 {
    (p / (1.0 - p)).ln()
}

/// The threshold with the best Dice, which is given for a logit; 0.5 unless another is better.
pub(super) fn best_threshold(dice: impl Fn(f32) -> f64) -> f32 {
    let (mut threshold, mut best) = (0.5, dice(0.0));
    for t in TRIED {
        let d = dice(logit(t));
        if d > best {
            (threshold, best) = (t, d);
        }
    }
    threshold
}

/// The model of a file on the test part, with its threshold chosen on the validation part.
pub(super) fn score(
    model: &Path,
    test: &[(u64, &Picture)],
    validation: &[(u64, &Picture)],
    prompts: Asked,
) -> Result<Scores, Error> {
    let net = read(model)?;
    let config = AlignConfig { prompts, ..AlignConfig::default() };
    let all = |part: &[(u64, &Picture)]| -> Result<Vec<Shown>, Error> {
        part.par_iter().map(|(place, p)| show(&net, p, &config, *place)).collect()
    };
    let (shown, tuning) = (all(test)?, all(validation)?);
    let mean = |shown: &[Shown], part: &[(u64, &Picture)], of: &dyn Fn(&Shown) -> &[f32], edge: f32| {
        let sum = shown.iter().zip(part).fold([0.0; 2], |sum, (s, (_, p))| {
            let mask: Vec<u8> = of(s).iter().map(|&z| u8::from(z > edge)).collect();
            let v = iou(&mask, &p.mask);
            [sum[0] + 2.0 * v / (1.0 + v), sum[1] + v]
        });
        sum.map(|s| s / part.len().max(1) as f64)
    };
    let threshold = best_threshold(|edge| mean(&tuning, validation, &|s| &s.asked, edge)[0]);
    let [dice, iou] = mean(&shown, test, &|s| &s.asked, 0.0);
    Ok(Scores {
        pictures: test.len(),
        dice,
        iou,
        threshold,
        tuned: mean(&shown, test, &|s| &s.asked, logit(threshold))[0],
        first: mean(&shown, test, &|s| &s.first, 0.0)[0],
        again: mean(&shown, test, &|s| &s.again, 0.0)[0],
        boxed: mean(&shown, test, &|s| &s.boxed, 0.0)[0],
        ..Scores::default()
    })
}
