//! The HTML page: one file, plots as SVG, no script, nothing from the network.

use super::{
    Plan,
    cases::Case,
    output::{Metric, Summary},
};
use anyhow::anyhow;
use plotters::prelude::*;
use std::fmt::Write;

/// Size of a plot in pixels.
const SIZE: (u32, u32) = (640, 380);
/// Pictures of this many cases.
const PICTURES: usize = 4;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1320px;margin:2rem auto;padding:0 1rem;color:#1b1f24}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
td,th{padding:.25rem .7rem;border-bottom:1px solid #d8dde3;text-align:right}td:first-child,th:first-child{text-align:left}\
.plots{display:flex;flex-wrap:wrap;gap:1rem}figure{margin:0;break-inside:avoid}figcaption{font-size:.85rem;color:#57606a;max-width:640px}\
.scroll{overflow-x:auto}svg{max-width:100%;height:auto}.worst svg{background:#111;width:300px}\
@media print{body{margin:0;max-width:none;font-size:11px}figure svg{width:88mm}.worst svg{width:60mm}}";

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The page.
pub(super) fn html(summary: &Summary, plan: &Plan) -> anyhow::Result<Vec<u8>> {
    let s = &plan.settings;
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Segmentation scores</title><style>{STYLE}</style></head><body><h1>Segmentation scores</h1>\
         <p>{} cases, {} labels. Surface: {}. HD percentiles: {}. Means: {}{}.</p>",
        summary.cases.len(),
        summary.sets.len(),
        s.surface.map_or("none", |x| x.name()),
        s.hd95.name(),
        plan.rule.name().replace('_', " "),
        plan.preset.as_ref().map_or(String::new(), |p| format!(". Preset: {}", escape(p)))
    );
    for w in &summary.warnings {
        let _ = write!(out, "<p>Warning: {}</p>", escape(w));
    }
    table(&mut out, summary);
    out.push_str("<h2>Plots</h2><div class=\"plots\">");
    let find = |name: &str| summary.metrics.iter().find(|m| m.name == name);
    if let Some(dice) = find("dice") {
        figure(&mut out, &boxes(summary, dice)?, "Dice by label: median, quartiles and whiskers over cases.");
        let points = volumes(summary);
        let p: Vec<_> = points.iter().filter(|p| p.gt > 0.0 && p.dice.is_finite()).map(|p| (p.gt, p.dice)).collect();
        let top = p.iter().map(|p| p.0).fold(1e-3, f64::max);
        let low = p.iter().map(|p| p.0).fold(top, f64::min);
        let svg = scatter(&p, "volume of the ground truth (mL, powers of ten)", "Dice", (low, top, 0.0, 1.0), true, &[])?;
        figure(&mut out, &svg, "Dice against the volume of the ground truth; a point is a label in a case.");
        let p: Vec<_> = points.iter().map(|p| ((p.gt + p.pred) / 2.0, p.pred - p.gt)).collect();
        let d: Vec<f64> = p.iter().map(|p| p.1).collect();
        let st = volseg_metrics::statistic(&d);
        let sd = if st.sd.is_nan() { 0.0 } else { st.sd };
        let lines = [st.mean - 1.96 * sd, st.mean, st.mean + 1.96 * sd];
        let reach = d.iter().chain(&lines).map(|v| v.abs()).filter(|v| v.is_finite()).fold(1e-3, f64::max) * 1.1;
        let top = p.iter().map(|p| p.0).fold(1e-3, f64::max) * 1.05;
        let svg = scatter(&p, "mean volume (mL)", "prediction - ground truth (mL)", (0.0, top, -reach, reach), false, &lines)?;
        figure(&mut out, &svg, "Bland-Altman plot of volumes: mean difference and 1.96 SD.");
    }
    let nsd: Vec<(f64, f64)> = summary
        .metrics
        .iter()
        .filter_map(|m| Some((m.name.strip_prefix("nsd@")?.parse().ok()?, m.means.by_rule[0])))
        .filter(|p: &(f64, f64)| p.1.is_finite())
        .collect();
    if nsd.len() > 1 {
        figure(&mut out, &curve(&nsd)?, "Mean NSD (surface Dice) against its tolerance.");
    }
    out.push_str("</div>");
    pictures(&mut out, summary);
    out.push_str("</body></html>\n");
    Ok(out.into_bytes())
}

fn figure(out: &mut String, svg: &str, caption: &str) {
    let _ = write!(out, "<figure>{svg}<figcaption>{caption}</figcaption></figure>");
}

fn table(out: &mut String, summary: &Summary) {
    let keep = |n: &str| ["dice", "iou", "assd"].contains(&n) || n.starts_with("nsd") || n.starts_with("hd");
    let columns: Vec<&Metric> = summary.metrics.iter().filter(|m| keep(&m.name)).collect();
    out.push_str("<h2>Means</h2><div class=\"scroll\"><table><tr><th>label</th>");
    for m in &columns {
        let _ = write!(out, "<th>{}</th>", m.name.replace("nsd@", "NSD @ "));
    }
    let cell = |v: f64, a: usize, b: usize| match v.is_nan() {
        true => format!("<td>- ({a}/{b})</td>"),
        false => format!("<td>{v:.4} ({a}/{b})</td>"),
    };
    out.push_str("</tr>");
    for (n, name) in summary.names.iter().enumerate() {
        let _ = write!(out, "<tr><td>{}</td>", escape(name));
        for st in columns.iter().filter_map(|m| m.labels.get(n)) {
            out.push_str(&cell(st.mean, st.n_finite, st.n));
        }
        out.push_str("</tr>");
    }
    out.push_str("<tr><td><b>mean</b></td>");
    for m in &columns {
        out.push_str(&cell(m.means.by_rule[0], m.means.n[0], m.means.n[1]));
    }
    out.push_str("</tr></table></div><p>In brackets: finite values of all values. Distances in mm.</p>");
}

struct Volume {
    gt: f64,
    pred: f64,
    dice: f64,
}

fn volumes(summary: &Summary) -> Vec<Volume> {
    let of = |c: &Case, set: &Vec<u32>| {
        let s = summary.scores(&c.scores, set);
        Volume { gt: s.get("volume_gt_ml"), pred: s.get("volume_pred_ml"), dice: s.get("dice") }
    };
    let all = summary.cases.iter().flat_map(|c| summary.sets.iter().map(move |s| of(c, s)));
    all.filter(|v| v.gt > 0.0 || v.pred > 0.0).collect()
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw(size: (u32, u32), paint: impl FnOnce(&Area<'_>) -> anyhow::Result<()>) -> anyhow::Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE).map_err(|e| anyhow!("{e}"))?;
        paint(&area)?;
        area.present().map_err(|e| anyhow!("{e}"))?;
    }
    Ok(svg.lines().filter(|l| !l.starts_with("<?xml")).collect::<Vec<_>>().join("\n"))
}

fn boxes(summary: &Summary, dice: &Metric) -> anyhow::Result<String> {
    let n = summary.sets.len();
    let height = (120 + 26 * n as u32).max(SIZE.1);
    draw((SIZE.0, height), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(150)
            .build_cartesian_2d(0.0f32..1.0f32, -0.5f64..(n as f64 - 0.5))
            .map_err(|e| anyhow!("{e}"))?;
        let name = |v: &f64| {
            let place = v.round();
            let shown = (v - place).abs() < 1e-6 && place >= 0.0;
            let name = shown.then(|| summary.names.get(n.wrapping_sub(1 + place as usize))).flatten();
            name.map_or(String::new(), |t| t.chars().take(22).collect())
        };
        chart
            .configure_mesh()
            .disable_y_mesh()
            .y_labels(2 * n.max(1))
            .y_label_formatter(&name)
            .x_desc("Dice")
            .draw()
            .map_err(|e| anyhow!("{e}"))?;
        for label in 0..n {
            let values: Vec<f64> =
                dice.values.iter().filter_map(|r| r.get(label)).copied().filter(|v| v.is_finite()).collect();
            if values.is_empty() {
                continue;
            }
            let q = Quartiles::new(&values);
            let shape = Boxplot::new_horizontal((n - 1 - label) as f64, &q).width(14).style(RGBColor(31, 95, 153));
            chart.draw_series([shape]).map_err(|e| anyhow!("{e}"))?;
        }
        Ok(())
    })
}

/// Points in `(x0, x1, y0, y1)`; `powers`: x by its logarithm. `lines`: horizontal lines.
fn scatter(
    points: &[(f64, f64)],
    x: &str,
    y: &str,
    (x0, x1, y0, y1): (f64, f64, f64, f64),
    powers: bool,
    lines: &[f64],
) -> anyhow::Result<String> {
    let place = |v: f64| if powers { v.log10() } else { v };
    let (a, b) = if powers { (place(x0).floor(), place(x1).floor() + 1.0) } else { (x0, x1) };
    draw(SIZE, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(64)
            .build_cartesian_2d(a..b, y0..y1)
            .map_err(|e| anyhow!("{e}"))?;
        let power = |v: &f64| if powers { format!("1e{v:.1}") } else { format!("{v}") };
        chart.configure_mesh().x_labels(8).x_label_formatter(&power).x_desc(x).y_desc(y).light_line_style(TRANSPARENT).draw().map_err(|e| anyhow!("{e}"))?;
        for &l in lines.iter().filter(|l| l.is_finite()) {
            chart.draw_series(LineSeries::new([(a, l), (b, l)], RGBColor(180, 60, 40))).map_err(|e| anyhow!("{e}"))?;
        }
        let dots = points.iter().map(|p| Circle::new((place(p.0), p.1), 4, RGBColor(31, 95, 153).mix(0.7).filled()));
        chart.draw_series(dots).map_err(|e| anyhow!("{e}"))?;
        Ok(())
    })
}

fn curve(points: &[(f64, f64)]) -> anyhow::Result<String> {
    let top = points.iter().map(|p| p.0).fold(1e-3, f64::max) * 1.05;
    draw(SIZE, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..top, 0.0f64..1.02)
            .map_err(|e| anyhow!("{e}"))?;
        let mesh = chart.configure_mesh().x_desc("tolerance (mm)").y_desc("NSD").light_line_style(TRANSPARENT).draw();
        mesh.map_err(|e| anyhow!("{e}"))?;
        let blue = RGBColor(31, 95, 153);
        chart.draw_series(LineSeries::new(points.iter().copied(), blue.stroke_width(2))).map_err(|e| anyhow!("{e}"))?;
        chart.draw_series(points.iter().map(|&p| Circle::new(p, 4, blue.filled()))).map_err(|e| anyhow!("{e}"))?;
        Ok(())
    })
}

