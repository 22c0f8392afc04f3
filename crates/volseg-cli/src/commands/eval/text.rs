//! The table on the terminal, and CSV.

use super::{
    plan::Plan,
    summary::{Metric, Summary, by_rule},
    table::text,
};
use std::fmt::Write as _;
use volseg_metrics::Means;

/// One row per case and label.
pub(super) fn csv(summary: &Summary) -> Vec<u8> {
    let mut columns: Vec<&str> = Vec::new();
    for s in summary.cases.iter().flat_map(|c| summary.rows(&c.scores)) {
        for (name, _) in &s.metrics {
            if !columns.contains(&name.as_str()) {
                columns.push(name);
            }
        }
    }
    let quote = |t: &str| match t.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", t.replace('"', "\"\"")),
        false => t.to_owned(),
    };
    let mut out = format!("case,id,name,status,tp,fp,fn,{}\n", columns.join(","));
    for case in &summary.cases {
        let named = summary.sets.iter().zip(&summary.names);
        for (s, (set, name)) in summary.rows(&case.scores).zip(named) {
            let c = s.counts;
            let mut row = vec![quote(&case.name), text(set), quote(name), s.status.name().to_owned()];
            row.extend([c.tp, c.fp, c.fn_].map(|n| n.to_string()));
            row.extend(columns.iter().map(|m| s.get(m)).map(|v| if v.is_nan() { String::new() } else { v.to_string() }));
            out.push_str(&(row.join(",") + "\n"));
        }
    }
    out.into_bytes()
}

/// A value with as many digits as its kind deserves.
pub(super) fn value(v: f64, distance: bool) -> String {
    match (v.is_nan(), distance) {
        (true, _) => "-".into(),
        (_, true) => format!("{v:.2}"),
        _ => format!("{v:.4}"),
    }
}

/// Metrics that a table for people shows.
pub(super) fn shown(summary: &Summary) -> Vec<&Metric> {
    let keep = |m: &&Metric| ["dice", "iou", "assd"].contains(&m.name.as_str()) || m.name.starts_with("nsd") || m.name.starts_with("hd");
    summary.metrics.iter().filter(keep).collect()
}

/// A metric's name for people, with its unit.
pub(super) fn title(m: &Metric, unit: &str) -> String {
    match m.name.split_once('@') {
        Some((_, t)) => format!("NSD@{t}{unit}"),
        None if m.is_distance() => format!("{} {unit}", m.name.to_uppercase()),
        None => match m.name.as_str() {
            "dice" => "Dice".into(),
            "iou" => "IoU".into(),
            "nsd" => "NSD@table".into(),
            other => other.replace('_', " "),
        },
    }
}

fn mean_cell(m: &Metric, means: &Means, plan: &Plan) -> String {
    format!("{} {}/{}", value(by_rule(means, plan.rule), m.is_distance()), means.n[0], means.n[1])
}

/// The table, the headline numbers, the worst cases.
pub(super) fn terminal(summary: &Summary, plan: &Plan) -> String {
    let s = &plan.settings;
    let (cases, labels) = (summary.cases.len(), summary.sets.len());
    let mut out = format!(
        "{cases} {}, {labels} {}; surface {}, HD percentiles {}, lengths in {}, means {}",
        if cases == 1 { "case" } else { "cases" },
        if labels == 1 { "label" } else { "labels" },
        s.surface.map_or("none", |x| x.name()),
        s.hd95.name(),
        summary.unit,
        plan.rule.name()
    );
    if let Some(p) = &plan.preset {
        let _ = write!(out, ", preset {p}");
    }
    out.push_str("\n\n");
    grid(&mut out, &rows(summary, plan));
    headlines(&mut out, summary, plan);
    if cases > 1 {
        let list: Vec<String> = summary.worst().iter().take(5).map(|(v, c)| format!("{} {v:.4}", c.name)).collect();
        let _ = write!(out, "\nworst cases by Dice: {}", list.join(", "));
    }
    out
}

/// Heading, a row a label, means. Over several cases a cell is the mean of the finite values and `finite/all`; the median of
/// distances, which keeps infinities, stands beside it.
fn rows(summary: &Summary, plan: &Plan) -> Vec<Vec<String>> {
    let several = summary.cases.len() > 1;
    let columns = shown(summary);
    let with_median = |m: &Metric| several && m.is_distance();
    let mut heading = vec!["label".to_owned()];
    for m in &columns {
        heading.push(title(m, summary.unit));
        heading.extend(with_median(m).then(|| "median".to_owned()));
    }
    let mut rows = vec![heading];
    for (n, name) in summary.names.iter().enumerate() {
        let mut row = vec![name.clone()];
        for m in &columns {
            let Some(st) = m.labels.get(n) else { continue };
            row.push(match several {
                true => format!("{} {}/{}", value(st.mean, m.is_distance()), st.n_finite, st.n),
                false => value(st.median, m.is_distance()),
            });
            row.extend(with_median(m).then(|| value(st.median, true)));
        }
        rows.push(row);
    }
    let groups: Vec<&String> = columns.first().map_or(Vec::new(), |m| m.groups.keys().collect());
    for group in groups {
        let mut row = vec![format!("mean of {group}")];
        for m in &columns {
            row.push(m.groups.get(group).map_or(String::new(), |means| mean_cell(m, means, plan)));
            row.extend(with_median(m).then(String::new));
        }
        rows.push(row);
    }
    let mut last = vec!["mean".to_owned()];
    for m in &columns {
        last.push(mean_cell(m, &m.means, plan));
        last.extend(with_median(m).then(|| value(m.all.median, true)));
    }
    rows.push(last);
    rows
}

/// Writes rows with aligned columns: the first to the left, all others to the right.
fn grid(out: &mut String, rows: &[Vec<String>]) {
    let width = |n: usize| rows.iter().filter_map(|r| r.get(n)).map(|c| c.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate();
        let line: String =
            cells.map(|(n, (c, w))| if n == 0 { format!("{c:<w$}") } else { format!("  {c:>w$}") }).collect();
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

fn headlines(out: &mut String, summary: &Summary, plan: &Plan) {
    for m in summary.metrics.iter().filter(|m| m.name == "dice" || m.name.starts_with("nsd")) {
        let name = match m.name.strip_prefix("nsd") {
            Some("") => "mSDC (= NSD) @table".to_owned(),
            Some(t) => format!("mSDC (= NSD) {t} {}", summary.unit),
            None => "mDice".to_owned(),
        };
        let _ = write!(out, "\n{name}: {}", value(m.headline(plan.rule), false));
        if summary.cases.len() > 1 && plan.bootstrap > 0 {
            let _ = write!(out, "  (95 % interval {:.4} to {:.4})", m.interval[0], m.interval[1]);
        }
        if let Some(p) = m.paired {
            let _ = write!(
                out,
                "; second {}, difference {:+.4} ({:+.4} to {:+.4}), Wilcoxon p {:.4}, n {}",
                value(p.means[1], false),
                p.difference,
                p.interval[0],
                p.interval[1],
                p.test.p,
                p.test.n
            );
        }
    }
}
