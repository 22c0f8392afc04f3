//! Summary, JSON, CSV, nnU-Net's summary and the table on the terminal.

use super::{
    MeanOver, Plan,
    cases::{Case, Done},
    table::text,
};
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::Write as _,
    path::PathBuf,
};
use volseg_metrics::{CaseScores, Means, Paired, Rule, Scores, Statistic, Status, bootstrap, means, paired, statistic};

/// Version of the JSON.
const SCHEMA: &str = "volseg-eval/1";

/// A metric over the data set.
pub(super) struct Metric {
    pub(super) name: String,
    /// `values[case][label]`, by the rule of who counts.
    pub(super) values: Vec<Vec<f64>>,
    pub(super) means: Means,
    pub(super) interval: [f64; 2],
    pub(super) all: Statistic,
    pub(super) labels: Vec<Statistic>,
    pub(super) paired: Option<Paired>,
}

pub(super) struct Summary {
    pub(super) cases: Vec<Case>,
    pub(super) sets: Vec<Vec<u32>>,
    pub(super) names: Vec<String>,
    pub(super) metrics: Vec<Metric>,
    pub(super) failed: Vec<(String, String)>,
    pub(super) warnings: Vec<String>,
}

impl Summary {
    /// Scores of a label in a case, also where neither map has it.
    pub(super) fn scores<'a>(&self, case: &'a CaseScores, set: &[u32]) -> &'a Scores {
        case.labels.get(set).unwrap_or(&case.absent)
    }
}

fn in_means(name: &str) -> bool {
    ["dice", "iou", "precision", "recall", "volumetric_similarity", "volume_rel_diff", "volume_abs_rel_diff"].contains(&name)
        || ["nsd", "hd", "assd", "masd"].iter().any(|s| name.starts_with(s))
}

fn counted(scores: &Scores, name: &str, over: MeanOver) -> f64 {
    match over {
        MeanOver::Gt if scores.counts.gt() == 0 => f64::NAN,
        MeanOver::All if scores.status == Status::BothEmpty && !name.starts_with("volume_") => {
            if name.starts_with("hd") || name == "assd" || name == "masd" { 0.0 } else { 1.0 }
        }
        _ => scores.get(name),
    }
}

pub(super) fn summarise(done: Done, plan: &Plan) -> Summary {
    let cases = done.cases;
    let sets: Vec<Vec<u32>> = if plan.table.sets.is_empty() {
        let all = |c: &Case| c.scores.labels.keys().chain(c.other.iter().flat_map(|o| o.labels.keys())).cloned().collect::<Vec<_>>();
        cases.iter().flat_map(all).collect::<BTreeSet<_>>().into_iter().collect()
    } else {
        plan.table.sets.clone()
    };
    let names = sets.iter().map(|s| plan.table.names.get(s).cloned().unwrap_or_else(|| text(s))).collect();
    let mut summary = Summary { cases, sets, names, metrics: Vec::new(), failed: Vec::new(), warnings: Vec::new() };
    summary.failed = done.failures.into_iter().map(|f| (f.case, format!("{:#}", f.error))).collect();
    let mut wanted: Vec<String> = Vec::new();
    for case in &summary.cases {
        for scores in case.scores.labels.values().chain([&case.scores.absent]) {
            for (name, _) in scores.metrics.iter().filter(|m| in_means(&m.0)) {
                if !wanted.contains(name) {
                    wanted.push(name.clone());
                }
            }
        }
    }
    let table = |name: &str, pick: &dyn Fn(&Case) -> Option<CaseScores>| -> Vec<Vec<f64>> {
        let row = |c: &Case| {
            let scores = pick(c);
            let value = |s: &Vec<u32>| scores.as_ref().map_or(f64::NAN, |o| counted(summary.scores(o, s), name, plan.mean_over));
            summary.sets.iter().map(value).collect()
        };
        summary.cases.iter().map(row).collect()
    };
    let mut metrics = Vec::new();
    for name in wanted {
        let values: Vec<Vec<f64>> = summary
            .cases
            .iter()
            .map(|c| summary.sets.iter().map(|s| counted(summary.scores(&c.scores, s), &name, plan.mean_over)).collect())
            .collect();
        let compared = summary.cases.iter().any(|c| c.other.is_some());
        let paired = compared.then(|| {
            paired(&values, &table(&name, &|c| c.other.clone()), plan.rule, plan.bootstrap, plan.seed)
        });
        let interval = bootstrap(&[&values], plan.rule, plan.bootstrap, plan.seed);
        let column = |n: usize| values.iter().filter_map(|row| row.get(n).copied()).collect::<Vec<_>>();
        metrics.push(Metric {
            means: means(&values),
            interval: interval.first().copied().unwrap_or([f64::NAN; 2]),
            all: statistic(&values.iter().flatten().copied().collect::<Vec<_>>()),
            labels: (0..summary.sets.len()).map(|n| statistic(&column(n))).collect(),
            paired,
            values,
            name,
        });
    }
    summary.metrics = metrics;
    summary.warnings = warnings(&summary, plan);
    summary
}

