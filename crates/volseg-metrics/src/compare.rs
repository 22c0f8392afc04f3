use crate::aggregate::{Cell, Rule, bootstrap_difference, mean, means};

/// Wilcoxon's signed rank test of paired differences, two-sided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wilcoxon {
    /// Differences that are not zero.
    pub n: usize,
    /// The smaller sum of ranks.
    pub statistic: f64,
    /// Probability under the null hypothesis; 1 without differences.
    pub p: f64,
    /// Whether `p` is exact (at most 50 differences; at most 13 with ties or zeros) or from the normal approximation.
    pub exact: bool,
}

/// Most differences of which ties or zeros are tested exactly, as by scipy.
const EXACT_WITH_TIES: usize = 13;

/// Signed rank test. Zeros are dropped, ties get mean ranks, as Wilcoxon (1945); NaN is left out. Exact or not as
/// `scipy.stats.wilcoxon` decides by itself; the approximation has no continuity correction.
#[must_use]
pub fn wilcoxon(differences: &[f64]) -> Wilcoxon {
    let known: Vec<f64> = differences.iter().copied().filter(|d| d.is_finite()).collect();
    let mut d: Vec<f64> = known.iter().copied().filter(|&d| d != 0.0).collect();
    d.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    let n = d.len();
    if n == 0 {
        return Wilcoxon { n, statistic: 0.0, p: 1.0, exact: true };
    }
    let (mut plus, mut ties, mut at, mut doubled) = (0.0, 0.0, 0, Vec::with_capacity(n));
    while at < n {
        let run = d.iter().skip(at).take_while(|v| v.abs() == d[at].abs()).count();
        let rank = at as f64 + (run as f64 + 1.0) / 2.0;
        plus += rank * d.iter().skip(at).take(run).filter(|&&v| v > 0.0).count() as f64;
        ties += (run as f64).powi(3) - run as f64;
        doubled.extend(std::iter::repeat_n(2 * at + run + 1, run));
        at += run;
    }
    let total = (n * (n + 1)) as f64 / 2.0;
    let statistic = f64::min(plus, total - plus);
    let plain = ties == 0.0 && known.len() == n;
    let exact = known.len() <= if plain { 50 } else { EXACT_WITH_TIES };
    let p = if exact {
        // Choices of signs by twice their sum of ranks, since a mean rank may be a half.
        let mut share = vec![0.0; n * (n + 1) + 1];
        share[0] = 1.0;
        for rank in doubled {
            for sum in (rank..share.len()).rev() {
                share[sum] += share[sum - rank];
            }
        }
        let below: f64 = share.iter().take((2.0 * statistic) as usize + 1).sum();
        (2.0 * below / 2f64.powi(n as i32)).min(1.0)
    } else {
        let n = n as f64;
        let sd = (n * (n + 1.0) * (2.0 * n + 1.0) / 24.0 - ties / 48.0).sqrt();
        (2.0 * normal_below((statistic - total / 2.0) / sd)).min(1.0)
    };
    Wilcoxon { n, statistic, p, exact }
}

/// Share of the standard normal distribution below `z`, for `z <= 0`: a continued fraction in the tail, a series near 0.
fn normal_below(z: f64) -> f64 {
    let x = z.abs();
    let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    if x > 3.0 {
        let fraction = (1..=200).rev().fold(x, |f, k| x + f64::from(k) / f);
        return density / fraction;
    }
    let (mut term, mut sum) = (x, x);
    for k in 1..200 {
        term *= x * x / f64::from(2 * k + 1);
        sum += term;
    }
    0.5 - density * sum
}

/// Comparison of two predictions on the same cases. A value that is infinite in one of them (the distance to an organ that it
/// missed) is left out of both, else whoever misses the worst organs has the better mean; `n` tells how many there were.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Paired {
    /// Means of the first and the second prediction.
    pub means: [f64; 2],
    /// Finite and defined values of the first, then of the second prediction, before any was left out.
    pub n: [[usize; 2]; 2],
    /// Second minus first.
    pub difference: f64,
    /// 95 % bootstrap interval of the difference over the same resampled cases.
    pub interval: [f64; 2],
    /// Test of the per-case means.
    pub test: Wilcoxon,
}

/// Compares two tables `values[case][label]` of the same cases and labels.
#[must_use]
pub fn paired(first: &[Vec<Cell>], second: &[Vec<Cell>], rule: Rule, resamples: usize, seed: u64) -> Paired {
    let n = [first, second].map(|t| means(t).n);
    let without = |table: &[Vec<Cell>], other: &[Vec<Cell>]| -> Vec<Vec<Cell>> {
        let cell = |(a, b): (&Cell, &Cell)| if a.is_infinite() || b.is_infinite() { f64::NAN } else { *a };
        table.iter().zip(other).map(|(a, b)| a.iter().zip(b).map(cell).collect()).collect()
    };
    let (first, second) = (&without(first, second), &without(second, first));
    let pick = |t: &[Vec<Cell>]| means(t).by_rule[Rule::ALL.iter().position(|&r| r == rule).unwrap_or(0)];
    let both = [pick(first), pick(second)];
    let case = |row: &Vec<f64>| mean(row.iter().copied());
    let differences: Vec<f64> = first.iter().zip(second).map(|(a, b)| case(b) - case(a)).collect();
    Paired {
        means: both,
        n,
        difference: both[1] - both[0],
        interval: bootstrap_difference(first, second, rule, resamples, seed),
        test: wilcoxon(&differences),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of scipy.stats.wilcoxon (1.17).
    #[test]
    fn signed_ranks_agree_with_scipy() {
        let exact = wilcoxon(&[0.1, -0.2, 0.35, 0.4, 0.55, -0.6, 0.7, 0.8]);
        assert_eq!((exact.statistic, exact.exact), (8.0, true));
        assert!((exact.p - 0.1953125).abs() < 1e-12);
        let tied = wilcoxon(&[1.0, 1.0, -1.0, 2.0, 3.0, 0.0, 4.0, -2.0]);
        assert!(tied.exact && tied.statistic == 6.5);
        assert!((tied.p - 0.265_625).abs() < 1e-12, "{}", tied.p);
        assert!((wilcoxon(&[1.0; 5]).p - 0.0625).abs() < 1e-12);
        let more = wilcoxon(&[1.0, 1.0, -1.0, 2.0, 3.0, 0.0, 4.0, -2.0, 5.0, 5.0, -6.0, 7.0, 8.0, -9.0]);
        assert!(!more.exact && more.statistic == 29.5);
        assert!((more.p - 0.262_618_290_4).abs() < 1e-6, "{}", more.p);
    }

    #[test]
    fn who_misses_the_worst_organ_does_not_win_on_distances() {
        let first = vec![vec![1.0, 9.0]; 6];
        let second = vec![vec![2.0, f64::INFINITY]; 6];
        let found = paired(&first, &second, Rule::LabelThenMean, 100, 0);
        assert_eq!((found.means, found.difference, found.interval), ([1.0, 2.0], 1.0, [1.0; 2]));
        assert_eq!(found.n, [[12, 12], [6, 12]]);
    }
}
