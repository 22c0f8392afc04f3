//! `volseg train prompt`: fits the embedded network to labelled slices.

use crate::asked::{attach_texts, prompt};
use crate::checkpoint::{self, begin, draw_curves, log, save};
use crate::cts::Cts;
use crate::optimizer::Stepper;
use crate::pictures::{Part, Picture, load_pictures};
use crate::sample::Sample;
use crate::split::Parts;
use crate::step::{Losses, gradients};
use crate::volumes::{self, CtVolume};
use crate::{Asked, Error, Progress, Random, TrainConfig};
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::time::Instant;
use volseg_model::Params;
use volseg_model::embedded::{self, Network, PromptRow, Weights};

/// A batch is always computed as this many shards whose gradients are summed in order, so that the number of threads does
/// not change a bit.
const SHARDS: usize = 2;

/// What a training draws from.
pub(crate) struct Data {
    /// Sets of pictures, with how many of each stand in a batch.
    pub(crate) pictures: Vec<(usize, Vec<Picture>)>,
    pub(crate) volumes: Vec<CtVolume>,
    /// Slices of volumes in a batch.
    pub(crate) ct_batch: usize,
    pub(crate) check_volumes: Vec<CtVolume>,
}

/// Trains by `config` on `device`, writing checkpoints, `metrics.jsonl`, `curves.png`, the configuration as run, and at the end
/// `model.safetensors` (averaged weights, f16) into `out`. With `resume` it goes on from the last checkpoint there, if
/// there is one.
///
/// # Errors
/// Data sets, checkpoints or files that cannot be used; a loss that is no number.
pub fn train_prompt(
    config: &TrainConfig,
    out: &Path,
    resume: bool,
    device: &Device,
    progress: &mut dyn Progress,
) -> Result<(), Error> {
    checkpoint::same_settings(out, resume, config, progress)?;
    let start = match &config.start_from {
        Some(path) => fitting(read_weights(path)?, &config.model, path)?,
        None => BTreeMap::new(),
    };
    let (data, parts) = load(config, progress)?;
    let _held = parts.leave(out)?;
    fit(config, config, start, data, out, resume, device, progress)
}

/// Weights to begin with, by their file; `embedded` are those that ship inside, `embedded-ct` those of CTs.
pub(crate) fn read_weights(file: &Path) -> Result<Weights, Error> {
    if let Some(bytes) = file.to_str().and_then(embedded::shipped)
        && !file.exists()
    {
        return Ok(Weights::from_bytes(bytes)?);
    }
    Weights::read(file).map_err(|source| Error::Weights { file: file.to_owned(), source })
}

/// Tensors of weights whose sizes are those of the configuration. The side may be another one, since nothing hangs on it, and what
/// reads texts may begin afresh.
fn fitting(weights: Weights, model: &embedded::Config, file: &Path) -> Result<BTreeMap<String, Tensor>, Error> {
    let found = embedded::Config { side: model.side, text: model.text, ..weights.config };
    if found == *model {
        return Ok(weights.tensors);
    }
    let text = |c: &embedded::Config| toml::to_string(c).unwrap_or_default();
    let (found, wanted) = (text(&found), text(model));
    let differs: Vec<&str> = found.lines().filter(|l| !wanted.lines().any(|w| w == *l)).collect();
    Err(Error::Config(format!(
        "start_from: {} has other sizes than [model]; put {} there, as `volseg weights inspect` shows them",
        file.display(),
        differs.join(", ")
    )))
}

