//! Table 1 on pictures: what text, saliency box and alignment are worth, each trained and tested with its own prompts.
//!
//! The parts are those that hang on the groups' names: the image-text model that ships inside was trained on the training part of
//! that split, so that the boxes of the test part are of pictures that it never saw. Seeds draw initial weights and order.

use super::evaluate::{Scores, score};
use super::runs::LABELLED;
use super::{BATCH, ExperimentConfig, ExperimentData, cached, plus_minus, shown, spread};
use crate::asked::{attach_texts, text_length};
use crate::dataset;
use crate::pictures::{Part, load_pictures};
use crate::{AlignConfig, Asked, Error, PictureSet, Progress, TrainConfig, train_align, train_prompt};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::Instant;
use volseg_geometry::OrganId;
use volseg_model::clip::{ClipModel, Fit, SHIPPED};
use volseg_model::embedded;
use volseg_prompt::chain::{ChainRequest, Target, prompts};
use volseg_prompt::crf::CrfSettings;
use volseg_prompt::saliency::{FeatureCache, GScoreCam};

/// How a pair of rows is prompted.
struct Kind {
    /// Part of a run's name.
    key: &'static str,
    /// The row with alignment and the row without.
    titles: [&'static str; 2],
    asked: Asked,
    /// What the text is made of, where there are answers.
    answer: bool,
    description: bool,
}

const NO_ALIGNMENT: &str = "and without alignment";
const FULL: Kind = Kind {
    key: "full",
    titles: ["full method (ours)", "without alignment"],
    asked: Asked::TextAndGivenBox,
    answer: true,
    description: true,
};
const NO_BOX: Kind =
    Kind { key: "nobox", titles: ["without the saliency box", NO_ALIGNMENT], asked: Asked::Text, ..FULL };
const NO_TEXT: Kind = Kind { key: "notext", titles: ["without text", NO_ALIGNMENT], asked: Asked::GivenBox, ..FULL };
const NO_VQA: Kind = Kind { key: "novqa", titles: ["- VQA", NO_ALIGNMENT], answer: false, ..FULL };
const NO_GPT: Kind = Kind { key: "nogpt", titles: ["- GPT-4", NO_ALIGNMENT], description: false, ..FULL };

/// Rows that can be told apart: without answers all texts of an organ are its description.
fn kinds(config: &ExperimentConfig) -> &'static [Kind] {
    match &config.data {
        ExperimentData::Pictures(PictureSet { answers: Some(_), .. }) => &[FULL, NO_BOX, NO_TEXT, NO_VQA, NO_GPT],
        _ => &[FULL, NO_BOX, NO_TEXT],
    }
}
/// Share of the training part that is ranked.
pub(super) const UNANNOTATED: f32 = 0.2;

/// Names of the runs, those of stage 1 first of each pair, and whether they are stage 1.
pub(super) fn names(config: &ExperimentConfig) -> Vec<(String, bool)> {
    let of = |&seed: &u64| {
        kinds(config).iter().flat_map(move |Kind { key, .. }| {
            [(format!("{key}-stage1-s{seed}"), true), (format!("{key}-aligned-s{seed}"), false)]
        })
    };
    config.seeds.iter().flat_map(of).collect()
}

/// Runs what is not done yet and writes `table1.md` and `table1.csv`. Returns the table as Markdown.
pub(super) fn run(
    config: &ExperimentConfig,
    set: &PictureSet,
    out: &Path,
    progress: &mut dyn Progress,
) -> Result<String, Error> {
    let boxes = out.join("boxes.json");
    if !boxes.exists() {
        progress.line("boxes of the saliency chain");
        let found = saliency_boxes(set)?;
        let text = serde_json::to_string_pretty(&found).map_err(|e| Error::Data(e.to_string()))?;
        let mut file = volseg_io::AtomicFile::create(&boxes)?;
        std::io::Write::write_all(&mut file, text.as_bytes())
            .map_err(|source| Error::Io { what: "write boxes.json".into(), source })?;
        file.commit()?;
    }
    let whole = PictureSet {
        split: None,
        labelled: LABELLED,
        unannotated: UNANNOTATED,
        batch: BATCH,
        boxes: Some(boxes),
        ..set.clone()
    };
    let mut pictures = load_pictures(&whole)?;
    let tested = shown(&pictures, Part::Test).len();
    let runs = names(config).len();
    let mut results: BTreeMap<String, Scores> = BTreeMap::new();
    for &seed in &config.seeds {
        for &Kind { key, asked, answer, description, .. } in kinds(config) {
            let mut set = whole.clone();
            if !answer {
                set.answers = None;
            }
            set.answers_alone = set.answers.is_some() && !description;
            if asked.reads_text() {
                attach_texts(&mut pictures, &set)?;
            }
            let (test, validation) = (shown(&pictures, Part::Test), shown(&pictures, Part::Validation));
            let first = format!("{key}-stage1-s{seed}");
            let folder = out.join("runs").join(&first);
            let weights = folder.join("model.safetensors");
            let scores = cached(out, &first, [results.len() + 1, runs], progress, |progress| {
                let began = Instant::now();
                let text = if asked.reads_text() { Some(text_length()?) } else { None };
                let stage1 = TrainConfig {
                    steps: config.steps,
                    learning_rate: config.learning_rate.unwrap_or(TrainConfig::default().learning_rate),
                    seed,
                    save_every: 100,
                    validate_every: config.steps,
                    prompts: Some(asked),
                    model: embedded::Config { text, ..config.model.clone() },
                    pictures: vec![PictureSet { unannotated: 0.0, ..set.clone() }],
                    ..TrainConfig::default()
                };
                train_prompt(&stage1, &folder, true, &candle_core::Device::Cpu, progress)?;
                let seconds = began.elapsed().as_secs_f64();
                Ok(Scores { seconds, ..score(&weights, &test, &validation, asked)? })
            })?;
            results.insert(first, scores);
            let second = format!("{key}-aligned-s{seed}");
            let folder = out.join("runs").join(&second);
            let scores = cached(out, &second, [results.len() + 1, runs], progress, |progress| {
                let began = Instant::now();
                let stage2 = AlignConfig {
                    model: Some(weights.clone()),
                    seed,
                    epochs: config.epochs,
                    prompts: asked,
                    patience: 0,
                    pictures: vec![set.clone()],
                    ..AlignConfig::default()
                };
                train_align(&stage2, &folder, true, progress)?;
                let seconds = began.elapsed().as_secs_f64();
                Ok(Scores { seconds, ..score(&folder.join("model.safetensors"), &test, &validation, asked)? })
            })?;
            results.insert(second, scores);
        }
    }
    write(config, &results, tested, out)
}

