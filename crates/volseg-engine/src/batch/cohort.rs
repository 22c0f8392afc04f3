//! What only many cases together can show: volumes, positions and missing organs outside the cohort's own range.

use super::{
    CaseRow, Flag,
    qa::{Light, Quality},
};
use crate::OrganStatistics;
use std::collections::BTreeMap;

/// Fewer cases make no range.
const LEAST_CASES: usize = 8;
/// Robust z-scores (0.6745 · distance from the median / median absolute deviation): beyond the first yellow, beyond the second red.
const Z: [f64; 2] = [3.5, 7.0];
/// An organ found in this part of the cases is missed where it is not.
const USUAL: f64 = 0.8;
/// Least deviations: logarithm of the volume, mm. Smaller ones come from cohorts that are too alike.
const LEAST_DEVIATION: [f64; 2] = [0.02, 2.0];

/// Usual volume of an organ in a cohort.
#[derive(Clone, Debug)]
pub struct Range {
    /// `ct`, `xray`, ...
    pub modality: String,
    /// Organ name.
    pub organ: String,
    /// Cases that have it.
    pub cases: usize,
    /// Median volume in ml.
    pub median_ml: f64,
    /// Volumes at a robust z-score of ±3.5.
    pub usual_ml: [f64; 2],
}

/// Middle and robust deviation.
#[derive(Clone, Copy)]
struct Spread {
    median: f64,
    deviation: f64,
}

impl Spread {
    fn of(values: &[f64], least: f64) -> Option<Self> {
        if values.len() < LEAST_CASES {
            return None;
        }
        let median = median(values.to_vec());
        let deviation = median_of(values.iter().map(|v| (v - median).abs()).collect()) / 0.6745;
        Some(Self { median, deviation: deviation.max(least) })
    }

    fn z(self, value: f64) -> f64 {
        (value - self.median) / self.deviation
    }
}

fn median_of(values: Vec<f64>) -> f64 {
    median(values)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    match (values.get(n.saturating_sub(1) / 2), values.get(n / 2)) {
        (Some(a), Some(b)) => (a + b) / 2.0,
        _ => f64::NAN,
    }
}

/// Adds the flags `volume`, `position` and `missing` and judges again; gives the ranges.
pub(super) fn compare(cases: &mut [CaseRow]) -> Vec<Range> {
    let mut by_modality: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (n, case) in cases.iter().enumerate() {
        by_modality.entry(case.modality.clone()).or_default().push(n);
    }
    let mut ranges = Vec::new();
    for (modality, members) in by_modality {
        let mut organs: Vec<(u8, String)> = members
            .iter()
            .flat_map(|&n| &cases[n].statistics)
            .filter(|s| s.voxels > 0)
            .map(|s| (s.id, s.name.clone()))
            .collect();
        organs.sort();
        organs.dedup();
        for (id, organ) in organs {
            let with: Vec<usize> = members.iter().copied().filter(|&n| find(&cases[n], id).is_some()).collect();
            let volume = |n: usize| find(&cases[n], id).map_or(f64::NAN, |s| s.volume_ml.ln());
            let volumes: Vec<f64> = with.iter().map(|&n| volume(n)).collect();
            let Some(spread) = Spread::of(&volumes, LEAST_DEVIATION[0]) else { continue };
            let usual_ml = [-Z[0], Z[0]].map(|z| (spread.median + z * spread.deviation).exp());
            let median_ml = spread.median.exp();
            let cases_with = with.len();
            ranges.push(Range {
                modality: modality.clone(),
                organ: organ.clone(),
                cases: cases_with,
                median_ml,
                usual_ml,
            });
            for (&n, &v) in with.iter().zip(&volumes) {
                flag(&mut cases[n].quality, "volume", &organ, spread.z(v));
            }
            let places: Vec<(usize, [f64; 3])> =
                with.iter().filter_map(|&n| Some((n, place(&cases[n], id)?))).collect();
            for axis in 0..3 {
                let along: Vec<f64> = places.iter().map(|p| p.1[axis]).collect();
                let Some(spread) = Spread::of(&along, LEAST_DEVIATION[1]) else { continue };
                for ((n, _), &v) in places.iter().zip(&along) {
                    flag(&mut cases[*n].quality, "position", &organ, spread.z(v));
                }
            }
            if with.len() as f64 >= USUAL * members.len() as f64 {
                for &n in &members {
                    if cases[n].statistics.iter().any(|s| s.id == id && s.voxels == 0) {
                        let share = Some(with.len() as f64 / members.len() as f64);
                        let new = Flag::new("missing", Some(&organ), Light::Yellow);
                        cases[n].quality.flags.push(Flag { value: share, limit: Some(USUAL), ..new });
                    }
                }
            }
        }
    }
    cases.iter_mut().for_each(|c| c.quality.judge());
    ranges
}