/// The training itself, from the tensors of `start` (random numbers where there are none). `as_run` is what `config.toml` will say.
#[expect(clippy::too_many_arguments, reason = "each is another thing")]
pub(crate) fn fit(
    config: &TrainConfig,
    as_run: &impl serde::Serialize,
    start: BTreeMap<String, Tensor>,
    data: Data,
    out: &Path,
    resume: bool,
    device: &Device,
    progress: &mut dyn Progress,
) -> Result<(), Error> {
    let params = Params::trainable(config.seed, start).on(device);
    let net = Network::new(&config.model, &params)?;
    let variables = params.variables();
    let mut adam = Stepper::new(&variables)?;
    begin(as_run, out, resume, &variables, &mut adam, progress)?;
    let mut run = Run { config, out, device, params, net, variables, adam, data: &data };
    std::thread::scope(|scope| {
        // Batches are drawn ahead of the step that needs them. The drawing ends when nobody takes them any more.
        let (give, take) = std::sync::mpsc::sync_channel(2);
        let (first, data) = (run.adam.step(), &data);
        scope.spawn(move || (first..config.steps).all(|step| give.send(draw(config, data, step)).is_ok()));
        run.steps(take, progress)
    })
}

/// Seconds of a step, and random weights of the network. The first step, which also warms up, does not count.
pub(crate) fn measure(config: &TrainConfig, data: &Data) -> Result<(f64, Weights), Error> {
    let params = Params::trainable(config.seed, BTreeMap::new());
    let net = Network::new(&config.model, &params)?;
    let weights = Weights { config: config.model.clone(), tensors: params.tensors(), steps: 0 };
    let variables = params.variables();
    let adam = Stepper::new(&variables)?;
    let mut run = Run { config, out: Path::new(""), device: &Device::Cpu, params, net, variables, adam, data };
    run.step(&draw(config, data, 0))?;
    let began = Instant::now();
    run.step(&draw(config, data, 1))?;
    Ok((began.elapsed().as_secs_f64(), weights))
}

impl Data {
    /// Pictures alone, with how many of each part stand in a batch.
    pub(crate) fn of_pictures(pictures: Vec<(usize, Vec<Picture>)>) -> Self {
        Self { pictures, volumes: Vec::new(), ct_batch: 0, check_volumes: Vec::new() }
    }
}

/// A training under way.
struct Run<'a> {
    config: &'a TrainConfig,
    out: &'a Path,
    device: &'a Device,
    params: Params,
    net: Network,
    variables: BTreeMap<String, candle_core::Var>,
    adam: Stepper,
    data: &'a Data,
}

