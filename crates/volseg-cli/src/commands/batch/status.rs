//! `volseg batch status`: what is done, by shard.

use super::manifest;
use crate::{
    exit::ExitCode,
    global::Global,
};
use serde_json::json;
use std::{collections::BTreeMap, path::PathBuf};
use volseg_engine::batch::{Balance, Progressed, progress, shards_of};

/// Count done, failed and missing cases by shard
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  volseg batch status --manifest cases.jsonl --out results
  volseg batch status --manifest cases.jsonl --out results --shards 8          by the shards of an array
  volseg batch status --manifest cases.jsonl --out results --shards 8 --json   for scripts")]
pub(crate) struct Args {
    /// List of cases
    #[arg(long, value_name = "cases.jsonl")]
    manifest: PathBuf,
    /// Folder of the results
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// Number of shards that the cases were dealt out to
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    shards: u32,
    /// How they were dealt out
    #[arg(long, default_value = "hash", value_name = "RULE")]
    balance: Balance,
    /// As JSON on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Default)]
struct Counts {
    done: usize,
    stale: usize,
    failed: usize,
    missing: usize,
    kinds: BTreeMap<&'static str, usize>,
}

impl Counts {
    fn add(&mut self, state: &Progressed) {
        match state {
            Progressed::Done => self.done += 1,
            Progressed::Stale => self.stale += 1,
            Progressed::Missing => self.missing += 1,
            Progressed::Failed(kind) => {
                self.failed += 1;
                *self.kinds.entry(kind.name()).or_default() += 1;
            }
        }
    }

    fn json(&self) -> serde_json::Value {
        json!({ "done": self.done, "stale": self.stale, "failed": self.failed, "missing": self.missing, "failures": self.kinds })
    }
}

pub(crate) fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let manifest = manifest(&args.manifest)?;
    let of = args.shards as usize;
    let states = progress(&args.out, &manifest.cases);
    let (mut all, mut shards) = (Counts::default(), vec![Counts::default(); of]);
    for (shard, state) in shards_of(&manifest.cases, of, args.balance).into_iter().zip(&states) {
        all.add(state);
        if let Some(counts) = shards.get_mut(shard) {
            counts.add(state);
        }
    }
    if args.json {
        let shards: Vec<_> = shards.iter().map(Counts::json).collect();
        let mut out = all.json();
        out["schema"] = "volseg.status/1".into();
        out["job"] = manifest.job.into();
        out["cases"] = states.len().into();
        out["shards"] = shards.into();
        global.print(format_args!("{out:#}\n"))?;
        return Ok(ExitCode::Done);
    }
    let row = |name: &str, c: &Counts| {
        global.print(format_args!("{name:>8} {:>8} {:>8} {:>8} {:>8}\n", c.done, c.failed, c.missing, c.stale))
    };
    global.print(format_args!("{:>8} {:>8} {:>8} {:>8} {:>8}\n", "shard", "done", "failed", "missing", "stale"))?;
    if of > 1 {
        for (n, counts) in shards.iter().enumerate() {
            row(&n.to_string(), counts)?;
        }
    }
    row("all", &all)?;
    for (kind, n) in &all.kinds {
        global.print(format_args!("failed, {kind}: {n}\n"))?;
    }
    Ok(ExitCode::Done)
}
