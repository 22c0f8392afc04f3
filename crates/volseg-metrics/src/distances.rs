use crate::{
    bits::Bits,
    edt::squared_distances,
    near::{Near, Tally},
    surface::{Classes, Points},
};
use rayon::prelude::*;

/// Relative slack on a tolerance, so that spacings such as 0.8 in 32 bits do not push a ring of points over it.
const TOLERANCE_SLACK: f64 = 1e-6;
/// Relative slack on a cumulative weight: a share that is exactly 0.95 counts as reached whatever the rounding of the sum.
const SHARE_SLACK: f64 = 1e-12;

/// Distances in mm from the surface points of one mask to the surface of the other, with weights.
///
/// Points are counted by distance and weight, not summed one by one, so every sum has one order whatever the number of threads.
#[derive(Clone, Debug)]
pub struct Directed {
    /// Weights of the classes of points.
    weights: Vec<f64>,
    /// Points that are equally far and of one class, nearest first, then by class.
    runs: Vec<Run>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    /// Square of the distance, mm².
    squared: f64,
    class: u8,
    count: u64,
}

impl Directed {
    /// From the points of `from` to those of `to` (grids of one shape).
    pub(crate) fn new(from: &Points<'_>, to: &Bits, classes: &Classes, near: &Near, spacing: [f64; 3]) -> Self {
        let [_, _, nz] = from.bits.dim();
        let tally = (0..nz).into_par_iter().with_min_len(4).fold(Tally::default, |mut tally, z| {
            near.plane(from, to, classes, z, &mut tally);
            tally
        });
        let tally = tally.reduce(Tally::default, Tally::and);
        let mut runs = Vec::new();
        for (counts, &squared) in tally.counts.chunks(classes.weights.len()).zip(&near.squared) {
            let met = (0u8..).zip(counts).filter(|(_, n)| **n > 0);
            runs.extend(met.map(|(class, &count)| Run { squared, class, count }));
        }
        let places: Vec<[usize; 3]> = tally.open.iter().map(|o| o.0).collect();
        let mut far: Vec<(f64, u8)> = squared_distances(to, &places, spacing)
            .into_iter()
            .zip(tally.open)
            .map(|(d, (_, class))| (d, class))
            .collect();
        far.par_sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let equal = far.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq() && a.1 == b.1);
        runs.extend(
            equal.filter_map(|c| c.first().map(|&(squared, class)| Run { squared, class, count: c.len() as u64 })),
        );
        Self { weights: classes.weights.clone(), runs }
    }

    /// Weight of the points of some runs: by class first, so that all points weigh the same however they are spread.
    fn weigh<'a>(&self, runs: impl Iterator<Item = &'a Run>) -> f64 {
        let mut counts = vec![0u64; self.weights.len()];
        runs.for_each(|r| counts[usize::from(r.class)] += r.count);
        counts.iter().zip(&self.weights).map(|(&n, w)| n as f64 * w).sum()
    }

    fn weight(&self, run: &Run) -> f64 {
        run.count as f64 * self.weights[usize::from(run.class)]
    }

    /// Number of surface points.
    #[must_use]
    pub fn points(&self) -> u64 {
        self.runs.iter().map(|r| r.count).sum()
    }

    /// Sum of the weights: the surface's area in mm² (surfel), length (picture) or number of border voxels.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.weigh(self.runs.iter())
    }

    /// Weight of the points within a tolerance in mm, inclusive.
    #[must_use]
    pub fn within(&self, tolerance: f64) -> f64 {
        let limit = (tolerance * (1.0 + TOLERANCE_SLACK)).powi(2);
        self.weigh(self.runs.iter().take_while(|r| r.squared <= limit))
    }

    /// Largest distance in mm; 0 without points.
    #[must_use]
    pub fn max(&self) -> f64 {
        self.runs.last().map_or(0.0, |r| r.squared.sqrt())
    }

    /// Smallest distance in mm whose cumulative weight reaches the percentage; no interpolation.
    #[must_use]
    pub fn weighted_percentile(&self, percent: f64) -> f64 {
        let target = self.total() * (percent / 100.0) * (1.0 - SHARE_SLACK);
        let mut sum = 0.0;
        for run in &self.runs {
            sum += self.weight(run);
            if sum >= target {
                return run.squared.sqrt();
            }
        }
        self.max()
    }

    /// Percentile of the distances in mm with linear interpolation between ranks, every point counting once.
    #[must_use]
    pub fn rank_percentile(&self, percent: f64) -> f64 {
        interpolate(&self.runs, percent)
    }

    /// [`Directed::rank_percentile`] of two lists thrown together.
    #[must_use]
    pub fn pooled_percentile(&self, other: &Self, percent: f64) -> f64 {
        let mut runs: Vec<Run> = self.runs.iter().chain(&other.runs).copied().collect();
        runs.sort_by(|a, b| a.squared.total_cmp(&b.squared));
        interpolate(&runs, percent)
    }

    /// Sum of weight times distance.
    #[must_use]
    pub fn moment(&self) -> f64 {
        // Not `sum`, which is -0 of nothing.
        self.runs.iter().fold(0.0, |sum, r| sum + self.weight(r) * r.squared.sqrt())
    }

    /// Weighted mean distance in mm (directed ASD).
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.moment() / self.total()
    }
}

/// Linear interpolation between the ranks of sorted runs.
fn interpolate(runs: &[Run], percent: f64) -> f64 {
    let points: u64 = runs.iter().map(|r| r.count).sum();
    let place = points.saturating_sub(1) as f64 * (percent / 100.0);
    let at = |rank: u64| {
        let mut seen = 0;
        let run = runs.iter().find(|r| {
            seen += r.count;
            seen > rank
        });
        run.map_or(0.0, |r| r.squared.sqrt())
    };
    let (low, high) = (at(place.floor() as u64), at(place.ceil() as u64));
    low + (high - low) * place.fract()
}