impl Run<'_> {
    fn steps(&mut self, batches: Receiver<[Vec<Sample>; SHARDS]>, progress: &mut dyn Progress) -> Result<(), Error> {
        let config = self.config;
        let began = Instant::now();
        let first_step = self.adam.step();
        let mut recent: Vec<Losses> = Vec::new();
        while self.adam.step() < config.steps {
            let shards = batches.recv().map_err(|_| Error::Config("the thread that draws samples stopped".into()))?;
            recent.push(self.step(&shards)?);
            let done = self.adam.step();
            // Also where a checkpoint is written: a run that goes on from there has the same lines.
            let kept = done.is_multiple_of(50) || done.is_multiple_of(config.save_every) || done == config.steps;
            if kept || done == first_step + 5 {
                let recently = |f: fn(&Losses) -> f32| recent.iter().map(f).sum::<f32>() / recent.len() as f32;
                let each = began.elapsed().as_secs_f64() / (done - first_step) as f64;
                let left = each * (config.steps - done) as f64 / 60.0;
                progress.line(&format!(
                    "step {done}/{}  loss {:.4} (first masks {:.4}, prompted {:.4})  {each:.3} s a step, {left:.0} min left",
                    config.steps,
                    recently(|l| l.total),
                    recently(|l| l.dense),
                    recently(|l| l.rows)
                ));
                let record = serde_json::json!({"step": done, "loss": recently(|l| l.total), "dense": recently(|l| l.dense),
                    "rows": recently(|l| l.rows), "seconds_per_step": each});
                if kept {
                    log(self.out, &record)?;
                    recent.clear();
                }
            }
            if done.is_multiple_of(config.validate_every) || done == config.steps {
                self.check(progress)?;
            }
            if done.is_multiple_of(config.save_every) || done == config.steps {
                save(&self.out.join(checkpoint::FILE), &self.variables, &self.adam)?;
                self.export()?;
            }
        }
        Ok(())
    }

    /// One step: gradients of the shards, each in a thread, then their mean.
    fn step(&mut self, shards: &[Vec<Sample>; SHARDS]) -> Result<Losses, Error> {
        let (config, step) = (self.config, self.adam.step());
        let (net, variables, device) = (&self.net, &self.variables, self.device);
        let one = |(s, samples): (usize, &Vec<Sample>)| {
            let mut random = Random::at(&[config.seed, step as u64, s as u64, 3]);
            gradients(net, variables, samples, [config.rows_ct, config.rows_picture], device, &mut random)
        };
        // A batch of one leaves a shard empty.
        let full: Vec<(usize, &Vec<Sample>)> = shards.iter().enumerate().filter(|(_, s)| !s.is_empty()).collect();
        let shares = full.len() as f32;
        // A GPU works through one queue anyhow, and holds one shard's intermediate results at a time.
        let results: Vec<Result<(Losses, Vec<Tensor>), Error>> = if device.is_cpu() {
            std::thread::scope(|scope| {
                let jobs: Vec<_> = full.into_iter().map(|shard| scope.spawn(move || one(shard))).collect();
                jobs.into_iter()
                    .map(|j| j.join().unwrap_or_else(|_| Err(Error::Config("a training thread stopped".into()))))
                    .collect()
            })
        } else {
            full.into_iter().map(one).collect()
        };
        let mut found = Vec::with_capacity(SHARDS);
        let mut losses = Losses::default();
        for result in results {
            let (l, g) = result?;
            losses.total += l.total / shares;
            losses.dense += l.dense / shares;
            losses.rows += l.rows / shares;
            found.push(g);
        }
        if !losses.total.is_finite() {
            return Err(Error::Diverged { step, loss: losses.total });
        }
        self.adam.update(&self.variables, &found, rate(config, step), config.weight_decay, config.average)?;
        Ok(losses)
    }

    fn check(&self, progress: &mut dyn Progress) -> Result<(), Error> {
        let done = self.adam.step();
        let scores = validate(self.config, self.averaged()?, self.data, self.device)?;
        let text: Vec<String> = scores.iter().map(|(k, v)| format!("{k} {v:.3}")).collect();
        if !text.is_empty() {
            progress.line(&format!("step {done} validation Dice: {}", text.join("  ")));
        }
        let mut record = serde_json::json!({"step": done});
        record["validation"] = scores.into_iter().map(|(k, v)| (k, serde_json::json!(v))).collect();
        log(self.out, &record)?;
        draw_curves(self.out)
    }

    /// All tensors of the network, trained ones averaged.
    fn averaged(&self) -> Result<BTreeMap<String, Tensor>, Error> {
        let mut tensors = self.params.tensors();
        tensors.extend(self.adam.averaged(&self.variables)?);
        Ok(tensors)
    }

    fn export(&self) -> Result<(), Error> {
        let tensors = self.averaged()?.into_iter().map(|(n, t)| Ok((n, t.to_device(&Device::Cpu)?)));
        let tensors = tensors.collect::<Result<_, Error>>()?;
        let weights = Weights { config: self.config.model.clone(), tensors, steps: self.adam.step() };
        Ok(weights.write(&self.out.join("model.safetensors"))?)
    }
}

/// Warm-up, then a cosine to 2 %.
fn rate(config: &TrainConfig, step: usize) -> f32 {
    if step < config.warmup {
        return config.learning_rate * (step + 1) as f32 / config.warmup as f32;
    }
    let t = (step - config.warmup) as f32 / (config.steps - config.warmup).max(1) as f32;
    config.learning_rate * (0.02 + 0.98 * 0.5 * (1.0 + (std::f32::consts::PI * t).cos()))
}