fn warnings(summary: &Summary, plan: &Plan) -> Vec<String> {
    let mut out: Vec<String> = summary.cases.iter().flat_map(|c| c.warnings.iter().map(|w| format!("case {}: {w}", c.name))).collect();
    let truth: BTreeSet<u32> = summary.cases.iter().flat_map(|c| c.scores.gt_ids.clone()).collect();
    let only: Vec<String> = summary
        .cases
        .iter()
        .flat_map(|c| c.scores.pred_ids.clone())
        .collect::<BTreeSet<_>>()
        .difference(&truth)
        .map(ToString::to_string)
        .collect();
    if !only.is_empty() {
        out.push(format!("the predictions have ids that no ground truth has: {}", only.join(", ")));
    }
    let coarse = summary.cases.iter().flat_map(|c| c.scores.spacing).fold(0.0f64, f64::max);
    let small: Vec<String> = plan.settings.tolerances.iter().filter(|t| **t < coarse / 2.0).map(ToString::to_string).collect();
    if plan.settings.surface.is_some() && !small.is_empty() {
        out.push(format!("NSD@{} mostly measures the spacing: it reaches {coarse} mm", small.join(", ")));
    }
    if summary.cases.len() > 1 && summary.cases.len() < 5 && plan.bootstrap > 0 {
        out.push(format!("{} cases are few: the intervals say little", summary.cases.len()));
    }
    if plan.settings.ignore.is_some() && plan.settings.surface.is_some() {
        out.push("the ignored region makes an artificial surface".into());
    }
    out
}

/// Undefined is null, infinite is "inf".
fn number(v: f64) -> Value {
    if v.is_nan() {
        Value::Null
    } else if v.is_infinite() {
        json!(if v > 0.0 { "inf" } else { "-inf" })
    } else {
        json!(v)
    }
}

fn set_id(set: &[u32]) -> Value {
    match set {
        [id] => json!(id),
        _ => json!(text(set)),
    }
}

fn described(s: &Statistic) -> Value {
    json!({"n": s.n, "n_finite": s.n_finite, "mean": number(s.mean), "sd": number(s.sd), "median": number(s.median),
           "q1": number(s.quartiles[0]), "q3": number(s.quartiles[1])})
}

fn headline(m: &Metric, rule: Rule) -> f64 {
    Rule::ALL.iter().position(|&r| r == rule).map_or(f64::NAN, |n| m.means.by_rule[n])
}

fn label_json(s: &Scores, set: &[u32], name: &str, plan: &Plan) -> Value {
    let metrics: Map<String, Value> = s.metrics.iter().map(|(k, v)| (k.clone(), number(*v))).collect();
    let c = s.counts;
    let mut out = json!({"id": set_id(set), "name": name, "status": s.status.name(), "metrics": metrics,
        "counts": {"tp": c.tp, "fp": c.fp, "fn": c.fn_, "tn": c.tn, "n_gt": c.gt(), "n_pred": c.pred()}});
    if let ([id], Some(map)) = (set, out.as_object_mut())
        && let Some(t) = plan.settings.table.get(id)
    {
        map.insert("tolerance_mm".into(), json!(t));
    }
    out
}

