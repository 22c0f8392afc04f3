//! `volseg experiment`: the paper's tables on one's own pictures or CTs.

use crate::{
    exit::{ExitCode, usage_error},
    global::Global,
    request::load_model,
};
use super::train::judged;
use anyhow::Context;
use std::path::{Path, PathBuf};
use volseg_engine::{Observer, Request, Stage, segment};
use volseg_geometry::Modality;
use volseg_model::embedded;
use volseg_train::{
    Asked, CtSet, Experiment, ExperimentConfig, ExperimentData, PictureSet, Progress, SplitRule, plan, run_experiment,
};

/// Reproduce the paper's tables on a set of pictures or CTs
///
/// Trains stage 1 on a tenth of the labels and stage 2 on rankings by a simulated annotator, with the controls that say what
/// the gain is worth. A stopped experiment goes on where it was; experiments share runs in one --out.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  volseg experiment fig3 --data busi --out results --plan
  volseg experiment fig3 --data busi --out results
  volseg experiment table2 --data busi --out results
  volseg experiment table4 --data cxr --out results_cxr --organ lungs --modality xray --seeds 0,1
  volseg experiment table2 --data AMOS22 --out results_ct --tolerance 2
  volseg experiment figures --data busi --out results")]
pub(crate) struct Args {
    /// fig3, table1, table2, table4, table5, retrain or figures
    #[arg(value_name = "NAME")]
    name: String,
    /// Pictures in any layout that `train prompt` reads (index.csv beside them or not), or CTs with AMOS22's or nnU-Net's dataset.json
    #[arg(long, value_name = "DIR|FILE")]
    data: PathBuf,
    /// Folder for the runs and the tables
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Check the data, print the runs and the expected hours (from a few measured steps), and stop
    #[arg(long)]
    plan: bool,
    /// xray, ultrasound, ct or mr [default: looks at a few pictures]
    #[arg(long, value_name = "MODALITY")]
    modality: Option<String>,
    /// Organ of the masks [default: lungs for X-rays, breast_tumor for ultrasound]; of CTs one or more [default: all of dataset.json]
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    organ: Vec<String>,
    /// Tolerance of the surface Dice of CTs, mm
    #[arg(long, default_value_t = 2.0, value_name = "MM")]
    tolerance: f64,
    /// Column of index.csv that keeps pictures together [default: one whose name ends in group, patient or case]
    #[arg(long, value_name = "NAME")]
    group_column: Option<String>,
    /// Answers of a question answering model about the pictures, for table1
    #[arg(long, value_name = "FILE.jsonl")]
    answers: Option<PathBuf>,
    /// Each seed draws its own test part and repeats every run
    #[arg(long, value_delimiter = ',', default_value = "0,1,2", value_name = "LIST")]
    seeds: Vec<u64>,
    /// Steps of stage 1
    #[arg(long, default_value_t = 600, value_name = "N")]
    steps: usize,
    /// Greatest learning rate of stage 1 [default: that of `train prompt`]
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f32>,
    /// Epochs of stage 2
    #[arg(long, default_value_t = 16, value_name = "N")]
    epochs: usize,
    /// organ (by name) or box (around the true mask, its sides off by up to a tenth)
    #[arg(long, default_value = "organ", value_name = "KIND")]
    prompts: String,
    /// full (the embedded network's sizes at 128 px) or small (64 px, a tenth of the work)
    #[arg(long, default_value = "full", value_name = "SIZE")]
    size: String,
    /// Also train stage 1 on all labels
    #[arg(long)]
    full_labels: bool,
}

struct Lines<'a>(&'a Global);

impl Progress for Lines<'_> {
    fn line(&mut self, text: &str) {
        self.0.tell(text);
    }
}

struct Silent;

impl Observer for Silent {
    fn progress(&self, _: Stage, _: usize, _: usize) {}
}

