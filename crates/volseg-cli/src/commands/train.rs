//! `volseg train prompt`: fits a network to labelled slices.

use crate::{
    exit::{ExitCode, usage_error},
    global::{Global, Level},
};
use anyhow::Context;
use std::path::PathBuf;
use volseg_train::{Progress, TrainConfig, train_prompt};

/// Train a network on your own data (stage 1)
#[derive(clap::Args)]
#[command(after_help = "Examples:
  volseg train prompt --config embedded.toml --out run1
  volseg train prompt --config embedded.toml --out run1 --resume
  volseg train prompt --config embedded.toml --out run2 --set steps=500 --set phantoms.volumes=20")]
pub(crate) struct Args {
    /// What to train
    #[command(subcommand)]
    stage: Stage,
}

#[derive(clap::Subcommand)]
enum Stage {
    /// Stage 1: prompts and masks from labelled slices
    Prompt(PromptArgs),
}

#[derive(clap::Args)]
struct PromptArgs {
    /// Configuration (TOML; docs: reference/train-config)
    #[arg(long, value_name = "FILE.toml")]
    config: PathBuf,
    /// Folder for checkpoints, metrics.jsonl, curves.svg and the weights
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Go on from the last checkpoint in --out
    #[arg(long)]
    resume: bool,
    /// Change a key of the configuration; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

struct Lines<'a>(&'a Global);

impl Progress for Lines<'_> {
    fn line(&mut self, text: &str) {
        // The training goes on even if nobody reads its lines.
        let _ = self.0.say(text);
    }
}

pub(crate) fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let Stage::Prompt(args) = args.stage;
    let text = std::fs::read_to_string(&args.config)
        .with_context(|| format!("could not read the configuration {}", args.config.display()))?;
    let config = TrainConfig::parse(&text, &args.set).map_err(|e| usage_error(e.to_string()))?;
    if global.threads > 2 {
        global.log(Level::Info, "a step is computed as two shards, so more than two threads do not help");
    }
    train_prompt(&config, &args.out, args.resume, &mut Lines(global))?;
    Ok(ExitCode::Done)
}
