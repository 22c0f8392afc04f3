//! `volseg train prompt` for SAM-Med2D's network: stage 1 as its authors run it (specs: sam-med2d.md section 7).
//!
//! A batch is one step of encoder, prompt encoder and decoder, then a number of steps of the **decoder alone** on the same
//! embedding: its own mask as a prompt, points on its errors (which replace the earlier ones), no box; in one of these passes
//! and in the last there is the mask only. The mask prompt's network is in no pass that trains it, so it stays as it came.

mod config;
mod prompts;
mod trainer;

pub use config::{EncoderPart, SamPrompts, SamTrainConfig};

use crate::checkpoint::{self, State};
use crate::curves;
use crate::optimizer::AdamW;
use crate::pictures::{Part, Picture, load_pictures};
use crate::split::Parts;
use crate::texts::Texts;
use crate::{Error, Progress, Random};
use candle_core::Var;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;
use trainer::Trainer;
use volseg_model::config::TEXT_PROJECTION;
use volseg_model::picture::{Picture as Rgb, loader_input, loader_label};
use volseg_model::weights::{WeightsFile, save};

/// A picture as the network's loader takes it.
struct Slide {
    input: Vec<f32>,
    label: Vec<u8>,
    /// Feature of its text; empty if texts are left alone.
    text: Vec<f32>,
}

/// Trains by `config`, writing `config.toml`, `split.json`, `metrics.jsonl`, `curves.png`, a checkpoint after every epoch and
/// `model.safetensors` (the best epoch by validation with one box, the first model counting as epoch 0) into `out`.
///
/// # Errors
/// Configurations, weights, data sets or checkpoints that cannot be used; a loss that is no number; a variable without a
/// gradient.
pub fn train_sam_prompt(
    config: &SamTrainConfig,
    out: &Path,
    resume: bool,
    progress: &mut dyn Progress,
) -> Result<(), Error> {
    checkpoint::same_settings(out, resume, config, progress)?;
    let unusable = |source| Error::Weights { file: config.model.clone(), source };
    let file = WeightsFile::open(&config.model).map_err(unusable)?;
    let (arch, mut sizes) = file.sam().map_err(unusable)?;
    let texts =
        config.text.as_deref().map(|source| Texts::open(source, config.answers.as_deref(), true)).transpose()?;
    let before = sizes.text.take();
    sizes.text = texts.as_ref().map(Texts::source).or_else(|| before.clone());
    // A projection of another model's features starts afresh.
    let afresh = |name: &str| name.starts_with(TEXT_PROJECTION) && sizes.text != before;
    let licence = file.metadata().get("licence").cloned().unwrap_or_default();
    let mut start = BTreeMap::new();
    for name in sizes.tensors().keys().filter(|name| !afresh(name)) {
        start.insert(name.clone(), file.read(name).map_err(unusable)?);
    }
    let trainer = Trainer::new(config, sizes, start)?;
    let numbers = |v: &BTreeMap<String, Var>| v.values().map(|v| v.elem_count()).sum::<usize>();
    progress.line(&format!(
        "{} trainable numbers, {} of them in the decoder",
        numbers(&trainer.outer) + numbers(&trainer.decoder),
        numbers(&trainer.decoder)
    ));
    let (train, validation, parts) = load(config, trainer.sizes.image_size, texts.as_ref(), progress)?;
    let _held = parts.leave(out)?;
    let (mut first, mut second) = (AdamW::adam(&trainer.outer)?, AdamW::adam(&trainer.decoder)?);
    let restored = State::restore(out, resume, &mut [(&trainer.outer, &mut first), (&trainer.decoder, &mut second)])?;
    let write = |trainer: &Trainer<'_>| -> Result<(), Error> {
        save(&out.join("model.safetensors"), arch, &trainer.sizes, &licence, &trainer.tensors())?;
        Ok(())
    };
    let mut state = match restored {
        Some(state) => state,
        None => {
            checkpoint::write_settings(out, config)?;
            let before = trainer.validate(&validation)?;
            progress.line(&format!("epoch 0: validation Dice {before:.4}"));
            checkpoint::log_fresh(out, &serde_json::json!({"epoch": 0, "validation": before}))?;
            write(&trainer)?;
            State::begin(before, (0.5, before))
        }
    };
    let (began, first_epoch) = (Instant::now(), state.epoch);
    let steps = train.len().div_ceil(config.batch);
    while state.epoch < config.epochs && !state.patience_is_over(config.patience) {
        let rate = config.learning_rate * 0.5f32.powi((state.epoch / config.halve_every) as i32);
        let mut order: Vec<usize> = (0..train.len()).collect();
        let mut random = Random::at(&[config.seed, state.epoch as u64, 0x0de]);
        for n in (1..order.len()).rev() {
            order.swap(n, random.below(n + 1));
        }
        let mut loss = 0.0;
        for (step, batch) in order.chunks(config.batch).enumerate() {
            let slides: Vec<&Slide> = batch.iter().filter_map(|&n| train.get(n)).collect();
            let mut random = Random::at(&[config.seed, state.epoch as u64, step as u64, 0x5a3]);
            loss += trainer.batch(&slides, rate, &mut first, &mut second, &mut random)?;
        }
        state.epoch += 1;
        loss /= steps.max(1) as f64;
        if !loss.is_finite() {
            return Err(Error::Diverged { step: state.epoch, loss: loss as f32 });
        }
        let score = trainer.validate(&validation)?;
        if state.note(score, (0.5, score)) {
            write(&trainer)?;
        }
        let record = serde_json::json!({"epoch": state.epoch, "loss": loss, "validation": score, "rate": rate});
        checkpoint::log(out, &record)?;
        state.save(out, &[(&trainer.outer, &first), (&trainer.decoder, &second)])?;
        curves::draw(&out.join("curves.png"), &checkpoint::lines(out)?, "epoch")?;
        let left = began.elapsed().as_secs_f64() / (state.epoch - first_epoch) as f64
            * (config.epochs - state.epoch) as f64
            / 60.0;
        progress.line(&format!(
            "epoch {}/{}  loss {loss:.4}  validation Dice {score:.4}  at most {left:.1} min left",
            state.epoch, config.epochs
        ));
    }
    progress.line(&format!("validation Dice {:.4} -> {:.4} (epoch {})", state.before, state.best, state.best_epoch));
    Ok(())
}

