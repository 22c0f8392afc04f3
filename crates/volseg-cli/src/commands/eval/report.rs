//! The HTML page: one file, plots as SVG, no script, nothing from the network.

use super::{
    plan::Plan,
    slice::COLOURS,
    summary::{Metric, Summary},
    text::{shown, title, value},
};
use crate::{
    page::{STYLE, escape, figure},
    plots,
};
use std::fmt::Write;
use volseg_metrics::Means;

/// Pictures of this many cases.
const PICTURES: usize = 6;
/// Rows of the table of cases.
const ROWS: usize = 50;
/// Labels of one box plot: with its caption it fits a printed page.
const BOXES: usize = 40;

/// The page.
pub(super) fn html(summary: &Summary, plan: &Plan) -> anyhow::Result<Vec<u8>> {
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Segmentation scores</title><style>{STYLE}</style></head><body><h1>Segmentation scores</h1>"
    );
    head(&mut out, summary, plan);
    labels(&mut out, summary, plan);
    comparison(&mut out, summary);
    out.push_str("<h2>Plots</h2><div class=\"plots\">");
    figures(&mut out, summary)?;
    out.push_str("</div>");
    cases(&mut out, summary, plan);
    pictures(&mut out, summary);
    out.push_str("</body></html>\n");
    Ok(out.into_bytes())
}

fn head(out: &mut String, summary: &Summary, plan: &Plan) {
    let s = &plan.settings;
    let (cases, labels) = (summary.cases.len(), summary.sets.len());
    let _ = write!(
        out,
        "<p class=\"lead\">{cases} case{}, {labels} label{}. Surface model {}, percentiles of the Hausdorff distance {}, lengths in {}. \
         Means: {}.{}{}</p><div class=\"cards\">",
        if cases == 1 { "" } else { "s" },
        if labels == 1 { "" } else { "s" },
        s.surface.map_or("none", |x| x.name()),
        s.hd95.name(),
        summary.unit,
        plan.rule.name().replace('_', " "),
        match cases > 1 && plan.bootstrap > 0 {
            true => format!(" Intervals: 95 %, bootstrap over cases ({} resamples, seed {}).", plan.bootstrap, plan.seed),
            false => String::new(),
        },
        plan.preset.as_ref().map_or(String::new(), |p| format!(" Preset {}.", escape(p)))
    );
    for m in summary.metrics.iter().filter(|m| m.name == "dice" || m.name.starts_with("nsd") || m.name == "hd95") {
        let name = match m.name.split_once('@') {
            Some((_, t)) => format!("mSDC (= NSD) @ {t} {}", summary.unit),
            None if m.name == "dice" => "mDice".into(),
            None => format!("mean {}", title(m, summary.unit)),
        };
        let n = format!("{}/{} values", m.means.n[0], m.means.n[1]);
        let interval = match cases > 1 && plan.bootstrap > 0 && m.interval.iter().all(|v| v.is_finite()) {
            true => format!("{} to {}<br>{n}", value(m.interval[0], m.is_distance()), value(m.interval[1], m.is_distance())),
            false => n,
        };
        let shown = value(m.headline(plan.rule), m.is_distance());
        let _ = write!(out, "<div class=\"card\"><span>{name}</span><b>{shown}</b><span>{interval}</span></div>");
    }
    out.push_str("</div>");
    let failed = summary.failed.iter().map(|(c, e)| format!("case {c} is left out: {e}"));
    let notes: Vec<String> = failed.chain(summary.warnings.iter().cloned()).map(|w| escape(&w)).collect();
    if !notes.is_empty() {
        let _ = write!(out, "<div class=\"note\"><ul><li>{}</li></ul></div>", notes.join("</li><li>"));
    }
}

