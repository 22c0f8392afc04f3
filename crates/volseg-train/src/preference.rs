//! Eqn 5 of the paper: preferences between candidate masks as a loss on mask logits (specs: dpo.md sections 1 to 4, 6).
//!
//! The loss takes **ranks**, never a true mask, so that a person's order can stand where the simulated one does. It knows no
//! tensors: it returns its value and its gradient in closed form, which a caller sends into the network as the gradient of
//! `sum(logits * gradient)`.

use crate::Error;
use serde::{Deserialize, Serialize};

/// Candidate masks of one judgement.
pub const CANDIDATES: usize = 4;

/// How an annotator's answer weighs the candidates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Order, best first: `+b1, +b2, -b2, -b1`; tied candidates share the mean of the positions they cover.
    #[default]
    Ranking,
    /// Rating 4, 3, 2, 1: `+b1, +b2, -b2, -b1`. The weights need not add up to 0.
    Rating,
    /// `b1` for the best candidate, 0 for the others.
    Best,
}

/// What the summed log likelihood ratio is divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// 1: the literal loss, which saturates after a step or two.
    Sum,
    /// Number of pixels: never saturates.
    Mean,
    /// Pixels on which the candidates differ, at least 1: independent of the size of the picture.
    #[default]
    BandMean,
}

/// An annotator's answer about the candidates, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// 1 is best; ties are allowed.
    pub ranks: [u8; CANDIDATES],
    /// 1 to 4, 4 is best; only needed in [`Mode::Rating`].
    pub ratings: [u8; CANDIDATES],
    /// An error of the annotator: `r` exchanges ranks r and r + 1, or in [`Mode::Rating`] the values r and r + 1.
    pub flip: Option<u8>,
}

impl Answer {
    /// An answer from ranks alone; ratings follow the ranks.
    ///
    /// # Errors
    /// [`Error::Data`] for ranks outside 1 to 4 or without a first place.
    pub fn from_ranks(ranks: [u8; CANDIDATES]) -> Result<Self, Error> {
        if ranks.iter().any(|r| !(1..=CANDIDATES as u8).contains(r)) || !ranks.contains(&1) {
            return Err(Error::Data(format!("ranks {ranks:?}: expected 1 to {CANDIDATES} with 1 for the best")));
        }
        Ok(Self { ranks, ratings: ranks.map(|r| CANDIDATES as u8 + 1 - r), flip: None })
    }

    /// The simulated annotator: ranks and ratings of candidates from their IoU with the truth. Equal values tie.
    #[must_use]
    pub fn from_iou(iou: [f64; CANDIDATES], flip: Option<u8>) -> Self {
        let rank = |v: f64| 1 + iou.iter().filter(|&&o| o > v).count() as u8;
        Self { ranks: iou.map(rank), ratings: iou.map(rating), flip }
    }

    /// Candidate numbers, best first, ties in candidate order; after the flip.
    #[must_use]
    pub fn order(&self) -> [usize; CANDIDATES] {
        let mut order = std::array::from_fn(|i| i);
        order.sort_by_key(|&i: &usize| self.ranks.get(i));
        if let Some(r) = self.flip.map(usize::from).filter(|r| (1..CANDIDATES).contains(r)) {
            order.swap(r - 1, r);
        }
        order
    }

    /// Ratings after the flip.
    #[must_use]
    pub fn flipped_ratings(&self) -> [u8; CANDIDATES] {
        let Some(r) = self.flip else { return self.ratings };
        self.ratings.map(|v| {
            if v == r {
                r + 1
            } else if v == r + 1 {
                r
            } else {
                v
            }
        })
    }

    /// Weight of every candidate, in candidate order. `beta` is `[b1, b2]` of Eqn 5.
    #[must_use]
    pub fn weights(&self, mode: Mode, beta: [f64; 2]) -> [f64; CANDIDATES] {
        let place = [beta[0], beta[1], -beta[1], -beta[0]];
        match mode {
            Mode::Ranking => {
                // A tie covers as many places as it has candidates, from the number of better ones on.
                let mut weights = self.ranks.map(|r| {
                    let better = self.ranks.iter().filter(|&&o| o < r).count();
                    let tied = self.ranks.iter().filter(|&&o| o == r).count();
                    place.iter().skip(better).take(tied).sum::<f64>() / tied as f64
                });
                let order = Self { flip: None, ..self.clone() }.order();
                if let Some(r) = self.flip.map(usize::from).filter(|r| (1..CANDIDATES).contains(r)) {
                    weights.swap(order[r - 1], order[r]);
                }
                weights
            }
            Mode::Rating => self.flipped_ratings().map(|v| {
                let place = place.get(CANDIDATES - usize::from(v.clamp(1, 4)));
                place.copied().unwrap_or_default()
            }),
            Mode::Best => {
                let best = Self { flip: None, ..self.clone() }.order()[0];
                std::array::from_fn(|i| if i == best { beta[0] } else { 0.0 })
            }
        }
    }
}

