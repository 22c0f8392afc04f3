//! Parts of a data set: by groups (patients, near-duplicates), never by single pictures, and nested subsets of the labels.

use crate::pictures::{Part, part_of};
use crate::{PictureSet, Random, SplitRule};
use std::collections::BTreeMap;

/// Part of every picture of a set, from the groups of the pictures.
///
/// Groups are shuffled by the rule's seed; whole groups fill the test part, then validation, then training. The labelled
/// share of the training part is its beginning, the unannotated share follows: with one seed, 10 % lie in 20 %, 50 % and 100 %.
pub(crate) fn assign(groups: &[String], set: &PictureSet) -> Vec<Part> {
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    for g in groups {
        *sizes.entry(g).or_default() += 1;
    }
    let mut parts: BTreeMap<&str, Part> = BTreeMap::new();
    let mut train: Vec<&str> = Vec::new();
    match set.split {
        None => {
            for &g in sizes.keys() {
                parts.insert(g, part_of(g));
            }
            train.extend(sizes.keys().filter(|g| parts.get(*g) == Some(&Part::Train)));
            shuffle(&mut train, 0);
        }
        Some(SplitRule { seed, test, validation }) => {
            let mut order: Vec<&str> = sizes.keys().copied().collect();
            shuffle(&mut order, seed);
            let total = groups.len() as f32;
            let mut taken = 0;
            for g in order {
                let part = if (taken as f32) < (test * total).round() {
                    Part::Test
                } else if (taken as f32) < ((test + validation) * total).round() {
                    Part::Validation
                } else {
                    train.push(g);
                    Part::Train
                };
                parts.insert(g, part);
                taken += sizes.get(g).copied().unwrap_or(0);
            }
        }
    }
    let total: usize = train.iter().filter_map(|g| sizes.get(g)).sum();
    let (labelled, both) = (set.labelled * total as f32, (set.labelled + set.unannotated) * total as f32);
    let mut taken = 0;
    for g in train {
        let part = if (taken as f32) < labelled.round() {
            Part::Train
        } else if (taken as f32) < both.round() {
            Part::Unannotated
        } else {
            Part::Unused
        };
        parts.insert(g, part);
        taken += sizes.get(g).copied().unwrap_or(0);
    }
    groups.iter().map(|g| parts.get(g.as_str()).copied().unwrap_or(Part::Unused)).collect()
}

fn shuffle(groups: &mut [&str], seed: u64) {
    let mut random = Random::at(&[seed, 0x51]);
    for n in (1..groups.len()).rev() {
        groups.swap(n, random.below(n + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use volseg_geometry::Modality;

    fn set(labelled: f32, unannotated: f32, seed: u64) -> PictureSet {
        PictureSet {
            path: "x".into(),
            modality: Modality::Xray,
            organ: "lungs".into(),
            label: None,
            batch: 4,
            group_column: None,
            split: Some(SplitRule { seed, test: 0.25, validation: 0.1 }),
            labelled,
            unannotated,
        }
    }

    #[test]
    fn groups_stay_together_and_subsets_are_nested() {
        let groups: Vec<String> = (0..200).map(|n| format!("g{}", n / 3)).collect();
        let count = |parts: &[Part], p| parts.iter().filter(|q| **q == p).count();
        let mut before: Vec<usize> = Vec::new();
        let test: Vec<Part> = assign(&groups, &set(1.0, 0.0, 7));
        for share in [0.1, 0.2, 0.5, 1.0] {
            let parts = assign(&groups, &set(share, 0.0, 7));
            let train: Vec<usize> = (0..200).filter(|&n| parts[n] == Part::Train).collect();
            assert!(before.iter().all(|n| train.contains(n)), "{share}");
            assert!((0..200).all(|n| (parts[n] == Part::Test) == (test[n] == Part::Test)));
            assert!((0..199).all(|n| groups[n] != groups[n + 1] || parts[n] == parts[n + 1]));
            assert!((train.len() as f32 - share * 130.0).abs() < 6.0, "{}", train.len());
            before = train;
        }
        let parts = assign(&groups, &set(0.1, 0.2, 7));
        assert!((24..=30).contains(&count(&parts, Part::Unannotated)), "{}", count(&parts, Part::Unannotated));
        assert!((48..=54).contains(&count(&parts, Part::Test)) && count(&parts, Part::Unused) > 80);
        assert_ne!(parts, assign(&groups, &set(0.1, 0.2, 8)));
        // Without a rule the parts hang on the names alone.
        let by_name = PictureSet { split: None, ..set(1.0, 0.0, 0) };
        let parts = assign(&groups, &by_name);
        assert!(groups.iter().zip(&parts).all(|(g, p)| *p == part_of(g)));
    }
}