/// A row a label; means, intervals and medians below.
fn labels(out: &mut String, summary: &Summary, plan: &Plan) {
    let columns = shown(summary);
    out.push_str("<h2>Labels</h2><div class=\"scroll\"><table><thead><tr><th>label</th>");
    columns.iter().for_each(|m| {
        let _ = write!(out, "<th>{}</th>", title(m, summary.unit));
    });
    out.push_str("</tr></thead><tbody>");
    let cell = |m: &Metric, v: f64, n: [usize; 2]| format!("{} <small>{}/{}</small>", value(v, m.is_distance()), n[0], n[1]);
    for (n, name) in summary.names.iter().enumerate() {
        let cells = columns.iter().filter_map(|m| Some((m, m.labels.get(n)?)));
        row(out, "", &escape(name), cells.map(|(m, st)| cell(m, st.mean, [st.n_finite, st.n])));
    }
    let means = |means: &Means, m: &Metric| cell(m, super::summary::by_rule(means, plan.rule), means.n);
    let groups: Vec<&String> = columns.first().map_or(Vec::new(), |m| m.groups.keys().collect());
    for g in groups {
        let cells = columns.iter().filter_map(|m| Some(means(m.groups.get(g)?, m)));
        row(out, "sum", &format!("mean of {}", escape(g)), cells);
    }
    row(out, "sum", "mean", columns.iter().map(|m| means(&m.means, m)));
    if summary.cases.len() > 1 && plan.bootstrap > 0 {
        let ends = |m: &&Metric| format!("{}–{}", value(m.interval[0], m.is_distance()), value(m.interval[1], m.is_distance()));
        row(out, "more", "95 % interval", columns.iter().map(ends));
    }
    row(out, "more", "median", columns.iter().map(|m| value(m.all.median, m.is_distance())));
    out.push_str(
        "</tbody></table></div><p><small>Means are over finite values; n/N says how many of all values they are. \
         Medians keep infinite distances, which missed and invented labels have.</small></p>",
    );
}

fn row(out: &mut String, class: &str, name: &str, cells: impl Iterator<Item = String>) {
    let cells: Vec<String> = cells.collect();
    let _ = write!(out, "<tr class=\"{class}\"><td>{name}</td><td>{}</td></tr>", cells.join("</td><td>"));
}

fn comparison(out: &mut String, summary: &Summary) {
    if summary.metrics.iter().all(|m| m.paired.is_none()) {
        return;
    }
    out.push_str(
        "<h2>Comparison of two predictions</h2><div class=\"scroll\"><table><thead><tr><th>metric</th><th>first</th><th>second</th>\
         <th>second − first</th><th>95 % interval</th><th>Wilcoxon p</th><th>cases that differ</th></tr></thead><tbody>",
    );
    for (m, p) in summary.metrics.iter().filter_map(|m| Some((m, m.paired?))) {
        let v = |v: f64| value(v, m.is_distance());
        let signed = |x: f64| if x >= 0.0 { format!("+{}", v(x)) } else { v(x) };
        let ends = format!("{} to {}", signed(p.interval[0]), signed(p.interval[1]));
        let known = p.difference.is_finite();
        let mean = |k: usize| match p.n[k] {
            [finite, expected] if finite < expected => format!("{} <small>{finite}/{expected}</small>", v(p.means[k])),
            _ => v(p.means[k]),
        };
        let cells = [mean(0), mean(1), if known { signed(p.difference) } else { "-".into() },
            if known { ends } else { "-".into() }, format!("{:.4}", p.test.p), p.test.n.to_string()];
        row(out, "", &escape(&title(m, summary.unit)), cells.into_iter());
    }
    out.push_str(
        "</tbody></table></div><p><small>The same bootstrap resamples of cases for both predictions. Wilcoxon's signed rank test \
         (two-sided) of per-case means over labels. Distances are compared where both predictions have a finite one; n/N where \
         one of them has not.</small></p>",
    );
}

fn figures(out: &mut String, summary: &Summary) -> anyhow::Result<()> {
    let Some(dice) = summary.metrics.iter().find(|m| m.name == "dice") else { return Ok(()) };
    let column = |n: usize| dice.values.iter().filter_map(|row| row.get(n).copied()).collect::<Vec<f64>>();
    let rows: Vec<_> = (summary.names.iter().zip(&dice.labels).enumerate())
        .map(|(n, (name, st))| (name.as_str(), st, column(n)))
        .collect();
    let caption = "Dice by label: a dot a case; boxes (from 5 cases on) are quartiles and median, whiskers reach at most 1.5 box widths.";
    let least = rows.iter().flat_map(|r| &r.2).copied().fold(1.0, f64::min);
    let (parts, low) = (rows.len().div_ceil(BOXES).max(1), if least >= 0.6 { 0.5 } else { 0.0 });
    for part in rows.chunks(rows.len().div_ceil(parts).max(1)) {
        figure(out, &plots::boxes(part, "Dice", (low, 1.0))?, caption);
    }
    let scores = || summary.cases.iter().flat_map(|c| summary.rows(&c.scores));
    let unit = if summary.unit == "px" { ("px²", "volume_gt_mm3", "volume_pred_mm3") } else { ("mL", "volume_gt_ml", "volume_pred_ml") };
    let (unit, gt, pred) = unit;
    let what = if summary.unit == "px" { "area" } else { "volume" };
    let points: Vec<_> = scores().map(|s| (s.get(gt), s.get("dice"))).filter(|p| p.0 > 0.0 && p.1.is_finite()).collect();
    if !points.is_empty() {
        let svg = plots::against_volume(&points, &format!("{what} of the ground truth ({unit})"), "Dice")?;
        figure(out, &svg, &format!("Dice against {what}: a dot is a label in a case."));
    }
    let points: Vec<_> = scores()
        .map(|s| ((s.get(gt) + s.get(pred)) / 2.0, s.get(pred) - s.get(gt)))
        .filter(|p| p.0 > 0.0)
        .collect();
    if !points.is_empty() {
        let svg = plots::bland_altman(&points, &format!("mean {what} ({unit})"), &format!("prediction − truth ({unit})"))?;
        figure(out, &svg, &format!("Bland-Altman plot of {what}s: the mean difference and 1.96 standard deviations."));
    }
    let steps: Vec<(f64, &Metric)> =
        summary.metrics.iter().filter_map(|m| Some((m.name.strip_prefix("nsd@")?.parse().ok()?, m))).collect();
    if steps.len() > 1 {
        let curve = |of: &dyn Fn(&Metric) -> f64| -> Vec<(f64, f64)> {
            steps.iter().map(|(t, m)| (*t, of(m))).filter(|p| p.1.is_finite()).collect()
        };
        let lines: Vec<_> = (0..summary.sets.len()).map(|n| curve(&|m| m.labels.get(n).map_or(f64::NAN, |s| s.mean))).collect();
        let svg = plots::tolerances(&curve(&|m| m.means.by_rule[0]), &lines, &format!("tolerance ({})", summary.unit))?;
        figure(out, &svg, "NSD (surface Dice) against its tolerance: the mean, and thin lines for each label.");
    }
    Ok(())
}

