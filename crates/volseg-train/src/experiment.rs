//! `volseg experiment`: the paper's tables on a set of pictures, with the controls that tell what the gain is worth.
//!
//! A table is a set of named runs. Each run leaves its model and a `result.json` in its folder; a table that was stopped goes
//! on where it was, and tables that need the same run share it. Every seed draws its own test part, so gains are paired.

mod cases;
mod evaluate;
mod figures;
mod plan;
mod prompts;
mod runs;
mod table;

pub use plan::{Planned, plan};

use crate::asked::attach_texts;
use crate::checkpoint::hold;
use crate::cts::Cts;
use crate::pictures::{Part, Picture, load_pictures, read_pictures};
use crate::split::assign;
use crate::{
    AlignConfig, Asked, CtSet, Error, PictureSet, Progress, SplitRule, TrainConfig, train_align, train_prompt,
};
use evaluate::{Scores, score};
use runs::{LABELLED, OURS, Run};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;
use volseg_model::embedded;

/// A table or figure of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Experiment {
    /// Dice against the share of unannotated data.
    Fig3,
    /// What the parts of the method are worth.
    Table1,
    /// Ranking, rating, best candidate.
    Table2,
    /// Wrong rankings.
    Table4,
    /// Weights b1 and b2.
    Table5,
    /// The whole network trained on what one round of ranks makes of unannotated pictures.
    Retrain,
    /// Image, saliency, peer, ours, truth.
    Figures,
}

impl Experiment {
    /// Its name on the command line and of its files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fig3 => "fig3",
            Self::Table1 => "table1",
            Self::Table2 => "table2",
            Self::Table4 => "table4",
            Self::Table5 => "table5",
            Self::Retrain => "retrain",
            Self::Figures => "figures",
        }
    }
}

impl FromStr for Experiment {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let all = [Self::Fig3, Self::Table1, Self::Table2, Self::Table4, Self::Table5, Self::Retrain, Self::Figures];
        let found = all.into_iter().find(|e| e.name() == text);
        found.ok_or_else(|| {
            Error::Config(format!(
                "experiment `{text}`: expected fig3, table1, table2, table4, table5, retrain or figures"
            ))
        })
    }
}

/// What an experiment is made with; the split and the shares are set by the runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ExperimentData {
    /// Pictures of one organ: mean Dice over pictures.
    Pictures(PictureSet),
    /// CTs of several organs: whole cases in 3D, mean Dice and mean surface Dice over organs.
    Cts {
        /// The CTs.
        cts: CtSet,
        /// Tolerance of the surface Dice, mm.
        tolerance_mm: f64,
    },
}

/// Settings of an experiment; what is not said here is a default of stage 1 or 2.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExperimentConfig {
    /// The pictures or CTs.
    pub data: ExperimentData,
    /// One run of everything a seed.
    pub seeds: Vec<u64>,
    /// Steps of stage 1.
    pub steps: usize,
    /// Greatest learning rate of stage 1; that of [`TrainConfig`] if absent.
    pub learning_rate: Option<f32>,
    /// Epochs of stage 2.
    pub epochs: usize,
    /// How organs are asked for.
    pub prompts: Asked,
    /// The network of stage 1.
    pub model: embedded::Config,
    /// Also stage 1 with all labels (fig3).
    pub full: bool,
}

fn result(out: &Path, name: &str) -> Result<Option<Scores>, Error> {
    let path = out.join("runs").join(name).join("result.json");
    match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(|e| Error::Data(format!("{}: {e}", path.display()))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { what: format!("read {}", path.display()), source }),
    }
}

/// The scores of a run: those that it left, or `carry_out`'s, which are then left in its folder. `place`: the run's number and how
/// many there are.
fn cached(
    out: &Path,
    name: &str,
    place: [usize; 2],
    progress: &mut dyn Progress,
    carry_out: impl FnOnce(&mut dyn Progress) -> Result<Scores, Error>,
) -> Result<Scores, Error> {
    let scores = match result(out, name)? {
        Some(scores) => scores,
        None => {
            progress.line(&format!("run {} of {}: {name}", place[0], place[1]));
            let scores = carry_out(progress)?;
            let text = serde_json::to_string_pretty(&scores).map_err(|e| Error::Data(e.to_string()))?;
            let mut file = volseg_io::AtomicFile::create(&out.join("runs").join(name).join("result.json"))?;
            std::io::Write::write_all(&mut file, text.as_bytes())
                .map_err(|source| Error::Io { what: "write result.json".into(), source })?;
            file.commit()?;
            scores
        }
    };
    progress.line(&format!("{name}: test Dice {:.4} (tuned {:.4})", scores.dice, scores.tuned));
    Ok(scores)
}

