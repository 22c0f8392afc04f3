//! `volseg train align`: stage 2, learning from rankings of candidate masks (specs: dpo.md, alignment-findings.md).
//!
//! Slices are read once by the first model's encoder; then the mask decoder learns from an annotator's order of four masks of
//! images without labels, beside a few labelled images (replay). Every epoch is validated on labelled images, the first model
//! counting as epoch 0, and the best is kept: the result is never worse there than what came in.

mod config;
mod item;
mod measure;
mod people;
mod places;
mod retrain;
mod search;
mod student;

pub use config::{AlignConfig, Asked, CandidateSource, Objective, Trained};
pub(crate) use item::{Item, of_picture, of_slice};
pub(crate) use measure::measure;

use crate::asked::attach_texts;
use crate::checkpoint::{self, State};
use crate::cts::Cts;
use crate::curves;
use crate::optimizer::AdamW;
use crate::pictures::{Part, Picture, load_pictures};
use crate::preference::candidates;
use crate::sample::Sample;
use crate::split::Parts;
use crate::stage1::{draw_ct, read_weights};
use crate::step;
use crate::volumes::CtVolume;
use crate::{Error, Progress, Random};
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use serde::Serialize;
use std::path::Path;
use std::time::Instant;
use student::{Seen, Student, mean_dice, mostly_equal_ratings};
use volseg_model::embedded::{Network, SHIPPED, SHIPPED_CT, Weights};

/// Thresholds that are tried on the validation part.
const TRIED: [f64; 9] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
/// Slices decoded at once when nothing is learned.
const CHUNK: usize = 4;
/// What the encoder made of the slices of CTs is kept up to this many bytes; of more slices, each is read anew at every step.
const KEPT_BYTES: usize = 1 << 30;
/// Prompt rows of a replayed slice of a CT, and of a picture.
const REPLAY_ROWS: [usize; 2] = [4, 2];

/// What came of an alignment.
#[derive(Clone, Debug, Serialize)]
pub struct Alignment {
    /// Epochs that were run.
    pub epochs: usize,
    /// The kept epoch; 0 is the first model.
    pub best_epoch: usize,
    /// Mean Dice of the first model on the validation part, at 0.5.
    pub before: f64,
    /// Of the kept model.
    pub after: f64,
    /// The threshold with the best Dice on the validation part, for the kept model, and that Dice.
    pub tuned: (f64, f64),
    /// Mean Dice of the first model's candidates (at the thresholds) and of the best of them, on the images without labels; `None`
    /// for people's.
    pub candidates: Option<CandidateFacts>,
}

/// What thresholds can teach: these numbers foretell the outcome.
#[derive(Clone, Debug, Serialize)]
pub struct CandidateFacts {
    /// Mean Dice at each threshold.
    pub dice: [f64; 4],
    /// Mean Dice of the best candidate of each image.
    pub best_of_four: f64,
    /// Mean difference of the best and the worst candidate's Dice.
    pub spread: f64,
    /// Mean number of pixels on which the candidates differ.
    pub band: f64,
    /// Share of the wrong pixels (at 0.5) that lie in the band.
    pub wrong_in_band: f64,
}