/// Cases, worst first.
fn cases(out: &mut String, summary: &Summary, plan: &Plan) {
    let worst = summary.worst();
    if worst.len() < 2 {
        return;
    }
    out.push_str("<h2>Cases, worst first</h2><div class=\"scroll\"><table><thead><tr><th>case</th><th>mean Dice</th>");
    let others: Vec<&Metric> = shown(summary).into_iter().filter(|m| m.name != "dice").collect();
    others.iter().for_each(|m| {
        let _ = write!(out, "<th>{}</th>", title(m, summary.unit));
    });
    out.push_str("<th>missed</th><th>invented</th></tr></thead><tbody>");
    for (dice, case) in worst.iter().take(ROWS) {
        let mean = |m: &&Metric| {
            let place = summary.cases.iter().position(|c| std::ptr::eq(c, *case));
            let values = place.and_then(|n| m.values.get(n)).map_or(&[][..], Vec::as_slice);
            let (known, finite) = (values.iter().filter(|v| !v.is_nan()), values.iter().filter(|v| v.is_finite()));
            let (known, finite) = (known.count(), finite.count());
            let n = if finite < known { format!(" <small>{finite}/{known}</small>") } else { String::new() };
            value(volseg_metrics::mean(values.iter().copied()), m.is_distance()) + &n
        };
        let count = |name: &str| summary.rows(&case.scores).filter(|s| s.status.name() == name).count().to_string();
        let cells = [value(*dice, false)].into_iter().chain(others.iter().map(mean));
        row(out, "", &escape(&case.name), cells.chain([count("missed"), count("invented")]));
    }
    out.push_str("</tbody></table></div>");
    if worst.len() > ROWS {
        let _ = write!(out, "<p><small>{ROWS} of {} cases; the JSON has all.</small></p>", worst.len());
    }
    let _ = write!(out, "<p><small>Means over the labels of a case{}; n/N where not all N distances are finite.</small></p>", if plan.compares { " of the first prediction" } else { "" });
}

fn pictures(out: &mut String, summary: &Summary) {
    let shown: Vec<_> =
        summary.worst().into_iter().filter_map(|(v, c)| Some((v, c, c.slice.as_ref()?))).take(PICTURES).collect();
    if shown.is_empty() {
        return;
    }
    out.push_str("<h2>Largest errors</h2><p>Of the worst cases, the slice with the most wrong voxels.</p><ul class=\"key\">");
    let names = ["ground truth only", "prediction only", "both agree", "both, with different labels"];
    for (colour, name) in COLOURS.iter().zip(names) {
        let _ = write!(out, "<li><i style=\"background:{colour}\"></i>{name}</li>");
    }
    out.push_str("</ul><div class=\"worst\">");
    for (dice, case, slice) in shown {
        let name = escape(&case.name);
        let place = if case.picture { String::new() } else { format!("slice {}, ", slice.index) };
        let caption = format!("<b>{name}</b>, mean Dice {dice:.4}; {place}{} wrong voxels", slice.wrong);
        figure(out, &slice.svg(), &caption);
    }
    out.push_str("</div>");
}
