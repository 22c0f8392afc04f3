//! `volseg train`: fits networks to labelled slices.

use crate::{
    exit::{ExitCode, Verdict, usage_error},
    global::{Global, Level},
};
use std::path::{Path, PathBuf};
use volseg_train::{
    AlignConfig, ClipTrainConfig, Error, Progress, SamTrainConfig, TrainConfig, has_checkpoint, planned_bytes, train_align,
    train_clip, train_prompt, train_sam_prompt,
};

/// Train a network on your own data
#[derive(clap::Args)]
#[command(after_help = "Examples:
  volseg train prompt --config embedded.toml --out run1
  volseg train align --config align.toml --out run2 --preferences judgements.jsonl
  volseg train prompt --config embedded.toml --out run1 --resume
  volseg train prompt --config embedded.toml --out run3 --set steps=500 --set phantoms.volumes=20
  volseg train clip --config clip.toml --out run4")]
pub(crate) struct Args {
    /// What to train
    #[command(subcommand)]
    stage: Stage,
}

#[derive(clap::Subcommand)]
enum Stage {
    /// Stage 1: prompts and masks from labelled slices
    #[command(after_help = "Examples:
  volseg train prompt --config embedded.toml --out run1
  volseg train prompt --config embedded.toml --out run1 --resume
  volseg train prompt --config embedded.toml --out run3 --set steps=500 --set pictures.0.batch=2
  volseg segment breast.png -o mask.png --model run1/model.safetensors --modality ultrasound")]
    Prompt(PromptArgs),
    /// Stage 2: rankings of candidate masks, by people or simulated
    Align(AlignArgs),
    /// The small image-text model that `volseg prompt` uses when no other is imported
    #[command(after_help = "Examples:
  volseg train clip --config clip.toml --out run4
  volseg train clip --config clip.toml --out run4 --resume
  volseg prompt breast.png -o prompts.json --source run4/model.safetensors")]
    Clip(PromptArgs),
}

#[derive(clap::Args)]
struct PromptArgs {
    /// Configuration (TOML; docs: reference/train-config)
    #[arg(long, value_name = "FILE.toml")]
    config: PathBuf,
    /// Folder for checkpoints, metrics.jsonl, curves.png and the weights
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Go on from the last checkpoint in --out
    #[arg(long)]
    resume: bool,
    /// Change a key of the configuration; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Learn from rankings of candidate masks (stage 2)
#[derive(clap::Args)]
#[command(after_help = "Examples:
  volseg train align --config align.toml --out run2
  volseg train align --config align.toml --out run2 --preferences judgements.jsonl
  volseg train align --config align.toml --out run2 --tiles 4 --replay 1 --set epochs=10
  volseg train align --config align.toml --out run2 --resume
  volseg segment breast.png -o mask.png --model run2/model.safetensors --modality ultrasound")]
struct AlignArgs {
    /// Configuration (TOML; docs: reference/align-config)
    #[arg(long, value_name = "FILE.toml")]
    config: PathBuf,
    /// Folder for checkpoints, metrics.jsonl, curves.png and the weights
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Rankings by people (JSON lines); without it a simulated annotator ranks
    #[arg(long, value_name = "FILE.jsonl")]
    preferences: Option<PathBuf>,
    /// Go on from the last checkpoint in --out
    #[arg(long)]
    resume: bool,
    /// Labelled images beside the ranked ones: 1 is one for two, 0 none
    #[arg(long, value_name = "FACTOR")]
    replay: Option<f32>,
    /// Rank inside each of N x N parts of a slice
    #[arg(long, value_name = "N")]
    tiles: Option<usize>,
    /// policy (ranked anew at every step), frozen (ranked once) or places (clicks all over, ranked once, for retrain)
    #[arg(long, value_name = "SOURCE")]
    candidates: Option<String>,
    /// preference, best-pseudo, pseudo, masks or replay
    #[arg(long, value_name = "NAME")]
    objective: Option<String>,
    /// Change a key of the configuration; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

struct Lines<'a>(&'a Global);

impl Progress for Lines<'_> {
    fn line(&mut self, text: &str) {
        self.0.tell(text);
    }
}

pub(crate) fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let (out, resume) = match &args.stage {
        Stage::Prompt(a) | Stage::Clip(a) => (&a.out, a.resume),
        Stage::Align(a) => (&a.out, a.resume),
    };
    start(out, resume, global)?;
    match &args.stage {
        Stage::Prompt(args) => prompt(args, global),
        Stage::Align(args) => align(args, global),
        Stage::Clip(args) => clip(args, global),
    }?;
    global.say(format_args!("{} written", out.join("model.safetensors").display()))?;
    Ok(ExitCode::Done)
}

