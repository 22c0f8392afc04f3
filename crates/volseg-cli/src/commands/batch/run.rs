//! `volseg batch run`: one worker.

use super::{duration, manifest};
use crate::{
    exit::{ExitCode, unwrapped, usage_error},
    global::{Global, Level},
    request::{RequestArgs, load_model},
};
use anyhow::Context;
use indicatif::ProgressBar;
use std::{
    io::Write,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};
use volseg_engine::Request;
use volseg_engine::batch::{
    Balance, Job, Monitor, OutputChoice, Progress, Shard, SiteKey, Stale, Tally, run as work, shards_of,
};
use volseg_io::SegForm;

/// Work through one shard of a manifest; run it again to go on where it stopped
///
/// Any number of workers may run at once, on any machines that share the folder of results, also twice on one shard. A case
/// appears whole or not at all. What is done already is skipped.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  volseg batch run --manifest cases.jsonl --out results                      everything, here
  volseg batch run --manifest cases.jsonl --out results --shard 2/8          the third of eight parts
  volseg batch run --manifest cases.jsonl --out results --shard env --shards 8 --stop-after 55m
                                                                             a task of a Slurm array
  volseg batch run --manifest cases.jsonl --out results --organs liver,spleen --per-organ")]
pub(crate) struct Args {
    /// List of cases from `volseg manifest build`
    #[arg(long, value_name = "cases.jsonl")]
    manifest: PathBuf,
    /// Folder of the results; it is made if missing
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// Part I of N, from 0; env reads Slurm's, Grid Engine's or Kubernetes' variables
    #[arg(long, default_value = "0/1", value_name = "I/N|env")]
    shard: String,
    /// Number of shards for --shard env [default: VOLSEG_SHARDS, or the size of the array]
    #[arg(long, value_name = "N")]
    shards: Option<usize>,
    /// How cases are dealt out: hash (a case keeps its shard when the list grows) or voxels (shards end together)
    #[arg(long, default_value = "hash", value_name = "RULE")]
    balance: Balance,
    /// Results from other input, weights or settings: recompute, keep, or fail before any work
    #[arg(long, value_enum, default_value_t = StaleChoice::Recompute)]
    stale: StaleChoice,
    /// Start no case later than this (90s, 55m, 2h) and exit with code 75 if some are left; the first case always runs
    #[arg(long, value_name = "TIME", value_parser = time)]
    stop_after: Option<Duration>,
    /// How often a case is tried if its failure may pass (a file that cannot be read, a device without memory)
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    attempts: u32,
    /// Also one file per organ and case, in organs/
    #[arg(long)]
    per_organ: bool,
    /// Also seg.dcm and rtstruct.dcm for DICOM inputs; they carry the patient's name, unless --deidentify is given
    #[arg(long)]
    dicom_out: bool,
    /// Form of seg.dcm: binary (every reader knows it) or labelmap (smaller, for new readers)
    #[arg(long, value_enum, default_value_t = Form::Binary, requires = "dicom_out")]
    dicom_form: Form,
    /// DICOM outputs without patient and study, with fresh UIDs that are the same in all runs with the same site key
    #[arg(long, requires = "dicom_out")]
    deidentify: bool,
    /// Secret of the site, for --deidentify [default: site.key beside the manifest]
    #[arg(long, value_name = "FILE")]
    site_key: Option<PathBuf>,
    #[command(flatten)]
    ask: RequestArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum StaleChoice {
    Recompute,
    Keep,
    Fail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    Binary,
    Labelmap,
}

/// What is written for a case.
fn choice(args: &Args) -> anyhow::Result<OutputChoice> {
    let form = if args.dicom_form == Form::Binary { SegForm::Binary } else { SegForm::Labelmap };
    let deidentify = match (args.deidentify, &args.site_key) {
        (false, _) => None,
        (true, Some(path)) => Some(SiteKey::read(path)),
        (true, None) => Some(SiteKey::read(&args.manifest.with_file_name("site.key"))),
    };
    Ok(OutputChoice {
        per_organ: args.per_organ,
        dicom: args.dicom_out.then_some(form),
        deidentify: deidentify
            .transpose()
            .map_err(|e| usage_error(format!("--deidentify needs the site key that the ids were made with: {e}")))?
            .map(|key| key.uid_secret()),
    })
}

/// A number with s, m or h; plain numbers are seconds.
fn time(text: &str) -> Result<Duration, String> {
    let expected = || "expected a time such as 90s, 55m or 2h".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..) {
        Some("" | "s" | "sec") => 1.0,
        Some("m" | "min") => 60.0,
        Some("h") => 3600.0,
        Some("d") => 86_400.0,
        _ => return Err(expected()),
    };
    let seconds = digits.trim().parse::<f64>().map_err(|_| expected())? * unit;
    if (0.0..1e9).contains(&seconds) { Ok(Duration::from_secs_f64(seconds)) } else { Err(expected()) }
}

/// Shows progress: a bar on a terminal, a line every so often elsewhere.
struct Lines<'a> {
    global: &'a Global,
    bar: ProgressBar,
}