/// Mean and sample deviation, which one value does not have.
fn spread(values: &[f64]) -> Option<(f64, Option<f64>)> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let deviation = || (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    (n > 0.0).then(|| (mean, (n > 1.0).then(deviation)))
}

/// A deviation behind its mean.
fn plus_minus(deviation: Option<f64>, digits: usize) -> String {
    deviation.map_or(String::new(), |d| format!(" ± {d:.digits$}"))
}

/// Runs what is not done yet and writes the table or figure into `out`. Returns the table as Markdown.
///
/// # Errors
/// As the two stages.
pub fn run_experiment(
    experiment: Experiment,
    config: &ExperimentConfig,
    out: &Path,
    progress: &mut dyn Progress,
) -> Result<String, Error> {
    let io = |what: &str| {
        let what = what.to_owned();
        move |source| Error::Io { what, source }
    };
    // A set that cannot be used leaves nothing behind, or its settings would stand in the way of better ones.
    check(experiment, config, out)?;
    let _held = hold(out)?;
    std::fs::create_dir_all(out.join("runs")).map_err(io("make the folder of the runs"))?;
    std::fs::write(out.join(SETTINGS), settings(config)?).map_err(io("write experiment.toml"))?;
    if let (ExperimentData::Pictures(set), Experiment::Table1) = (&config.data, experiment) {
        return prompts::run(config, set, out, progress);
    }
    let mut results = BTreeMap::new();
    let runs = experiment.runs(config);
    for (n, run) in runs.iter().enumerate() {
        let name = run.name();
        let scores =
            cached(out, &name, [n + 1, runs.len()], progress, |progress| carry_out(run, config, out, progress))?;
        results.insert(name, scores);
    }
    if experiment == Experiment::Figures {
        let ExperimentData::Pictures(pictures) = &config.data else { return Err(pictures_only()) };
        let seed = config.seeds.first().copied().unwrap_or(0);
        let pictures = load_pictures(&picture_set(pictures, seed, LABELLED, 0.2))?;
        let test: Vec<(u64, &Picture)> = shown(&pictures, Part::Test).into_iter().take(8).collect();
        let stage2 = Run::Align { row: OURS, unannotated: 0.2, seed };
        let path = out.join("figures.png");
        figures::draw(
            &test,
            &model(out, &Run::Stage1 { labelled: LABELLED, seed }),
            &model(out, &stage2),
            config.prompts,
            &path,
        )?;
        return Ok(format!("{} pictures of the test part in figures.png\n", test.len()));
    }
    table::write(experiment, config, &results, out)
}

/// Refuses what the runs would refuse, before any of them and without leaving a file. Returns the pictures that were read.
fn check(experiment: Experiment, config: &ExperimentConfig, out: &Path) -> Result<Vec<Picture>, Error> {
    let cts = matches!(config.data, ExperimentData::Cts { .. });
    if cts && matches!(experiment, Experiment::Figures | Experiment::Retrain) {
        return Err(pictures_only());
    }
    let mut pictures = Vec::new();
    match &config.data {
        ExperimentData::Pictures(set) => {
            let groups;
            (pictures, groups) = read_pictures(set)?;
            for &seed in &config.seeds {
                let parts = assign(&groups, Some(rule(seed)), LABELLED, LABELLED)?;
                let shown: Vec<Part> = parts
                    .into_iter()
                    .zip(&pictures)
                    .filter(|(_, p)| p.mask.contains(&1))
                    .map(|(part, _)| part)
                    .collect();
                no_empty_part(seed, &set.organ, |part| shown.contains(&part))?;
            }
            if set.answers.is_some() {
                // An answer that is missing is found now and not hours later.
                attach_texts(&mut pictures, &PictureSet { answers_alone: true, ..set.clone() })?;
            }
        }
        ExperimentData::Cts { cts, .. } => {
            for &seed in &config.seeds {
                let found = Cts::find(&CtSet { split: rule(seed), ..cts.clone() })?;
                no_empty_part(seed, "CT", |part| found.of(part).next().is_some())?;
            }
        }
    }
    match std::fs::read_to_string(out.join(SETTINGS)) {
        Ok(old) if seedless(&old) != seedless(&settings(config)?) => {
            Err(Error::Config(format!("{} holds runs with other settings; take another --out", out.display())))
        }
        _ => Ok(pictures),
    }
}

