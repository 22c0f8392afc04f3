use super::gradient::combine;
use super::{Activations, Cam, FeatureCache, Layer, Saliency, activations};
use crate::Error;
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use volseg_model::clip::ClipModel;

/// Masked pictures that go through the network together.
const BATCH: usize = 16;

/// Over which channels the softmax of the scores is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SoftmaxOver {
    /// All channels, those that were not scored with a score of 0, as published.
    #[default]
    All,
    /// The scored channels alone.
    Selected,
}

/// gScoreCAM: the channels of greatest gradient are weighted by how well the picture, seen through each as a mask, fits the
/// text. Masks do not depend on the text, so that all texts share the masked pictures.
#[derive(Clone, Debug)]
pub struct GScoreCam {
    /// Whose activations.
    pub layer: Layer,
    /// Channels that are scored for each text (published: 300).
    pub top_k: usize,
    /// Where the softmax runs.
    pub softmax_over: SoftmaxOver,
    /// Where features of masked pictures are kept.
    pub cache: FeatureCache,
}

/// Of 768 channels; models with fewer say in their file what suits them.
const PUBLISHED_TOP_K: usize = 300;

/// What a model's file says of gscorecam.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Stated {
    top_k: Option<usize>,
    softmax_over: Option<SoftmaxOver>,
}

impl GScoreCam {
    /// As the model's file says, or as published.
    ///
    /// # Errors
    /// Metadata `saliency` that cannot be read.
    pub fn of(model: &ClipModel, cache: FeatureCache) -> Result<Self, Error> {
        let stated: Stated = model.stated("saliency")?.unwrap_or_default();
        Ok(Self {
            layer: Layer::default(),
            top_k: stated.top_k.filter(|&k| k > 0).unwrap_or(PUBLISHED_TOP_K),
            softmax_over: stated.softmax_over.unwrap_or_default(),
            cache,
        })
    }

    /// Channels by importance, the largest first, ties to the lower number.
    #[must_use]
    pub fn ranked(&self, importance: &[f32]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..importance.len()).collect();
        order.sort_by(|&a, &b| importance[b].total_cmp(&importance[a]).then(a.cmp(&b)));
        order.truncate(self.top_k.max(1));
        order
    }

    /// Weights of all channels from the scores of some.
    #[must_use]
    pub fn weights(&self, channels: usize, selected: &[usize], scores: &[f32]) -> Vec<f32> {
        let rest = if self.softmax_over == SoftmaxOver::All { 0.0 } else { f32::NEG_INFINITY };
        let mut all = vec![rest; channels];
        for (&c, &s) in selected.iter().zip(scores) {
            all[c] = if s.is_nan() { 0.0 } else { s };
        }
        let high = all.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        all.iter_mut().for_each(|v| *v = (*v - high).exp());
        let sum: f32 = all.iter().sum();
        all.iter_mut().for_each(|v| *v /= sum);
        all
    }

    /// Features of the picture behind the masks of `channels`, in their order: `[channels][embed]`, of unit length.
    ///
    /// # Errors
    /// Whatever the network meets. A cache that cannot be read or written is passed over.
    pub fn masked_features(
        &self,
        model: &ClipModel,
        image: &[f32],
        a: &Activations,
        channels: &[usize],
    ) -> Result<Vec<Vec<f32>>, Error> {
        let side = model.config.image_size;
        let mut known = self.cache.load(image, self.layer, a.channels, model.config.embed_dim);
        let missing: Vec<usize> = channels.iter().copied().filter(|&c| known[c].is_none()).collect();
        let fresh: Vec<Result<Vec<Vec<f32>>, Error>> = missing
            .par_chunks(BATCH)
            .map(|part| {
                let mut batch = Vec::with_capacity(part.len() * image.len());
                for mask in masks(a, part, side) {
                    for channel in image.chunks_exact(side * side) {
                        batch.extend(channel.iter().zip(&mask).map(|(x, m)| x * m));
                    }
                }
                let x = Tensor::from_vec(batch, (part.len(), 3, side, side), &Device::Cpu)?;
                Ok(model.encode_images(&x)?)
            })
            .collect();
        let mut at = missing.iter();
        for batch in fresh {
            for (feature, &c) in batch?.into_iter().zip(&mut at) {
                known[c] = Some(feature);
            }
        }
        if !missing.is_empty() {
            self.cache.store(image, self.layer, model.config.embed_dim, &known);
        }
        Ok(channels.iter().filter_map(|&c| known[c].clone()).collect())
    }
}

impl Saliency for GScoreCam {
    fn maps(&self, model: &ClipModel, image: &[f32], texts: &[Vec<f32>]) -> Result<Vec<Cam>, Error> {
        let a = activations(model, image, texts, self.layer)?;
        let selected: Vec<Vec<usize>> = a.importance.iter().map(|i| self.ranked(i)).collect();
        let mut union: Vec<usize> = selected.iter().flatten().copied().collect();
        union.sort_unstable();
        union.dedup();
        let features = self.masked_features(model, image, &a, &union)?;
        let mut maps = Vec::with_capacity(texts.len());
        for ((text, chosen), score) in texts.iter().zip(&selected).zip(&a.scores) {
            let of = |c: &usize| {
                let f = union.binary_search(c).ok().and_then(|n| features.get(n));
                f.map_or(0.0, |f| model.scale * f.iter().zip(text).map(|(x, y)| x * y).sum::<f32>())
            };
            let scores: Vec<f32> = chosen.iter().map(of).collect();
            let weights = self.weights(a.channels, chosen, &scores);
            maps.push(Cam::new(combine(&a, &weights), a.grid, *score));
        }
        Ok(maps)
    }
}

/// The activations of channels as masks of `side * side` pixels in 0..1 (corners aligned).
#[must_use]
pub fn masks(a: &Activations, channels: &[usize], side: usize) -> Vec<Vec<f32>> {
    let g = a.grid;
    // Corner pixels lie on corner patches.
    let taps: Vec<(usize, usize, f32)> = (0..side)
        .map(|i| {
            let s = if side > 1 { i as f32 * (g - 1) as f32 / (side - 1) as f32 } else { 0.0 };
            let first = (s as usize).min(g - 1);
            (first, (first + 1).min(g - 1), s - first as f32)
        })
        .collect();
    let mask = |c: &usize| {
        let map = &a.maps[c * g * g..(c + 1) * g * g];
        let mut out = Vec::with_capacity(side * side);
        for &(y0, y1, v) in &taps {
            for &(x0, x1, u) in &taps {
                let row = |y: usize| map[y * g + x0] * (1.0 - u) + map[y * g + x1] * u;
                out.push(row(y0) * (1.0 - v) + row(y1) * v);
            }
        }
        let low = out.iter().copied().fold(f32::INFINITY, f32::min);
        let high = out.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        out.iter_mut().for_each(|m| *m = (*m - low) / (high - low + 1e-6));
        out
    };
    channels.iter().map(mask).collect()
}
