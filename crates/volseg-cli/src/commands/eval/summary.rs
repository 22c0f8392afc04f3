//! From the scores of the cases to statements about the data set.

use super::{
    MeanOver,
    cases::{Case, Done},
    plan::Plan,
    table::{misnamed, text},
};
use std::collections::{BTreeMap, BTreeSet};
use volseg_metrics::{
    CaseScores, Means, Paired, Preset, Rule, Scores, Statistic, Status, bootstrap, mean, means, paired, statistic,
};

/// A metric over the data set.
pub(super) struct Metric {
    pub(super) name: String,
    /// `values[case][label]`; NaN where a label does not count.
    pub(super) values: Vec<Vec<f64>>,
    pub(super) means: Means,
    pub(super) interval: [f64; 2],
    pub(super) all: Statistic,
    pub(super) labels: Vec<Statistic>,
    /// Means over the labels of a group.
    pub(super) groups: BTreeMap<String, Means>,
    pub(super) paired: Option<Paired>,
}

impl Metric {
    /// The mean by the rule of this run.
    pub(super) fn headline(&self, rule: Rule) -> f64 {
        by_rule(&self.means, rule)
    }

    /// Whether it is a length; else it has no unit.
    pub(super) fn is_distance(&self) -> bool {
        is_distance(&self.name)
    }
}

pub(super) fn by_rule(means: &Means, rule: Rule) -> f64 {
    Rule::ALL.iter().position(|&r| r == rule).map_or(f64::NAN, |n| means.by_rule[n])
}

fn is_distance(name: &str) -> bool {
    name.starts_with("hd") || name == "assd" || name == "masd"
}

/// A data set, scored.
pub(super) struct Summary {
    pub(super) cases: Vec<Case>,
    /// Scored labels and regions.
    pub(super) sets: Vec<Vec<u32>>,
    pub(super) names: Vec<String>,
    pub(super) metrics: Vec<Metric>,
    pub(super) failed: Vec<(String, String)>,
    pub(super) warnings: Vec<String>,
    /// Unit of lengths: mm, or px for pictures without a spacing.
    pub(super) unit: &'static str,
}

impl Summary {
    pub(super) fn new(done: Done, plan: &Plan) -> Self {
        let mut cases = done.cases;
        let sets: Vec<Vec<u32>> = if plan.table.sets.is_empty() {
            let all = |c: &Case| {
                c.scores.labels.keys().chain(c.other.iter().flat_map(|o| o.labels.keys())).cloned().collect::<Vec<_>>()
            };
            cases.iter().flat_map(all).collect::<BTreeSet<_>>().into_iter().collect()
        } else {
            plan.table.sets.clone()
        };
        for case in &mut cases {
            case.scores.complete(&sets, &plan.settings);
            case.other.iter_mut().for_each(|o| o.complete(&sets, &plan.settings));
        }
        let pixels = plan.settings.spacing.is_none() && cases.iter().all(|c| c.picture);
        let mut summary = Self {
            names: sets.iter().map(|s| plan.table.names.get(s).or(in_files(&cases, s)).cloned().unwrap_or_else(|| text(s))).collect(),
            failed: done.failures.into_iter().map(|f| (f.case, format!("{:#}", f.error))).collect(),
            unit: if pixels { "px" } else { "mm" },
            cases,
            sets,
            metrics: Vec::new(),
            warnings: Vec::new(),
        };
        summary.metrics = summary.metric_names().into_iter().map(|name| summary.metric(name, plan)).collect();
        summary.warnings = summary.warnings(plan);
        summary
    }

    /// The scores of a case, in the order of the labels.
    pub(super) fn rows<'a>(&'a self, case: &'a CaseScores) -> impl Iterator<Item = &'a Scores> {
        self.sets.iter().map(|set| case.labels.get(set).unwrap_or(&case.absent))
    }

    /// Cases by their mean Dice, worst first.
    pub(super) fn worst(&self) -> Vec<(f64, &Case)> {
        let dice = self.metrics.iter().find(|m| m.name == "dice");
        let rows = dice.map_or(&[][..], |m| &m.values);
        let mut all: Vec<(f64, &Case)> =
            rows.iter().map(|row| mean(row.iter().copied())).zip(&self.cases).filter(|w| !w.0.is_nan()).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        all
    }

    fn metric_names(&self) -> Vec<String> {
        let counts = ["dice", "iou", "precision", "recall", "volumetric_similarity", "volume_rel_diff", "volume_abs_rel_diff"];
        let mut wanted: Vec<String> = Vec::new();
        for (name, _) in self.cases.iter().flat_map(|c| self.rows(&c.scores)).flat_map(|s| &s.metrics) {
            let averaged = counts.contains(&name.as_str()) || name.starts_with("nsd") || is_distance(name);
            if averaged && !wanted.contains(name) {
                wanted.push(name.clone());
            }
        }
        wanted
    }