/// Aligns by `config`, writing `config.toml`, `split.json`, `metrics.jsonl`, `curves.png`, a checkpoint after every epoch, and
/// `model.safetensors` (the best epoch's weights, for `volseg segment --model`) into `out`. With `resume` it goes on from the
/// last checkpoint and ends with the same weights as an unbroken run.
///
/// # Errors
/// Configurations, data sets, judgements or checkpoints that cannot be used; a loss that is no number.
pub fn train_align(
    config: &AlignConfig,
    out: &Path,
    resume: bool,
    progress: &mut dyn Progress,
) -> Result<Alignment, Error> {
    config.check()?;
    checkpoint::same_settings(out, resume, config, progress)?;
    let weights = match &config.model {
        Some(path) => read_weights(path)?,
        None if config.cts.is_some() => Weights::from_bytes(SHIPPED_CT)?,
        None => Weights::from_bytes(SHIPPED)?,
    };
    let first = Network::new(&weights.config, &volseg_model::Params::given(weights.tensors.clone()))?;
    let (data, parts) = load(config, &first, progress)?;
    let _held = parts.leave(out)?;
    let student = Student::new(&weights, config.train, config.seed)?;
    if config.retrain > 0 {
        return retrain::retrain(config, &weights, &student, data, out, resume, progress);
    }
    let numbers: usize = student.variables.values().map(|v| v.elem_count()).sum();
    progress.line(&format!(
        "{numbers} trainable numbers; rate {:.1e}, {} labelled beside {} ranked a step",
        config.rate(),
        config.labelled(),
        config.batch
    ));
    warn(config, &data, progress);
    let facts = facts(config, &data.ranked);
    if let Some(f) = &facts {
        progress.line(&format!(
            "candidates: Dice {:.3} {:.3} {:.3} {:.3}, best of four {:.3}, spread {:.3}; they differ on {:.0} pixels, where {:.0} % of the errors lie",
            f.dice[0], f.dice[1], f.dice[2], f.dice[3], f.best_of_four, f.spread, f.band, 100.0 * f.wrong_in_band
        ));
    }
    let mut adam = AdamW::adam(&student.variables)?;
    let mut state = match State::restore(out, resume, &mut [(&student.variables, &mut adam)])? {
        Some(state) => {
            progress.line(&format!("going on after epoch {}", state.epoch));
            state
        }
        None => {
            checkpoint::write_settings(out, config)?;
            let before = validate(&student, &data)?;
            progress.line(&format!(
                "epoch 0: validation Dice {:.4} (at {:.1}: {:.4})",
                before.at_half, before.tuned.0, before.tuned.1
            ));
            let state = State::begin(before.at_half, before.tuned);
            checkpoint::log_fresh(
                out,
                &serde_json::json!({"epoch": 0, "validation": before.at_half,
                "tuned_threshold": before.tuned.0, "tuned": before.tuned.1}),
            )?;
            student.weights(weights.steps).write(&out.join("model.safetensors"))?;
            state.save(out, &[(&student.variables, &adam)])?;
            state
        }
    };
    let began = Instant::now();
    let first_epoch = state.epoch;
    let steps = data.ranked.len().div_ceil(config.batch).max(1);
    while state.epoch < config.epochs && !state.patience_is_over(config.patience) {
        let epoch = state.epoch;
        let rate = config.rate() * 0.5f32.powi((epoch / config.halve_every) as i32);
        let mut order: Vec<usize> = (0..data.ranked.len()).collect();
        let mut random = Random::at(&[config.seed, epoch as u64, 0x0de]);
        for n in (1..order.len()).rev() {
            order.swap(n, random.below(n + 1));
        }
        let mut total = Seen::default();
        for step in 0..steps {
            let batch: Vec<&Item> =
                order.iter().skip(step * config.batch).take(config.batch).filter_map(|&n| data.ranked.get(n)).collect();
            let (seen, gradients) = one_step(config, &student, &data, &batch, (epoch * steps + step) as u64)?;
            total.add(&seen);
            if let Some(gradients) = gradients {
                adam.update(&student.variables, &gradients, rate, 0.0, 0.0)?;
            }
        }
        state.epoch += 1;
        let score = validate(&student, &data)?;
        let better = state.note(score.at_half, score.tuned);
        if better {
            student.weights(weights.steps + adam.step).write(&out.join("model.safetensors"))?;
        }
        let n = total.informative.max(1) as f64;
        let record = serde_json::json!({"epoch": state.epoch, "loss": total.loss / n, "margin": total.margin / n,
            "band": total.band / n, "skipped": total.skipped as f64 / (total.skipped + total.informative).max(1) as f64,
            "validation": score.at_half, "tuned_threshold": score.tuned.0, "tuned": score.tuned.1, "rate": rate});
        checkpoint::log(out, &record)?;
        state.save(out, &[(&student.variables, &adam)])?;
        curves::draw(&out.join("curves.png"), &checkpoint::lines(out)?, "epoch")?;
        let left =
            began.elapsed().as_secs_f64() / (state.epoch - first_epoch) as f64 * (config.epochs - state.epoch) as f64;
        progress.line(&format!(
            "epoch {}/{}  loss {:.4}  margin {:+.4}  skipped {:.0} %  validation Dice {:.4}{}  at most {:.1} min left",
            state.epoch,
            config.epochs,
            total.loss / n,
            total.margin / n,
            100.0 * total.skipped as f64 / (total.skipped + total.informative).max(1) as f64,
            score.at_half,
            if better { " (best)" } else { "" },
            left / 60.0
        ));
    }
    if state.epoch < config.epochs {
        progress.line(&format!("stopped: no better validation in {} epochs", config.patience));
    }
    let result = Alignment {
        epochs: state.epoch,
        best_epoch: state.best_epoch,
        before: state.before,
        after: state.best,
        tuned: state.tuned,
        candidates: facts,
    };
    progress.line(&format!(
        "validation Dice {:.4} -> {:.4} (epoch {}); threshold {:.1} would give {:.4}",
        result.before, result.after, result.best_epoch, result.tuned.0, result.tuned.1
    ));
    result.write(out)?;
    Ok(result)
}

