//! Parts of a data set: by groups (patients, near-duplicates), never by single pictures, and nested subsets of the labels.

use crate::checkpoint::hold;
use crate::cts::Cts;
use crate::pictures::{Part, Picture, part_of};
use crate::{Error, PictureSet, Random, SplitRule};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

/// Part of every picture and case as `split.json` says it: by organ (or `cts`), then by name.
#[derive(Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Parts(BTreeMap<String, BTreeMap<String, String>>);

impl Parts {
    /// Adds a set. A picture whose name another set of the organ has already is told by the name of its folder as well.
    pub(crate) fn add(&mut self, set: &PictureSet, pictures: &[Picture]) {
        let of = self.0.entry(set.organ.clone()).or_default();
        let folder = set.path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let taken: BTreeSet<String> = of.keys().cloned().collect();
        for p in pictures {
            let name = if taken.contains(&p.name) { format!("{folder}/{}", p.name) } else { p.name.clone() };
            of.insert(name, format!("{:?}", p.part));
        }
    }

    /// Adds CTs of many organs.
    pub(crate) fn add_cts(&mut self, cts: &Cts) {
        self.0.insert("cts".into(), cts.parts());
    }

    /// Makes the folder of a run, keeps it for the caller as long as it holds the file, and leaves the parts in it. Called once
    /// the data was read: what cannot be trained on leaves no folder.
    ///
    /// # Errors
    /// As [`hold`]; a file that cannot be written.
    pub(crate) fn leave(&self, out: &Path) -> Result<File, Error> {
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::Data(e.to_string()))?;
        let held = hold(out)?;
        std::fs::write(out.join("split.json"), text)
            .map_err(|source| Error::Io { what: format!("write split.json in {}", out.display()), source })?;
        Ok(held)
    }
}

