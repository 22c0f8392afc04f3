//! `volseg batch`: segment an archive, shard by shard.

mod cohort;
mod merge;
mod run;
mod status;

use crate::{
    exit::{ExitCode, Verdict, unwrapped},
    global::Global,
};
use std::path::Path;
use volseg_engine::batch::Manifest;

/// Segment the cases of a manifest: run, status, merge
#[derive(clap::Args)]
#[command(after_help = "Examples:
  volseg batch run --manifest cases.jsonl --out results       again to go on
  volseg batch status --manifest cases.jsonl --out results
  volseg batch merge --manifest cases.jsonl --out results")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Run(run::Args),
    Status(status::Args),
    Merge(merge::Args),
}

impl Args {
    /// A run finishes what it writes before it stops.
    pub(crate) fn minds_signals(&self) -> bool {
        matches!(self.command, Command::Run(_))
    }
}

pub(crate) fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Run(args) => run::run(args, global),
        Command::Status(args) => status::run(args, global),
        Command::Merge(args) => merge::run(args, global),
    }
}

/// A manifest with at least one case.
fn manifest(path: &Path) -> anyhow::Result<Manifest> {
    match Manifest::read(path) {
        Ok(manifest) if manifest.cases.is_empty() => Err(Verdict::Unreadable("the manifest lists no case".into()).into()),
        Ok(manifest) => Ok(manifest),
        Err(e @ volseg_engine::Error::Record { .. }) => Err(Verdict::Unreadable(e.to_string()).into()),
        Err(e) => Err(unwrapped(e)),
    }
}

/// Seconds for people.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.1} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}
