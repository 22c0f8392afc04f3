//! `volseg manifest build`: the list of cases of an archive.

use crate::{
    exit::{ExitCode, Verdict, usage_error},
    global::{Global, Level},
};
use anyhow::Context;
use std::path::{Path, PathBuf};
use volseg_engine::batch::{Manifest, SiteKey, build};
use volseg_geometry::Modality;
use volseg_io::{Limits, ReadOptions};

/// List the cases of an archive for `volseg batch`
#[derive(clap::Args)]
#[command(after_help = "Examples:
  volseg manifest build /archive -o cases.jsonl")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Build(BuildArgs),
}

/// Look at every file of an archive once and write one line per case
///
/// DICOM series are taken straight out of folders and zips; other volumes and pictures count as one case a file. Nothing is
/// unpacked to disk. The list holds paths, so it is as sensitive as the archive; the case ids are not: they are keyed hashes of
/// the SeriesInstanceUID.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  volseg manifest build /archive -o cases.jsonl                     all series in folders and zips
  volseg manifest build /archive -o cases.jsonl --modality ct       CT only
  volseg manifest build study.zip -o cases.jsonl --min-slices 20    without localizers and single pictures
  volseg manifest build /archive -o cases.jsonl --site-key our.key  ids that agree with those of earlier lists")]
struct BuildArgs {
    /// Folder with everything below it, or one file such as a zip
    archive: PathBuf,
    /// List to write, one JSON object a line
    #[arg(short, long, value_name = "cases.jsonl")]
    output: PathBuf,
    /// Secret of the site, 32 bytes; made if missing [default: site.key beside the list]
    #[arg(long, value_name = "FILE")]
    site_key: Option<PathBuf>,
    /// Only cases of these modalities: ct, xray, ultrasound, mr; unknown ones are left out then
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    modality: Vec<String>,
    /// Only cases of at least so many slices; cases that cannot be read stay in the list
    #[arg(long, default_value_t = 1, value_name = "N")]
    min_slices: usize,
}

pub(crate) fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let Command::Build(args) = args.command;
    let modalities = args
        .modality
        .iter()
        .map(|m| m.parse::<Modality>().map_err(|e| usage_error(e.to_string())))
        .collect::<Result<Vec<_>, _>>()?;
    let folder = args.output.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let options = ReadOptions { limits: Limits::within_memory(global.memory), ..ReadOptions::default() };
    let found = volseg_io::survey(&args.archive, &options).context("could not list the archive")?;
    for (what, n) in &found.left_out {
        let level = if *what == volseg_io::CLOSED { Level::Warn } else { Level::Info };
        global.log(level, format_args!("left out: {what}: {n}"));
    }
    if found.cases.is_empty() {
        return Err(Verdict::Unreadable("the archive holds no image".into()).into());
    }
    std::fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
    let key_path = args.site_key.unwrap_or_else(|| folder.join("site.key"));
    let key = SiteKey::read_or_make(&key_path).map_err(crate::exit::unwrapped)?;
    let (mut cases, duplicates) = build(found, &key);
    let all = cases.len();
    cases.retain(|c| {
        c.slices == 0
            || (c.slices >= args.min_slices
                && (modalities.is_empty() || c.modality.is_some_and(|m| modalities.contains(&m))))
    });
    if cases.is_empty() {
        return Err(usage_error(format!("none of the {all} cases fits --modality and --min-slices")));
    }
    Manifest::write(&args.output, &cases).map_err(crate::exit::unwrapped)?;
    if duplicates > 0 {
        global.log(Level::Warn, format_args!("{duplicates} cases are there twice and were listed once"));
    }
    let unread = cases.iter().filter(|c| c.slices == 0).count();
    if unread > 0 {
        global.log(Level::Warn, format_args!("{unread} cases cannot be read; a batch will say why"));
    }
    let slices: usize = cases.iter().map(|c| c.slices).sum();
    let bytes: u64 = cases.iter().map(|c| c.bytes).sum();
    global.say(format_args!(
        "{}: {} cases, {slices} slices, {:.1} GiB. Ids depend on the site key: keep it, and keep it secret.",
        args.output.display(),
        cases.len(),
        bytes as f64 / f64::from(1 << 30)
    ))?;
    Ok(ExitCode::Done)
}
