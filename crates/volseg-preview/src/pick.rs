//! Which slices to show.

use std::collections::BTreeMap;

/// Pixels of each label in each slice.
pub(crate) type Counts = Vec<BTreeMap<u8, usize>>;

/// `n` of `slices` slices, evenly spread from `first` to `last`, ascending.
fn spread(first: usize, last: usize, n: usize) -> Vec<usize> {
    let span = last - first + 1;
    if n >= span {
        return (first..=last).collect();
    }
    (0..n).map(|i| first + (2 * i + 1) * span / (2 * n)).collect()
}

/// At most `n` slices, ascending. With labels: spread over the labelled part, then moved so that as many organs as
/// possible are seen (each organ that no slice shows takes the nearest slice that can be spared). Else spread over everything.
pub(crate) fn slices(counts: &Counts, n: usize) -> Vec<usize> {
    let last = counts.len().saturating_sub(1);
    let labelled = |s: &usize| counts.get(*s).is_some_and(|c| !c.is_empty());
    let (Some(low), Some(high)) = ((0..=last).find(labelled), (0..=last).rfind(labelled)) else {
        return spread(0, last, n);
    };
    let mut chosen = spread(low, high, n);
    let mut best: BTreeMap<u8, (usize, usize)> = BTreeMap::new();
    for (slice, labels) in counts.iter().enumerate() {
        for (&label, &pixels) in labels {
            let entry = best.entry(label).or_insert((slice, pixels));
            if pixels > entry.1 {
                *entry = (slice, pixels);
            }
        }
    }
    let shown = |chosen: &[usize]| best.keys().filter(|l| chosen.iter().any(|s| counts[*s].contains_key(l))).count();
    for (label, &(home, _)) in &best {
        if chosen.iter().any(|s| counts[*s].contains_key(label)) {
            continue;
        }
        let before = shown(&chosen);
        let mut order: Vec<usize> = (0..chosen.len()).collect();
        order.sort_by_key(|&i| chosen[i].abs_diff(home));
        for i in order {
            let old = std::mem::replace(&mut chosen[i], home);
            if shown(&chosen) > before {
                break;
            }
            chosen[i] = old;
        }
    }
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(slices: &[&[(u8, usize)]]) -> Counts {
        slices.iter().map(|s| s.iter().copied().collect()).collect()
    }

    #[test]
    fn without_labels_slices_are_spread() {
        assert_eq!(slices(&vec![BTreeMap::new(); 9], 3), [1, 4, 7]);
        assert_eq!(slices(&vec![BTreeMap::new(); 2], 12), [0, 1]);
    }

    #[test]
    fn a_small_organ_is_shown_at_its_largest_slice() {
        let mut given: Vec<&[(u8, usize)]> = vec![&[(6, 50)]; 20];
        given[3] = &[(6, 50), (11, 2)];
        given[4] = &[(6, 50), (11, 3)];
        let chosen = slices(&counts(&given), 4);
        assert_eq!(chosen.len(), 4);
        assert!(chosen.contains(&4), "{chosen:?}");
    }
}