fn load(
    config: &SamTrainConfig,
    side: usize,
    texts: Option<&Texts>,
    progress: &mut dyn Progress,
) -> Result<(Vec<Slide>, Vec<Slide>, Parts), Error> {
    let (mut train, mut validation) = (Vec::new(), Vec::new());
    let mut parts = Parts::default();
    for set in &config.pictures {
        let all = load_pictures(set)?;
        parts.add(set, &all);
        for p in &all {
            let text = texts.map_or(Ok(Vec::new()), |t| t.feature(p))?;
            let slide = slide(p, side, text)?;
            // The published code cannot prompt an empty mask either.
            match p.part {
                _ if !slide.label.contains(&1) => {}
                Part::Train => train.push(slide),
                Part::Validation => validation.push(slide),
                _ => {}
            }
        }
    }
    progress.line(&format!("{} pictures to train on, {} to validate", train.len(), validation.len()));
    if train.is_empty() || validation.is_empty() {
        return Err(Error::Data("there must be pictures to train on and to validate".into()));
    }
    Ok((train, validation, parts))
}

fn slide(p: &Picture, side: usize, text: Vec<f32>) -> Result<Slide, Error> {
    let [w, h] = p.size;
    let grey: Vec<u8> = p.grey.iter().map(|v| v.round() as u8).collect();
    let input = loader_input(&Rgb::grey(w, h, &grey)?, side).values;
    Ok(Slide { input, label: loader_label(&p.mask, w, h, side), text })
}