pub(crate) fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let experiment: Experiment = args.name.parse().map_err(|e: volseg_train::Error| usage_error(e.to_string()))?;
    let prompts = match args.prompts.as_str() {
        "organ" => Asked::Organ,
        "box" => Asked::Box,
        other => return Err(usage_error(format!("--prompts {other}: expected organ or box"))),
    };
    if let Some(twice) = args.seeds.iter().enumerate().find_map(|(n, s)| args.seeds[..n].contains(s).then_some(s)) {
        return Err(usage_error(format!("--seeds: found {twice} twice, expected different ones")));
    }
    let model = match args.size.as_str() {
        "full" => embedded::Config::default(),
        "small" => embedded::Config {
            side: 64,
            stages: [16, 16, 32, 64, 96, 128],
            width: 64,
            dense: [32, 16, 8],
            cross_width: 32,
            mlp: 256,
            ..embedded::Config::default()
        },
        other => return Err(usage_error(format!("--size {other}: expected full or small"))),
    };
    if let Some(rate) = args.learning_rate.filter(|r| !(r.is_finite() && *r > 0.0)) {
        return Err(usage_error(format!("--learning-rate: found {rate}, expected a number above 0")));
    }
    if args.answers.is_some() && (experiment != Experiment::Table1 || args.data.join("dataset.json").is_file()) {
        return Err(usage_error("--answers is for table1 of pictures"));
    }
    let config = ExperimentConfig {
        data: data(&args, prompts, global)?,
        seeds: args.seeds.clone(),
        steps: args.steps,
        learning_rate: args.learning_rate,
        epochs: args.epochs,
        prompts,
        model,
        full: args.full_labels,
    };
    if args.plan {
        let runs = plan(experiment, &config, &args.out).map_err(judged)?;
        for r in &runs {
            let state = if r.done { "done" } else { "to do" };
            global.print(format!("{:<24} {state:<6} {:7.1} min\n", r.name, r.seconds / 60.0))?;
        }
        let left: f64 = runs.iter().filter(|r| !r.done).map(|r| r.seconds).sum();
        global.print(format!(
            "{} runs, about {:.1} hours of training left on this machine; scoring the test part comes on top\n",
            runs.len(),
            left / 3600.0
        ))?;
        return Ok(ExitCode::Done);
    }
    let table = run_experiment(experiment, &config, &args.out, &mut Lines(global)).map_err(judged)?;
    global.print(&table)?;
    Ok(ExitCode::Done)
}

/// The pictures or CTs of `--data`.
fn data(args: &Args, prompts: Asked, global: &Global) -> anyhow::Result<ExperimentData> {
    if args.data.join("dataset.json").is_file() {
        if prompts != Asked::Organ {
            return Err(usage_error("--prompts box: the organs of CTs are asked for by name"));
        }
        if !(args.tolerance.is_finite() && args.tolerance >= 0.0) {
            return Err(usage_error(format!("--tolerance: found {}, expected 0 mm or more", args.tolerance)));
        }
        return Ok(ExperimentData::Cts {
            cts: CtSet {
                path: args.data.clone(),
                organs: args.organ.clone(),
                batch: 8,
                // The runs draw their own parts.
                split: SplitRule::default(),
                labelled: 1.0,
                unannotated: 0.0,
                slices: 4,
            },
            tolerance_mm: args.tolerance,
        });
    }
    let modality = match &args.modality {
        Some(text) => text.parse().map_err(|e: volseg_geometry::Error| usage_error(e.to_string()))?,
        None if args.data.join("images").is_dir() => look(&args.data, global)?,
        None => {
            return Err(usage_error(format!(
                "{}: without images/ or dataset.json in it, say what the pictures are with --modality",
                args.data.display()
            )));
        }
    };
    let organ = match (args.organ.as_slice(), modality) {
        ([one], _) => one.as_str(),
        ([], Modality::Xray) => "lungs",
        ([], _) => "breast_tumor",
        _ => return Err(usage_error("--organ: found several, expected one, since these are pictures with one mask each")),
    };
    Ok(ExperimentData::Pictures(PictureSet {
        path: args.data.clone(),
        modality,
        organ: organ.to_owned(),
        label: None,
        batch: 8,
        group_column: args.group_column.clone().or_else(|| group_column(&args.data)),
        split: None,
        labelled: 1.0,
        unannotated: 0.0,
        boxes: None,
        answers: args.answers.clone(),
        answers_alone: false,
    }))
}

/// What the embedded model takes most of the first pictures for.
fn look(data: &Path, global: &Global) -> anyhow::Result<Modality> {
    let images = data.join("images");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&images)
        .with_context(|| format!("could not list {}", images.display()))?
        .filter_map(|e| Some(e.ok()?.path()))
        .collect();
    files.sort();
    let model = load_model("embedded", &global.network_device()?, global.precision)?;
    let mut xrays = 0;
    let seen = files.len().min(5);
    for file in files.iter().take(seen) {
        let image = crate::inputs::image(file, None)?;
        let answer = segment(&image, &model, &Request::default(), global.threads, &Silent)?;
        xrays += usize::from(answer.modality == Modality::Xray);
    }
    Ok(if 2 * xrays > seen { Modality::Xray } else { Modality::Ultrasound })
}

/// A column of `index.csv` that tells what belongs together.
fn group_column(data: &Path) -> Option<String> {
    let text = std::fs::read_to_string(data.join("index.csv")).ok()?;
    let ends = ["group", "patient", "case"];
    text.trim_start_matches('\u{feff}').lines().next()?.split(',').map(str::trim).find(|c| ends.iter().any(|e| c.ends_with(e))).map(str::to_owned)
}