fn flag(quality: &mut Quality, rule: &str, organ: &str, z: f64) {
    let light = match z.abs() {
        z if z > Z[1] => Light::Red,
        z if z > Z[0] => Light::Yellow,
        _ => return,
    };
    let limit = if light == Light::Red { Z[1] } else { Z[0] };
    // Three axes, one flag: the worst of them.
    let same = quality.flags.iter_mut().find(|f| f.rule == rule && f.organ.as_deref() == Some(organ));
    let new = Flag { value: Some(z), limit: Some(limit), ..Flag::new(rule, Some(organ), light) };
    match same {
        Some(old) if old.value.is_some_and(|v| v.abs() >= z.abs()) => {}
        Some(old) => *old = new,
        None => quality.flags.push(new),
    }
}

fn find(case: &CaseRow, id: u8) -> Option<&OrganStatistics> {
    case.statistics.iter().find(|s| s.id == id && s.voxels > 0)
}

/// Centre of an organ against the mean centre of the others, mm: scanners put their zero anywhere.
fn place(case: &CaseRow, id: u8) -> Option<[f64; 3]> {
    let own = find(case, id)?.centroid_mm?;
    let others: Vec<[f64; 3]> =
        case.statistics.iter().filter(|s| s.id != id && s.voxels > 0).filter_map(|s| s.centroid_mm).collect();
    if others.len() < 3 {
        return None;
    }
    Some([0, 1, 2].map(|a| own[a] - others.iter().map(|o| o[a]).sum::<f64>() / others.len() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(n: usize, liver_ml: f64, x: f64) -> CaseRow {
        let organ = |id: u8, name: &str, volume_ml: f64, at: [f64; 3]| OrganStatistics {
            id,
            name: name.into(),
            voxels: (volume_ml > 0.0).into(),
            volume_ml,
            mean: None,
            sd: None,
            bounding_box: None,
            centroid_mm: (volume_ml > 0.0).then_some(at),
        };
        let jitter = (n % 5) as f64;
        let statistics = vec![
            organ(6, "liver", liver_ml, [x + jitter, 0.0, 0.0]),
            organ(1, "spleen", 200.0 + jitter, [-80.0, 0.0, 0.0]),
            organ(2, "right_kidney", 150.0 + jitter, [60.0, 0.0, -50.0]),
            organ(3, "left_kidney", 150.0 + jitter, [-60.0, 0.0, -50.0]),
        ];
        CaseRow::for_test(&format!("{n:04}"), statistics)
    }

    #[test]
    fn outliers_of_the_cohort_are_flagged_and_others_are_not() {
        let mut cases: Vec<CaseRow> = (0..20).map(|n| case(n, 1500.0 + 20.0 * (n % 7) as f64, 80.0)).collect();
        cases.push(case(20, 300.0, 80.0));
        cases.push(case(21, 1500.0, -200.0));
        cases.push(case(22, 0.0, 0.0));
        let ranges = compare(&mut cases);
        let liver = ranges.iter().find(|r| r.organ == "liver").unwrap();
        assert!(liver.usual_ml[0] > 1000.0 && liver.usual_ml[1] < 2500.0, "{liver:?}");
        let has = |n: usize, rule: &str| cases[n].quality.flags.iter().any(|f| f.rule == rule);
        assert!((0..20).all(|n| cases[n].quality.flags.is_empty()));
        assert!(has(20, "volume") && has(21, "position") && has(22, "missing"));
        assert_eq!(cases[20].quality.light, Light::Red);
    }

    #[test]
    fn few_cases_make_no_range() {
        let mut cases: Vec<CaseRow> = (0..7).map(|n| case(n, if n == 3 { 1.0 } else { 1500.0 }, 80.0)).collect();
        assert!(compare(&mut cases).is_empty());
        assert!(cases.iter().all(|c| c.quality.flags.is_empty()));
    }
}
