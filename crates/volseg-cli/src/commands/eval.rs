//! `volseg eval`: label maps against their ground truth.

mod cases;
mod load;
mod output;
mod report;
mod table;

use crate::{
    exit::{ExitCode, usage_error},
    global::{Global, Level},
};
use std::path::PathBuf;
use volseg_metrics::{GridRules, Hd95, PRESETS, Penalty, Rule, Selection, Settings, Surface};

/// Score label maps: Dice, surface Dice, Hausdorff and more, per label, case and data set
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  volseg eval --gt gt.nii.gz --pred pred.nii.gz                      one pair, table on the terminal
  volseg eval --gt labelsTs --pred out --json eval.json --csv e.csv  two folders, paired by name
  volseg eval --gt gt --pred out --labels labels.json --report html  names, and an HTML page with plots
  volseg eval --gt gt --pred out --preset flare22                    as the FLARE'22 script scores
  volseg eval --gt gt --pred a --compare b --tolerance 2             is b better than a?")]
pub(crate) struct Args {
    /// Ground truth: a file or a folder
    #[arg(long, value_name = "FILE|DIR")]
    gt: PathBuf,
    /// Prediction: a file or a folder with files of the same names
    #[arg(long, value_name = "FILE|DIR")]
    pred: PathBuf,
    /// A second prediction to compare with the first, case by case
    #[arg(long, value_name = "FILE|DIR")]
    compare: Option<PathBuf>,
    /// Which files of the folders: a name with * and ?, or GT:PRED names with {case} in them
    #[arg(long, value_name = "PATTERN")]
    pattern: Option<String>,
    /// Scored labels: ids (1,2,3) or a table of ids and names (JSON, CSV) [default: all that occur]
    #[arg(long, value_name = "LIST|FILE")]
    labels: Option<String>,
    /// Unions of ids to score as well: core=1+3,whole=1+2+3
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
    #[arg(long, value_name = "ID")]
    ignore_label: Option<u32>,
    /// Tolerances of the surface Dice (NSD) in mm [default: 1,2,3]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    tolerance: Option<Vec<f64>>,
    /// Tolerances by label name or id for the metric nsd: a file, or flare
    #[arg(long, value_name = "FILE")]
    tolerance_table: Option<String>,
    /// Surface model [default: surfel]
    #[arg(long, value_enum)]
    surface: Option<SurfaceArg>,
    /// Definition of HD95 [default: that of the surface model]
    #[arg(long, value_enum)]
    hd95: Option<Hd95Arg>,
    /// Percentiles of the Hausdorff distance [default: 95]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    hd_percentile: Option<Vec<f64>>,
    /// A label in neither map: undefined, or perfect
    #[arg(long, value_enum)]
    empty: Option<EmptyArg>,
    /// A label that the ground truth lacks: scored, or left out
    #[arg(long, value_enum)]
    gt_absent: Option<AbsentArg>,
    /// Distance where one of the two masks is empty: inf, diagonal or mm
    #[arg(long, value_name = "VALUE")]
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
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    spacing: Option<Vec<f64>>,
    /// Score one-slice volumes as pictures, by their contours
    #[arg(long = "2d")]
    flat: bool,
    /// Largest shift of a corner voxel in mm that counts as the same grid
    #[arg(long, value_name = "MM", default_value_t = 0.01)]
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
    /// Write everything as JSON
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
    SurfaceArg { Surfel, Voxel }
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

/// All that a run was asked for, understood.
pub(crate) struct Plan {
    settings: Settings,
    selection: Selection,
    table: table::Table,
    grid: GridRules,
    rule: Rule,
    mean_over: MeanOver,
    bootstrap: usize,
    seed: u64,
    preset: Option<String>,
    missing_zero: bool,
    spacing_given: bool,
    flat: bool,
    /// Draw the worst slices.
    pictures: bool,
}

pub(crate) fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let plan = plan(&args, global)?;
    let found = cases::pair(&args.gt, &args.pred, args.compare.as_deref(), args.pattern.as_deref(), plan.missing_zero)?;
    let mut done = cases::evaluate(&found, &plan, global);
    for failure in &done.failures {
        let causes: Vec<String> = failure.error.chain().skip(1).map(ToString::to_string).collect();
        let message = format!("case {}: {}", failure.case, failure.error);
        if done.failures.len() > 1 || found.len() > 1 {
            global.log_with_causes(Level::Error, &message, &causes);
        }
    }
    if !done.failures.is_empty() && (!args.allow_failed || done.cases.is_empty()) {
        let (n, all) = (done.failures.len(), found.len());
        let first = done.failures.swap_remove(0);
        let error = first.error.context(format!("case {} cannot be scored", first.case));
        return Err(if all > 1 { error.context(format!("{n} of {all} cases failed, nothing is written")) } else { error });
    }
    let summary = output::summarise(done, &plan);
    for w in &summary.warnings {
        global.log(Level::Warn, w);
    }
    let mut files = Vec::new();
    if let Some(path) = &args.json {
        files.push((path.clone(), output::json(&summary, &plan)?));
    }
    if let Some(path) = &args.csv {
        files.push((path.clone(), output::csv(&summary)));
    }
    if let Some(path) = &args.nnunet_summary {
        files.push((path.clone(), output::nnunet(&summary)?));
    }
    if let Some(folder) = &args.report {
        std::fs::create_dir_all(folder)?;
        files.push((folder.join("index.html"), report::html(&summary, &plan)?));
    }
    output::write_all(&files)?;
    global.say(output::terminal(&summary, &plan).trim_end())?;
    Ok(if summary.failed.is_empty() { ExitCode::Done } else { ExitCode::SomeFailed })
}

