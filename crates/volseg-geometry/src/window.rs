use crate::{Error, Result};
use std::str::FromStr;

/// How a picture came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Modality {
    Ct,
    Xray,
    Ultrasound,
    Mr,
}

impl FromStr for Modality {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "ct" => Ok(Self::Ct),
            "xray" | "x-ray" | "cr" | "dx" => Ok(Self::Xray),
            "ultrasound" | "us" => Ok(Self::Ultrasound),
            "mr" | "mri" => Ok(Self::Mr),
            _ => Err(Error::InvalidArgument {
                what: "modality",
                found: text.into(),
                expected: "ct, xray, ultrasound or mr".into(),
            }),
        }
    }
}

/// Map of stored intensities to 0..1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Window {
    /// Linear between two values (HU for CT), clipped.
    Range {
        /// Value that becomes 0.
        low: f32,
        /// Value that becomes 1.
        high: f32,
    },
    /// Linear between two percentiles (0..100) of the finite values of each slice or volume.
    Percentile {
        /// Percentile that becomes 0.
        low: f32,
        /// Percentile that becomes 1.
        high: f32,
    },
}

impl Window {
    /// Soft tissue: -160..240 HU (specs: organs.md section 3).
    pub const SOFT_TISSUE: Self = Self::Range { low: -160.0, high: 240.0 };

    /// The window used where nobody chose one.
    #[must_use]
    pub fn of(modality: Modality) -> Self {
        match modality {
            Modality::Ct => Self::SOFT_TISSUE,
            _ => Self::Percentile { low: 0.5, high: 99.5 },
        }
    }

    /// The two values between which intensities are stretched, for these pixels. NaN and infinite pixels are left out.
    #[must_use]
    pub fn bounds(&self, pixels: &[f32]) -> (f32, f32) {
        match *self {
            Self::Range { low, high } => (low, high),
            Self::Percentile { low, high } => {
                let mut v: Vec<f32> = pixels.iter().copied().filter(|x| x.is_finite()).collect();
                if v.is_empty() {
                    return (0.0, 1.0);
                }
                let mut at = |p: f32| {
                    let rank = (f64::from(p.clamp(0.0, 100.0)) / 100.0 * (v.len() - 1) as f64).round() as usize;
                    *v.select_nth_unstable_by(rank, f32::total_cmp).1
                };
                (at(low), at(high))
            }
        }
    }

    /// Maps pixels to 0..1 in place. A constant picture and pixels that are no numbers become 0.
    pub fn apply(&self, pixels: &mut [f32]) {
        let (low, high) = self.bounds(pixels);
        let scale = if high > low { 1.0 / (high - low) } else { 0.0 };
        for p in pixels {
            let v = (*p - low) * scale;
            *p = if v.is_nan() { 0.0 } else { v.clamp(0.0, 1.0) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_and_nan_pixels_become_zero() {
        let mut p = [5.0, 5.0, f32::NAN];
        Window::Percentile { low: 0.5, high: 99.5 }.apply(&mut p);
        assert_eq!(p, [0.0; 3]);
        let mut q = [-1000.0, 40.0, 4000.0];
        Window::SOFT_TISSUE.apply(&mut q);
        assert_eq!(q, [0.0, 0.5, 1.0]);
    }
}