impl Monitor for Lines<'_> {
    fn case(&self, p: &Progress) {
        self.bar.set_length(p.of as u64);
        self.bar.set_position(p.settled as u64);
        let left = p.left_s.map_or(String::new(), |s| format!(", about {} left", duration(s)));
        let kind = p.kind.map_or(String::new(), |k| format!(" ({k})"));
        let line = format!("{} of {}: {} {}{kind}{left}", p.settled, p.of, p.case_id, p.outcome);
        self.global.log(if p.outcome == "failed" { Level::Warn } else { Level::Info }, line);
    }
}

pub(crate) fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let env = |name: &str| std::env::var(name).ok();
    let shard = Shard::parse(&args.shard, args.shards, &env).map_err(|e| usage_error(e.to_string()))?;
    let request = Request { skip_unknown: true, ..args.ask.request(global)? };
    let manifest = manifest(&args.manifest)?;
    let shards = shards_of(&manifest.cases, shard.of, args.balance);
    let mine: Vec<_> =
        manifest.cases.into_iter().zip(shards).filter(|c| c.1 == shard.index).map(|c| c.0).collect();
    let stop = Arc::new(AtomicBool::new(false));
    wait_for_signals(&stop).context("could not wait for signals")?;
    quiet_panics();
    let model = load_model(&args.ask.model, &global.network_device()?, global.precision)?;
    let job = Job {
        tree: &args.out,
        model: &model,
        request: &request,
        choice: choice(&args)?,
        threads: global.threads,
        stale: match args.stale {
            StaleChoice::Recompute => Stale::Recompute,
            StaleChoice::Keep => Stale::Keep,
            StaleChoice::Fail => Stale::Fail,
        },
        attempts: args.attempts,
        stop_after: args.stop_after,
        stop: &stop,
    };
    let lines = Lines { global, bar: global.bar(mine.len() as u64, "cases") };
    let tally = work(&mine, &job, &lines).map_err(|e| match e {
        volseg_engine::Error::Request(text) => usage_error(text),
        other => unwrapped(other).context("the results cannot be written; run again when they can"),
    })?;
    lines.bar.finish_and_clear();
    summary(&tally, shard, global)?;
    Ok(match tally {
        Tally { left: 1.., .. } => ExitCode::Interrupted,
        Tally { failed: 1.., .. } => ExitCode::SomeFailed,
        _ => ExitCode::Done,
    })
}

/// SIGTERM, SIGINT, SIGHUP and SIGUSR1 (which Slurm sends before a time limit, if asked to) stop the run.
fn wait_for_signals(stop: &Arc<AtomicBool>) -> std::io::Result<()> {
    use signal_hook::{
        consts::{SIGINT, SIGTERM},
        flag,
    };
    // A second Ctrl-C ends the program at once.
    flag::register_conditional_shutdown(SIGINT, ExitCode::Interrupted as i32, stop.clone())?;
    flag::register(SIGINT, stop.clone())?;
    flag::register(SIGTERM, stop.clone())?;
    #[cfg(unix)]
    for signal in [signal_hook::consts::SIGHUP, signal_hook::consts::SIGUSR1] {
        flag::register(signal, stop.clone())?;
    }
    Ok(())
}

/// A panic in a case is recorded as its failure; the message may hold anything, so only the place in the program is shown.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or(String::new(), |l| format!(" at {}:{}", l.file(), l.line()));
        // Nobody is left to tell if stderr is gone.
        let _ = writeln!(std::io::stderr().lock(), "volseg: warning: the program stopped in a case{place}");
    }));
}

fn summary(t: &Tally, shard: Shard, global: &Global) -> anyhow::Result<()> {
    let kept = if t.kept > 0 { format!(", {} with other settings kept", t.kept) } else { String::new() };
    global.say(format_args!(
        "shard {}/{}: {} cases: {} done now, {} before{kept}, {} failed, {} left",
        shard.index, shard.of, t.cases, t.done, t.skipped, t.failed, t.left
    ))?;
    if t.done > 0 {
        let n = t.done as f64;
        let [read, network, write] = t.stage_seconds.map(|s| s / n);
        let each = t.seconds / n;
        let slices = (t.slices > 0).then(|| format!(" ({:.3} s a slice)", t.seconds / t.slices as f64));
        let rest = (t.left > 0).then(|| format!("; about {} for the rest", duration(each * t.left as f64)));
        global.say(format_args!(
            "cost: {each:.2} s a series{}, of which read {read:.2}, segment {network:.2}, write {write:.2} (stages overlap){}",
            slices.unwrap_or_default(),
            rest.unwrap_or_default()
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(time("55m"), Ok(Duration::from_secs(3300)));
        assert_eq!(time("1.5h"), Ok(Duration::from_secs(5400)));
        assert_eq!(time("90"), Ok(Duration::from_secs(90)));
        assert!(["", "m", "-1s", "3 weeks", "nan", "inf"].iter().all(|t| time(t).is_err()));
    }
}