pub(super) fn json(summary: &Summary, plan: &Plan) -> anyhow::Result<Vec<u8>> {
    let s = &plan.settings;
    let rows = |scores: &CaseScores| -> Vec<Value> {
        let one = |(set, name): (&Vec<u32>, &String)| label_json(summary.scores(scores, set), set, name, plan);
        summary.sets.iter().zip(&summary.names).map(one).collect()
    };
    let cases: Vec<Value> = summary
        .cases
        .iter()
        .map(|c| {
            let mut case = json!({"case": c.name, "shape": c.scores.dim, "spacing_mm": c.scores.spacing, "unit": if c.picture && !plan.spacing_given { "px" } else { "mm" },
                "alignment": c.alignment, "prediction_missing": c.missing, "warnings": c.warnings, "labels": rows(&c.scores)});
            if let (Some(other), Some(map)) = (&c.other, case.as_object_mut()) {
                map.insert("labels_compared".into(), rows(other).into());
            }
            case
        })
        .collect();
    let mut head = Map::new();
    let mut detail = Map::new();
    let mut comparison = Map::new();
    for m in &summary.metrics {
        let value = number(headline(m, plan.rule));
        if m.name.starts_with("nsd") {
            head.insert(m.name.replacen("nsd", "msdc", 1), value.clone());
        }
        head.insert(format!("m{}", m.name), value);
        let by_rule: Map<String, Value> = Rule::ALL.iter().zip(m.means.by_rule).map(|(r, v)| (r.name().into(), number(v))).collect();
        detail.insert(
            m.name.clone(),
            json!({"mean": by_rule, "n_finite": m.means.n[0], "n_expected": m.means.n[1], "ci95": m.interval.map(number), "pooled_values": described(&m.all)}),
        );
        if let Some(p) = m.paired {
            comparison.insert(
                m.name.clone(),
                json!({"first": number(p.means[0]), "second": number(p.means[1]), "difference": number(p.difference), "ci95": p.interval.map(number),
                       "wilcoxon": {"n": p.test.n, "statistic": p.test.statistic, "p": p.test.p, "exact": p.test.exact}}),
            );
        }
    }
    head.insert("mean_rule".into(), plan.rule.name().into());
    head.insert("n_cases".into(), summary.cases.len().into());
    head.insert("metrics".into(), detail.into());
    let labels: Vec<Value> = summary
        .sets
        .iter()
        .zip(&summary.names)
        .enumerate()
        .map(|(n, (set, name))| {
            let stats: Map<String, Value> = summary.metrics.iter().filter_map(|m| Some((m.name.clone(), described(m.labels.get(n)?)))).collect();
            json!({"id": set_id(set), "name": name, "why": if plan.table.sets.is_empty() { "seen in the data" } else { "listed" }, "metrics": stats})
        })
        .collect();
    let over = match plan.mean_over {
        MeanOver::Present => "present",
        MeanOver::Gt => "gt",
        MeanOver::All => "all",
    };
    let settings = json!({
        "surface": s.surface.map_or("none", |x| x.name()), "hd95": s.hd95.name(), "tolerances_mm": s.tolerances,
        "tolerance_table_mm": s.table.iter().map(|(k, v)| (k.to_string(), json!(v))).collect::<Map<_, _>>(),
        "percentiles": s.percentiles, "empty": if s.empty_is_one { "one" } else { "nan" }, "gt_absent": if s.skip_absent_gt { "skip" } else { "score" },
        "penalty": format!("{:?}", s.penalty).to_lowercase(), "ignore_label": s.ignore, "spacing_mm": s.spacing, "preset": plan.preset,
        "mean_rule": plan.rule.name(), "mean_over": over, "affine_tolerance_mm": plan.grid.tolerance_mm,
        "bootstrap": {"resamples": plan.bootstrap, "seed": plan.seed, "generator": "ChaCha8, one stream a resample", "level": 0.95},
    });
    let mut all = json!({"schema": SCHEMA, "settings": settings, "cases": cases, "labels": labels, "summary": head, "warnings": summary.warnings,
        "failed_cases": summary.failed.iter().map(|(c, e)| json!({"case": c, "error": e})).collect::<Vec<_>>()});
    if let (false, Some(map)) = (comparison.is_empty(), all.as_object_mut()) {
        map.insert("comparison".into(), comparison.into());
    }
    Ok((serde_json::to_string_pretty(&all)? + "\n").into_bytes())
}

