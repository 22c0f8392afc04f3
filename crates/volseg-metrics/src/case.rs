use crate::{
    Error, Labels, Pair, Result, Scores, Settings, Target, grid::spacing_of, label::score, near::Near, pairs::scan,
};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Renumbers stored ids before anything else.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IdMap {
    /// New id of a stored one.
    pub to: BTreeMap<u16, u32>,
    /// Ids without an entry are background instead of kept.
    pub strict: bool,
}

impl IdMap {
    /// The id that a stored one stands for.
    #[must_use]
    pub fn apply(&self, stored: u16) -> u32 {
        self.to.get(&stored).copied().unwrap_or(if self.strict { 0 } else { stored.into() })
    }
}

/// Which labels are scored, and how stored ids are read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// Sets of ids: one id for a label, several for a region. `None`: every id seen in either map.
    pub listed: Option<Vec<Vec<u32>>>,
    /// Renumbering of the ground truth.
    pub gt_map: IdMap,
    /// Renumbering of the prediction.
    pub pred_map: IdMap,
}

/// The scores of a case: for each set of ids its scores, in the order of the ids.
#[derive(Clone, Debug, PartialEq)]
pub struct CaseScores {
    /// Scores by ids.
    pub labels: BTreeMap<Vec<u32>, Scores>,
    /// Ids that the ground truth has, after renumbering.
    pub gt_ids: BTreeSet<u32>,
    /// Ids that the prediction has.
    pub pred_ids: BTreeSet<u32>,
    /// Spacing in mm that was used.
    pub spacing: [f64; 3],
    /// Voxels along the axes.
    pub dim: [usize; 3],
    /// Scores of a label that neither map has; `nsd` is in them if any label has a tolerance of its own.
    pub absent: Scores,
}

impl CaseScores {
    /// Adds scores for sets of ids that were seen in other cases only, so that no case leaves them out silently.
    pub fn complete(&mut self, sets: &[Vec<u32>], settings: &Settings) {
        for set in sets.iter().filter(|s| !self.labels.contains_key(*s)).cloned().collect::<Vec<_>>() {
            let mut scores = self.absent.clone();
            if !settings.table.contains_key(&set) {
                scores.metrics.retain(|(name, _)| !["nsd", "overlap_gt", "overlap_pred"].contains(&name.as_str()));
            }
            self.labels.insert(set, scores);
        }
    }
}

