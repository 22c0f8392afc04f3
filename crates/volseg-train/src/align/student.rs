//! The model that is being aligned, and the gradients that a batch of items gives it.

use super::config::{AlignConfig, CandidateSource, Objective, Trained};
use super::item::{Item, Judged, join, judge};
use super::retrain::best_parts;
use crate::Error;
use crate::preference::{CANDIDATES, Mode, candidates, loss, mask_at_half};
use candle_core::{Device, Tensor, Var};
use std::collections::BTreeMap;
use volseg_model::Params;
use volseg_model::embedded::{Decoder, Encoder, Network, PromptRow, Weights};
use volseg_model::grad_ops::mask_loss;

/// Weight of the mean BCE beside one soft Dice when a mask is imitated, as in stage 1.
const BCE: f32 = 2.0;

/// A network of which some numbers change.
pub(crate) struct Student {
    /// The network; its encoder is constant unless all is trained.
    pub(crate) net: Network,
    /// What changes, by name.
    pub(crate) variables: BTreeMap<String, Var>,
    params: Vec<Params>,
    trained: Trained,
}

/// What a step saw.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) loss: f64,
    pub(crate) margin: f64,
    pub(crate) band: f64,
    /// Judgements with something to learn, and without.
    pub(crate) informative: usize,
    pub(crate) skipped: usize,
}

impl Seen {
    pub(super) fn add(&mut self, o: &Self) {
        self.loss += o.loss;
        self.margin += o.margin;
        self.band += o.band;
        self.informative += o.informative;
        self.skipped += o.skipped;
    }
}

impl Student {
    pub(crate) fn new(weights: &Weights, trained: Trained, seed: u64) -> Result<Self, Error> {
        let config = &weights.config;
        let own = Params::trainable(seed, weights.tensors.clone());
        let (encoder, params) = match trained {
            Trained::All => (Encoder::new(config, &own)?, vec![own]),
            Trained::Decoder => {
                let fixed = Params::given(weights.tensors.clone());
                (Encoder::new(config, &fixed)?, vec![fixed, own])
            }
        };
        let [.., own] = params.as_slice() else { return Err(Error::Config("no parameters".into())) };
        let net = Network { config: config.clone(), encoder, decoder: Decoder::new(config, own)? };
        Ok(Self { net, variables: own.variables(), params, trained })
    }

    /// All numbers as they stand.
    pub(crate) fn weights(&self, steps: usize) -> Weights {
        let mut tensors = BTreeMap::new();
        for p in &self.params {
            tensors.extend(p.tensors());
        }
        // Variables are read through their tensors: an update replaces what a variable holds.
        tensors.extend(self.variables.iter().map(|(n, v)| (n.clone(), v.as_tensor().clone())));
        Weights { config: self.net.config.clone(), tensors, steps }
    }

    /// Logits `[items, side * side]`.
    pub(crate) fn logits(&self, items: &[&Item]) -> Result<Tensor, Error> {
        let side = self.net.config.side;
        let kept = items.iter().map(|i| i.features.as_ref()).collect::<Option<Vec<_>>>();
        let features = match (self.trained, kept) {
            (Trained::Decoder, Some(kept)) => join(&kept)?,
            _ => {
                let x: Vec<f32> = items.iter().flat_map(|i| i.input.iter().copied()).collect();
                let shape = (items.len(), side, side, self.net.config.channels);
                self.net.encoder.forward(&Tensor::from_vec(x, shape, &Device::Cpu)?)?
            }
        };
        let rows: Vec<PromptRow> =
            items.iter().enumerate().map(|(n, i)| PromptRow { image: n, ..i.row.clone() }).collect();
        Ok(self.net.decoder.forward(&features, &rows)?.logits)
    }

    /// Gradients of the objective on a batch, in the order of the variables; `None` if the batch taught nothing.
    pub(crate) fn gradients(
        &self,
        items: &[&Item],
        config: &AlignConfig,
    ) -> Result<(Seen, Option<Vec<Vec<f32>>>), Error> {
        let logits = self.logits(items)?;
        let values = logits.detach().to_vec2::<f32>()?;
        let mut seen = Seen::default();
        let scalar = match config.objective {
            Objective::Replay => return Ok((seen, None)),
            Objective::Preference => {
                let pull = preference_pull(items, &values, config, &mut seen)?;
                if seen.informative == 0 && config.kl_weight == 0.0 {
                    return Ok((seen, None));
                }
                // The closed-form gradient goes into the network through a linear function that has it.
                (&logits * Tensor::from_vec(pull, logits.dims(), &Device::Cpu)?)?.sum_all()?
            }
            Objective::BestPseudo | Objective::Pseudo | Objective::Masks => {
                let mut targets = Vec::with_capacity(items.len());
                for (item, z) in items.iter().zip(&values) {
                    targets.push(target(item, z, config)?);
                }
                let truth: Vec<f32> = targets.iter().flatten().map(|&v| f32::from(v)).collect();
                let dice = targets.iter().map(|t| if t.contains(&1) { 1.0 } else { 0.0 }).collect();
                let truth = Tensor::from_vec(truth, logits.dims(), &Device::Cpu)?;
                let l = mask_loss(&logits, &truth, BCE, dice)?.mean_all()?;
                seen.loss = f64::from(l.to_scalar::<f32>()?);
                seen.informative = items.len();
                l
            }
        };
        let store = scalar.backward()?;
        let gradients = self.variables.iter().map(|(name, var)| match store.get(var) {
            Some(g) => Ok(g.flatten_all()?.to_vec1::<f32>()?),
            // Only the mask's own loss reaches these; the IoU head learns in replay.
            None if name.starts_with("decoder.iou_head") || name.starts_with("encoder.organ") => {
                Ok(vec![0.0; var.elem_count()])
            }
            None => Err(Error::Config(format!("variable {name} receives no gradient"))),
        });
        Ok((seen, Some(gradients.collect::<Result<_, Error>>()?)))
    }
}