fn load(config: &TrainConfig, progress: &mut dyn Progress) -> Result<(Data, Parts), Error> {
    let mut pictures = Vec::new();
    let mut parts = Parts::default();
    for set in &config.pictures {
        let mut all = load_pictures(set)?;
        if config.prompts.is_some_and(Asked::reads_text) {
            attach_texts(&mut all, set)?;
        }
        let count = |part| all.iter().filter(|p| p.part == part).count();
        if set.batch > 0 && count(Part::Train) == 0 {
            return Err(Error::Data(format!(
                "{}: none of {} pictures is there to train on; see `split` and `labelled`, or set its `batch` to 0",
                set.path.display(),
                all.len()
            )));
        }
        progress.line(&format!(
            "{}: {} pictures to train on, {} to validate, {} kept for the test",
            set.organ,
            count(Part::Train),
            count(Part::Validation),
            count(Part::Test)
        ));
        if !all.iter().any(|p| p.part == Part::Train && p.mask.contains(&1)) {
            progress.line(&format!("warning: no picture to train on shows {}: all their masks are empty", set.organ));
        }
        parts.add(set, &all);
        pictures.push((set.batch, all));
    }
    let (mut made, mut check, mut batch) = (Vec::new(), Vec::new(), 0);
    if let Some(set) = &config.phantoms {
        progress.line(&format!("making {} CT phantoms", set.volumes));
        made = volumes::make(set)?;
        // Validation phantoms come before the first training seed.
        let few = crate::PhantomSet { volumes: 6, first_seed: set.first_seed.saturating_sub(100), batch: 0 };
        check = volumes::make(&few)?;
        batch = set.batch;
    }
    if let Some(set) = &config.cts {
        let cts = Cts::find(set)?;
        progress.line(&format!(
            "CTs with {} organs: {} cases to train on, {} to validate, {} kept for the test",
            cts.organs.len(),
            cts.of(Part::Train).count(),
            cts.of(Part::Validation).count(),
            cts.of(Part::Test).count()
        ));
        parts.add_cts(&cts);
        made.extend(cts.load(Part::Train)?);
        check.extend(cts.load(Part::Validation)?);
        batch += set.batch;
    }
    if batch > 0 && made.is_empty() {
        return Err(Error::Data("there is no CT to train on; see `volumes` of [phantoms], `split` of [cts]".into()));
    }
    Ok((Data { pictures, volumes: made, ct_batch: batch, check_volumes: check }, parts))
}

/// The samples of a step, by shard. Each has its own random numbers, so that they do not hang on who draws them.
fn draw(config: &TrainConfig, data: &Data, step: usize) -> [Vec<Sample>; SHARDS] {
    let side = config.model.side;
    let mut sources: Vec<Option<&[Picture]>> = vec![None; data.ct_batch];
    for (batch, pictures) in &data.pictures {
        sources.extend(std::iter::repeat_n(Some(pictures.as_slice()), *batch));
    }
    let samples: Vec<Option<Sample>> = sources
        .par_iter()
        .enumerate()
        .map(|(n, source)| {
            let mut random = Random::at(&[config.seed, step as u64, n as u64 + 1, 1]);
            match source {
                None => Some(draw_ct(&data.volumes, side, &mut random)),
                Some(pictures) => {
                    let train: Vec<&Picture> = pictures.iter().filter(|p| p.part == Part::Train).collect();
                    let picture = train.get(random.below(train.len()))?;
                    Some(Sample { asked: config.prompts, ..Sample::picture(picture, side, true, &mut random) })
                }
            }
        })
        .collect();
    let mut shards: [Vec<Sample>; SHARDS] = Default::default();
    for (n, sample) in samples.into_iter().enumerate() {
        shards[(n + 1) % SHARDS].extend(sample);
    }
    shards
}

pub(crate) fn draw_ct(volumes: &[CtVolume], side: usize, random: &mut Random) -> Sample {
    let v = &volumes[random.below(volumes.len())];
    // Small organs fill few slices: most draws ask for an organ first, the rest take any slice, empty ones too.
    let mut slice = random.below(v.organs.len());
    let mut focus = None;
    if random.chance(0.7) {
        let organ = v.known[random.below(v.known.len())];
        let with = v.showing(organ, usize::MAX);
        if let Some(&s) = with.get(random.below(with.len().max(1))) {
            (slice, focus) = (s, Some(organ));
        }
    }
    Sample { focus, ..Sample::ct(v, slice, side, true, random) }
}

