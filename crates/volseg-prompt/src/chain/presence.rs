//! In which slices an organ is: similarity of slice and text along the stack, read as one interval.

use serde::Deserialize;
use volseg_model::{Error, clip::ClipModel};

/// No slice counts for more, whichever way.
const MOST_LOG_ODDS: f32 = 6.0;

/// How similarities become log-odds of an organ's presence, as the weights state it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Calibration {
    /// The text that stands for "none of the organs".
    pub none: String,
    /// Factor of the difference of the scaled cosines.
    pub slope: f32,
    /// Log-odds at no difference.
    pub offset: f32,
}

impl Calibration {
    /// Calibration of a model; `None` if its file has none.
    ///
    /// # Errors
    /// Metadata that cannot be read.
    pub fn of(model: &ClipModel) -> Result<Option<Self>, Error> {
        model.stated("presence")
    }

    /// Log-odds of presence from the scaled cosines with the organ's text and with the text of "none".
    #[must_use]
    pub fn log_odds(&self, score: f32, none: f32) -> f32 {
        (self.slope * (score - none) + self.offset).clamp(-MOST_LOG_ODDS, MOST_LOG_ODDS)
    }
}

/// Log-odds without a calibration: how far each score lies above the middle between the least and the greatest along the
/// stack. That finds where the organ is, if it is there; it cannot say that it is not.
#[must_use]
pub(super) fn relative(scores: &[f32]) -> Vec<f32> {
    let smooth = smoothed(scores);
    let low = smooth.iter().copied().fold(f32::INFINITY, f32::min);
    let high = smooth.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (middle, half) = ((low + high) / 2.0, ((high - low) / 2.0).max(1e-6));
    scores.iter().map(|s| (s - middle) / half).collect()
}

/// Weights 1, 2, 3, 2, 1 along the stack; the ends stand in for what is missing.
#[must_use]
pub(super) fn smoothed(values: &[f32]) -> Vec<f32> {
    let at = |s: isize| values[s.clamp(0, values.len() as isize - 1) as usize];
    let near = |s: usize| (-2..=2isize).map(|d| (3 - d.abs()) as f32 * at(s as isize + d)).sum::<f32>() / 9.0;
    (0..values.len()).map(near).collect()
}

/// The run of slices whose summed log-odds are greatest, `first..end`: the likeliest single interval. `None` if no slice speaks
/// for the organ.
#[must_use]
pub(super) fn interval(log_odds: &[f32]) -> Option<std::ops::Range<usize>> {
    let (mut best, mut range) = (0f32, None);
    let (mut sum, mut first) = (0f32, 0);
    for (s, v) in log_odds.iter().enumerate() {
        if sum <= 0.0 {
            (sum, first) = (0.0, s);
        }
        sum += v;
        if sum > best {
            (best, range) = (sum, Some(first..s + 1));
        }
    }
    range
}

/// 1 / (1 + e^-x)
#[must_use]
pub(super) fn probability(log_odds: f32) -> f32 {
    1.0 / (1.0 + (-log_odds).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_organ_is_one_interval() {
        assert_eq!(interval(&[-1.0, -2.0, 3.0, -0.5, 2.0, -4.0, 1.0]), Some(2..5));
        assert_eq!(interval(&[1.0, 1.0]), Some(0..2));
        assert_eq!(interval(&[-1.0, -0.1]), None);
        assert_eq!(interval(&[]), None);
        let scores = [0.0, 0.0, 0.0, 0.0, 9.0, 9.5, 9.0, 9.0, 0.0, 0.0];
        assert_eq!(interval(&relative(&scores)), Some(4..8));
        assert_eq!(smoothed(&[3.0; 4]), [3.0; 4]);
    }
}
