//! `volseg batch merge`: one table and one page of all results.

use super::{cohort, duration, manifest};
use crate::{
    exit::{ExitCode, Verdict, unwrapped},
    global::{Global, Level},
};
use anyhow::Context;
use std::path::PathBuf;
use volseg_engine::batch::{CaseRow, merge};
use volseg_io::AtomicFile;

/// Gather all results into tables and a page with plots
///
/// Writes cases.csv (a row a case), organs.csv (a row a case and organ), queue.csv (what to look at, worst first) and
/// cohort.html. The same results give the same bytes.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  volseg batch merge --out results                                            into the folder of results
  volseg batch merge --out results --to report                                into another folder
  volseg batch merge --out results --manifest cases.jsonl --strict            code 75 if cases are missing, 3 if some failed")]
pub(crate) struct Args {
    /// Folder of the results
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// Folder to write to [default: the folder of the results]
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// List of cases, to count those that are missing
    #[arg(long, value_name = "cases.jsonl")]
    manifest: Option<PathBuf>,
    /// Code 75 if cases of the manifest are missing, else 3 if some failed
    #[arg(long)]
    strict: bool,
}

pub(crate) fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    if !args.out.is_dir() {
        return Err(Verdict::Unreadable("--out is no folder of results".into()).into());
    }
    let mut cohort = merge(&args.out).map_err(unwrapped)?;
    let listed = args.manifest.as_deref().map(manifest).transpose()?;
    if let Some(list) = &listed {
        // Failures of an older list, such as files that are one case with others by now.
        cohort.failures.retain(|f| list.cases.iter().any(|c| c.case_id == f.case_id));
    }
    let missing = listed.map(|m| {
        let known = |id: &str| {
            cohort.cases.binary_search_by(|c| c.case_id.as_str().cmp(id)).is_ok()
                || cohort.failures.iter().any(|f| f.case_id == id)
        };
        m.cases.iter().filter(|c| !known(&c.case_id)).count()
    });
    if cohort.cases.is_empty() && cohort.failures.is_empty() {
        return Err(Verdict::Unreadable("--out holds no results".into()).into());
    }
    let to = args.to.as_ref().unwrap_or(&args.out);
    std::fs::create_dir_all(to).with_context(|| format!("could not make {}", to.display()))?;
    // Pictures are linked, so the page can find them only from the folder of results.
    let pictures = args.to.is_none();
    for (name, text) in [
        ("cases.csv", cohort.cases_csv()),
        ("organs.csv", cohort.organs_csv()),
        ("queue.csv", cohort.queue_csv()),
        ("cohort.html", cohort::html(&cohort, missing, pictures)?),
    ] {
        AtomicFile::write(&to.join(name), text.as_bytes())?;
    }
    if cohort.broken > 0 {
        global.log(Level::Warn, format_args!("{} folders hold no whole result", cohort.broken));
    }
    let lights = |name: &str| cohort.cases.iter().filter(|c| c.quality.light.name() == name).count();
    global.say(format_args!(
        "{}: {} cases done ({} green, {} yellow, {} red), {} failed{}",
        to.join("cohort.html").display(),
        cohort.cases.len(),
        lights("green"),
        lights("yellow"),
        lights("red"),
        cohort.failures.len(),
        missing.map_or(String::new(), |n| format!(", {n} missing"))
    ))?;
    cost(&cohort.cases, global)?;
    Ok(match missing {
        Some(1..) if args.strict => ExitCode::Interrupted,
        _ if args.strict && !cohort.failures.is_empty() => ExitCode::SomeFailed,
        _ => ExitCode::Done,
    })
}

/// Seconds are not in the files: they differ from run to run.
fn cost(cases: &[CaseRow], global: &Global) -> anyhow::Result<()> {
    let mut seconds: Vec<f64> = cases.iter().filter_map(|c| Some(c.seconds?.iter().sum())).collect();
    seconds.sort_by(f64::total_cmp);
    let at = |part: f64| seconds.get(((seconds.len() as f64 * part) as usize).min(seconds.len().saturating_sub(1)));
    if let (Some(half), Some(most)) = (at(0.5), at(1.0)) {
        global.say(format_args!(
            "cost: median {half:.2} s a series, most {most:.2} s, in all {} of work",
            duration(seconds.iter().sum())
        ))?;
    }
    Ok(())
}