impl Alignment {
    fn write(&self, out: &Path) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::Data(e.to_string()))?;
        std::fs::write(out.join("summary.json"), text)
            .map_err(|source| Error::Io { what: format!("write summary.json in {}", out.display()), source })
    }
}

struct Data {
    labelled: Vec<Picture>,
    /// The ranked pictures, in the order of their items.
    unannotated: Vec<Picture>,
    /// Labelled CTs.
    volumes: Vec<CtVolume>,
    validation: Vec<Item>,
    ranked: Vec<Item>,
}

fn load(config: &AlignConfig, first: &Network, progress: &mut dyn Progress) -> Result<(Data, Parts), Error> {
    let mut all: Vec<(u64, Picture)> = Vec::new();
    let mut parts = Parts::default();
    for set in &config.pictures {
        let mut pictures = load_pictures(set)?;
        if config.prompts.reads_text() {
            attach_texts(&mut pictures, set)?;
        }
        parts.add(set, &pictures);
        let place = all.len() as u64;
        all.extend((place..).zip(pictures));
    }
    let cts = config.cts.as_ref().map(Cts::find).transpose()?;
    if let Some(cts) = &cts {
        parts.add_cts(cts);
    }
    let items = |part: Part| -> Result<Vec<Item>, Error> {
        let of = all.par_iter().filter(|(_, p)| p.part == part && (part != Part::Validation || p.mask.contains(&1)));
        of.map(|(place, p)| of_picture(first, p, config, *place, &mut |_| ())).collect()
    };
    let mut validation = items(Part::Validation)?;
    let (mut labelled, mut unannotated) = (Vec::new(), Vec::new());
    let mut ranked = match &config.preferences {
        Some(file) => {
            let judged = people::load(config, file, first, progress)?;
            // A training of the whole network takes pictures alone.
            let (items, pictures): (Vec<Item>, Vec<Option<Picture>>) =
                judged.into_iter().filter(|(_, p)| p.is_some() || config.retrain == 0).unzip();
            unannotated.extend(pictures.into_iter().flatten());
            items
        }
        None => items(Part::Unannotated)?,
    };
    let mut volumes = Vec::new();
    if let (Some(set), Some(cts)) = (&config.cts, &cts) {
        validation.extend(of_cts(first, cts, Part::Validation, set.slices, config)?);
        if config.preferences.is_none() {
            ranked.extend(of_cts(first, cts, Part::Unannotated, set.slices, config)?);
        }
        volumes = cts.load(Part::Train)?;
    }
    if config.source() != CandidateSource::Policy && config.preferences.is_none() {
        ranked.par_iter_mut().try_for_each(|item| -> Result<(), Error> {
            let Some(truth) = &item.truth else { return Ok(()) };
            item.judged = match config.source() {
                CandidateSource::Places => places::judge_places(first, item, truth, config.tiles)?,
                _ => item::judge(candidates(&item.reference, config.thresholds), truth, item.flip, config.tiles),
            };
            Ok(())
        })?;
    }
    for (_, p) in all {
        match p.part {
            Part::Train => labelled.push(p),
            Part::Unannotated if config.preferences.is_none() => unannotated.push(p),
            _ => {}
        }
    }
    progress.line(&format!(
        "{} labelled {}, {} images to validate, {} ranked",
        labelled.len() + volumes.len(),
        if volumes.is_empty() { "pictures" } else { "CTs" },
        validation.len(),
        ranked.len()
    ));
    for (what, n) in [("pictures to validate", validation.len()), ("ranked pictures", ranked.len())] {
        if n == 0 {
            return Err(Error::Data(format!(
                "there are no {what}: see `split`, `labelled` and `unannotated` of [[pictures]] or [cts], and whether the masks are empty"
            )));
        }
    }
    if labelled.is_empty() && volumes.is_empty() && config.labelled() > 0 {
        return Err(Error::Data("there are no labelled pictures to replay".into()));
    }
    if config.retrain > 0 && unannotated.iter().any(|p| p.ct.is_some()) {
        return Err(Error::Data(
            "retrain is for pictures: a slice of a CT would be learned with its own labels".into(),
        ));
    }
    Ok((Data { labelled, unannotated, volumes, validation, ranked }, parts))
}

