//! What an image is, and what is odd about its intensities.

use volseg_geometry::{AnyVolume, Modality};

/// A guess with everything that should be said aloud.
#[derive(Clone, Debug)]
pub struct ModalityGuess {
    /// `None` for a picture that nobody described: the model decides between X-ray and ultrasound.
    pub modality: Option<Modality>,
    /// Plain sentences for people.
    pub warnings: Vec<String>,
    /// All voxels are the same, or no numbers: nothing can be found.
    pub constant: bool,
}

/// Looks at declared modality and intensities. Samples at most a million voxels, and looks at all where those are the same.
#[must_use]
pub fn guess_modality(
    volume: &AnyVolume,
    slope: f64,
    intercept: f64,
    picture: bool,
    declared: Option<Modality>,
) -> ModalityGuess {
    let n: usize = volume.dim().iter().product();
    let step = (n / 1_000_000).max(1);
    let value = |i: usize| volume.value(i) * slope + intercept;
    let (mut low, mut high, mut odd) = (f64::INFINITY, f64::NEG_INFINITY, 0usize);
    let (mut inside, mut count) = (0usize, 0usize);
    for i in (0..n).step_by(step) {
        let v = value(i);
        if !v.is_finite() {
            odd += 1;
            continue;
        }
        low = low.min(v);
        high = high.max(v);
        count += 1;
        inside += usize::from((-200.0..300.0).contains(&v));
    }
    let mut warnings = Vec::new();
    if odd > 0 {
        warnings.push(format!("{odd} of {} sampled voxels are no numbers; they are read as background", odd + count));
    }
    let alike = |v: f64| !v.is_finite() || v == low;
    let constant = (count == 0 || low == high) && (0..n).map(value).all(alike);
    if constant {
        warnings.push("the image is constant: nothing can be found in it".into());
    }
    let modality = match (declared, picture) {
        (Some(m), _) => Some(m),
        (None, true) => None,
        (None, false) => Some(Modality::Ct),
    };
    if modality == Some(Modality::Ct) && !constant {
        if low >= 0.0 && high <= 255.0 {
            warnings.push(format!(
                "a CT should be in Hounsfield units (air about -1000), but values run from {low:.0} to {high:.0}: \
                 this looks like a picture of a CT, and the result will be poor"
            ));
        } else if low > -200.0 {
            warnings.push(format!(
                "a CT should show air near -1000 HU, but the lowest value is {low:.0}: is this a CT, and is the rescale applied?"
            ));
        } else if inside * 100 < count {
            warnings.push("hardly any voxel lies in the soft-tissue range (-200..300 HU)".into());
        }
    }
    ModalityGuess { modality, warnings, constant }
}

#[cfg(test)]
mod tests {
    use super::*;
    use volseg_geometry::{Affine, Volume};

    #[test]
    fn intensities_that_are_no_hounsfield_units_are_said_aloud() {
        let volume =
            |v: Vec<i16>| AnyVolume::from(Volume::from_vec(v, [2, 2, 2], Affine::from_spacing_mm([1.0; 3])).unwrap());
        let warn = |v| guess_modality(&volume(v), 1.0, 0.0, false, None).warnings;
        assert!(warn(vec![0, 10, 200, 255, 0, 9, 8, 7])[0].contains("Hounsfield"));
        assert!(warn(vec![5; 8])[0].contains("constant"));
        assert_eq!(warn(vec![-1000; 8]).len(), 1);
        assert!(warn(vec![-1000, 40, 50, 60, -100, 10, 20, 30]).is_empty());
    }
}
