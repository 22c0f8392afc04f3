use crate::{
    Directed, Hd95, Labels, Pair, Penalty, Preset, Settings, Surface, VoxelBox,
    bits::{Bits, crop},
    near::Near,
    pairs::Scan,
    surface::{Classes, Points},
};

/// A label or a region: which ids make it up in the two maps as they are stored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The ids after renumbering; one for a label, several for a region.
    pub ids: Vec<u32>,
    /// Stored ids of the ground truth.
    pub gt: Vec<u16>,
    /// Stored ids of the prediction.
    pub pred: Vec<u16>,
}

/// Which of the two masks are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Both.
    Ok,
    /// The prediction lacks it.
    Missed,
    /// The ground truth lacks it.
    Invented,
    /// Neither has it.
    BothEmpty,
}

impl Status {
    /// Name in JSON and CSV.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Missed => "missed",
            Self::Invented => "invented",
            Self::BothEmpty => "both_empty",
        }
    }
}

/// Voxel counts of a label in a case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// In both masks.
    pub tp: u64,
    /// In the prediction only.
    pub fp: u64,
    /// In the ground truth only.
    pub fn_: u64,
    /// In neither (ignored voxels left out).
    pub tn: u64,
}

impl Counts {
    /// Voxels of the ground truth.
    #[must_use]
    pub fn gt(&self) -> u64 {
        self.tp + self.fn_
    }
    /// Voxels of the prediction.
    #[must_use]
    pub fn pred(&self) -> u64 {
        self.tp + self.fp
    }
    /// Which masks are there.
    #[must_use]
    pub fn status(&self) -> Status {
        match (self.gt() > 0, self.pred() > 0) {
            (true, true) => Status::Ok,
            (true, false) => Status::Missed,
            (false, true) => Status::Invented,
            (false, false) => Status::BothEmpty,
        }
    }
    /// 2TP / (2TP + FP + FN); NaN if both are empty.
    #[must_use]
    pub fn dice(&self) -> f64 {
        ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn_)
    }
    /// TP / (TP + FP + FN); NaN if both are empty.
    #[must_use]
    pub fn iou(&self) -> f64 {
        ratio(self.tp, self.tp + self.fp + self.fn_)
    }
    /// TP / (TP + FP); NaN if the prediction is empty.
    #[must_use]
    pub fn precision(&self) -> f64 {
        ratio(self.tp, self.pred())
    }
    /// TP / (TP + FN); NaN if the ground truth is empty.
    #[must_use]
    pub fn recall(&self) -> f64 {
        ratio(self.tp, self.gt())
    }
    /// 1 - |FN - FP| / (2TP + FP + FN); NaN if both are empty.
    #[must_use]
    pub fn volumetric_similarity(&self) -> f64 {
        1.0 - ratio(self.fn_.abs_diff(self.fp), 2 * self.tp + self.fp + self.fn_)
    }
}

fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b as f64
}

/// Scores of one label in one case.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// Which masks are there.
    pub status: Status,
    /// Voxel counts.
    pub counts: Counts,
    /// Metrics by name, in the order of the JSON; NaN is undefined, infinity is infinity.
    pub metrics: Vec<(String, f64)>,
}

impl Scores {
    /// A metric by name; NaN if undefined or unknown.
    #[must_use]
    pub fn get(&self, name: &str) -> f64 {
        self.metrics.iter().find(|m| m.0 == name).map_or(f64::NAN, |m| m.1)
    }
}

/// Surface distances in both directions.
struct Both {
    gt: Directed,
    pred: Directed,
}