pub(super) fn csv(summary: &Summary) -> Vec<u8> {
    let quote = |t: &str| if t.contains([',', '"', '\n']) { format!("\"{}\"", t.replace('"', "\"\"")) } else { t.to_owned() };
    let mut columns: Vec<&str> = Vec::new();
    let all = || summary.cases.iter().flat_map(|c| summary.sets.iter().map(move |s| (c, s)));
    for (c, s) in all() {
        for (name, _) in &summary.scores(&c.scores, s).metrics {
            if !columns.contains(&name.as_str()) {
                columns.push(name);
            }
        }
    }
    let mut out = format!("case,id,name,status,tp,fp,fn,{}\n", columns.join(","));
    for (n, (c, s)) in all().enumerate() {
        let scores = summary.scores(&c.scores, s);
        let name = summary.names.get(n % summary.sets.len().max(1)).map_or("", String::as_str);
        let k = scores.counts;
        let _ = write!(out, "{},{},{},{},{},{},{}", quote(&c.name), text(s), quote(name), scores.status.name(), k.tp, k.fp, k.fn_);
        for column in &columns {
            let v = scores.get(column);
            let _ = if v.is_nan() { write!(out, ",") } else { write!(out, ",{v}") };
        }
        out.push('\n');
    }
    out.into_bytes()
}

/// The layout of nnU-Net v2's `summary.json`.
pub(super) fn nnunet(summary: &Summary) -> anyhow::Result<Vec<u8>> {
    const NAMES: [&str; 8] = ["Dice", "FN", "FP", "IoU", "TN", "TP", "n_pred", "n_ref"];
    let values = |s: &Scores| {
        let c = s.counts;
        let n = [c.fn_, c.fp, c.tn, c.tp, c.pred(), c.gt()].map(|v| v as f64);
        [c.dice(), n[0], n[1], c.iou(), n[2], n[3], n[4], n[5]]
    };
    let object = |v: &[f64; 8]| -> Map<String, Value> { NAMES.iter().zip(v).map(|(k, v)| ((*k).to_owned(), number(*v))).collect() };
    let mut by_case = Vec::new();
    for c in &summary.cases {
        let metrics: Map<String, Value> =
            summary.sets.iter().map(|s| (text(s), object(&values(summary.scores(&c.scores, s))).into())).collect();
        by_case.push(json!({"metrics": metrics, "prediction_file": c.files[1], "reference_file": c.files[0]}));
    }
    let mean = |columns: &[[f64; 8]]| -> [f64; 8] {
        std::array::from_fn(|n| volseg_metrics::mean(columns.iter().map(|c| c[n])))
    };
    let label = |s: &Vec<u32>| mean(&summary.cases.iter().map(|c| values(summary.scores(&c.scores, s))).collect::<Vec<_>>());
    let by_label: Vec<[f64; 8]> = summary.sets.iter().map(label).collect();
    let all: Map<String, Value> = summary.sets.iter().zip(&by_label).map(|(s, v)| (text(s), object(v).into())).collect();
    let out = json!({"foreground_mean": object(&mean(&by_label)), "mean": all, "metric_per_case": by_case});
    Ok((serde_json::to_string_pretty(&out)? + "\n").into_bytes())
}

/// Writes all files or none: each under another name first, then renamed.
pub(super) fn write_all(files: &[(PathBuf, Vec<u8>)]) -> anyhow::Result<()> {
    let mut ready = Vec::new();
    for (path, bytes) in files {
        let mut file = volseg_io::AtomicFile::create(path)?;
        file.write_all(bytes)?;
        ready.push(file);
    }
    ready.into_iter().try_for_each(|file| Ok(file.commit()?))
}