/// Part of every picture of a set, from the groups of the pictures.
///
/// Groups are shuffled by the rule's seed; whole groups fill the test part, then validation, then training. The labelled
/// share of the training part is its beginning, the unannotated share follows: with one seed, 10 % lie in 20 %, 50 % and 100 %.
/// With folds the shuffled groups are cut into that many runs of about equally many pictures; one is the test part, and the groups
/// behind it (beginning anew after the last) fill validation, then training.
///
/// # Errors
/// As [`SplitRule::check`].
pub(crate) fn assign(
    groups: &[String],
    split: Option<SplitRule>,
    labelled: f32,
    unannotated: f32,
) -> Result<Vec<Part>, Error> {
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    for g in groups {
        *sizes.entry(g).or_default() += 1;
    }
    let mut parts: BTreeMap<&str, Part> = BTreeMap::new();
    let mut train: Vec<&str> = Vec::new();
    match split {
        None => {
            for &g in sizes.keys() {
                parts.insert(g, part_of(g));
            }
            train.extend(sizes.keys().filter(|g| parts.get(*g) == Some(&Part::Train)));
            shuffle(&mut train, 0);
        }
        Some(rule) => {
            rule.check(sizes.len())?;
            let mut order: Vec<&str> = sizes.keys().copied().collect();
            shuffle(&mut order, rule.seed);
            let count = |share: f32| (share * groups.len() as f32).round() as usize;
            let (mut test, mut held) = (count(rule.test), count(rule.test + rule.validation));
            if rule.folds > 0 {
                test = to_front(&mut order, &sizes, rule.fold, rule.folds)?;
                held = test + (rule.validation * (groups.len() - test) as f32).round() as usize;
            }
            let mut taken = 0;
            for g in order {
                let part = if taken < test {
                    Part::Test
                } else if taken < held {
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
    let share = |s: f32| (s * total as f32).round();
    // Of a few cases a small share is still one.
    let first = if labelled > 0.0 { share(labelled).max(1.0) } else { 0.0 };
    let both = share(labelled + unannotated).max(first);
    let mut taken = 0;
    for g in train {
        let part = if (taken as f32) < first {
            Part::Train
        } else if (taken as f32) < both {
            Part::Unannotated
        } else {
            Part::Unused
        };
        parts.insert(g, part);
        taken += sizes.get(g).copied().unwrap_or(0);
    }
    Ok(groups.iter().map(|g| parts.get(g.as_str()).copied().unwrap_or(Part::Unused)).collect())
}

/// Turns the order of the groups so that a fold's stand first; returns the number of its pictures. A group belongs to the fold
/// in which its first picture falls.
fn to_front(order: &mut [&str], sizes: &BTreeMap<&str, usize>, fold: usize, folds: usize) -> Result<usize, Error> {
    let size = |g: &str| sizes.get(g).copied().unwrap_or(0);
    let total: usize = order.iter().map(|g| size(g)).sum();
    let (mut before, mut first, mut pictures) = (0, None, 0);
    for (n, g) in order.iter().enumerate() {
        if before * folds / total == fold {
            first = first.or(Some(n));
            pictures += size(g);
        }
        before += size(g);
    }
    let largest = sizes.values().max().copied().unwrap_or(0);
    let first = first.ok_or_else(|| {
        Error::Data(format!("fold {fold} of {folds} is empty: one group holds {largest} of {total} pictures"))
    })?;
    order.rotate_left(first);
    Ok(pictures)
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

    fn parts(groups: &[String], labelled: f32, unannotated: f32, seed: u64) -> Vec<Part> {
        let rule = SplitRule { seed, test: 0.25, validation: 0.1, ..SplitRule::default() };
        assign(groups, Some(rule), labelled, unannotated).unwrap()
    }

    #[test]
    fn groups_stay_together_and_subsets_are_nested() {
        let groups: Vec<String> = (0..200).map(|n| format!("g{}", n / 3)).collect();
        let count = |parts: &[Part], p| parts.iter().filter(|q| **q == p).count();
        let mut before: Vec<usize> = Vec::new();
        let test = parts(&groups, 1.0, 0.0, 7);
        for share in [0.1, 0.2, 0.5, 1.0] {
            let now = parts(&groups, share, 0.0, 7);
            let train: Vec<usize> = (0..200).filter(|&n| now[n] == Part::Train).collect();
            assert!(before.iter().all(|n| train.contains(n)), "{share}");
            assert!((0..200).all(|n| (now[n] == Part::Test) == (test[n] == Part::Test)));
            assert!((0..199).all(|n| groups[n] != groups[n + 1] || now[n] == now[n + 1]));
            assert!((train.len() as f32 - share * 130.0).abs() < 6.0, "{}", train.len());
            before = train;
        }
        let some = parts(&groups, 0.1, 0.2, 7);
        assert!((24..=30).contains(&count(&some, Part::Unannotated)), "{}", count(&some, Part::Unannotated));
        assert!((48..=54).contains(&count(&some, Part::Test)) && count(&some, Part::Unused) > 80);
        assert_ne!(some, parts(&groups, 0.1, 0.2, 8));
        // A tenth of four groups is one of them.
        let four: Vec<String> = (0..4).map(|n| n.to_string()).collect();
        assert_eq!(count(&parts(&four, 0.1, 0.0, 1), Part::Train), 1);
        // Without a rule the parts hang on the names alone.
        let by_name = assign(&groups, None, 1.0, 0.0).unwrap();
        assert!(groups.iter().zip(&by_name).all(|(g, p)| *p == part_of(g)));
    }
    /// Folds of sets of many shapes: together they are the set, each group is tested once, and nothing stands on two sides.
    #[test]
    fn folds_cover_everything_once() {
        for place in 0..60u64 {
            let mut random = Random::at(&[place, 5]);
            let folds = 2 + random.below(6);
            let of_groups = folds + random.below(40);
            let mut groups: Vec<String> = (0..of_groups).map(|n| format!("g{n}")).collect();
            // Small groups beside one another, in no order.
            for _ in 0..2 * of_groups {
                groups.push(format!("g{}", random.below(of_groups)));
            }
            let total = groups.len();
            let rule = |fold, seed| SplitRule { seed, validation: 0.1, fold, folds, ..SplitRule::default() };
            let mut tested = vec![0; total];
            for fold in 0..folds {
                let Ok(parts) = assign(&groups, Some(rule(fold, place)), 1.0, 0.0) else {
                    // Only a group larger than a fold may leave one without a picture.
                    let largest =
                        (0..of_groups).map(|n| groups.iter().filter(|g| **g == format!("g{n}")).count()).max();
                    assert!(largest.unwrap() * folds > total);
                    continue;
                };
                for (n, part) in parts.iter().enumerate() {
                    tested[n] += usize::from(*part == Part::Test);
                    assert!((0..total).all(|k| groups[k] != groups[n] || parts[k] == *part));
                }
                let count = |p| parts.iter().filter(|q| **q == p).count();
                assert_eq!(count(Part::Test) + count(Part::Validation) + count(Part::Train), total);
                assert!(count(Part::Validation) > 0 || total - count(Part::Test) < 5);
                // The parts hang on names and seed alone, not on the order in which pictures are found.
                let turned: Vec<String> = groups.iter().rev().cloned().collect();
                let again = assign(&turned, Some(rule(fold, place)), 1.0, 0.0).unwrap();
                assert!(again.iter().rev().eq(&parts));
            }
            assert!(tested.iter().all(|&n| n == 1), "{tested:?}");
        }
        let groups: Vec<String> = (0..10).map(|n| n.to_string()).collect();
        let fold = |fold, folds, test| {
            assign(&groups, Some(SplitRule { fold, folds, test, ..SplitRule::default() }), 1.0, 0.0)
        };
        assert!(fold(0, 10, 0.0).is_ok());
        for (f, n, test) in [(5, 5, 0.0), (0, 1, 0.0), (0, 11, 0.0), (1, 0, 0.0), (0, 5, 0.2)] {
            assert!(fold(f, n, test).is_err(), "fold {f} of {n}, test {test}");
        }
        let sizes = [200, 208];
        let parts = assign(
            &(0..1020).map(|n| format!("p{n}")).collect::<Vec<_>>(),
            Some(SplitRule { fold: 4, folds: 5, validation: 0.1, ..SplitRule::default() }),
            1.0,
            0.0,
        )
        .unwrap();
        assert!((sizes[0]..sizes[1]).contains(&parts.iter().filter(|p| **p == Part::Test).count()));
    }
}
