//! Stage 2 as a second stage 1: what the ranks say is best stands in for the mask, and the whole network learns from it.
//!
//! Eqn 5 on the decoder moves the edges of what the first model found. Here the encoder learns from the ranked pictures too, with
//! augmentation and all kinds of prompts, so that ranks can do what labels do.

use super::config::{AlignConfig, Objective};
use super::item::{Item, Judged};
use super::student::{Student, mean_dice, target};
use super::{Alignment, Data, facts, validate};
use crate::pictures::{Part, Picture};
use crate::preference::mask_at_half;
use crate::stage1::{self, fit};
use crate::{Error, Progress, TrainConfig};
use candle_core::Device;
use std::path::Path;
use volseg_geometry::resize_bilinear;
use volseg_model::embedded::Weights;

/// The masks that an annotator likes best, part by part where parts were judged; elsewhere the answer `z` (logits).
pub(super) fn best_parts(z: &[f32], judged: &[Judged]) -> Vec<u8> {
    let mut mask = mask_at_half(z);
    for j in judged {
        match &j.pixels {
            None => mask.clone_from(j.best()),
            Some(part) => part.iter().for_each(|&i| mask[i as usize] = j.best()[i as usize]),
        }
    }
    mask
}

/// Trains the first model on for `config.retrain` steps: a batch is half labelled and half ranked pictures (all labelled with
/// [`Objective::Replay`]). The last averaged weights are kept, as in stage 1.
pub(super) fn retrain(
    config: &AlignConfig,
    weights: &Weights,
    first: &Student,
    mut data: Data,
    out: &Path,
    resume: bool,
    progress: &mut dyn Progress,
) -> Result<Alignment, Error> {
    let facts = facts(config, &data.ranked);
    let before = validate(first, &data)?;
    let taught: &[Item] = if config.objective == Objective::Replay { &[] } else { &data.ranked };
    // Masks of the network's grid, as numbers around 0 like logits.
    let made = taught.iter().map(|item| {
        let mask = target(item, &item.reference, config)?;
        Ok((mask.iter().map(|&v| f32::from(v) - 0.5).collect(), item))
    });
    let made: Vec<(Vec<f32>, &Item)> = made.collect::<Result<_, Error>>()?;
    if let (Some(dice), Some(f)) = (mean_dice(&made, 0.5), &facts) {
        let judged: usize = data.ranked.iter().map(|i| i.judged.len()).sum();
        progress.line(&format!(
            "masks of {} ranked pictures: Dice {dice:.3} (the answer at 0.5: {:.3}), {:.1} judgements a picture",
            made.len(),
            f.dice[2],
            judged as f64 / data.ranked.len().max(1) as f64
        ));
    }
    let side = weights.config.side;
    let ranked: Vec<Picture> = std::mem::take(&mut data.unannotated)
        .into_iter()
        .zip(&made)
        .map(|(p, (mask, _))| {
            let [w, h] = p.size;
            Picture { mask: mask_at_half(&resize_bilinear(mask, side, side, w, h)), part: Part::Train, ..p }
        })
        .collect();
    let of_ranked = if ranked.is_empty() { 0 } else { config.batch.div_ceil(2) };
    let own = config.prompts.reads_text() || config.prompts.takes_box();
    let stage = TrainConfig {
        steps: config.retrain,
        learning_rate: config.rate(),
        seed: config.seed,
        save_every: 100,
        validate_every: config.retrain,
        prompts: own.then_some(config.prompts),
        model: weights.config.clone(),
        ..TrainConfig::default()
    };
    let pictures = vec![(config.batch - of_ranked, std::mem::take(&mut data.labelled)), (of_ranked, ranked)];
    fit(
        &stage,
        config,
        weights.tensors.clone(),
        stage1::Data::of_pictures(pictures),
        out,
        resume,
        &Device::Cpu,
        progress,
    )?;
    let path = out.join("model.safetensors");
    let after = validate(&Student::new(&Weights::read(&path)?, config.train, config.seed)?, &data)?;
    progress.line(&format!(
        "validation Dice {:.4} -> {:.4}; threshold {:.1} would give {:.4}",
        before.at_half, after.at_half, after.tuned.0, after.tuned.1
    ));
    let result = Alignment {
        epochs: 1,
        best_epoch: 1,
        before: before.at_half,
        after: after.at_half,
        tuned: after.tuned,
        candidates: facts,
    };
    result.write(out)?;
    Ok(result)
}
