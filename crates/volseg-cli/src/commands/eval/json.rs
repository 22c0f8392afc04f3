//! The JSON of a run (docs/schema/eval.schema.json), and nnU-Net's.

use super::{
    MeanOver,
    plan::Plan,
    summary::{Summary, by_rule},
    table::text,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use volseg_metrics::{CaseScores, IdMap, Means, Penalty, Rule, Scores, Statistic};

/// Version of the JSON.
const SCHEMA: &str = "volseg-eval/1";

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

fn label(s: &Scores, set: &[u32], name: &str, plan: &Plan) -> Value {
    let metrics: Map<String, Value> = s.metrics.iter().map(|(k, v)| (k.clone(), number(*v))).collect();
    let c = s.counts;
    let mut out = json!({"id": set_id(set), "name": name, "status": s.status.name(), "metrics": metrics,
        "counts": {"tp": c.tp, "fp": c.fp, "fn": c.fn_, "tn": c.tn, "n_gt": c.gt(), "n_pred": c.pred()}});
    if let (Some(t), Some(map)) = (plan.settings.table.get(set), out.as_object_mut()) {
        map.insert("tolerance_mm".into(), json!(t));
    }
    out
}

fn cases(summary: &Summary, plan: &Plan) -> Vec<Value> {
    let rows = |scores: &CaseScores| -> Vec<Value> {
        let named = summary.sets.iter().zip(&summary.names);
        summary.rows(scores).zip(named).map(|(s, (set, name))| label(s, set, name, plan)).collect()
    };
    let one = |c: &super::cases::Case| {
        let unit = if c.picture && plan.settings.spacing.is_none() { "px" } else { "mm" };
        let mut case = json!({"case": c.name, "shape": c.scores.dim, "spacing_mm": c.scores.spacing, "unit": unit,
            "alignment": c.alignment, "prediction_missing": c.missing, "warnings": c.warnings, "labels": rows(&c.scores)});
        if let (Some(other), Some(map)) = (&c.other, case.as_object_mut()) {
            map.insert("labels_compared".into(), rows(other).into());
        }
        case
    };
    summary.cases.iter().map(one).collect()
}

fn labels(summary: &Summary, plan: &Plan) -> Vec<Value> {
    let why = if plan.table.sets.is_empty() { "seen in the data" } else { "listed" };
    let one = |(n, (set, name)): (usize, (&Vec<u32>, &String))| {
        let of = |m: &super::summary::Metric| Some((m.name.clone(), described(m.labels.get(n)?)));
        let statistics: Map<String, Value> = summary.metrics.iter().filter_map(of).collect();
        json!({"id": set_id(set), "name": name, "why": why, "group": plan.table.groups.get(set), "metrics": statistics})
    };
    summary.sets.iter().zip(&summary.names).enumerate().map(one).collect()
}

/// `m` before each metric's name, and mSDC as the other name of mNSD.
fn means_by_name<'a>(means: impl Iterator<Item = (&'a str, &'a Means)>, rule: Rule) -> Map<String, Value> {
    let mut out = Map::new();
    for (name, means) in means {
        let value = number(by_rule(means, rule));
        if name.starts_with("nsd") {
            out.insert(name.replacen("nsd", "msdc", 1), value.clone());
        }
        out.insert(format!("m{name}"), value);
    }
    out
}

fn summary_part(summary: &Summary, plan: &Plan) -> Value {
    let all = || summary.metrics.iter();
    let mut head = means_by_name(all().map(|m| (m.name.as_str(), &m.means)), plan.rule);
    let detail = |m: &super::summary::Metric| {
        let mean: Map<String, Value> =
            Rule::ALL.iter().zip(m.means.by_rule).map(|(r, v)| (r.name().into(), number(v))).collect();
        let more = json!({"mean": mean, "n_finite": m.means.n[0], "n_expected": m.means.n[1],
            "ci95": m.interval.map(number), "pooled_values": described(&m.all)});
        (m.name.clone(), more)
    };
    let names: Vec<&String> = all().next().map_or(Vec::new(), |m| m.groups.keys().collect());
    let group = |name: &&String| {
        let means = all().filter_map(|m| Some((m.name.as_str(), m.groups.get(*name)?)));
        ((*name).clone(), Value::from(means_by_name(means, plan.rule)))
    };
    head.insert("groups".into(), names.iter().map(group).collect::<Map<_, _>>().into());
    head.insert("mean_rule".into(), plan.rule.name().into());
    head.insert("n_cases".into(), summary.cases.len().into());
    head.insert("metrics".into(), all().map(detail).collect::<Map<_, _>>().into());
    head.into()
}