/// Scores one label of a pair whose id pairs are known.
#[allow(clippy::too_many_arguments)]
pub(crate) fn score(
    gt: &Labels,
    pred: &Labels,
    scan: &Scan,
    ignored: &[u16],
    target: &Target,
    spacing: [f64; 3],
    near: &Near,
    settings: &Settings,
) -> Scores {
    let dim = gt.dim();
    let mut counts = Counts::default();
    let (mut boxes, mut gt_boxes, mut left_out) = (Vec::new(), Vec::new(), 0);
    for pair in &scan.pairs {
        if ignored.contains(&pair.gt) {
            left_out += pair.count;
            continue;
        }
        match (target.gt.contains(&pair.gt), target.pred.contains(&pair.pred)) {
            (true, true) => counts.tp += pair.count,
            (true, false) => counts.fn_ += pair.count,
            (false, true) => counts.fp += pair.count,
            (false, false) => continue,
        }
        boxes.push(pair.bounds);
        if target.gt.contains(&pair.gt) {
            gt_boxes.push(pair.bounds);
        }
    }
    let mut voxels = dim.iter().product::<usize>() as u64 - left_out;
    let mut bounds = VoxelBox::around(boxes.iter());
    // FLARE'22 scores the tubes on the slices of the ground truth only, without its last one. What is empty is asked of the whole.
    let whole = counts.status();
    let cut = settings.tubes.contains(&target.ids).then(|| VoxelBox::around(gt_boxes.iter())).flatten();
    if let (Some(b), Some(g)) = (&mut bounds, cut) {
        (b.low[2], b.high[2]) = (g.low[2], g.high[2] - 1);
        voxels = (dim[0] * dim[1] * (b.high[2] - b.low[2])) as u64;
    }
    let needs_masks = settings.surface.is_some() || cut.is_some();
    let masks = bounds.filter(|_| needs_masks).map(|b| {
        if let Some(stretches) = &scan.stretches {
            let paint = |wanted: &(dyn Fn(&Pair) -> bool + Sync)| {
                let kept = |p: &Pair| wanted(p) && !ignored.contains(&p.gt);
                Bits::painted(&b, scan.pairs.iter().zip(stretches).filter(|(p, _)| kept(p)).flat_map(|(_, s)| s))
            };
            return rayon::join(
                || paint(&|p: &Pair| target.gt.contains(&p.gt)),
                || paint(&|p: &Pair| target.pred.contains(&p.pred)),
            );
        }
        let mut g = crop(gt.view(), dim, &b, &target.gt);
        let mut p = crop(pred.view(), dim, &b, &target.pred);
        if !ignored.is_empty() {
            let away = crop(gt.view(), dim, &b, ignored);
            g.remove(&away);
            p.remove(&away);
        }
        (g, p)
    });
    if let (Some(_), Some((g, p))) = (cut, &masks) {
        let tp = g.count_both(p);
        counts = Counts { tp, fp: p.count() - tp, fn_: g.count() - tp, tn: 0 };
    }
    counts.tn = voxels.saturating_sub(counts.tp + counts.fp + counts.fn_);
    let status = counts.status();
    let mut metrics = counting(&counts, spacing);
    if let Some(surface) = settings.surface {
        let both = masks.filter(|_| status != Status::BothEmpty).map(|(g, p)| {
            let main = distances(&g, &p, surface, spacing, settings.flat, near);
            let other = (status == Status::Ok && settings.hd95.surface() != surface)
                .then(|| distances(&g, &p, settings.hd95.surface(), spacing, settings.flat, near));
            (main, other)
        });
        let (main, other) = both.map_or((None, None), |(m, o)| (Some(m), o));
        surface_metrics(&mut metrics, main.as_ref(), other.as_ref(), status, target, spacing, dim, settings);
    }
    let status = if status == Status::BothEmpty { whole } else { status };
    let mut scores = Scores { status, counts, metrics };
    empty_rules(&mut scores, settings);
    quirks(&mut scores, settings);
    scores
}

