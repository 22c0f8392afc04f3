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
    /// Whether `p` is exact (at most 50 differences, no ties, no zeros) or from the normal approximation.
    pub exact: bool,
}

/// Signed rank test. Zeros are dropped, ties get mean ranks, as Wilcoxon (1945); NaN is left out.
#[must_use]
pub fn wilcoxon(differences: &[f64]) -> Wilcoxon {
    let known: Vec<f64> = differences.iter().copied().filter(|d| d.is_finite()).collect();
    let mut d: Vec<f64> = known.iter().copied().filter(|&d| d != 0.0).collect();
    d.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    let n = d.len();
    if n == 0 {
        return Wilcoxon { n, statistic: 0.0, p: 1.0, exact: true };
    }
    let (mut plus, mut ties, mut at) = (0.0, 0.0, 0);
    while at < n {
        let run = d.iter().skip(at).take_while(|v| v.abs() == d[at].abs()).count();
        let rank = at as f64 + (run as f64 + 1.0) / 2.0;
        plus += rank * d.iter().skip(at).take(run).filter(|&&v| v > 0.0).count() as f64;
        ties += (run as f64).powi(3) - run as f64;
        at += run;
    }
    let total = (n * (n + 1)) as f64 / 2.0;
    let statistic = f64::min(plus, total - plus);
    let exact = n <= 50 && ties == 0.0 && known.len() == n;
    let p = if exact {
        // Number of subsets of 1..=n by their sum, as shares.
        let mut share = vec![0.0; n * (n + 1) / 2 + 1];
        share[0] = 1.0;
        for rank in 1..=n {
            for sum in (rank..share.len()).rev() {
                share[sum] += share[sum - rank];
            }
        }
        let below: f64 = share.iter().take(statistic as usize + 1).sum();
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

/// Comparison of two predictions on the same cases.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Paired {
    /// Means of the first and the second prediction.
    pub means: [f64; 2],
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
    let pick = |t: &[Vec<Cell>]| {
        let n = Rule::ALL.iter().position(|&r| r == rule).unwrap_or(0);
        means(t).by_rule[n]
    };
    let both = [pick(first), pick(second)];
    let case = |row: &Vec<f64>| mean(row.iter().copied());
    let differences: Vec<f64> = first.iter().zip(second).map(|(a, b)| case(b) - case(a)).collect();
    Paired {
        means: both,
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
        assert!(!tied.exact && tied.statistic == 6.5);
        assert!((tied.p - 0.200_825_122_7).abs() < 1e-6, "{}", tied.p);
    }
}