fn settings(plan: &Plan) -> Value {
    let s = &plan.settings;
    let over = match plan.mean_over {
        MeanOver::Present => "present",
        MeanOver::Gt => "gt",
        MeanOver::All => "all",
    };
    let penalty = match s.penalty {
        Penalty::Infinite => json!("inf"),
        Penalty::Diagonal => json!("diagonal"),
        Penalty::Fixed(mm) => json!(mm),
    };
    let map = |m: &IdMap| -> BTreeMap<String, u32> { m.to.iter().map(|(a, b)| (a.to_string(), *b)).collect() };
    let table: BTreeMap<String, f64> = s.table.iter().map(|(set, t)| (text(set), *t)).collect();
    json!({
        "surface": s.surface.map_or("none", |x| x.name()), "hd95": s.hd95.name(), "tolerances_mm": s.tolerances,
        "tolerance_table_mm": table, "percentiles": s.percentiles, "empty": if s.empty_is_one { "one" } else { "nan" },
        "gt_absent": if s.skip_absent_gt { "skip" } else { "score" }, "penalty": penalty, "ignore_label": s.ignore,
        "spacing_mm": s.spacing, "preset": plan.preset, "mean_rule": plan.rule.name(), "mean_over": over,
        "gt_map": map(&plan.selection.gt_map), "pred_map": map(&plan.selection.pred_map),
        "map_strict": plan.selection.gt_map.strict || plan.selection.pred_map.strict, "2d": plan.flat,
        "missing": if plan.missing_zero { "zero" } else { "error" },
        "grid": {"tolerance_mm": plan.grid.tolerance_mm, "strict": plan.grid.strict, "ignore_affine": plan.grid.ignore_affine,
                 "resample": if plan.grid.resample { Some("pred") } else { None }},
        "bootstrap": {"resamples": plan.bootstrap, "seed": plan.seed, "generator": "ChaCha8, one stream a resample", "level": 0.95},
    })
}

/// All of a run. With preset nnunet the keys of nnU-Net's `summary.json` stand in it too, for its readers.
pub(super) fn eval(summary: &Summary, plan: &Plan) -> anyhow::Result<Vec<u8>> {
    let failed: Vec<Value> = summary.failed.iter().map(|(c, e)| json!({"case": c, "error": e})).collect();
    let mut all = Map::new();
    all.insert("schema".into(), SCHEMA.into());
    all.insert("settings".into(), settings(plan));
    all.insert("cases".into(), cases(summary, plan).into());
    all.insert("labels".into(), labels(summary, plan).into());
    all.insert("summary".into(), summary_part(summary, plan));
    all.insert("warnings".into(), json!(summary.warnings));
    all.insert("failed_cases".into(), failed.into());
    if plan.compares {
        let one = |m: &super::summary::Metric| {
            let p = m.paired?;
            let test = json!({"n": p.test.n, "statistic": p.test.statistic, "p": p.test.p, "exact": p.test.exact});
            let both = json!({"first": number(p.means[0]), "second": number(p.means[1]),
                "n_finite": p.n.map(|n| n[0]), "n_expected": p.n.map(|n| n[1]), "difference": number(p.difference), "ci95": p.interval.map(number), "wilcoxon": test});
            Some((m.name.clone(), both))
        };
        all.insert("comparison".into(), summary.metrics.iter().filter_map(one).collect::<Map<_, _>>().into());
    }
    if plan.preset.as_deref() == Some("nnunet") {
        all.append(&mut nnunet_keys(summary));
    }
    Ok((serde_json::to_string_pretty(&all)? + "\n").into_bytes())
}

/// The layout of nnU-Net v2's `summary.json`.
pub(super) fn nnunet(summary: &Summary) -> anyhow::Result<Vec<u8>> {
    Ok((serde_json::to_string_pretty(&nnunet_keys(summary))? + "\n").into_bytes())
}

fn nnunet_keys(summary: &Summary) -> Map<String, Value> {
    const NAMES: [&str; 8] = ["Dice", "FN", "FP", "IoU", "TN", "TP", "n_pred", "n_ref"];
    let values = |s: &Scores| {
        let c = s.counts;
        let n = [c.fn_, c.fp, c.tn, c.tp, c.pred(), c.gt()].map(|v| v as f64);
        [c.dice(), n[0], n[1], c.iou(), n[2], n[3], n[4], n[5]]
    };
    // Python's form of a label (1) or a region ((1, 2)).
    let key = |set: &Vec<u32>| match set.as_slice() {
        [id] => id.to_string(),
        many => format!("({})", many.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")),
    };
    let keys: Vec<String> = summary.sets.iter().map(key).collect();
    let object = |v: &[f64; 8]| -> Value { NAMES.iter().zip(v).map(|(k, v)| ((*k).to_owned(), number(*v))).collect::<Map<_, _>>().into() };
    let mean = |columns: &[[f64; 8]]| -> [f64; 8] {
        std::array::from_fn(|n| volseg_metrics::mean(columns.iter().map(|c| c[n])))
    };
    let table: Vec<Vec<[f64; 8]>> = summary.cases.iter().map(|c| summary.rows(&c.scores).map(values).collect()).collect();
    let column = |n: usize| table.iter().filter_map(|row| row.get(n).copied()).collect::<Vec<_>>();
    let by_label: Vec<[f64; 8]> = (0..keys.len()).map(|n| mean(&column(n))).collect();
    let named = |rows: &[[f64; 8]]| -> Map<String, Value> { keys.iter().cloned().zip(rows.iter().map(object)).collect() };
    let by_case = summary.cases.iter().zip(&table).map(|(c, row)| {
        json!({"metrics": named(row), "prediction_file": c.files[1], "reference_file": c.files[0]})
    });
    let mut out = Map::new();
    out.insert("foreground_mean".into(), object(&mean(&by_label)));
    out.insert("mean".into(), named(&by_label).into());
    out.insert("metric_per_case".into(), by_case.collect::<Vec<_>>().into());
    out
}