fn counting(c: &Counts, spacing: [f64; 3]) -> Vec<(String, f64)> {
    let voxel: f64 = spacing.iter().product();
    let (vg, vp) = (c.gt() as f64 * voxel, c.pred() as f64 * voxel);
    let difference = (c.pred() as f64 - c.gt() as f64) * voxel;
    let relative = (c.pred() as f64 - c.gt() as f64) / c.gt() as f64;
    let relative = if c.gt() == 0 { f64::NAN } else { relative };
    [
        ("dice", c.dice()),
        ("iou", c.iou()),
        ("precision", c.precision()),
        ("recall", c.recall()),
        ("volume_gt_mm3", vg),
        ("volume_pred_mm3", vp),
        ("volume_diff_mm3", difference),
        ("volume_abs_diff_mm3", difference.abs()),
        ("volume_rel_diff", relative),
        ("volume_abs_rel_diff", relative.abs()),
        ("volumetric_similarity", c.volumetric_similarity()),
        ("volume_gt_ml", vg / 1000.0),
        ("volume_pred_ml", vp / 1000.0),
        ("volume_diff_ml", difference / 1000.0),
    ]
    .into_iter()
    .map(|(name, v)| (name.to_owned(), v))
    .collect()
}

fn distances(g: &Bits, p: &Bits, surface: Surface, spacing: [f64; 3], flat: bool, near: &Near) -> Both {
    let classes = Classes::new(surface, flat, spacing);
    let (g, p) =
        rayon::join(|| Points::new(g, surface, flat, near.reach), || Points::new(p, surface, flat, near.reach));
    let (gt, pred) = rayon::join(
        || Directed::new(&g, &p.bits, &classes, near, spacing),
        || Directed::new(&p, &g.bits, &classes, near, spacing),
    );
    Both { gt, pred }
}

#[allow(clippy::too_many_arguments)]
fn surface_metrics(
    out: &mut Vec<(String, f64)>,
    main: Option<&Both>,
    percentiles: Option<&Both>,
    status: Status,
    target: &Target,
    spacing: [f64; 3],
    dim: [usize; 3],
    settings: &Settings,
) {
    let apart = match settings.penalty {
        Penalty::Infinite => f64::INFINITY,
        Penalty::Diagonal => (0..3).map(|a| (dim[a] as f64 * spacing[a]).powi(2)).sum::<f64>().sqrt(),
        Penalty::Fixed(v) => v,
    };
    let overlap = |f: &dyn Fn(&Both) -> f64| main.map_or(f64::NAN, f);
    let distance = |f: &dyn Fn(&Both) -> f64| match (status, main) {
        (Status::Ok, Some(both)) => f(both),
        (Status::BothEmpty, _) | (_, None) => f64::NAN,
        _ => apart,
    };
    // A target without ids stands for any label that neither map has.
    let own = if target.ids.is_empty() { settings.table.values().next() } else { settings.table.get(&target.ids) };
    let table = own.map(|&t| (String::new(), t));
    for (suffix, t) in table.into_iter().chain(settings.tolerances.iter().map(|&t| (format!("@{t}"), t))) {
        // A distance is infinite where the other mask is empty: no tolerance is ever met there.
        let near = |d: &Directed| if status == Status::Ok { d.within(t) } else { 0.0 };
        let nsd = overlap(&|b| (near(&b.gt) + near(&b.pred)) / (b.gt.total() + b.pred.total()));
        out.push((format!("nsd{suffix}"), nsd));
        out.push((format!("overlap_gt{suffix}"), overlap(&|b| near(&b.gt) / b.gt.total())));
        out.push((format!("overlap_pred{suffix}"), overlap(&|b| near(&b.pred) / b.pred.total())));
    }
    out.push(("hd".into(), distance(&|b| b.gt.max().max(b.pred.max()))));
    for &q in &settings.percentiles {
        let value = distance(&|b| {
            let b = percentiles.unwrap_or(b);
            match settings.hd95 {
                Hd95::SurfelMax => b.gt.weighted_percentile(q).max(b.pred.weighted_percentile(q)),
                Hd95::VoxelMax => b.gt.rank_percentile(q).max(b.pred.rank_percentile(q)),
                Hd95::Pooled => b.gt.pooled_percentile(&b.pred, q),
            }
        });
        out.push((format!("hd{q}"), value));
    }
    out.push(("asd_gt_to_pred".into(), distance(&|b| b.gt.mean())));
    out.push(("asd_pred_to_gt".into(), distance(&|b| b.pred.mean())));
    let pooled = |b: &Both| (b.gt.moment() + b.pred.moment()) / (b.gt.total() + b.pred.total());
    out.push(("assd".into(), distance(&pooled)));
    out.push(("masd".into(), distance(&|b| (b.gt.mean() + b.pred.mean()) / 2.0)));
    let area = |f: &dyn Fn(&Both) -> f64| main.map_or(0.0, f);
    out.push(("surface_area_gt_mm2".into(), area(&|b| b.gt.total())));
    out.push(("surface_area_pred_mm2".into(), area(&|b| b.pred.total())));
    out.push(("surfels_gt".into(), area(&|b| b.gt.points() as f64)));
    out.push(("surfels_pred".into(), area(&|b| b.pred.points() as f64)));
}

