use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// One metric of one label in one case; NaN is left out of means.
pub type Cell = f64;

/// Order in which values are averaged (docs: reference/metrics).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Per label over cases, then over labels.
    LabelThenMean,
    /// Per case over labels, then over cases.
    CaseThenMean,
    /// All values at once.
    Pooled,
}

impl Rule {
    /// All rules, the default first.
    pub const ALL: [Self; 3] = [Self::LabelThenMean, Self::CaseThenMean, Self::Pooled];

    /// Name on the command line and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LabelThenMean => "label_then_mean",
            Self::CaseThenMean => "case_then_mean",
            Self::Pooled => "pooled",
        }
    }
}

/// Description of a list of values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Statistic {
    /// Values that are defined (infinite ones included).
    pub n: usize,
    /// Of these, finite ones; the mean and SD are over them.
    pub n_finite: usize,
    /// Mean of the finite values.
    pub mean: f64,
    /// Sample standard deviation (n - 1) of the finite values.
    pub sd: f64,
    /// Median, infinities kept.
    pub median: f64,
    /// Lower and upper quartile, infinities kept.
    pub quartiles: [f64; 2],
}

/// Mean of the finite values; NaN if there are none.
#[must_use]
pub fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.filter(|v| v.is_finite()).fold((0.0, 0u64), |(s, n), v| (s + v, n + 1));
    if n == 0 { f64::NAN } else { sum / n as f64 }
}

/// Describes the defined values of a list.
#[must_use]
pub fn statistic(values: &[f64]) -> Statistic {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
    sorted.sort_by(f64::total_cmp);
    let finite: Vec<f64> = sorted.iter().copied().filter(|v| v.is_finite()).collect();
    let m = mean(finite.iter().copied());
    let sd = if finite.len() < 2 {
        f64::NAN
    } else {
        (finite.iter().map(|v| (v - m).powi(2)).sum::<f64>() / (finite.len() - 1) as f64).sqrt()
    };
    let q = |p| quantile(&sorted, p);
    Statistic { n: sorted.len(), n_finite: finite.len(), mean: m, sd, median: q(0.5), quartiles: [q(0.25), q(0.75)] }
}

/// Quantile of a sorted list with linear interpolation; infinities stay what they are.
pub(crate) fn quantile(sorted: &[f64], p: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = last as f64 * p;
    let at = |n: f64| sorted.get(n as usize).copied().unwrap_or(f64::NAN);
    let (low, high) = (at(place.floor()), at(place.ceil()));
    if low == high { low } else { low + (high - low) * place.fract() }
}

/// The three means of a table `values[case][label]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Means {
    /// By [`Rule::ALL`].
    pub by_rule: [f64; 3],
    /// Finite values and defined values.
    pub n: [usize; 2],
}

/// Means of `values[case][label]` by every rule; NaN is left out, infinity counted but left out of the mean.
#[must_use]
pub fn means(values: &[Vec<Cell>]) -> Means {
    let cases: Vec<usize> = (0..values.len()).collect();
    let all = || values.iter().flatten();
    Means {
        by_rule: Rule::ALL.map(|rule| by_rule(values, &cases, rule)),
        n: [all().filter(|v| v.is_finite()).count(), all().filter(|v| !v.is_nan()).count()],
    }
}

fn by_rule(values: &[Vec<Cell>], cases: &[usize], rule: Rule) -> f64 {
    let row = |&c: &usize| values.get(c).map_or(&[][..], Vec::as_slice);
    match rule {
        Rule::Pooled => mean(cases.iter().flat_map(row).copied()),
        Rule::CaseThenMean => mean(cases.iter().map(|c| mean(row(c).iter().copied()))),
        Rule::LabelThenMean => {
            let width = values.iter().map(Vec::len).max().unwrap_or(0);
            let mut sums = vec![(0.0, 0u64); width];
            for c in cases {
                for (sum, v) in sums.iter_mut().zip(row(c)).filter(|(_, v)| v.is_finite()) {
                    *sum = (sum.0 + v, sum.1 + 1);
                }
            }
            mean(sums.iter().map(|(s, n)| s / *n as f64))
        }
    }
}

/// Resampled case numbers: resample `b` of a data set of `n` cases (ChaCha8, key `seed`, stream `b`).
fn resample(n: usize, seed: u64, b: usize) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(b as u64);
    (0..n).map(|_| rng.random_range(0..n)).collect()
}

/// Bootstrap over cases: 95 % percentile intervals of the means of several tables over the same resampled cases.
/// Intervals are NaN without cases or resamples.
#[must_use]
pub fn bootstrap(tables: &[&[Vec<Cell>]], rule: Rule, resamples: usize, seed: u64) -> Vec<[f64; 2]> {
    let n = tables.first().map_or(0, |t| t.len());
    let statistics = |b: usize| -> Vec<f64> {
        let cases = resample(n, seed, b);
        tables.iter().map(|t| by_rule(t, &cases, rule)).collect()
    };
    intervals(n, tables.len(), resamples, statistics)
}

/// As [`bootstrap`], for the difference of two tables (second minus first).
pub(crate) fn bootstrap_difference(
    a: &[Vec<Cell>],
    b: &[Vec<Cell>],
    rule: Rule,
    resamples: usize,
    seed: u64,
) -> [f64; 2] {
    let statistics = |k: usize| {
        let cases = resample(a.len(), seed, k);
        vec![by_rule(b, &cases, rule) - by_rule(a, &cases, rule)]
    };
    intervals(a.len(), 1, resamples, statistics).first().copied().unwrap_or([f64::NAN; 2])
}

fn intervals(
    n: usize,
    width: usize,
    resamples: usize,
    each: impl Fn(usize) -> Vec<f64> + Send + Sync,
) -> Vec<[f64; 2]> {
    if n == 0 || resamples == 0 {
        return vec![[f64::NAN; 2]; width];
    }
    let all: Vec<Vec<f64>> = (0..resamples).into_par_iter().map(each).collect();
    (0..width)
        .map(|w| {
            let mut values: Vec<f64> = all.iter().filter_map(|s| s.get(w).copied()).filter(|v| !v.is_nan()).collect();
            values.sort_by(f64::total_cmp);
            [quantile(&values, 0.025), quantile(&values, 0.975)]
        })
        .collect()
}