/// Mean 2D Dice on the validation parts: first masks, masks after the decoder without user prompts, masks with one box.
fn validate(
    config: &TrainConfig,
    tensors: BTreeMap<String, Tensor>,
    data: &Data,
    device: &Device,
) -> Result<BTreeMap<String, f32>, Error> {
    let net = Network::new(&config.model, &Params::given(tensors).on(device))?;
    let side = config.model.side;
    let mut samples = Vec::new();
    let mut random = Random::at(&[config.seed, 11]);
    for (_, pictures) in &data.pictures {
        let part: Vec<&Picture> =
            pictures.iter().filter(|p| p.part == Part::Validation && p.mask.contains(&1)).take(48).collect();
        samples.extend(part.iter().map(|p| Sample::picture(p, side, false, &mut random)));
    }
    for v in &data.check_volumes {
        let with: Vec<usize> = (0..v.organs.len()).filter(|&s| v.organs[s] != 0).collect();
        for n in 0..8 {
            if let Some(&s) = with.get(n * with.len() / 8) {
                samples.push(Sample::ct(v, s, side, false, &mut random));
            }
        }
    }
    let mut sums: BTreeMap<String, (f32, usize)> = BTreeMap::new();
    for s in &samples {
        let x = Tensor::from_vec(s.input.clone(), (1, side, side, 3), device)?;
        let features = net.encoder.forward(&x)?;
        let dense = features.dense.squeeze(0)?.t()?.contiguous()?.to_vec2::<f32>()?;
        let mut rows = Vec::new();
        let mut kept = Vec::new();
        for (organ, truth) in &s.truth {
            let binary: Vec<u8> = truth.iter().map(|&t| u8::from(t > 0.5)).collect();
            let Some(b) = volseg_geometry::PixelBox::of_mask(&binary, side) else { continue };
            let token = usize::from(*organ) - 1;
            let asked = config.prompts.filter(|_| !s.ct).unwrap_or_default();
            rows.push(prompt(asked, s, *organ, dense.get(token).map(Vec::as_slice), Some(b), side, &mut random));
            rows.push(PromptRow { bounds: Some([b.x0, b.y0, b.x1, b.y1]), ..PromptRow::default() });
            kept.push((*organ, truth));
        }
        if rows.is_empty() {
            continue;
        }
        let logits = net.decoder.forward(&features, &rows)?.logits.to_vec2::<f32>()?;
        for (n, (organ, truth)) in kept.iter().enumerate() {
            let name = if s.ct || *organ < 16 {
                "ct"
            } else if *organ == 16 {
                "lungs"
            } else {
                "tumour"
            };
            for (kind, answer) in
                [("first", &dense[usize::from(*organ) - 1]), ("auto", &logits[2 * n]), ("box", &logits[2 * n + 1])]
            {
                let e = sums.entry(format!("{name}.{kind}")).or_default();
                e.0 += dice(answer, truth);
                e.1 += 1;
            }
        }
    }
    Ok(sums.into_iter().map(|(k, (s, n))| (k, s / n as f32)).collect())
}

fn dice(logits: &[f32], truth: &[f32]) -> f32 {
    let (mut both, mut sum) = (0u32, 0u32);
    for (l, t) in logits.iter().zip(truth) {
        let (a, b) = (u32::from(*l > 0.0), u32::from(*t > 0.5));
        both += a * b;
        sum += a + b;
    }
    if sum == 0 { 1.0 } else { 2.0 * both as f32 / sum as f32 }
}

/// Mean of the gradients of shards, summed in their order.
pub(crate) fn mean_of_shards(shards: Vec<Vec<Vec<f32>>>) -> Vec<Vec<f32>> {
    let n = shards.len() as f32;
    let sum = shards.into_iter().reduce(|mut sum, next| {
        sum.iter_mut().flatten().zip(next.iter().flatten()).for_each(|(a, b)| *a += b);
        sum
    });
    let mut sum = sum.unwrap_or_default();
    sum.iter_mut().flatten().for_each(|g| *g /= n);
    sum
}