/// What a metric is, by its name.
pub(crate) fn is_distance(name: &str) -> bool {
    name.starts_with("hd") || name.starts_with("asd") || name == "assd" || name == "masd"
}

/// Whether larger is better and 1 is best.
pub(crate) fn is_overlap(name: &str) -> bool {
    let starts = ["dice", "iou", "nsd", "overlap_", "precision", "recall", "volumetric_similarity"];
    starts.iter().any(|s| name.starts_with(s))
}

fn empty_rules(scores: &mut Scores, settings: &Settings) {
    let absent = scores.counts.gt() == 0;
    for (name, v) in &mut scores.metrics {
        if settings.skip_absent_gt && absent && (is_overlap(name) || is_distance(name)) {
            *v = f64::NAN;
        } else if settings.empty_is_one && scores.status == Status::BothEmpty {
            if is_overlap(name) {
                *v = 1.0;
            } else if is_distance(name) {
                *v = 0.0;
            }
        }
    }
}

/// What is special in published scripts and libraries (specs: metrics.md sections 5 and 7).
fn quirks(scores: &mut Scores, settings: &Settings) {
    let (status, c) = (scores.status, scores.counts);
    let dice = c.dice();
    for (name, v) in &mut scores.metrics {
        match settings.preset {
            Some(Preset::Flare22) => {
                // Where the cut leaves neither mask, a missed organ is missed all the same.
                let missed = dice.is_nan() && matches!(status, Status::Missed | Status::Invented);
                if (missed && is_overlap(name)) || (name.starts_with("nsd") && dice < 0.2) {
                    *v = 0.0;
                }
                if name == "dice" || name.starts_with("nsd") {
                    *v = (*v * 1e4).round_ties_even() / 1e4;
                }
            }
            Some(Preset::TotalSegmentator) if name == "dice" && c.gt() > 0 => {
                *v = 2.0 * c.tp as f64 / ((2 * c.tp + c.fp + c.fn_) as f64 + 1e-6);
            }
            Some(Preset::Monai) => match status {
                Status::Missed | Status::Invented if name == "hd95" => *v = f64::NAN,
                Status::Invented if name == "dice" || name == "iou" => *v = f64::NAN,
                _ => {}
            },
            Some(Preset::MedPy) => {
                if status == Status::BothEmpty && (name == "dice" || name == "iou") {
                    *v = 1.0;
                } else if status != Status::Ok && (is_distance(name) || name.starts_with("nsd")) {
                    *v = f64::NAN;
                }
            }
            Some(Preset::DeepMind) => match (status, name.as_str()) {
                (Status::BothEmpty, n) if n.starts_with("hd") => *v = f64::INFINITY,
                (Status::Missed, "asd_pred_to_gt") | (Status::Invented, "asd_gt_to_pred") => *v = f64::NAN,
                (Status::Missed | Status::Invented, "masd") => *v = f64::NAN,
                _ => {}
            },
            _ => {}
        }
    }
}
