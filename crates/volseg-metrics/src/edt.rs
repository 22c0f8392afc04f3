//! Exact Euclidean distances from some places of a grid to the nearest set voxel of another.
//!
//! Most surface points of a fair prediction are a few voxels off, so each place first looks at the rows near it, nearest
//! first, with bit scans along each row. Places that this does not settle use a separable distance transform (row scan,
//! then the lower envelope of parabolas along y, then a bounded scan along z), computed in slabs of bounded size. All
//! distances are `f64` squares of whole steps times the spacing; nothing is approximated.

use crate::bits::{Bits, nearest};
use rayon::prelude::*;

/// Rows that a place looks at before it waits for the transform.
const NEAR_ROWS: f64 = 320.0;
/// Values of a slab of the transform: 8 MiB.
const SLAB: usize = 1 << 20;

/// Rows around a row by their squared distance.
pub(crate) struct NearRows {
    rows: Vec<(f64, isize, isize)>,
    limit: f64,
    spacing: [f64; 3],
}

impl NearRows {
    pub(crate) fn new(spacing: [f64; 3], dim: [usize; 3]) -> Self {
        let [_, sy, sz] = spacing;
        let radius = (NEAR_ROWS * sy * sz / std::f64::consts::PI).sqrt().max(1.01 * sy.min(sz));
        let reach = |s: f64, n: usize| ((radius / s) as usize).min(n) as isize;
        let mut rows = Vec::new();
        for k in -reach(sz, dim[2])..=reach(sz, dim[2]) {
            for j in -reach(sy, dim[1])..=reach(sy, dim[1]) {
                let h = square(j as f64 * sy) + square(k as f64 * sz);
                if h <= radius * radius {
                    rows.push((h, j, k));
                }
            }
        }
        rows.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
        Self { rows, limit: radius * radius, spacing }
    }

    /// Squared distance from a voxel to the nearest set one, `None` if it may lie beyond the rows looked at.
    pub(crate) fn squared(&self, target: &Bits, [x, y, z]: [usize; 3]) -> Option<f64> {
        let sx = self.spacing[0];
        let (mut best, mut most) = (f64::INFINITY, usize::MAX);
        for &(h, j, k) in &self.rows {
            if h >= best {
                return Some(best);
            }
            if let Some(dx) = nearest(target.row_or_none(y as isize + j, z as isize + k), x, most) {
                let d = h + square(dx as f64 * sx);
                if d < best {
                    (best, most) = (d, dx);
                }
            }
        }
        (best <= self.limit).then_some(best)
    }
}

fn square(v: f64) -> f64 {
    v * v
}

/// Squared distances in mm² from each of `places` to the nearest set voxel of `target`, in their order; infinite if there is
/// none. Exact, for any spacing.
pub(crate) fn squared_distances(target: &Bits, places: &[[usize; 3]], spacing: [f64; 3]) -> Vec<f64> {
    let [nx, ny, nz] = target.dim();
    let full: Vec<bool> = (0..nz).map(|z| !target.plane_is_empty(z)).collect();
    let mut out = vec![f64::INFINITY; places.len()];
    let width = (SLAB / (ny * nz).max(1)).clamp(1, nx.max(1));
    let mut by_slab: Vec<Vec<usize>> = vec![Vec::new(); nx.div_ceil(width)];
    for (n, p) in places.iter().enumerate() {
        if let Some(slab) = by_slab.get_mut(p[0] / width) {
            slab.push(n);
        }
    }
    for (slab, members) in by_slab.iter().enumerate().filter(|(_, m)| !m.is_empty()) {
        let x0 = slab * width;
        let w = width.min(nx - x0);
        let mut field = vec![f64::INFINITY; w * ny * nz];
        field.par_chunks_mut(w * ny).zip(&full).enumerate().for_each(|(z, (plane, &any))| {
            if any {
                transform_plane(target, z, x0, w, plane, spacing);
            }
        });
        let found: Vec<f64> = members
            .par_iter()
            .with_min_len(256)
            .map(|&n| {
                let [x, y, z] = places[n];
                along_z(&field, (x - x0) + w * y, w * ny, z, nz, spacing[2])
            })
            .collect();
        members.iter().zip(found).for_each(|(&n, d)| out[n] = d);
    }
    out
}

