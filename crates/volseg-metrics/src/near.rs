//! Distances of the surface points of one mask to the surface of another, up to a few millimetres.
//!
//! Most surface points of a fair prediction are a few voxels off. The nearest places are tried for all points of a word at once,
//! in the order of their distance: the other mask's words, shifted. The points that are left look along the rows around them,
//! nearest row first. Points are not listed but counted by distance and class, so there is nothing to sort. What lies
//! further off is left to the distance transform. All squared distances are `f64` squares of whole steps times the
//! spacing; nothing is approximated.

use crate::bits::Bits;
use crate::surface::{Classes, Points};

/// Rows that a point looks at before it waits for the transform.
const ROWS: f64 = 320.0;
/// Steps along a row that one look finds.
const STEPS: usize = 63;
/// Places that are tried for a whole word before its points go on alone.
const TOGETHER: usize = 80;

/// The places around a point by their distance, for one spacing.
pub(crate) struct Near {
    /// Distinct squared distances in mm², ascending, from 0 on.
    pub(crate) squared: Vec<f64>,
    /// Nearest places, without the point's own.
    together: Vec<Place>,
    /// Rows by their distance.
    rows: Vec<Row>,
    /// For rows of each distance the number in `squared` of each step along them, `u32::MAX` for those too far.
    numbers: Vec<[u32; STEPS + 2]>,
    /// How far the rows reach, in rows and planes.
    pub(crate) reach: [usize; 2],
}

/// A place in rows, planes and voxels away, and the number of its distance in `squared`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    number: usize,
    at: [isize; 2],
    dx: i32,
}

/// A row in rows and planes away, the number of its distance in `squared`, and which of the `numbers` are its own.
#[derive(Clone, Copy)]
struct Row {
    number: u32,
    at: [isize; 2],
    kind: usize,
}

/// Points of a part of a mask, by distance and class; and those beyond.
#[derive(Default)]
pub(crate) struct Tally {
    /// `[distance number][class]`.
    pub(crate) counts: Vec<u64>,
    /// Points that are nearer to nothing.
    pub(crate) open: Vec<([usize; 3], u8)>,
}

impl Near {
    /// For grids of at most `dim` voxels.
    pub(crate) fn new([sx, sy, sz]: [f64; 3], dim: [usize; 3]) -> Self {
        let radius = (ROWS * sy * sz / std::f64::consts::PI).sqrt().max(1.01 * sy.min(sz)).min(STEPS as f64 * sx);
        let limit = radius * radius;
        let reach = [(sy, dim[1]), (sz, dim[2])].map(|(s, n)| ((radius / s) as usize).min(n));
        let [ry, rz] = reach.map(|r| r as isize);
        let height = |[j, k]: [isize; 2]| square(j as f64 * sy) + square(k as f64 * sz);
        let mut at: Vec<[isize; 2]> = (-rz..=rz).flat_map(|k| (-ry..=ry).map(move |j| [j, k])).collect();
        at.retain(|&at| height(at) <= limit);
        at.sort_by(|&a, &b| height(a).total_cmp(&height(b)).then(a.cmp(&b)));
        let along = |h: f64| (0..=STEPS).map(move |dx| h + square(dx as f64 * sx)).take_while(move |d| *d <= limit);
        let mut heights: Vec<f64> = at.iter().map(|&at| height(at)).collect();
        heights.dedup();
        let mut squared: Vec<f64> = heights.iter().flat_map(|&h| along(h)).collect();
        squared.sort_unstable_by(f64::total_cmp);
        squared.dedup();
        let number = |d: f64| squared.partition_point(|v| *v < d);
        let numbered = |&h: &f64| {
            let mut all = [u32::MAX; STEPS + 2];
            all.iter_mut().zip(along(h)).for_each(|(n, d)| *n = number(d) as u32);
            all
        };
        let numbers: Vec<_> = heights.iter().map(numbered).collect();
        let row = |at: [isize; 2]| {
            let h = height(at);
            Row { number: number(h) as u32, at, kind: heights.partition_point(|v| *v < h) }
        };
        let rows: Vec<Row> = at.into_iter().map(row).collect();
        let mut together = Vec::new();
        for row in &rows {
            for (dx, &n) in
                (0..).zip(numbers.get(row.kind).into_iter().flatten()).filter(|s| ![0, u32::MAX].contains(s.1))
            {
                let place = Place { number: n as usize, at: row.at, dx };
                together.push(place);
                together.extend((dx > 0).then_some(Place { dx: -dx, ..place }));
            }
        }
        together.sort_unstable();
        together.truncate(TOGETHER);
        Self { squared, together, rows, numbers, reach }
    }

