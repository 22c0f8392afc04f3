//! `volseg train clip`: fits a small image-text model to labelled slices and captions made from their labels.

mod captions;
mod config;
mod step;
mod view;

pub use config::ClipTrainConfig;

use crate::Progress;
use crate::checkpoint::{self, begin, draw_curves, log, save};
use crate::optimizer::Stepper;
use crate::pictures::{Part, load_pictures};
use crate::split::Parts;
use crate::volumes;
use crate::{Error, Random};
use candle_core::{Tensor, Var};
use captions::{Captions, vocabulary};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;
use step::{Losses, Shard, gradients};
use view::{Source, View};
use volseg_model::clip::{ARCH, ClipConfig, ClipNetwork, WordPieces};
use volseg_model::weights::WeightsFile;
use volseg_model::{Params, embedded};

/// Gradients of this many shards are summed in order, so that the number of threads does not change a bit.
const SHARDS: usize = 2;

/// Trains by `config`, writing checkpoints, `metrics.jsonl`, `curves.png`, the configuration as run, and `model.safetensors`
/// (averaged weights, f16, vocabulary inside) into `out`. With `resume` it goes on from the last checkpoint there,
/// if there is one.
///
/// # Errors
/// Data sets, checkpoints or files that cannot be used; a loss that is no number.
pub fn train_clip(
    config: &ClipTrainConfig,
    out: &Path,
    resume: bool,
    progress: &mut dyn Progress,
) -> Result<(), Error> {
    checkpoint::same_settings(out, resume, config, progress)?;
    let vocabulary = vocabulary();
    let words = WordPieces::new(&vocabulary)?;
    let mut model = config.model.clone();
    model.text.vocab = vocabulary.lines().count();
    let start = match &config.start_from {
        Some(path) => read_tensors(path)?,
        None => BTreeMap::new(),
    };
    let params = Params::trainable(config.seed, start);
    let net = ClipNetwork::new(&model, &params)?;
    let variables = params.variables();
    let mut adam = Stepper::new(&variables)?;
    let (train, check, parts) = load(config, &model, progress)?;
    let _held = parts.leave(out)?;
    begin(config, out, resume, &variables, &mut adam, progress)?;
    let (began, first) = (Instant::now(), adam.step());
    let mut recent: Vec<Losses> = Vec::new();
    while adam.step() < config.steps {
        let step = adam.step();
        let captions = Captions::draw(&words, &mut Random::at(&[config.seed, step as u64, 5]))?;
        let results: Vec<Result<Option<(Losses, Vec<Tensor>)>, Error>> = std::thread::scope(|scope| {
            let jobs: Vec<_> = (0..SHARDS)
                .map(|s| {
                    let (net, variables, train, captions, model) = (&net, &variables, &train, &captions, &model);
                    scope.spawn(move || {
                        let views = draw(config, train, step, s, model.image_size);
                        let shard = Shard { views: &views, captions };
                        // A batch of one leaves a shard empty.
                        let full = !views.is_empty();
                        full.then(|| gradients(net, variables, model, &shard, config.local_weight)).transpose()
                    })
                })
                .collect();
            let lost = || Err(Error::Config("a training thread stopped".into()));
            jobs.into_iter().map(|j| j.join().unwrap_or_else(|_| lost())).collect()
        });
        let full = results.into_iter().filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()?;
        let mut losses = Losses::default();
        full.iter().for_each(|(l, _)| losses.add(l, 1.0 / full.len() as f32));
        let shares: Vec<Vec<Tensor>> = full.into_iter().map(|(_, g)| g).collect();
        if !losses.total.is_finite() {
            return Err(Error::Diverged { step, loss: losses.total });
        }
        adam.update(&variables, &shares, config.rate(step), config.weight_decay, config.average)?;
        recent.push(losses);
        let done = adam.step();
        // Also where a checkpoint is written: a run that goes on from there has the same lines.
        if done % 25 == 0 || done % config.save_every == 0 || done == config.steps {
            let mut mean = Losses::default();
            recent.iter().for_each(|l| mean.add(l, 1.0 / recent.len() as f32));
            let each = began.elapsed().as_secs_f64() / (done - first) as f64;
            progress.line(&format!(
                "step {done}/{}  loss {:.4} (presence {:.4}, place {:.4})  {each:.2} s a step, {:.0} min left",
                config.steps,
                mean.total,
                mean.presence,
                mean.place,
                each * (config.steps - done) as f64 / 60.0
            ));
            log(
                out,
                &serde_json::json!({"step": done, "loss": mean.total, "presence": mean.presence, "place": mean.place,
                "seconds_per_step": each}),
            )?;
            recent.clear();
        }
        if done % config.validate_every == 0 || done == config.steps {
            let mut tensors = params.tensors();
            tensors.extend(adam.averaged(&variables)?);
            let averaged = ClipNetwork::new(&model, &Params::given(tensors))?;
            let scores = step::validate(&averaged, &model, &check, &Captions::plain(&words)?)?;
            let text: Vec<String> = scores.iter().map(|(k, v)| format!("{k} {v:.3}")).collect();
            progress.line(&format!("step {done} validation: {}", text.join("  ")));
            let mut record = serde_json::json!({"step": done});
            record["validation"] = scores.into_iter().map(|(k, v)| (k, serde_json::json!(v))).collect();
            log(out, &record)?;
            draw_curves(out)?;
        }
        if done % config.save_every == 0 || done == config.steps {
            save(&out.join(checkpoint::FILE), &variables, &adam)?;
            export(&model, &vocabulary, out, &params, &variables, &adam)?;
        }
    }
    Ok(())
}