/// A run is gone on with or left alone, never written over by accident. One that was stopped before its first checkpoint starts
/// again.
fn start(out: &Path, resume: bool, global: &Global) -> anyhow::Result<()> {
    let place = out.display();
    let held = has_checkpoint(out) || out.join("model.safetensors").exists();
    match (held, resume) {
        (true, false) => Err(usage_error(format!(
            "--out: {place} holds a run already; give --resume to go on with it, or another folder"
        ))),
        (false, true) => {
            global.log(Level::Warn, format_args!("--resume: {place} holds no checkpoint, so the run starts from its beginning"));
            Ok(())
        }
        _ if out.exists() && !out.is_dir() => Err(usage_error(format!("--out: {place} is a file, expected a folder"))),
        _ => Ok(()),
    }
}

fn read(config: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(config).map_err(|e| {
        Verdict::Unreadable(format!("could not read the configuration {}: {e}", config.display())).into()
    })
}

/// What is wrong with a configuration, by its file.
fn wrong(config: &Path) -> impl Fn(Error) -> anyhow::Error {
    move |e| usage_error(format!("{}: {e}", config.display()))
}

/// A file that cannot be read decides the exit code; every other error is a plain failure.
pub(super) fn judged(error: Error) -> anyhow::Error {
    let unreadable = error.is_unreadable_input();
    let error = anyhow::Error::from(error);
    if unreadable { Verdict::Unreadable(format!("{error:#}")).into() } else { error }
}

/// Changes of the configuration: a seed given for the program as a whole, then those of `--set`.
fn changes(set: &[String], global: &Global) -> Vec<String> {
    (global.seed != 0).then(|| format!("seed={}", global.seed)).into_iter().chain(set.iter().cloned()).collect()
}

/// Says where `--memory` has no say.
fn unplanned(global: &Global) {
    if global.memory.is_some() {
        global.log(
            Level::Warn,
            "--memory: only `train prompt` of the embedded network is planned by it; `batch` decides here",
        );
    }
}

fn prompt(args: &PromptArgs, global: &Global) -> anyhow::Result<()> {
    let (text, changes) = (read(&args.config)?, changes(&args.set, global));
    if let Some(config) = SamTrainConfig::parse(&text, &changes).map_err(wrong(&args.config))? {
        unplanned(global);
        train_sam_prompt(&config, &args.out, args.resume, &mut Lines(global)).map_err(judged)?;
        return Ok(());
    }
    let config = TrainConfig::parse(&text, &changes).map_err(wrong(&args.config))?;
    let needed = planned_bytes(&config);
    if let Some(allowed) = global.memory.filter(|&m| m < needed) {
        return Err(usage_error(format!(
            "--memory: the training needs about {} MiB, {} MiB are allowed; lower `batch` of its sets, `rows_picture`, `rows_ct` or `model.side`",
            needed.div_ceil(1 << 20),
            allowed >> 20
        )));
    }
    if global.threads > 2 {
        global.log(Level::Info, "a step is computed as two shards, so more than two threads do not help");
    }
    train_prompt(&config, &args.out, args.resume, &global.network_device()?, &mut Lines(global)).map_err(judged)?;
    Ok(())
}

fn clip(args: &PromptArgs, global: &Global) -> anyhow::Result<()> {
    unplanned(global);
    let config = ClipTrainConfig::parse(&read(&args.config)?, &changes(&args.set, global)).map_err(wrong(&args.config))?;
    train_clip(&config, &args.out, args.resume, &mut Lines(global)).map_err(judged)?;
    Ok(())
}

fn align(args: &AlignArgs, global: &Global) -> anyhow::Result<()> {
    unplanned(global);
    let mut changes = changes(&args.set, global);
    // A path in quotes, so that TOML takes it as it is.
    changes.extend(args.preferences.as_ref().map(|p| format!("preferences={:?}", p.display().to_string())));
    changes.extend(args.replay.map(|v| format!("replay={v:?}")));
    changes.extend(args.tiles.map(|v| format!("tiles={v}")));
    changes.extend(args.candidates.as_ref().map(|v| format!("candidates={v:?}")));
    changes.extend(args.objective.as_ref().map(|v| format!("objective={v:?}")));
    let config = AlignConfig::parse(&read(&args.config)?, &changes).map_err(wrong(&args.config))?;
    train_align(&config, &args.out, args.resume, &mut Lines(global)).map_err(judged)?;
    Ok(())
}
