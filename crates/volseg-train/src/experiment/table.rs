//! Results to a table (CSV, Markdown) and a plot.

use super::evaluate::Scores;
use super::runs::{LABELLED, Run};
use super::{Experiment, ExperimentConfig};
use crate::{Error, curves};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// Mean and sample deviation.
fn spread(values: &[f64]) -> Option<(f64, f64)> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let deviation =
        if n > 1.0 { (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt() } else { 0.0 };
    (n > 0.0).then_some((mean, deviation))
}

/// Writes `NAME.csv`, `NAME.md` and `NAME.png`.
pub(super) fn write(
    experiment: Experiment,
    config: &ExperimentConfig,
    results: &BTreeMap<String, Scores>,
    out: &Path,
) -> Result<String, Error> {
    let (rows, shares) = experiment.rows();
    let stage1 = |labelled: f32, seed: u64| results.get(&Run::Stage1 { labelled, seed }.name());
    let of = |labelled: f32, f: &dyn Fn(&Scores) -> f64| -> Vec<f64> {
        config.seeds.iter().filter_map(|&s| stage1(labelled, s)).map(f).collect()
    };
    let mut csv =
        String::from("row,unannotated_percent,seed,dice,iou,gain_points,tuned_dice,tuned_gain_points,recovered\n");
    let mut text = format!(
        "{} labelled, {} pictures in each test part, {} steps of stage 1 at {} px, {} epochs of stage 2, prompts: {:?}, seeds {:?}\n\n",
        "10 %",
        results.values().map(|s| s.pictures).max().unwrap_or(0),
        config.steps,
        config.model.side,
        config.epochs,
        config.prompts,
        config.seeds
    );
    let _ = writeln!(
        text,
        "| stage 1 alone | Dice | IoU | Dice, tuned threshold | first mask (U-Net) | self-prompted once more | oracle box |\n|---|---|---|---|---|---|---|"
    );
    for labelled in [LABELLED, 2.0 * LABELLED, 1.0] {
        let cell = |f: &dyn Fn(&Scores) -> f64| {
            spread(&of(labelled, f)).map_or("-".into(), |(m, d)| format!("{m:.4} ± {d:.4}"))
        };
        if of(labelled, &|s| s.dice).is_empty() {
            continue;
        }
        let _ = writeln!(
            text,
            "| {:.0} % labels | {} | {} | {} | {} | {} | {} |",
            100.0 * labelled,
            cell(&|s| s.dice),
            cell(&|s| s.iou),
            cell(&|s| s.tuned),
            cell(&|s| s.first),
            cell(&|s| s.again),
            cell(&|s| s.boxed)
        );
        for &seed in &config.seeds {
            if let (Some(s), Some(base)) = (stage1(labelled, seed), stage1(LABELLED, seed)) {
                let _ = writeln!(
                    csv,
                    "stage 1 with {:.0} % labels,0,{seed},{:.5},{:.5},{:.3},{:.5},{:.3},",
                    100.0 * labelled,
                    s.dice,
                    s.iou,
                    100.0 * (s.dice - base.dice),
                    s.tuned,
                    100.0 * (s.tuned - base.dice)
                );
            }
        }
    }
    let _ = write!(
        text,
        "\nGain over stage 1 with 10 % labels, Dice points (paired by seed, mean ± deviation; in brackets with the threshold tuned on the validation part for both):\n\n| stage 2 |"
    );
    for share in shares {
        let _ = write!(text, " {:.0} % unannotated |", 100.0 * share);
    }
    let _ = write!(text, " share of the 20 %-label gain |\n|---|{}---|\n", "---|".repeat(shares.len()));
    let mut lines = Vec::new();
    for row in &rows {
        let _ = write!(text, "| {} |", row.title);
        let mut line = Vec::new();
        let mut recovered = Vec::new();
        for &unannotated in shares {
            let (mut gains, mut tuned) = (Vec::new(), Vec::new());
            for &seed in &config.seeds {
                let run = Run::Align { row: *row, unannotated, seed }.name();
                let (Some(s), Some(base)) = (results.get(&run), stage1(LABELLED, seed)) else { continue };
                let gain = 100.0 * (s.dice - base.dice);
                let double = stage1(2.0 * LABELLED, seed).map(|d| 100.0 * (d.dice - base.dice));
                // Doubling the labels must have gained something for a share of it to mean anything.
                let share = double.filter(|d| *d > 0.2).map(|d| gain / d);
                if (unannotated - 0.1).abs() < 1e-6 || shares.len() == 1 {
                    recovered.extend(share);
                }
                gains.push(gain);
                tuned.push(100.0 * (s.tuned - base.tuned));
                let _ = writeln!(
                    csv,
                    "{},{:.0},{seed},{:.5},{:.5},{gain:.3},{:.5},{:.3},{}",
                    row.title.replace(',', ";"),
                    100.0 * unannotated,
                    s.dice,
                    s.iou,
                    s.tuned,
                    100.0 * (s.tuned - base.tuned),
                    share.map_or(String::new(), |v| format!("{v:.3}"))
                );
            }
            match (spread(&gains), spread(&tuned)) {
                (Some((m, d)), Some((t, _))) => {
                    let _ = write!(text, " {m:+.2} ± {d:.2} ({t:+.2}) |");
                    line.push((100.0 * unannotated, m as f32));
                }
                _ => text += " - |",
            }
        }
        let share = spread(&recovered).map_or("-".into(), |(m, _)| format!("{:.0} %", 100.0 * m));
        let _ = writeln!(text, " {share} |");
        lines.push((row.key.to_owned(), line));
    }
    if experiment == Experiment::Table1 {
        text += "| without the saliency box | not run: the prompts of this harness are learned organ tokens | - |\n";
        text += "| without text | not run: as above | - |\n| - VQA | not run: no VQA model | - |\n| - GPT-4 | not run: no VQA model | - |\n| SAM-Med3D | not run | - |\n";
    }
    let name = experiment.name();
    let file = |ending: &str| out.join(format!("{name}.{ending}"));
    for (ending, content) in [("csv", &csv), ("md", &text)] {
        std::fs::write(file(ending), content)
            .map_err(|source| Error::Io { what: format!("write {name}.{ending}"), source })?;
    }
    curves::draw_within(&file("png"), &lines, "unannotated pictures, % of the training part", [-2.0, 6.0])?;
    Ok(text)
}