/// Judgements of an item at this moment.
fn judgements(item: &Item, z: &[f32], config: &AlignConfig) -> Result<Vec<Judged>, Error> {
    if config.source() != CandidateSource::Policy {
        return Ok(item.judged.clone());
    }
    let truth = item.truth.as_ref().ok_or_else(|| Error::Data("the simulated annotator needs a mask".into()))?;
    Ok(judge(candidates(z, config.thresholds), truth, item.flip, config.tiles))
}

/// d loss / d logits of a batch: the mean over all judgements that have something to teach.
fn preference_pull(
    items: &[&Item],
    values: &[Vec<f32>],
    config: &AlignConfig,
    seen: &mut Seen,
) -> Result<Vec<f32>, Error> {
    let pixels = values.first().map_or(0, Vec::len);
    let mut pull = vec![0f64; pixels * items.len()];
    for ((item, z), pull) in items.iter().zip(values).zip(pull.chunks_exact_mut(pixels.max(1))) {
        for j in judgements(item, z, config)? {
            let weights = j.answer.weights(config.mode, config.beta);
            let p = match &j.pixels {
                None => loss(z, &item.reference, &j.masks, weights, config.reduction)?,
                Some(part) => {
                    let of = |v: &[f32]| part.iter().map(|&i| v[i as usize]).collect::<Vec<_>>();
                    let masks: [Vec<u8>; CANDIDATES] =
                        std::array::from_fn(|k| part.iter().map(|&i| j.masks[k][i as usize]).collect());
                    loss(&of(z), &of(&item.reference), &masks, weights, config.reduction)?
                }
            };
            if !p.informative {
                seen.skipped += 1;
                continue;
            }
            seen.informative += 1;
            seen.loss += p.loss;
            seen.margin += p.margin;
            seen.band += p.band as f64;
            match &j.pixels {
                None => pull.iter_mut().zip(&p.gradient).for_each(|(d, g)| *d += g),
                Some(part) => part.iter().zip(&p.gradient).for_each(|(&i, g)| pull[i as usize] += g),
            }
        }
    }
    let n = seen.informative.max(1) as f64;
    let scale = config.kl_weight / (pixels.max(1) * items.len().max(1)) as f64;
    let mut out: Vec<f32> = Vec::with_capacity(pull.len());
    for ((item, z), pull) in items.iter().zip(values).zip(pull.chunks_exact(pixels.max(1))) {
        for ((&z, &r), g) in z.iter().zip(&item.reference).zip(pull) {
            // Bernoulli KL(policy || reference) has the derivative p (1 - p) (z - z_ref).
            let p = 1.0 / (1.0 + (-f64::from(z)).exp());
            out.push((g / n + scale * p * (1.0 - p) * f64::from(z - r)) as f32);
        }
    }
    Ok(out)
}

/// The mask that a pseudo-label objective imitates.
pub(super) fn target(item: &Item, z: &[f32], config: &AlignConfig) -> Result<Vec<u8>, Error> {
    let truth = || item.truth.clone().ok_or_else(|| Error::Data("this objective needs masks".into()));
    match config.objective {
        Objective::Masks => truth(),
        Objective::Pseudo => Ok(mask_at_half(z)),
        _ => Ok(best_parts(z, &judgements(item, z, &AlignConfig { tiles: 1, ..config.clone() })?)),
    }
}

/// Dice in points and other facts about a set of answers.
pub(crate) fn mean_dice(all: &[(Vec<f32>, &Item)], threshold: f64) -> Option<f64> {
    let edge = (threshold / (1.0 - threshold)).ln();
    let scores: Vec<f64> = all
        .iter()
        .filter_map(|(z, item)| {
            let truth = item.truth.as_ref()?;
            let (mut both, mut sum) = (0u32, 0u32);
            for (&z, &t) in z.iter().zip(truth) {
                let (a, b) = (u32::from(f64::from(z) > edge), u32::from(t));
                both += a * b;
                sum += a + b;
            }
            Some(if sum == 0 { 1.0 } else { 2.0 * f64::from(both) / f64::from(sum) })
        })
        .collect();
    (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64)
}

/// Whether most answers rate all four masks alike: then [`Mode::Rating`] only makes the model surer of itself.
pub(crate) fn mostly_equal_ratings(items: &[Item], config: &AlignConfig) -> bool {
    if config.mode != Mode::Rating {
        return false;
    }
    let equal = items.iter().filter(|item| {
        let judged = match &item.truth {
            Some(truth) => judge(candidates(&item.reference, config.thresholds), truth, None, 1),
            None => item.judged.clone(),
        };
        judged.iter().all(|j| j.answer.ratings.iter().all(|r| *r == j.answer.ratings[0]))
    });
    equal.count() * 5 > items.len() * 4
}