/// Rating of an IoU: `1 + [v >= 0.4] + [v >= 0.55] + [v > 0.7]` (paper, section 3.2; which side an edge falls on is ours).
#[must_use]
pub fn rating(iou: f64) -> u8 {
    1 + u8::from(iou >= 0.4) + u8::from(iou >= 0.55) + u8::from(iou > 0.7)
}

/// IoU of two binary masks; 1 if both are empty.
#[must_use]
pub fn iou(mask: &[u8], truth: &[u8]) -> f64 {
    let (mut both, mut any) = (0u32, 0u32);
    for (&m, &t) in mask.iter().zip(truth) {
        both += u32::from(m != 0 && t != 0);
        any += u32::from(m != 0 || t != 0);
    }
    if any == 0 { 1.0 } else { f64::from(both) / f64::from(any) }
}

/// The mask at 0.5 of logits.
pub(crate) fn mask_at_half(logits: &[f32]) -> Vec<u8> {
    logits.iter().map(|&z| u8::from(z > 0.0)).collect()
}

/// Candidate masks from logits: `sigmoid(z) > t`, compared in logits so that nothing is rounded. Nested if `thresholds` ascend.
#[must_use]
pub fn candidates(logits: &[f32], thresholds: [f32; CANDIDATES]) -> [Vec<u8>; CANDIDATES] {
    thresholds.map(|t| {
        let t = f64::from(t);
        let edge = (t / (1.0 - t)).ln();
        logits.iter().map(|&z| u8::from(f64::from(z) > edge)).collect()
    })
}

/// Loss and gradient of one judgement.
#[derive(Clone, Debug, PartialEq)]
pub struct Preference {
    /// Weighted sum of the log likelihood ratios, divided by Z.
    pub margin: f64,
    /// `softplus(-margin)`; ln 2 at the reference.
    pub loss: f64,
    /// d loss / d logits.
    pub gradient: Vec<f64>,
    /// Pixels on which the candidates differ.
    pub band: usize,
    /// Whether there was anything to learn: not if all masks are equal or all weights 0. Such a sample is not counted.
    pub informative: bool,
}

/// The loss of one sample, or of one tile of it. All slices have one number a pixel; pixels that do not count are left out
/// by the caller.
///
/// # Errors
/// [`Error::Data`] if their lengths differ.
///
/// ```
/// use volseg_train::preference::{Answer, Mode, Reduction, candidates, loss};
/// let z = [0.2, -0.2, -0.6, 2.0];
/// let masks = candidates(&z, [0.3, 0.4, 0.5, 0.6]);
/// let weights = Answer::from_ranks([3, 2, 1, 3]).unwrap().weights(Mode::Ranking, [1.0, 0.5]);
/// let at_the_reference = loss(&z, &z, &masks, weights, Reduction::BandMean).unwrap();
/// assert_eq!(at_the_reference.loss, std::f64::consts::LN_2);
/// ```
pub fn loss(
    logits: &[f32],
    reference: &[f32],
    masks: &[Vec<u8>; CANDIDATES],
    weights: [f64; CANDIDATES],
    reduction: Reduction,
) -> Result<Preference, Error> {
    let [a, b, c, d] = masks;
    let pixels = logits.len();
    if reference.len() != pixels || masks.iter().any(|m| m.len() != pixels) {
        let lengths: Vec<usize> = masks.iter().map(Vec::len).collect();
        return Err(Error::Data(format!(
            "{pixels} logits, {} of the reference, masks of {lengths:?}",
            reference.len()
        )));
    }
    let band = (0..pixels).filter(|&i| b[i] != a[i] || c[i] != a[i] || d[i] != a[i]).count();
    let z = match reduction {
        Reduction::Sum => 1.0,
        Reduction::Mean => pixels as f64,
        Reduction::BandMean => band.max(1) as f64,
    };
    // Where the weights add up to 0 the softplus terms of the likelihoods cancel, and only the band counts.
    let sum = weights.iter().sum::<f64>();
    let sum = if sum.abs() < 1e-12 { 0.0 } else { sum };
    let weight = |i: usize| weights.iter().zip(masks).map(|(w, m)| if m[i] != 0 { *w } else { 0.0 }).sum::<f64>();
    let mut margin = 0.0;
    for (i, (&l, &r)) in logits.iter().zip(reference).enumerate() {
        let (l, r) = (f64::from(l), f64::from(r));
        margin += weight(i) * (l - r);
        if sum != 0.0 {
            margin -= sum * (softplus(l) - softplus(r));
        }
    }
    margin /= z;
    let slope = -sigmoid(-margin) / z;
    let gradient = logits
        .iter()
        .enumerate()
        .map(|(i, &l)| slope * (weight(i) - if sum == 0.0 { 0.0 } else { sum * sigmoid(f64::from(l)) }))
        .collect();
    let informative = band > 0 && weights.iter().any(|&w| w != 0.0);
    Ok(Preference { margin, loss: softplus(-margin), gradient, band, informative })
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}