/// Tensors to begin with.
fn read_tensors(path: &Path) -> Result<BTreeMap<String, Tensor>, Error> {
    let unusable = |source| Error::Weights { file: path.to_owned(), source };
    let file = WeightsFile::open(path).map_err(unusable)?;
    file.shapes().into_keys().map(|name| Ok((name.clone(), file.read(&name).map_err(unusable)?))).collect()
}

fn export(
    model: &ClipConfig,
    vocabulary: &str,
    out: &Path,
    params: &Params,
    variables: &BTreeMap<String, Var>,
    adam: &Stepper,
) -> Result<(), Error> {
    let mut tensors = params.tensors();
    tensors.extend(adam.averaged(variables)?);
    for t in tensors.values_mut() {
        *t = t.to_dtype(candle_core::DType::F16)?;
    }
    let text = |e: serde_json::Error| Error::Config(e.to_string());
    let presence = serde_json::json!({"none": captions::NONE, "slope": 1.0, "offset": 0.0});
    let metadata = [
        ("arch", ARCH.to_owned()),
        ("config", serde_json::to_string(model).map_err(text)?),
        ("format", "volseg-weights/1".to_owned()),
        ("licence", embedded::LICENCE.to_owned()),
        ("presence", presence.to_string()),
        ("steps", adam.step().to_string()),
        ("vocab", vocabulary.to_owned()),
    ];
    let metadata = metadata.map(|(k, v)| (k.to_owned(), v)).into();
    Ok(embedded::write_weights(&out.join("model.safetensors"), &tensors, metadata)?)
}

/// Sources to train on, each with its number in a batch, and views to validate on.
fn load(
    config: &ClipTrainConfig,
    model: &ClipConfig,
    progress: &mut dyn Progress,
) -> Result<(Vec<(usize, Vec<Source>)>, Vec<View>, Parts), Error> {
    let side = model.image_size;
    let mut train: Vec<(usize, Vec<Source>)> = Vec::new();
    let (mut check, mut parts) = (Vec::new(), Parts::default());
    let mut random = Random::at(&[config.seed, 11]);
    for set in &config.pictures {
        let all = load_pictures(set)?;
        let count = |part| all.iter().filter(|p| p.part == part).count();
        let (a, b, c) = (count(Part::Train), count(Part::Validation), count(Part::Test));
        progress.line(&format!("{}: {a} pictures to train on, {b} to validate, {c} kept for the test", set.organ));
        parts.add(set, &all);
        for p in all.iter().filter(|p| p.part == Part::Validation).take(64) {
            check.push(Source::picture(p).view(0, side, false, &mut random));
        }
        train.push((set.batch, all.iter().filter(|p| p.part == Part::Train).map(Source::picture).collect()));
    }
    if let Some(set) = &config.phantoms {
        progress.line(&format!("making {} CT phantoms", set.volumes));
        train.push((set.batch, volumes::make(set)?.into_iter().map(Source::Ct).collect()));
        // Validation phantoms come before the first training seed.
        let few = crate::PhantomSet { volumes: 4, first_seed: set.first_seed.saturating_sub(100), batch: 0 };
        for v in volumes::make(&few)?.into_iter().map(Source::Ct) {
            for n in 0..12 {
                check.push(v.view(n * v.slices() / 12, side, false, &mut random));
            }
        }
    }
    if train.iter().all(|(batch, sources)| *batch == 0 || sources.is_empty()) {
        return Err(Error::Data("there is nothing to train on; see `split`, `labelled` and `volumes`".into()));
    }
    Ok((train, check, parts))
}

/// Views of one shard of the batch of a step.
fn draw(config: &ClipTrainConfig, train: &[(usize, Vec<Source>)], step: usize, shard: usize, side: usize) -> Vec<View> {
    let mut views = Vec::new();
    let mut slot = 0;
    for (batch, sources) in train {
        for _ in 0..*batch {
            slot += 1;
            if slot % SHARDS != shard || sources.is_empty() {
                continue;
            }
            let mut random = Random::at(&[config.seed, step as u64, slot as u64, 1]);
            let source = &sources[random.below(sources.len())];
            let slice = source.draw_slice(&mut random);
            let mut view = source.view(slice, side, true, &mut random);
            if random.chance(config.masked) {
                view.mask(config.model.grid(), &mut random);
            }
            views.push(view);
        }
    }
    views
}
