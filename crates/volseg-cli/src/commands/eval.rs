//! `volseg eval`: label maps against their ground truth.

mod cases;
mod json;
mod load;
mod pairing;
mod plan;
mod report;
mod slice;
mod summary;
mod table;
mod text;

use crate::{
    apart,
    exit::ExitCode,
    global::{Global, Level},
};
use anyhow::{Context, anyhow};
use plan::Plan;
use std::{
    io::Write,
    path::{Path, PathBuf},
};
use summary::Summary;
use volseg_io::AtomicFile;

/// Score label maps: Dice, surface Dice, Hausdorff and more, per label, case and data set
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  volseg eval --gt gt.nii.gz --pred pred.nii.gz                      one pair, table on the terminal
  volseg eval --gt labelsTs --pred out --json eval.json --csv e.csv  two folders, paired by name
  volseg eval --gt gt --pred out --labels labels.json --report html  names, and an HTML page with plots
  volseg eval --gt gt --pred out --preset flare22                    as the FLARE'22 script scores
  volseg eval --gt gt --pred a --compare b --tolerance 2             is b better than a?
  volseg eval --gt cases --pred cases --pattern '{case}_gt.nii.gz:{case}_pred.nii.gz'   both in one folder
  volseg eval --gt mask.png --pred pred.png --spacing 0.5,0.5        pictures, by their contours
  volseg eval --gt gt --pred out --regions core=1+3,whole=1+2+3 --ignore-label 9 --nnunet-summary summary.json")]
pub(crate) struct Args {
    /// Ground truth: a label map (file, or folder with a DICOM series) or a folder of label maps
    #[arg(long, value_name = "FILE|DIR")]
    gt: PathBuf,
    /// Prediction: the same, with files of the same names
    #[arg(long, value_name = "FILE|DIR")]
    pred: PathBuf,
    /// A second prediction to compare with the first, case by case
    #[arg(long, value_name = "FILE|DIR")]
    compare: Option<PathBuf>,
    /// Which files of the folders: a name with * and ?, or two as GT:PRED with {case} in each
    #[arg(long, value_name = "PATTERN")]
    pattern: Option<String>,
    /// Scored labels: ids (1,2,3; regions as 1+2), organs (liver,spleen: the ids of `volseg organs`) or a table of id, name, tolerance, group (JSON, CSV) [default: all that occur]
    #[arg(long, value_name = "LIST|FILE")]
    labels: Option<String>,
    /// Unions of ids to score, beside --labels or alone: core=1+3,whole=1+2+3
    #[arg(long, value_name = "LIST")]
    regions: Option<String>,
    /// Renumber ids of the ground truth first: 1:5,2:5
    #[arg(long, value_name = "MAP")]
    gt_map: Option<String>,
    /// Renumber ids of the prediction first
    #[arg(long, value_name = "MAP")]
    pred_map: Option<String>,
    /// Ids without an entry in a map become background
    #[arg(long)]
    map_strict: bool,
    /// Leave out voxels where the ground truth has this id
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u32).range(1..=65535))]
    ignore_label: Option<u32>,
    /// Tolerances of the surface Dice (NSD) in mm [default: 1,2,3]
    #[arg(long, value_name = "LIST", value_delimiter = ',', allow_hyphen_values = true)]
    tolerance: Option<Vec<f64>>,
    /// Tolerances by label name or id for the metric nsd: a file, or flare (by the names of --labels, else FLARE's ids)
    #[arg(long, value_name = "FILE")]
    tolerance_table: Option<String>,
    /// Surface model (mesh is not built in) [default: surfel]
    #[arg(long, value_enum)]
    surface: Option<SurfaceArg>,
    /// Definition of HD95 [default: that of the surface model]
    #[arg(long, value_enum)]
    hd95: Option<Hd95Arg>,
    /// Percentiles of the Hausdorff distance beside 95
    #[arg(long, value_name = "LIST", value_delimiter = ',', allow_negative_numbers = true)]
    hd_percentile: Option<Vec<f64>>,
    /// A label in neither map: undefined, or perfect
    #[arg(long, value_enum)]
    empty: Option<EmptyArg>,
    /// A label that the ground truth lacks: scored, or left out
    #[arg(long, value_enum)]
    gt_absent: Option<AbsentArg>,
    /// Distance where one of the two masks is empty: inf, diagonal or mm
    #[arg(long, value_name = "VALUE", allow_negative_numbers = true)]
    penalty: Option<String>,
    /// Which labels of a case count in means
    #[arg(long, value_enum, default_value = "present")]
    mean_over: MeanOver,
    /// Order of averaging of the headline numbers
    #[arg(long, value_enum)]
    mean: Option<RuleArg>,
    /// Resamples of the bootstrap over cases
    #[arg(long, value_name = "N", default_value_t = 2000)]
    bootstrap: usize,
    /// Rules of a published script: flare22, flare21, totalsegmentator, nnunet, sam-med3d, monai, medpy, deepmind
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Spacing in mm instead of the files': x,y,z (x,y for pictures)
    #[arg(long, value_name = "LIST", value_delimiter = ',', allow_hyphen_values = true)]
    spacing: Option<Vec<f64>>,
    /// Score one-slice volumes as pictures, by their contours
    #[arg(long = "2d")]
    flat: bool,
    /// Largest shift of a corner voxel in mm that counts as the same grid
    #[arg(long, value_name = "MM", default_value_t = 0.01, allow_negative_numbers = true)]
    affine_tol: f64,
    /// Refuse flipped and permuted grids instead of undoing it
    #[arg(long)]
    strict_grid: bool,
    /// Compare arrays whatever the affines say
    #[arg(long)]
    ignore_affine: bool,
    /// Put the prediction on the ground truth's grid (nearest neighbour)
    #[arg(long, value_enum)]
    resample: Option<ResampleArg>,
    /// A ground truth without a prediction: an error, or an empty prediction
    #[arg(long, value_enum, default_value = "error")]
    missing: MissingArg,
    /// Go on when a case fails, leave it out, and end with exit code 3
    #[arg(long)]
    allow_failed: bool,
    /// Write everything as JSON; - is the terminal, in place of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write one row per case and label
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write an HTML page with plots
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Write nnU-Net's summary.json
    #[arg(long, value_name = "FILE")]
    nnunet_summary: Option<PathBuf>,
}

