//! Results to a table (CSV, Markdown) and a plot.

use super::evaluate::Scores;
use super::runs::{LABELLED, Run};
use super::{Experiment, ExperimentConfig, ExperimentData, plus_minus, spread};
use crate::{Error, curves};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

/// Gain of doubling the labels below which a share of it means nothing.
const LEAST_DOUBLING: f64 = 0.002;

/// A score that gains are told in: its name, its value at threshold 0.5 and with the threshold tuned.
type Measure = (String, fn(&Scores) -> f64, fn(&Scores) -> f64);

/// Results of an experiment and how to find one.
struct Results<'a> {
    experiment: Experiment,
    config: &'a ExperimentConfig,
    by_run: &'a BTreeMap<String, Scores>,
}

/// Writes `NAME.csv`, `NAME.md` and `NAME.png`.
pub(super) fn write(
    experiment: Experiment,
    config: &ExperimentConfig,
    by_run: &BTreeMap<String, Scores>,
    out: &Path,
) -> Result<String, Error> {
    let results = Results { experiment, config, by_run };
    let mut text = results.head();
    text += &results.stage1_table();
    let mut lines = Vec::new();
    for (n, measure) in results.measures().iter().enumerate() {
        let (table, drawn) = results.gains(measure);
        text += &table;
        if n == 0 {
            lines = drawn;
        }
    }
    text += &results.organs();
    let name = experiment.name();
    let file = |ending: &str| out.join(format!("{name}.{ending}"));
    for (ending, content) in [("csv", &results.csv()), ("md", &text)] {
        std::fs::write(file(ending), content)
            .map_err(|source| Error::Io { what: format!("write {name}.{ending}"), source })?;
    }
    curves::draw_within(&file("png"), &lines, "unannotated, % of the training part", [-2.0, 6.0])?;
    Ok(text)
}