fn cell(v: f64, distance: bool) -> String {
    match (v.is_nan(), distance) {
        (true, _) => "-".into(),
        (_, true) => format!("{v:.2}"),
        _ => format!("{v:.4}"),
    }
}

pub(super) fn terminal(summary: &Summary, plan: &Plan) -> String {
    let s = &plan.settings;
    let mut out = format!(
        "{} case(s), surface {}, HD percentiles {}, means {}",
        summary.cases.len(),
        s.surface.map_or("none", |x| x.name()),
        s.hd95.name(),
        plan.rule.name()
    );
    if let Some(p) = &plan.preset {
        let _ = write!(out, ", preset {p}");
    }
    let keep = |n: &str| ["dice", "iou", "assd", "hd"].contains(&n) || n.starts_with("nsd") || (n.starts_with("hd") && n != "hd");
    let columns: Vec<&Metric> = summary.metrics.iter().filter(|m| keep(&m.name)).collect();
    let title = |m: &Metric| match m.name.strip_prefix("nsd@") {
        Some(t) => format!("NSD@{t}mm"),
        None => m.name.clone(),
    };
    let width = summary.names.iter().map(|n| n.chars().count()).max().unwrap_or(0).max(22);
    let _ = write!(out, "\n{:<width$}", "label");
    columns.iter().for_each(|m| {
        let _ = write!(out, " {:>18}", title(m));
    });
    let distance = |m: &Metric| m.name.starts_with("hd") || m.name == "assd";
    for (n, name) in summary.names.iter().enumerate() {
        let _ = write!(out, "\n{name:<width$}");
        for m in &columns {
            let Some(st) = m.labels.get(n) else { continue };
            let _ = write!(out, " {:>18}", format!("{} ({}/{})", cell(st.mean, distance(m)), st.n_finite, st.n));
        }
    }
    let _ = write!(out, "\n{:<width$}", "mean");
    for m in &columns {
        let v = headline(m, plan.rule);
        let _ = write!(out, " {:>18}", format!("{} ({}/{})", cell(v, distance(m)), m.means.n[0], m.means.n[1]));
    }
    let _ = write!(out, "\n{:<width$}", "median");
    for m in &columns {
        let _ = write!(out, " {:>18}", cell(m.all.median, distance(m)));
    }
    for m in columns.iter().filter(|m| m.name == "dice" || m.name.starts_with("nsd")) {
        let name = match m.name.strip_prefix("nsd") {
            Some("") => "mSDC (= NSD) @table".to_owned(),
            Some(t) => format!("mSDC (= NSD) {t} mm"),
            None => "mDice".to_owned(),
        };
        let _ = write!(out, "\n{name}: {}", cell(headline(m, plan.rule), false));
        if summary.cases.len() > 1 {
            let _ = write!(out, "  95 % interval {} to {}", cell(m.interval[0], false), cell(m.interval[1], false));
        }
        if let Some(p) = m.paired {
            let _ = write!(out, "\n  compared: {} (difference {:+.4}, {:+.4} to {:+.4}, Wilcoxon p {:.4}, n {})",
                cell(p.means[1], false), p.difference, p.interval[0], p.interval[1], p.test.p, p.test.n);
        }
    }
    if summary.cases.len() > 1
        && let Some(dice) = summary.metrics.first()
    {
        let mut worst: Vec<(f64, &str)> =
            dice.values.iter().zip(&summary.cases).map(|(r, c)| (volseg_metrics::mean(r.iter().copied()), c.name.as_str())).collect();
        worst.sort_by(|a, b| a.0.total_cmp(&b.0));
        let list: Vec<String> = worst.iter().filter(|w| !w.0.is_nan()).take(5).map(|(v, n)| format!("{n} {v:.4}")).collect();
        let _ = write!(out, "\nworst cases by Dice: {}", list.join(", "));
    }
    out
}