/// Colours of pixels in the ground truth only, the prediction only, both with one id, both with different ids.
const COLOURS: [&str; 4] = ["#e05a47", "#3f8fd6", "#5d6670", "#e8c33b"];

fn pictures(out: &mut String, summary: &Summary) {
    let Some(dice) = summary.metrics.iter().find(|m| m.name == "dice") else { return };
    let mean = |row: &Vec<f64>| volseg_metrics::mean(row.iter().copied());
    let mut worst: Vec<(f64, &Case)> = dice.values.iter().map(mean).zip(&summary.cases).collect();
    worst.retain(|w| !w.0.is_nan());
    worst.sort_by(|a, b| a.0.total_cmp(&b.0));
    out.push_str("<h2>Worst cases</h2><p>The slice with the most wrong voxels. Red: ground truth only. Blue: prediction only. \
                  Grey: both agree. Yellow: both, with different labels.</p><div class=\"plots worst\">");
    for (v, case) in worst.iter().take(PICTURES) {
        let (z, [w, h], pixels, wrong) = &case.slice;
        let mut svg = format!("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" shape-rendering=\"crispEdges\">");
        for (y, row) in pixels.chunks((*w).max(1)).enumerate() {
            let mut x = 0;
            for run in row.chunk_by(|a, b| a == b) {
                if let Some(colour) = run.first().and_then(|&k| COLOURS.get(usize::from(k).wrapping_sub(1))) {
                    let _ = write!(svg, "<path fill=\"{colour}\" d=\"M{x} {y}h{}v1h-{0}z\"/>", run.len());
                }
                x += run.len();
            }
        }
        svg.push_str("</svg>");
        figure(out, &svg, &format!("{}: mean Dice {v:.4}; slice {z}, {wrong} wrong voxels.", escape(&case.name)));
    }
    out.push_str("</div>");
}