fn plan(args: &Args, global: &Global) -> anyhow::Result<Plan> {
    let preset = match &args.preset {
        Some(name) => Some(PRESETS.iter().find(|p| p.0 == name).map(|p| p.1).ok_or_else(|| {
            let known: Vec<&str> = PRESETS.iter().map(|p| p.0).collect();
            usage_error(format!("--preset: found {name:?}, expected one of {}", known.join(", ")))
        })?),
        None => None,
    };
    let mut s = preset.map_or_else(Settings::default, Settings::of);
    if let Some(surface) = args.surface {
        s.surface = Some(if surface == SurfaceArg::Surfel { Surface::Surfel } else { Surface::Voxel });
        s.hd95 = if surface == SurfaceArg::Surfel { Hd95::SurfelMax } else { Hd95::VoxelMax };
    }
    if let Some(hd95) = args.hd95 {
        s.hd95 = match hd95 {
            Hd95Arg::SurfelMax => Hd95::SurfelMax,
            Hd95Arg::VoxelMax => Hd95::VoxelMax,
            Hd95Arg::Pooled => Hd95::Pooled,
        };
    }
    let unique = |v: &Vec<f64>| {
        let mut v = v.clone();
        v.sort_by(f64::total_cmp);
        v.dedup();
        v
    };
    if let Some(t) = &args.tolerance {
        s.tolerances = unique(t);
    }
    if let Some(p) = &args.hd_percentile {
        s.percentiles = unique(p);
    }
    if let Some(e) = args.empty {
        s.empty_is_one = e == EmptyArg::One;
    }
    if let Some(a) = args.gt_absent {
        s.skip_absent_gt = a == AbsentArg::Skip;
    }
    if let Some(p) = &args.penalty {
        s.penalty = match p.as_str() {
            "inf" => Penalty::Infinite,
            "diagonal" => Penalty::Diagonal,
            other => Penalty::Fixed(other.parse().map_err(|_| {
                usage_error(format!("--penalty: found {other:?}, expected inf, diagonal or a number of mm"))
            })?),
        };
    }
    s.ignore = args.ignore_label;
    if let Some(given) = &args.spacing {
        s.spacing = Some(match given.as_slice() {
            [x, y, z] => [*x, *y, *z],
            [x, y] => [*x, *y, 1.0],
            _ => return Err(usage_error(format!("--spacing: found {} numbers, expected x,y,z or x,y", given.len()))),
        });
    }
    s.flat = args.flat;
    let mut table = args.labels.as_deref().map_or_else(|| Ok(table::Table::default()), table::labels)?;
    if let Some(r) = &args.regions {
        table::regions(r, &mut table)?;
    }
    s.table.extend(table.tolerances.iter().map(|(k, v)| (*k, *v)));
    match args.tolerance_table.as_deref() {
        Some("flare") => s.table.extend((1..).zip(volseg_metrics::FLARE_TOLERANCES)),
        Some(file) => s.table.extend(table::tolerances(file.as_ref(), &table)?),
        None => {}
    }
    s.check().map_err(|e| usage_error(e.to_string()))?;
    let pooled = preset == Some(volseg_metrics::Preset::SamMed3d);
    let by_case = preset == Some(volseg_metrics::Preset::Monai);
    let rule = match args.mean {
        Some(RuleArg::CaseThenMean) => Rule::CaseThenMean,
        Some(RuleArg::Pooled) => Rule::Pooled,
        Some(RuleArg::LabelThenMean) => Rule::LabelThenMean,
        None if pooled => Rule::Pooled,
        None if by_case => Rule::CaseThenMean,
        None => Rule::LabelThenMean,
    };
    Ok(Plan {
        selection: Selection {
            listed: (!table.sets.is_empty()).then(|| table.sets.clone()),
            gt_map: table::map(args.gt_map.as_deref(), args.map_strict)?,
            pred_map: table::map(args.pred_map.as_deref(), args.map_strict)?,
        },
        table,
        grid: GridRules {
            tolerance_mm: args.affine_tol,
            strict: args.strict_grid,
            ignore_affine: args.ignore_affine,
            resample: args.resample.is_some(),
        },
        rule,
        mean_over: args.mean_over,
        bootstrap: args.bootstrap,
        seed: global.seed,
        preset: args.preset.clone(),
        missing_zero: args.missing == MissingArg::Zero,
        spacing_given: s.spacing.is_some(),
        flat: args.flat,
        pictures: args.report.is_some(),
        settings: s,
    })
}