/// Organs on slices of the cases of a part, at most `slices` of each organ and case. Cases are read one after the other.
pub(crate) fn of_cts(
    first: &Network,
    cts: &Cts,
    part: Part,
    slices: usize,
    config: &AlignConfig,
) -> Result<Vec<Item>, Error> {
    let mut all: Vec<Item> = Vec::new();
    let mut kept = 0;
    for (n, case) in cts.of(part).enumerate() {
        let volume = cts.volume(case)?;
        let asked: Vec<(usize, u8)> =
            cts.organs.iter().flat_map(|o| volume.showing(o.get(), slices).into_iter().map(|s| (s, o.get()))).collect();
        let place = |k: usize| ((n as u64) << 32) | k as u64;
        let items = asked.par_iter().enumerate().map(|(k, &a)| of_slice(first, &volume, a, config, place(k)));
        for mut item in items.collect::<Result<Vec<_>, Error>>()? {
            kept += item.features.as_ref().map_or(0, item::bytes);
            if kept > KEPT_BYTES {
                item.features = None;
            }
            all.push(item);
        }
    }
    Ok(all)
}

fn warn(config: &AlignConfig, data: &Data, progress: &mut dyn Progress) {
    if config.rate() > 1e-4 && config.replay == 0.0 {
        progress.line("warning: a rate above 1e-4 without replay overshoots");
    }
    if mostly_equal_ratings(&data.ranked, config) {
        progress
            .line("warning: on more than 80 % of the images all candidates are rated alike; use mode = \"ranking\"");
    }
}