/// Squared distances within one plane, for `w` columns from `x0` on.
fn transform_plane(target: &Bits, z: usize, x0: usize, w: usize, plane: &mut [f64], spacing: [f64; 3]) {
    let ny = plane.len() / w.max(1);
    for (y, out) in plane.chunks_mut(w).enumerate() {
        let row = target.row(y, z);
        if row.iter().any(|&word| word != 0) {
            for (x, d) in out.iter_mut().enumerate() {
                *d = nearest(row, x0 + x, usize::MAX).map_or(f64::INFINITY, |dx| square(dx as f64 * spacing[0]));
            }
        }
    }
    let mut envelope = Envelope::default();
    for x in 0..w {
        envelope.clear();
        for y in 0..ny {
            envelope.push(y, plane[x + w * y], spacing[1]);
        }
        envelope.read(spacing[1], |y, d| plane[x + w * y] = d, ny);
    }
}

/// Lower envelope of the parabolas `f + ((y - at) s)²` (Felzenszwalb & Huttenlocher 2012).
#[derive(Default)]
struct Envelope {
    /// Where each parabola has its lowest point, its height there, and from which y on it is the lowest.
    parts: Vec<(usize, f64, f64)>,
}

impl Envelope {
    fn clear(&mut self) {
        self.parts.clear();
    }

    fn push(&mut self, at: usize, f: f64, s: f64) {
        if !f.is_finite() {
            return;
        }
        while let Some(&(other, g, from)) = self.parts.last() {
            let (a, b) = (other as f64, at as f64);
            let cross = 0.5 * ((f - g) / (s * s * (b - a)) + a + b);
            if cross > from {
                self.parts.push((at, f, cross));
                return;
            }
            self.parts.pop();
        }
        self.parts.push((at, f, f64::NEG_INFINITY));
    }

    fn read(&self, s: f64, mut put: impl FnMut(usize, f64), n: usize) {
        let Some(&(mut at, mut f, _)) = self.parts.first() else { return };
        let mut next = self.parts.iter().skip(1).peekable();
        for y in 0..n {
            while let Some(&&(a, g, from)) = next.peek() {
                if from > y as f64 {
                    break;
                }
                (at, f) = (a, g);
                next.next();
            }
            put(y, f + square(at.abs_diff(y) as f64 * s));
        }
    }
}

fn along_z(field: &[f64], column: usize, plane: usize, z: usize, nz: usize, s: f64) -> f64 {
    let at = |z: usize| field.get(column + plane * z).copied().unwrap_or(f64::INFINITY);
    let mut best = at(z);
    for k in 1..nz {
        let h = square(k as f64 * s);
        if h >= best || (k > z && z + k >= nz) {
            break;
        }
        if k <= z {
            best = best.min(h + at(z - k));
        }
        if z + k < nz {
            best = best.min(h + at(z + k));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn both_ways_are_exact(dim in (1usize..70, 1usize..14, 1usize..12), spacing in (0.2f64..4.0, 0.2f64..4.0, 0.2f64..6.0),
                               set in prop::collection::vec((0usize..70, 0usize..14, 0usize..12), 1..12)) {
            let (dim, spacing) = ([dim.0, dim.1, dim.2], [spacing.0, spacing.1, spacing.2]);
            let set: Vec<[usize; 3]> = set.iter().map(|s| [s.0 % dim[0], s.1 % dim[1], s.2 % dim[2]]).collect();
            let bits = Bits::build(dim, |y, z, row| set.iter().filter(|s| s[1] == y && s[2] == z)
                .for_each(|s| row[s[0] >> 6] |= 1 << (s[0] & 63)));
            let places: Vec<[usize; 3]> =
                (0..dim[0] * dim[1] * dim[2]).map(|n| [n % dim[0], n / dim[0] % dim[1], n / dim[0] / dim[1]]).collect();
            let near = NearRows::new(spacing, dim);
            let all = squared_distances(&bits, &places, spacing);
            for (p, d) in places.iter().zip(all) {
                let truth = set.iter()
                    .map(|s| (0..3).map(|a| square(s[a].abs_diff(p[a]) as f64 * spacing[a])).sum::<f64>())
                    .fold(f64::INFINITY, f64::min);
                prop_assert!((d - truth).abs() <= 1e-12 * truth);
                if let Some(n) = near.squared(&bits, *p) {
                    prop_assert!((n - truth).abs() <= 1e-12 * truth);
                }
            }
        }
    }
}