/// The saliency chain's box of every picture, by name, in pixels of the picture.
fn saliency_boxes(set: &PictureSet) -> Result<BTreeMap<String, [f32; 4]>, Error> {
    let organ: OrganId = set.organ.parse().map_err(|e: volseg_geometry::Error| Error::Data(e.to_string()))?;
    let model = ClipModel::from_bytes(SHIPPED)?;
    let saliency = GScoreCam::of(&model, FeatureCache::default())?;
    // The settings of `volseg segment --prompts chain`.
    let request = ChainRequest {
        modality: set.modality,
        plane: None,
        window: None,
        fit: Fit::Squash,
        crf: CrfSettings::default(),
        side: 256,
        points: 0,
        second_part: 0.1,
        join: true,
        seed: 0,
        keep_views: false,
        keep_saliency: false,
    };
    dataset::find(&set.path, organ)?
        .into_par_iter()
        .map(|case| {
            let image = dataset::open(&case.image)?;
            if !image.is_picture() {
                return Err(Error::Data(format!("{}: table1 of volumes is for sets with a dataset.json", case.name)));
            }
            let chain = prompts(&image, &model, &saliency, &[Target::organ(organ)], &request, &|_, _| true)?;
            let found = chain.prompts.first().map(|p| p.bounds);
            let b = found.ok_or_else(|| Error::Data(format!("{}: the chain gave no prompt", case.name)))?;
            Ok((case.name, [b.x0, b.y0, b.x1, b.y1]))
        })
        .collect()
}

fn write(
    config: &ExperimentConfig,
    results: &BTreeMap<String, Scores>,
    pictures: usize,
    out: &Path,
) -> Result<String, Error> {
    let mut text = format!(
        "10 % labelled, {:.0} % ranked, {pictures} pictures in the test part (the part of the groups' names, not drawn by a seed), {} steps of stage 1 at {} px, {} epochs of stage 2, seeds {:?}\n\n| | Dice | IoU | Dice, tuned threshold | gain of alignment, points |\n|---|---|---|---|---|\n",
        100.0 * UNANNOTATED,
        config.steps,
        config.model.side,
        config.epochs,
        config.seeds
    );
    let mut csv = String::from("row,seed,dice,iou,tuned_dice,gain_points\n");
    for &Kind { key, titles: [with, without], .. } in kinds(config) {
        let of = |kind: &str| -> Vec<(u64, &Scores)> {
            let name = |s: &u64| Some((*s, results.get(&format!("{key}-{kind}-s{s}"))?));
            config.seeds.iter().filter_map(name).collect()
        };
        let (first, second) = (of("stage1"), of("aligned"));
        let gains: Vec<f64> = second.iter().zip(&first).map(|((_, b), (_, a))| 100.0 * (b.dice - a.dice)).collect();
        let gain = spread(&gains).map_or("-".into(), |(m, d)| format!("{m:+.2}{}", plus_minus(d, 2)));
        for (title, of, gain) in [(with, &second, gain.as_str()), (without, &first, "-")] {
            let cell = |f: fn(&Scores) -> f64| {
                let values: Vec<f64> = of.iter().map(|(_, s)| f(s)).collect();
                spread(&values).map_or("-".into(), |(m, d)| format!("{m:.4}{}", plus_minus(d, 4)))
            };
            let cells = [cell(|s| s.dice), cell(|s| s.iou), cell(|s| s.tuned)].join(" | ");
            let _ = writeln!(text, "| {title} | {cells} | {gain} |");
            let base: BTreeMap<u64, f64> = first.iter().map(|(seed, s)| (*seed, s.dice)).collect();
            for (seed, s) in of {
                let gain = base.get(seed).map_or(f64::NAN, |b| 100.0 * (s.dice - b));
                let _ = writeln!(csv, "{key}: {title},{seed},{:.5},{:.5},{:.5},{gain:.3}", s.dice, s.iou, s.tuned);
            }
        }
    }
    let unanswered = kinds(config).iter().all(|k| k.description);
    let no_answers = [("- VQA", "no VQA model"), ("- GPT-4", "no VQA model")].into_iter().filter(|_| unanswered);
    for (row, why) in no_answers.chain([("SAM-Med3D", "its weights are not at hand, and these are pictures")]) {
        let _ = writeln!(text, "| {row} | not run: {why} | - | - | - |");
    }
    for (ending, content) in [("csv", &csv), ("md", &text)] {
        std::fs::write(out.join(format!("table1.{ending}")), content)
            .map_err(|source| Error::Io { what: format!("write table1.{ending}"), source })?;
    }
    Ok(text)
}