    fn metric(&self, name: String, plan: &Plan) -> Metric {
        let row = |c: &CaseScores| self.rows(c).map(|s| counted(s, &name, plan.mean_over)).collect::<Vec<f64>>();
        let values: Vec<Vec<f64>> = self.cases.iter().map(|c| row(&c.scores)).collect();
        let paired = plan.compares.then(|| {
            let second: Vec<Vec<f64>> = self.cases.iter().filter_map(|c| c.other.as_ref()).map(row).collect();
            paired(&values, &second, plan.rule, plan.bootstrap, plan.seed)
        });
        let columns = |pick: &dyn Fn(usize) -> bool| -> Vec<Vec<f64>> {
            let some = |row: &Vec<f64>| row.iter().enumerate().filter(|(n, _)| pick(*n)).map(|(_, v)| *v).collect();
            values.iter().map(some).collect()
        };
        let groups: BTreeSet<&String> = plan.table.groups.values().collect();
        let in_group = |group: &String, n: usize| self.sets.get(n).and_then(|s| plan.table.groups.get(s)) == Some(group);
        let interval = bootstrap(&[&values], plan.rule, plan.bootstrap, plan.seed);
        Metric {
            means: means(&values),
            interval: interval.first().copied().unwrap_or([f64::NAN; 2]),
            all: statistic(&values.concat()),
            labels: (0..self.sets.len()).map(|n| statistic(&columns(&|m| m == n).concat())).collect(),
            groups: groups.into_iter().map(|g| (g.clone(), means(&columns(&|n| in_group(g, n))))).collect(),
            paired,
            values,
            name,
        }
    }

    fn warnings(&self, plan: &Plan) -> Vec<String> {
        let one = |c: &Case| c.warnings.iter().map(|w| format!("case {}: {w}", c.name)).collect::<Vec<_>>();
        let mut out: Vec<String> = self.cases.iter().flat_map(one).collect();
        let truth: BTreeSet<u32> = self.cases.iter().flat_map(|c| c.scores.gt_ids.clone()).collect();
        let found: BTreeSet<u32> = self.cases.iter().flat_map(|c| c.scores.pred_ids.clone()).collect();
        let only: Vec<String> = found.difference(&truth).map(ToString::to_string).collect();
        if !only.is_empty() {
            out.push(format!("the predictions have ids that no ground truth has: {}", only.join(", ")));
        }
        let pictures = self.cases.iter().filter(|c| c.picture).count();
        if plan.settings.spacing.is_none() && pictures > 0 && pictures < self.cases.len() {
            out.push("pictures (lengths in px) and volumes (in mm) are averaged together: score them apart, or give --spacing".into());
        }
        for m in self.metrics.iter().filter(|m| ["hd95", "assd"].contains(&m.name.as_str())) {
            if let Some(p) = m.paired.filter(|p| p.n.iter().any(|[finite, all]| finite < all)) {
                let [[a, of_a], [b, of_b]] = p.n;
                let n = format!("finite in {a}/{of_a} labels of the first prediction and {b}/{of_b} of the second");
                out.push(format!("{}: {n}; they are compared where both are", m.name));
            }
        }
        if plan.settings.preset == Some(Preset::Flare22) && plan.table.names.is_empty() {
            for (set, name) in self.sets.iter().zip(&self.names) {
                if let Some([flare, name]) = misnamed(set, name) {
                    let set = text(set);
                    out.push(format!("label {set} is {name} in the files and {flare} in FLARE, whose rules it is scored by (--labels with names)"));
                }
            }
        }
        let axes = |c: &Case| if c.picture { 2 } else { 3 };
        let coarse = self.cases.iter().flat_map(|c| c.scores.spacing.into_iter().take(axes(c))).fold(0.0f64, f64::max);
        let tolerances = plan.settings.tolerances.iter().chain(plan.settings.table.values());
        let small: BTreeSet<String> = tolerances.filter(|t| **t < coarse / 2.0).map(ToString::to_string).collect();
        if plan.settings.surface.is_some() && !small.is_empty() {
            let small: Vec<String> = small.into_iter().collect();
            out.push(format!("NSD@{} mostly measures the spacing, up to {coarse:.4} {}", small.join(", "), self.unit));
        }
        if self.cases.len() > 1 && self.cases.len() < 5 && plan.bootstrap > 0 {
            out.push(format!("{} cases are few: the intervals say little", self.cases.len()));
        }
        if plan.settings.ignore.is_some() && plan.settings.surface.is_some() {
            out.push("the ignored region makes an artificial surface, which the distances count".into());
        }
        out
    }
}

/// The name of an id on which all files agree that have one.
fn in_files<'a>(cases: &'a [Case], set: &[u32]) -> Option<&'a String> {
    let [id] = set else { return None };
    let mut names = cases.iter().filter_map(|c| c.names.get(id));
    let first = names.next()?;
    names.all(|n| n == first).then_some(first)
}

/// The value that a label gives to means; NaN if it does not count.
fn counted(scores: &Scores, name: &str, over: MeanOver) -> f64 {
    match over {
        MeanOver::Gt if scores.counts.gt() == 0 => f64::NAN,
        MeanOver::All if scores.status == Status::BothEmpty && !name.starts_with("volume_") => {
            if is_distance(name) { 0.0 } else { 1.0 }
        }
        _ => scores.get(name),
    }
}