impl Results<'_> {
    fn stage1(&self, labelled: f32, seed: u64) -> Option<&Scores> {
        self.by_run.get(&Run::Stage1 { labelled, seed }.name())
    }

    fn is_of_cts(&self) -> bool {
        matches!(self.config.data, ExperimentData::Cts { .. })
    }

    fn measures(&self) -> Vec<Measure> {
        match self.config.data {
            ExperimentData::Pictures(_) => vec![("Dice".into(), |s| s.dice, |s| s.tuned)],
            ExperimentData::Cts { tolerance_mm, .. } => vec![
                ("mDice".into(), |s| s.dice, |s| s.tuned),
                (
                    format!("mSDC (surface Dice at {tolerance_mm} mm)"),
                    |s| s.surface.map_or(f64::NAN, |v| v[0]),
                    |s| s.surface.map_or(f64::NAN, |v| v[1]),
                ),
            ],
        }
    }

    fn head(&self) -> String {
        let c = self.config;
        format!(
            "10 % labelled, {} {} in each test part, {} steps of stage 1 at {} px, {} epochs of stage 2, prompts: {:?}, seeds {:?}\n\n",
            self.by_run.values().map(|s| s.pictures).max().unwrap_or(0),
            if self.is_of_cts() { "CTs" } else { "pictures" },
            c.steps,
            c.model.side,
            c.epochs,
            c.prompts,
            c.seeds
        )
    }

    fn stage1_table(&self) -> String {
        let mut columns: Vec<Measure> = Vec::new();
        for (name, plain, tuned) in self.measures() {
            columns.push((name.clone(), plain, plain));
            columns.push((format!("{name}, tuned threshold"), tuned, tuned));
        }
        columns.insert(1, ("IoU".into(), |s| s.iou, |s| s.iou));
        if !self.is_of_cts() {
            columns.push(("first mask (U-Net)".into(), |s| s.first, |s| s.first));
            columns.push(("self-prompted once more".into(), |s| s.again, |s| s.again));
            columns.push(("oracle box".into(), |s| s.boxed, |s| s.boxed));
        }
        let names: Vec<&str> = columns.iter().map(|c| c.0.as_str()).collect();
        let mut text = format!("| stage 1 alone | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(columns.len()));
        for labelled in [LABELLED, 2.0 * LABELLED, 1.0] {
            let of: Vec<&Scores> = self.config.seeds.iter().filter_map(|&s| self.stage1(labelled, s)).collect();
            if of.is_empty() {
                continue;
            }
            let _ = write!(text, "| {:.0} % labels |", 100.0 * labelled);
            for (_, value, _) in &columns {
                let values: Vec<f64> = of.iter().map(|s| value(s)).collect();
                let cell = spread(&values).map_or("-".into(), |(m, d)| format!("{m:.4}{}", plus_minus(d, 4)));
                let _ = write!(text, " {cell} |");
            }
            text.push('\n');
        }
        text
    }

    /// Gains over stage 1 with 10 % labels, in points, and the lines of the plot.
    fn gains(&self, (name, plain, tuned): &Measure) -> (String, Vec<curves::Line>) {
        let (rows, shares) = self.experiment.rows();
        let mut text = format!(
            "\nGain over stage 1 with 10 % labels, {name} points (paired by seed, mean ± deviation; in brackets with the threshold tuned on the validation part for both):\n\n| stage 2 |"
        );
        for share in shares {
            let _ = write!(text, " {:.0} % unannotated |", 100.0 * share);
        }
        let _ = write!(text, " share of the 20 %-label gain |\n|---|{}---|\n", "---|".repeat(shares.len()));
        let mut lines = Vec::new();
        for row in &rows {
            let _ = write!(text, "| {} |", row.title);
            let (mut line, mut recovered) = (Vec::new(), Vec::new());
            for &unannotated in shares {
                let (mut gains, mut gains_tuned) = (Vec::new(), Vec::new());
                for &seed in &self.config.seeds {
                    let run = Run::Align { row: *row, unannotated, seed }.name();
                    let (Some(s), Some(base)) = (self.by_run.get(&run), self.stage1(LABELLED, seed)) else { continue };
                    gains.push(100.0 * (plain(s) - plain(base)));
                    gains_tuned.push(100.0 * (tuned(s) - tuned(base)));
                    if Some(&unannotated) == shares.first() {
                        recovered.extend(self.recovered(s, seed, *plain));
                    }
                }
                match (spread(&gains), spread(&gains_tuned)) {
                    (Some((m, d)), Some((t, _))) => {
                        let _ = write!(text, " {m:+.2}{} ({t:+.2}) |", plus_minus(d, 2));
                        line.push((100.0 * unannotated, m as f32));
                    }
                    _ => text += " - |",
                }
            }
            let share = spread(&recovered).map_or("-".into(), |(m, _)| format!("{:.0} %", 100.0 * m));
            let _ = writeln!(text, " {share} |");
            lines.push((row.key.to_owned(), line));
        }
        let blank = " - |".repeat(shares.len());
        let mut not_run = |what: &str, why: &str| {
            let _ = writeln!(text, "| {what} | not run: {why} |{blank}");
        };
        if self.experiment == Experiment::Table1 {
            not_run("without the saliency box", "the organs of CTs are asked for by learned tokens here");
            not_run("without text", "as above");
            not_run("- VQA", "no VQA model");
            not_run("- GPT-4", "no VQA model");
        }
        if self.is_of_cts() {
            not_run("SAM-Med3D", "its weights are not at hand");
        }
        (text, lines)
    }

    /// Share of the gain of doubling the labels that a run of stage 2 has. That gain must be something for this to mean anything.
    fn recovered(&self, s: &Scores, seed: u64, value: fn(&Scores) -> f64) -> Option<f64> {
        let base = value(self.stage1(LABELLED, seed)?);
        let double = value(self.stage1(2.0 * LABELLED, seed)?) - base;
        (double > LEAST_DOUBLING).then(|| (value(s) - base) / double)
    }

    /// CTs: Dice and surface Dice of each organ, for stage 1 and the first row with most unannotated cases.
    fn organs(&self) -> String {
        let (rows, shares) = self.experiment.rows();
        let names: BTreeSet<&String> = self.by_run.values().flat_map(|s| s.organs.keys()).collect();
        let (Some(row), Some(&most), false) = (rows.first(), shares.last(), names.is_empty()) else {
            return String::new();
        };
        let mut text = format!(
            "\nEach organ: Dice / surface Dice, means over cases and seeds.\n\n| organ | stage 1, 10 % labels | 20 % labels | {}, {:.0} % unannotated |\n|---|---|---|---|\n",
            row.title,
            100.0 * most
        );
        for name in names {
            let _ = write!(text, "| {name} |");
            for run in [
                |_, _, seed| Run::Stage1 { labelled: LABELLED, seed },
                |_, _, seed| Run::Stage1 { labelled: 2.0 * LABELLED, seed },
                |row, unannotated, seed| Run::Align { row, unannotated, seed },
            ] {
                let seeds = self.config.seeds.iter().map(|&seed| run(*row, most, seed).name());
                let found: Vec<[f64; 2]> =
                    seeds.filter_map(|r| self.by_run.get(&r)?.organs.get(name).copied()).collect();
                let [dice, surface] = [0, 1].map(|k| spread(&found.iter().map(|v| v[k]).collect::<Vec<_>>()));
                let cell = dice.zip(surface).map_or("-".into(), |(d, s)| format!("{:.3} / {:.3}", d.0, s.0));
                let _ = write!(text, " {cell} |");
            }
            text.push('\n');
        }
        text
    }

    fn csv(&self) -> String {
        let (rows, shares) = self.experiment.rows();
        let mut csv = String::from(
            "row,unannotated_percent,seed,dice,iou,gain_points,tuned_dice,tuned_gain_points,recovered,surface_dice,tuned_surface_dice\n",
        );
        let surface = |s: &Scores| s.surface.map_or(",".to_owned(), |[a, b]| format!("{a:.5},{b:.5}"));
        for &seed in &self.config.seeds {
            let Some(base) = self.stage1(LABELLED, seed) else { continue };
            let mut line = |title: &str, percent: f32, s: &Scores, recovered: Option<f64>| {
                let _ = writeln!(
                    csv,
                    "{},{percent:.0},{seed},{:.5},{:.5},{:.3},{:.5},{:.3},{},{}",
                    title.replace(',', ";"),
                    s.dice,
                    s.iou,
                    100.0 * (s.dice - base.dice),
                    s.tuned,
                    100.0 * (s.tuned - base.tuned),
                    recovered.map_or(String::new(), |v| format!("{v:.3}")),
                    surface(s)
                );
            };
            for labelled in [LABELLED, 2.0 * LABELLED, 1.0] {
                if let Some(s) = self.stage1(labelled, seed) {
                    line(&format!("stage 1 with {:.0} % labels", 100.0 * labelled), 0.0, s, None);
                }
            }
            for row in &rows {
                for &unannotated in shares {
                    if let Some(s) = self.by_run.get(&Run::Align { row: *row, unannotated, seed }.name()) {
                        let recovered = self.recovered(s, seed, |s| s.dice);
                        line(row.title, 100.0 * unannotated, s, recovered);
                    }
                }
            }
        }
        csv
    }
}