/// Objective and replay, each in its own thread with its own mean, added up.
fn one_step(
    config: &AlignConfig,
    student: &Student,
    data: &Data,
    batch: &[&Item],
    step: u64,
) -> Result<(Seen, Option<Vec<Vec<f32>>>), Error> {
    let (seen, replayed) = std::thread::scope(|scope| {
        let replay = scope.spawn(|| -> Result<Option<Vec<Vec<f32>>>, Error> {
            if config.labelled() == 0 {
                return Ok(None);
            }
            let mut samples = Vec::with_capacity(config.labelled());
            for n in 0..config.labelled() {
                let mut random = Random::at(&[config.seed, step, n as u64, 0x4e9]);
                let side = student.net.config.side;
                // Beside pictures every other image is of a CT.
                let ct = !data.volumes.is_empty() && (data.labelled.is_empty() || n % 2 == 0);
                samples.push(if ct {
                    draw_ct(&data.volumes, side, &mut random)
                } else {
                    let picture = &data.labelled[random.below(data.labelled.len())];
                    // Networks that read texts or given boxes learned nothing else.
                    let own = config.prompts.reads_text() || config.prompts.takes_box();
                    Sample { asked: own.then_some(config.prompts), ..Sample::picture(picture, side, true, &mut random) }
                });
            }
            let mut random = Random::at(&[config.seed, step, 0x4ea]);
            let (_, g) =
                step::gradients(&student.net, &student.variables, &samples, REPLAY_ROWS, &Device::Cpu, &mut random)?;
            let flat = g.iter().map(Tensor::to_vec1).collect::<Result<Vec<Vec<f32>>, _>>()?;
            Ok(Some(flat))
        });
        let seen = student.gradients(batch, config);
        (seen, replay.join().unwrap_or_else(|_| Err(Error::Config("a training thread stopped".into()))))
    });
    let (seen, taught) = seen?;
    if !seen.loss.is_finite() {
        return Err(Error::Diverged { step: step as usize, loss: seen.loss as f32 });
    }
    let sum = match (taught, replayed?) {
        (Some(mut a), Some(b)) => {
            for (x, y) in a.iter_mut().flatten().zip(b.iter().flatten()) {
                *x += y;
            }
            Some(a)
        }
        (a, b) => a.or(b),
    };
    Ok((seen, sum))
}

struct Score {
    at_half: f64,
    tuned: (f64, f64),
}

fn validate(student: &Student, data: &Data) -> Result<Score, Error> {
    let chunks: Vec<&[Item]> = data.validation.chunks(CHUNK).collect();
    let answers = chunks
        .par_iter()
        .map(|c| -> Result<Vec<(Vec<f32>, &Item)>, Error> {
            let items: Vec<&Item> = c.iter().collect();
            let z = student.logits(&items)?.detach().to_vec2::<f32>()?;
            Ok(z.into_iter().zip(items).collect())
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let all: Vec<(Vec<f32>, &Item)> = answers.into_iter().flatten().collect();
    let at = |t: f64| mean_dice(&all, t).unwrap_or(0.0);
    let mut tuned = (0.5, at(0.5));
    let at_half = tuned.1;
    for t in TRIED {
        let d = at(t);
        if d > tuned.1 {
            tuned = (t, d);
        }
    }
    Ok(Score { at_half, tuned })
}

fn facts(config: &AlignConfig, items: &[Item]) -> Option<CandidateFacts> {
    let mut sum = CandidateFacts { dice: [0.0; 4], best_of_four: 0.0, spread: 0.0, band: 0.0, wrong_in_band: 0.0 };
    let (mut n, mut wrong, mut inside) = (0f64, 0f64, 0f64);
    for item in items {
        let Some(truth) = &item.truth else { continue };
        let masks = candidates(&item.reference, config.thresholds);
        let dice = masks.each_ref().map(|m| {
            let iou = crate::preference::iou(m, truth);
            2.0 * iou / (1.0 + iou)
        });
        let (low, high) = (dice.iter().copied().fold(1.0, f64::min), dice.iter().copied().fold(0.0, f64::max));
        sum.dice.iter_mut().zip(dice).for_each(|(s, d)| *s += d);
        sum.best_of_four += high;
        sum.spread += high - low;
        for (i, &t) in truth.iter().enumerate() {
            let band = masks[0][i] != masks[3][i];
            sum.band += f64::from(u8::from(band));
            if (item.reference[i] > 0.0) != (t != 0) {
                wrong += 1.0;
                inside += f64::from(u8::from(band));
            }
        }
        n += 1.0;
    }
    if n == 0.0 {
        return None;
    }
    sum.dice.iter_mut().for_each(|d| *d /= n);
    sum.best_of_four /= n;
    sum.spread /= n;
    sum.band /= n;
    sum.wrong_in_band = inside / wrong.max(1.0);
    Some(sum)
}