    /// Adds the points of plane `z` of `from` to a tally; `to` has a margin of [`Near::reach`].
    pub(crate) fn plane(&self, from: &Points<'_>, to: &Bits, classes: &Classes, z: usize, tally: &mut Tally) {
        let [_, ny, _] = from.bits.dim();
        let width = classes.weights.len();
        tally.counts.resize(self.squared.len() * width, 0);
        let together: Vec<(isize, Place)> = self.together.iter().map(|p| (to.words_to(p.at), *p)).collect();
        let rows: Vec<(isize, Row)> = self.rows.iter().map(|r| (to.words_to(r.at), *r)).collect();
        for y in 0..ny {
            let row = from.bits.row(y, z);
            if row.iter().all(|w| *w == 0) {
                continue;
            }
            let codes_of = from.codes(y, z);
            for (w, &points) in row.iter().enumerate().filter(|p| *p.1 != 0) {
                let codes = codes_of(w);
                let mut add = |number: usize, mut hit: u64| {
                    while hit != 0 {
                        let class = usize::from(codes.class(classes, hit.trailing_zeros()));
                        hit &= hit - 1;
                        if let Some(n) = tally.counts.get_mut(number * width + class) {
                            *n += 1;
                        }
                    }
                };
                let here = to.index(w, y, z);
                let [_, same, _] = to.three_words(here, 0);
                add(0, points & same);
                let mut left = points & !same;
                for (away, place) in &together {
                    if left == 0 {
                        break;
                    }
                    let hit = left & shifted(to.three_words(here, *away), place.dx);
                    add(place.number, hit);
                    left &= !hit;
                }
                while left != 0 {
                    let b = left.trailing_zeros();
                    left &= left - 1;
                    let mut nearest = u32::MAX;
                    for (away, row) in &rows {
                        if row.number >= nearest {
                            break;
                        }
                        let dx = steps(to.three_words(here, *away), b);
                        if let Some(n) = self.numbers.get(row.kind).and_then(|n| n.get(dx)) {
                            nearest = nearest.min(*n);
                        }
                    }
                    if nearest < u32::MAX {
                        add(nearest as usize, 1 << b);
                    } else {
                        tally.open.push(([(w << 6) + b as usize, y, z], codes.class(classes, b)));
                    }
                }
            }
        }
    }
}

impl Tally {
    /// Counts of both.
    pub(crate) fn and(mut self, other: Self) -> Self {
        if self.counts.is_empty() {
            self.counts = other.counts;
        } else {
            self.counts.iter_mut().zip(other.counts).for_each(|(a, b)| *a += b);
        }
        self.open.extend(other.open);
        self
    }
}

fn square(v: f64) -> f64 {
    v * v
}

/// The middle one of three words, bit `b` holding what lies `dx` after it; `|dx|` below 64.
fn shifted([before, word, after]: [u64; 3], dx: i32) -> u64 {
    match dx {
        0 => word,
        1.. => word >> dx | after << (64 - dx),
        _ => word << -dx | before >> (64 + dx),
    }
}

/// Steps from bit `b` of the middle one of three words to the nearest set bit; 64 if it is not within 63.
fn steps([before, word, after]: [u64; 3], b: u32) -> usize {
    // In two shifts, as one by 64 is no shift.
    let right = word >> b | after << 1 << (63 - b);
    let left = word << (63 - b) | before >> 1 >> b;
    right.trailing_zeros().min(left.leading_zeros()) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edt::squared_distances;
    use crate::{Surface, bits::bits_of};
    use proptest::prelude::*;

    #[test]
    fn looks_along_a_row_see_63_steps_either_way() {
        let set = [3usize, 70, 100, 191];
        let mut words = [0u64; 3];
        set.iter().for_each(|&x| words[x >> 6] |= 1 << (x & 63));
        for b in 0..64 {
            let x = 64 + b as usize;
            let truth = set.iter().map(|&s| s.abs_diff(x)).min().unwrap();
            assert_eq!(steps(words, b), truth.min(64), "{b}");
            for dx in -63i32..64 {
                let there = usize::try_from(x as i32 + dx).is_ok_and(|at| set.contains(&at));
                assert_eq!(shifted(words, dx) >> b & 1 == 1, there, "{b} {dx}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn counts_are_those_of_the_transform(
            dim in (1usize..150, 1usize..20, 1usize..14), spacing in (0.1f64..4.0, 0.2f64..4.0, 0.2f64..6.0),
            from in prop::collection::vec((0usize..150, 0usize..20, 0usize..14), 1..60),
            to in prop::collection::vec((0usize..150, 0usize..20, 0usize..14), 1..8),
        ) {
            let (dim, spacing) = ([dim.0, dim.1, dim.2], [spacing.0, spacing.1, spacing.2]);
            let near = Near::new(spacing, dim);
            let inside = |s: &[(usize, usize, usize)]| {
                let mut s: Vec<_> = s.iter().map(|s| [s.0 % dim[0], s.1 % dim[1], s.2 % dim[2]]).collect();
                s.sort_unstable();
                s.dedup();
                s
            };
            let (from, to) = (inside(&from), inside(&to));
            let mask = bits_of(dim, [0; 2], &from);
            let target = bits_of(dim, near.reach, &to);
            // Single voxels are their own border.
            let points = Points::new(&mask, Surface::Voxel, false, [0; 2]);
            let all: Vec<[usize; 3]> =
                from.iter().copied().filter(|p| points.bits.row(p[1], p[2])[p[0] >> 6] >> (p[0] & 63) & 1 == 1).collect();
            let mut tally = Tally::default();
            let classes = Classes::new(Surface::Voxel, false, spacing);
            (0..dim[2]).for_each(|z| near.plane(&points, &target, &classes, z, &mut tally));
            let mut found: Vec<f64> = Vec::new();
            for (&d, &n) in near.squared.iter().zip(&tally.counts) {
                found.extend(std::iter::repeat_n(d, n as usize));
            }
            let open: Vec<[usize; 3]> = tally.open.iter().map(|o| o.0).collect();
            found.extend(squared_distances(&target, &open, spacing));
            found.sort_by(f64::total_cmp);
            let mut truth = squared_distances(&target, &all, spacing);
            truth.sort_by(f64::total_cmp);
            prop_assert_eq!(found.len(), truth.len());
            prop_assert!(found.iter().zip(&truth).all(|(a, b)| (a - b).abs() <= 1e-12 * b), "{:?} {:?}", found, truth);
        }
    }
}