/// Scores one pair of label maps on one grid (see [`crate::align`] for maps on two).
///
/// # Errors
/// [`Error::Shape`] if the shapes differ; [`Error::Spacing`], [`Error::Argument`] for settings that cannot be meant.
pub fn evaluate(gt: &Labels, pred: &Labels, selection: &Selection, settings: &Settings) -> Result<CaseScores> {
    settings.check()?;
    let spacing = spacing_of(gt, settings)?;
    if gt.dim() != pred.dim() {
        return Err(Error::Shape {
            gt: gt.dim(),
            gt_spacing: spacing,
            pred: pred.dim(),
            pred_spacing: pred.affine().spacing_mm(),
        });
    }
    let scan = scan(gt, pred);
    let stored = |pick: fn(&Pair) -> u16| scan.pairs.iter().map(pick).filter(|&id| id != 0).collect::<BTreeSet<u16>>();
    let (gt_stored, pred_stored) = (stored(|p| p.gt), stored(|p| p.pred));
    let ids = |stored: &BTreeSet<u16>, map: &IdMap| -> BTreeSet<u32> {
        stored.iter().map(|&s| map.apply(s)).filter(|&id| id != 0).collect()
    };
    let (gt_ids, pred_ids) = (ids(&gt_stored, &selection.gt_map), ids(&pred_stored, &selection.pred_map));
    let sets: BTreeSet<Vec<u32>> = match &selection.listed {
        Some(listed) => listed.iter().cloned().collect(),
        None => gt_ids.union(&pred_ids).filter(|&&id| Some(id) != settings.ignore).map(|&id| vec![id]).collect(),
    };
    let members = |stored: &BTreeSet<u16>, map: &IdMap, ids: &[u32]| -> Vec<u16> {
        stored.iter().copied().filter(|&s| ids.contains(&map.apply(s))).collect()
    };
    let ignored = settings.ignore.map_or(Vec::new(), |id| members(&gt_stored, &selection.gt_map, &[id]));
    let near = Near::new(spacing, if settings.flat { [gt.dim()[0], gt.dim()[1], 0] } else { gt.dim() });
    let run = |ids: &Vec<u32>| {
        let target = Target {
            ids: ids.clone(),
            gt: members(&gt_stored, &selection.gt_map, ids),
            pred: members(&pred_stored, &selection.pred_map, ids),
        };
        score(gt, pred, &scan, &ignored, &target, spacing, &near, settings)
    };
    let sets: Vec<Vec<u32>> = sets.into_iter().collect();
    let scores: Vec<Scores> = sets.par_iter().with_max_len(1).map(run).collect();
    Ok(CaseScores {
        labels: sets.into_iter().zip(scores).collect(),
        gt_ids,
        pred_ids,
        spacing,
        dim: gt.dim(),
        absent: run(&Vec::new()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::Scan;
    use proptest::prelude::*;
    use volseg_geometry::{Affine, AnyVolume, Volume};

    /// An aorta on one slice, which FLARE'22's cut takes away: missed is missed, and what is there cannot be judged.
    #[test]
    fn an_organ_that_flare22_cuts_away_is_not_perfect() {
        let dim = [4, 4, 3];
        let labels = |inside: &[usize]| {
            let voxels = (0..48).map(|n| if inside.contains(&n) { 5u8 } else { 0 }).collect();
            let volume = Volume::from_vec(voxels, dim, Affine::from_spacing_mm([1.0; 3])).unwrap();
            Labels::new(AnyVolume::from(volume), 1.0, 0.0, "test").unwrap()
        };
        let settings = Settings::of(crate::Preset::Flare22);
        let of = |pred: &[usize]| {
            let all = evaluate(&labels(&[21, 22]), &labels(pred), &Selection::default(), &settings).unwrap();
            let scores = &all.labels[&vec![5]];
            (scores.status, scores.get("dice"), scores.get("nsd"))
        };
        assert_eq!(of(&[]), (crate::Status::Missed, 0.0, 0.0));
        let (status, dice, nsd) = of(&[21, 22]);
        assert!(status == crate::Status::Ok && dice.is_nan() && nsd.is_nan());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        /// Masks that are painted from the scan's stretches score as those that are cut from the volumes, which noise makes
        /// necessary: with regions, an ignored label and FLARE'22's cut as well.
        #[test]
        fn both_ways_to_the_masks_score_alike(
            dim in (1usize..140, 1usize..12, 1usize..9),
            voxels in prop::collection::vec((0u8..4, 0u8..4), 140 * 12 * 9), run in 20usize..90, flare in any::<bool>(),
        ) {
            let dim = [dim.0, dim.1, dim.2];
            let labels = |pick: fn(&(u8, u8)) -> u8| {
                let voxels: Vec<u8> = (0..dim.iter().product()).map(|n: usize| 3 + pick(&voxels[n / run])).collect();
                let volume = Volume::from_vec(voxels, dim, Affine::from_spacing_mm([0.7, 0.9, 2.5])).unwrap();
                Labels::new(AnyVolume::from(volume), 1.0, 0.0, "test").unwrap()
            };
            let (gt, pred) = (labels(|v| v.0), labels(|v| v.1));
            let settings =
                Settings { tubes: flare.then(|| vec![5]).into_iter().collect(), tolerances: vec![2.0], ..Settings::default() };
            let painted = scan(&gt, &pred);
            prop_assume!(painted.stretches.is_some());
            let cut = Scan { pairs: painted.pairs.clone(), stretches: None };
            let near = Near::new([0.7, 0.9, 2.5], dim);
            for (ids, ignored) in [(&[5u16][..], &[][..]), (&[5], &[3]), (&[4, 6], &[]), (&[4, 6], &[5])] {
                let target = Target { ids: ids.iter().map(|&i| u32::from(i)).collect(), gt: ids.to_vec(), pred: ids.to_vec() };
                let of = |s: &Scan| format!("{:?}", score(&gt, &pred, s, ignored, &target, [0.7, 0.9, 2.5], &near, &settings));
                prop_assert_eq!(of(&painted), of(&cut));
            }
        }
    }
}