macro_rules! choices {
    ($($name:ident { $($variant:ident),* })*) => {
        $(#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
        pub(crate) enum $name { $($variant),* })*
    };
}
choices! {
    SurfaceArg { Surfel, Voxel, Mesh }
    Hd95Arg { SurfelMax, VoxelMax, Pooled }
    EmptyArg { Nan, One }
    AbsentArg { Score, Skip }
    MeanOver { Present, Gt, All }
    ResampleArg { Pred }
    MissingArg { Error, Zero }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum RuleArg {
    LabelThenMean,
    CaseThenMean,
    Pooled,
}

pub(crate) fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let plan = Plan::new(&args, global)?;
    let (gt, pred, other) = (&args.gt, &args.pred, args.compare.as_deref());
    let found = pairing::pair(gt, pred, other, args.pattern.as_deref(), plan.missing_zero)?;
    let read = found.iter().flat_map(|f| {
        let predicted = [("--pred", f.pred.as_deref()), ("--compare", f.other.as_deref())];
        predicted.into_iter().filter_map(|(name, p)| Some((name, p?))).chain([("--gt", f.gt.as_path())])
    });
    // Options that may name a table.
    let tables = [("--labels", &args.labels), ("--tolerance-table", &args.tolerance_table)];
    let tables = tables.into_iter().filter_map(|(name, t)| Some((name, Path::new(t.as_deref()?)))).filter(|(_, t)| t.is_file());
    let outputs =
        [("--json", &args.json), ("--csv", &args.csv), ("--nnunet-summary", &args.nnunet_summary), ("--report", &args.report)];
    apart::check(read.chain(tables), outputs.map(|(name, path)| (name, path.as_ref())))?;
    let mut done = cases::evaluate(&found, &plan, global);
    if found.len() > 1 {
        for failure in &done.failures {
            let causes: Vec<String> = failure.error.chain().skip(1).map(ToString::to_string).collect();
            let message = format!("case {}: {}", failure.case, failure.error);
            global.log_with_causes(Level::Error, &message, &causes);
        }
    }
    if !done.failures.is_empty() && (!args.allow_failed || done.cases.is_empty()) {
        let told = format!("{} of {} cases failed, nothing is written", done.failures.len(), found.len());
        // Without any readable case the first cause decides the exit code.
        return Err(if done.cases.is_empty() { done.failures.swap_remove(0).error } else { anyhow!(told) });
    }
    let summary = Summary::new(done, &plan);
    for w in &summary.warnings {
        global.log(Level::Warn, w);
    }
    let code = if summary.failed.is_empty() { ExitCode::Done } else { ExitCode::SomeFailed };
    let mut files = Vec::new();
    let to_stdout = args.json.as_ref().is_some_and(|p| p.as_os_str() == "-");
    if let Some(path) = args.json.as_ref().filter(|_| !to_stdout) {
        files.push((path.clone(), json::eval(&summary, &plan)?));
    }
    if let Some(path) = &args.csv {
        files.push((path.clone(), text::csv(&summary)));
    }
    if let Some(path) = &args.nnunet_summary {
        files.push((path.clone(), json::nnunet(&summary)?));
    }
    if let Some(folder) = &args.report {
        files.push((folder.join("index.html"), report::html(&summary, &plan)?));
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    write_all(&files)?;
    if to_stdout {
        global.print(String::from_utf8_lossy(&json::eval(&summary, &plan)?))?;
        return Ok(code);
    }
    global.say(text::terminal(&summary, &plan).trim_end())?;
    Ok(code)
}

/// Writes all files or none: each under another name first, then renamed.
fn write_all(files: &[(PathBuf, Vec<u8>)]) -> anyhow::Result<()> {
    let mut ready = Vec::new();
    for (path, bytes) in files {
        let mut file = AtomicFile::create(path)?;
        file.write_all(bytes)?;
        ready.push(file);
    }
    ready.into_iter().try_for_each(|file| Ok(file.commit()?))
}
