//! Exact Euclidean distances from some places of a grid to the nearest set voxel of another.
//!
//! A separable transform (row scan, then the lower envelope of parabolas along y, then a bounded scan along z), computed in
//! slabs of bounded size. All distances are `f64` squares of whole steps times the spacing; nothing is approximated.

use crate::bits::{Bits, nearest};
use rayon::prelude::*;

/// Values of a slab of the transform: 8 MiB.
const SLAB: usize = 1 << 20;

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
    use crate::bits::bits_of;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn the_transform_is_exact(dim in (1usize..70, 1usize..14, 1usize..12), spacing in (0.2f64..4.0, 0.2f64..4.0, 0.2f64..6.0),
                               set in prop::collection::vec((0usize..70, 0usize..14, 0usize..12), 1..12)) {
            let (dim, spacing) = ([dim.0, dim.1, dim.2], [spacing.0, spacing.1, spacing.2]);
            let set: Vec<[usize; 3]> = set.iter().map(|s| [s.0 % dim[0], s.1 % dim[1], s.2 % dim[2]]).collect();
            let bits = bits_of(dim, [1, 0], &set);
            let places: Vec<[usize; 3]> =
                (0..dim[0] * dim[1] * dim[2]).map(|n| [n % dim[0], n / dim[0] % dim[1], n / dim[0] / dim[1]]).collect();
            let all = squared_distances(&bits, &places, spacing);
            for (p, d) in places.iter().zip(all) {
                let truth = set.iter()
                    .map(|s| (0..3).map(|a| square(s[a].abs_diff(p[a]) as f64 * spacing[a])).sum::<f64>())
                    .fold(f64::INFINITY, f64::min);
                prop_assert!((d - truth).abs() <= 1e-12 * truth);
            }
        }
    }
}
