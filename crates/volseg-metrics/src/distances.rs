use crate::{
    bits::Bits,
    edt::{NearRows, squared_distances},
    surface::{Points, Weights},
};
use rayon::prelude::*;

/// Relative slack on a tolerance, so that spacings such as 0.8 in 32 bits do not push a ring of points over it.
const TOLERANCE_SLACK: f64 = 1e-6;
/// Relative slack on a cumulative weight: a share that is exactly 0.95 counts as reached whatever the rounding of the sum.
const SHARE_SLACK: f64 = 1e-12;

/// Distances in mm from the surface points of one mask to the surface of the other, with weights.
///
/// Points are counted by kind, not summed one by one, so every sum has one order whatever the number of threads.
#[derive(Clone, Debug)]
pub struct Directed {
    weights: Weights,
    /// Points by kind.
    counts: [u64; 256],
    /// Of these, points at distance 0.
    at_zero: [u64; 256],
    /// All others: squared distance and kind, sorted.
    far: Vec<(f64, u8)>,
}

impl Directed {
    /// From the points of `from` to those of `to` (grids of one shape).
    pub(crate) fn new(
        from: &Points<'_>,
        to: &Points<'_>,
        weights: Weights,
        near: &NearRows,
        spacing: [f64; 3],
    ) -> Self {
        let [_, ny, nz] = from.bits.dim();
        let planes: Vec<_> =
            (0..nz).into_par_iter().with_min_len(4).map(|z| plane(from, &to.bits, near, z, ny)).collect();
        let (mut counts, mut at_zero) = ([0u64; 256], [0u64; 256]);
        let mut far = Vec::with_capacity(planes.iter().map(|p| p.far.len() + p.open.len()).sum());
        let mut open = Vec::new();
        for p in planes {
            for kind in 0..256 {
                counts[kind] += p.counts[kind];
                at_zero[kind] += p.at_zero[kind];
            }
            far.extend(p.far);
            open.extend(p.open);
        }
        let places: Vec<[usize; 3]> = open.iter().map(|o| o.0).collect();
        let found = squared_distances(&to.bits, &places, spacing);
        far.extend(found.into_iter().zip(open).map(|(d, (_, kind))| (d, kind)));
        far.par_sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        Self { weights, counts, at_zero, far }
    }

    fn weigh(&self, counts: &[u64; 256]) -> f64 {
        counts.iter().zip(&self.weights).map(|(&n, w)| n as f64 * w).sum()
    }

    fn weight(&self, kind: u8) -> f64 {
        self.weights[usize::from(kind)]
    }

    /// Number of surface points.
    #[must_use]
    pub fn points(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Sum of the weights: the surface's area in mm² (surfel), length (picture) or number of border voxels.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.weigh(&self.counts)
    }

    /// Weight of the points within a tolerance in mm, inclusive.
    #[must_use]
    pub fn within(&self, tolerance: f64) -> f64 {
        let limit = (tolerance * (1.0 + TOLERANCE_SLACK)).powi(2);
        let mut counts = self.at_zero;
        self.far.iter().take_while(|(d, _)| *d <= limit).for_each(|(_, kind)| counts[usize::from(*kind)] += 1);
        self.weigh(&counts)
    }

    /// Largest distance in mm; 0 without points.
    #[must_use]
    pub fn max(&self) -> f64 {
        self.far.last().map_or(0.0, |(d, _)| d.sqrt())
    }

    /// Smallest distance in mm whose cumulative weight reaches the percentage; no interpolation.
    #[must_use]
    pub fn weighted_percentile(&self, percent: f64) -> f64 {
        let target = self.total() * (percent / 100.0) * (1.0 - SHARE_SLACK);
        let mut sum = self.weigh(&self.at_zero);
        if sum >= target {
            return 0.0;
        }
        for &(d, kind) in &self.far {
            sum += self.weight(kind);
            if sum >= target {
                return d.sqrt();
            }
        }
        self.max()
    }

    /// Percentile of the distances in mm with linear interpolation between ranks, every point counting once.
    #[must_use]
    pub fn rank_percentile(&self, percent: f64) -> f64 {
        interpolate(self.zeros(), self.far.len(), percent, |n| self.far.get(n).map_or(0.0, |f| f.0.sqrt()))
    }

    /// [`Directed::rank_percentile`] of two lists thrown together.
    #[must_use]
    pub fn pooled_percentile(&self, other: &Self, percent: f64) -> f64 {
        let mut far: Vec<f64> = self.far.iter().chain(&other.far).map(|f| f.0).collect();
        far.sort_unstable_by(f64::total_cmp);
        interpolate(self.zeros() + other.zeros(), far.len(), percent, |n| far.get(n).map_or(0.0, |d| d.sqrt()))
    }

    fn zeros(&self) -> u64 {
        self.at_zero.iter().sum()
    }

    /// Sum of weight times distance.
    #[must_use]
    pub fn moment(&self) -> f64 {
        // Not `sum`, which is -0 of nothing.
        self.far.iter().fold(0.0, |sum, &(d, kind)| sum + self.weight(kind) * d.sqrt())
    }

    /// Weighted mean distance in mm (directed ASD).
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.moment() / self.total()
    }
}

/// Linear interpolation in a sorted list of `zeros` zeros followed by `n` values.
fn interpolate(zeros: u64, n: usize, percent: f64, value: impl Fn(usize) -> f64) -> f64 {
    let at = |rank: u64| rank.checked_sub(zeros).map_or(0.0, |r| value(r as usize));
    let place = (zeros + n as u64).saturating_sub(1) as f64 * (percent / 100.0);
    let (low, high) = (at(place.floor() as u64), at(place.ceil() as u64));
    low + (high - low) * place.fract()
}

struct Plane {
    counts: [u64; 256],
    at_zero: [u64; 256],
    far: Vec<(f64, u8)>,
    open: Vec<([usize; 3], u8)>,
}

fn plane(from: &Points<'_>, to: &Bits, near: &NearRows, z: usize, ny: usize) -> Plane {
    let mut out = Plane { counts: [0; 256], at_zero: [0; 256], far: Vec::new(), open: Vec::new() };
    for y in 0..ny {
        let (row, other) = (from.bits.row(y, z), to.row(y, z));
        let kind_at = from.kinds(y, z);
        for (w, (&word, &same)) in row.iter().zip(other).enumerate() {
            let mut left = word;
            while left != 0 {
                let b = left.trailing_zeros();
                left &= left - 1;
                let x = (w << 6) + b as usize;
                let kind = kind_at(x);
                out.counts[usize::from(kind)] += 1;
                if same >> b & 1 == 1 {
                    out.at_zero[usize::from(kind)] += 1;
                } else if let Some(d) = near.squared(to, [x, y, z]) {
                    out.far.push((d, kind));
                } else {
                    out.open.push(([x, y, z], kind));
                }
            }
        }
    }
    out
}