/// Refuses a seed that leaves nothing for a part that every run needs.
fn no_empty_part(seed: u64, what: &str, holds: impl Fn(Part) -> bool) -> Result<(), Error> {
    let needed = [(Part::Train, "train on"), (Part::Validation, "validate"), (Part::Test, "test on")];
    needed.into_iter().find(|(part, _)| !holds(*part)).map_or(Ok(()), |(_, of)| {
        Err(Error::Data(format!(
            "seed {seed}: nothing that shows {what} falls into the part to {of}: there is too little, or too much belongs together"
        )))
    })
}

fn settings(config: &ExperimentConfig) -> Result<String, Error> {
    toml::to_string(config).map_err(|e| Error::Config(e.to_string()))
}

/// Settings that must not change between calls into one folder: all but the seeds and the full-label run.
fn seedless(text: &str) -> String {
    text.lines().filter(|l| !l.starts_with("seeds") && !l.starts_with("full")).collect()
}

fn model(out: &Path, run: &Run) -> PathBuf {
    out.join("runs").join(run.name()).join("model.safetensors")
}

/// Pictures of a part that show the organ, with their places among all.
fn shown(pictures: &[Picture], part: Part) -> Vec<(u64, &Picture)> {
    (0..).zip(pictures).filter(|(_, p)| p.part == part && p.mask.contains(&1)).collect()
}

fn pictures_only() -> Error {
    Error::Config("figures and retrain are for pictures; CTs have the tables and fig3".into())
}

fn picture_set(set: &PictureSet, seed: u64, labelled: f32, unannotated: f32) -> PictureSet {
    PictureSet { split: Some(rule(seed)), labelled, unannotated, batch: BATCH, ..set.clone() }
}

fn rule(seed: u64) -> SplitRule {
    SplitRule { seed, test: 0.25, validation: 0.1, ..SplitRule::default() }
}

/// Name of the settings in the folder of an experiment.
const SETTINGS: &str = "experiment.toml";
/// Images of a step of stage 1.
const BATCH: usize = 8;
/// Prompt rows of a slice of a CT in stage 1.
const ROWS_CT: usize = 2;

fn carry_out(run: &Run, config: &ExperimentConfig, out: &Path, progress: &mut dyn Progress) -> Result<Scores, Error> {
    let folder = out.join("runs").join(run.name());
    let began = Instant::now();
    let (labelled, unannotated, seed) = match *run {
        Run::Stage1 { labelled, seed } => (labelled, 0.0, seed),
        Run::Align { unannotated, seed, .. } => (LABELLED, unannotated, seed),
    };
    let (mut pictures, mut cts) = (Vec::new(), None);
    match &config.data {
        ExperimentData::Pictures(set) => pictures.push(picture_set(set, seed, labelled, unannotated)),
        ExperimentData::Cts { cts: set, .. } => {
            cts = Some(CtSet { split: rule(seed), labelled, unannotated, batch: BATCH, ..set.clone() });
        }
    }
    match run {
        Run::Stage1 { .. } => {
            let stage1 = TrainConfig {
                steps: config.steps,
                learning_rate: config.learning_rate.unwrap_or(TrainConfig::default().learning_rate),
                seed,
                save_every: 100,
                validate_every: config.steps,
                rows_ct: ROWS_CT,
                model: config.model.clone(),
                pictures: pictures.clone(),
                cts: cts.clone(),
                ..TrainConfig::default()
            };
            train_prompt(&stage1, &folder, true, &candle_core::Device::Cpu, progress)?;
        }
        Run::Align { row, .. } => {
            let mut stage2 = AlignConfig {
                model: Some(model(out, &Run::Stage1 { labelled: LABELLED, seed })),
                seed,
                epochs: config.epochs,
                prompts: config.prompts,
                patience: 0,
                pictures: pictures.clone(),
                cts: cts.clone(),
                ..AlignConfig::default()
            };
            (row.change)(&mut stage2, config);
            train_align(&stage2, &folder, true, progress)?;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let weights = folder.join("model.safetensors");
    let scores = match (&config.data, &cts) {
        (ExperimentData::Cts { tolerance_mm, .. }, Some(set)) => cases::score(&weights, set, *tolerance_mm)?,
        _ => {
            let pictures = pictures.iter().map(load_pictures).collect::<Result<Vec<_>, _>>()?.concat();
            score(&weights, &shown(&pictures, Part::Test), &shown(&pictures, Part::Validation), config.prompts)?
        }
    };
    Ok(Scores { seconds, ..scores })
}
