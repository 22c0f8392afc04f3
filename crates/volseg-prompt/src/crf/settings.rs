use crate::Error;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Least position deviation, pixels.
const LEAST_SXY: f32 = 0.01;

/// Parameters of a dense CRF (specs: densecrf.md). Deviations are standard deviations, not the doubled squares of some papers.
///
/// As text: the name of a preset, then changes, such as `default,iterations=10,srgb=8`. The names are those of the fields.
///
/// ```
/// use volseg_prompt::crf::CrfSettings;
/// let settings: CrfSettings = "medclip-sam-v1,iterations=5".parse().unwrap();
/// assert_eq!((settings.sxy, settings.iterations), (60.0, 5));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct CrfSettings {
    /// Position deviation of the smoothness term, pixels.
    pub smooth_sxy: f32,
    /// Weight of the smoothness term; 0 leaves it out.
    pub smooth_compat: f32,
    /// Position deviation of the appearance term, pixels.
    pub sxy: f32,
    /// Colour deviation of the appearance term, grey levels of 255.
    pub srgb: f32,
    /// Weight of the appearance term; 0 leaves it out.
    pub compat: f32,
    /// Updates after the start.
    pub iterations: usize,
    /// Temperature of the energies that are made from saliency.
    pub tau: f32,
    /// The longer side, in pixels, for which the position deviations stand: they are scaled with the picture's longer side.
    /// 0 takes them as they are, as the published programs do.
    pub side: f32,
}

impl Default for CrfSettings {
    /// MedCLIP-SAM's values, scaled with the picture, five updates.
    fn default() -> Self {
        Self { iterations: 5, side: 512.0, ..Self::medclip_sam_v1() }
    }
}

impl CrfSettings {
    /// Names that [`CrfSettings::preset`] knows.
    pub const PRESETS: [&str; 4] = ["default", "medclip-sam-v1", "medclip-sam-v2", "pydensecrf"];

    /// Parameters of a published pipeline by name: `medclip-sam-v1` (one update, wide), `medclip-sam-v2` (its script's
    /// defaults, narrow), `pydensecrf` (the example of that library), and `default`.
    #[must_use]
    pub fn preset(name: &str) -> Option<Self> {
        let v1 = Self::medclip_sam_v1();
        Some(match name {
            "default" => Self::default(),
            "medclip-sam-v1" => v1,
            "medclip-sam-v2" => Self { smooth_sxy: 5.0, sxy: 5.0, srgb: 3.0, ..v1 },
            "pydensecrf" => Self { sxy: 80.0, srgb: 13.0, compat: 10.0, iterations: 5, ..v1 },
            _ => return None,
        })
    }

    fn medclip_sam_v1() -> Self {
        Self {
            smooth_sxy: 3.0,
            smooth_compat: 3.0,
            sxy: 60.0,
            srgb: 5.0,
            compat: 5.0,
            iterations: 1,
            tau: 1.05,
            side: 0.0,
        }
    }

    /// These settings with position deviations for a picture of `width` x `height` pixels.
    #[must_use]
    pub fn for_size(&self, width: usize, height: usize) -> Self {
        if self.side <= 0.0 {
            return self.clone();
        }
        let scale = width.max(height) as f32 / self.side;
        // A picture of a few pixels has no neighbourhoods to speak of; that is no fault of the settings.
        let scaled = |v: f32| (v * scale).max(v.min(LEAST_SXY));
        Self { smooth_sxy: scaled(self.smooth_sxy), sxy: scaled(self.sxy), side: 0.0, ..self.clone() }
    }

    /// Refuses values that cannot work.
    ///
    /// # Errors
    /// [`Error::Request`] naming the value and what is allowed.
    pub fn check(&self) -> Result<(), Error> {
        let values = [
            ("smooth_sxy", self.smooth_sxy, LEAST_SXY, 1e4),
            ("smooth_compat", self.smooth_compat, 0.0, 1e4),
            ("sxy", self.sxy, LEAST_SXY, 1e4),
            ("srgb", self.srgb, 0.05, 1e4),
            ("compat", self.compat, 0.0, 1e4),
            ("tau", self.tau, 0.01, 100.0),
            ("side", self.side, 0.0, 65536.0),
            ("iterations", self.iterations as f32, 0.0, 1000.0),
        ];
        match values.into_iter().find(|&(_, v, low, high)| !(low..=high).contains(&v)) {
            Some((name, v, low, high)) => {
                Err(Error::Request(format!("CRF setting {name} is {v}, expected {low} to {high}")))
            }
            None => Ok(()),
        }
    }
}

impl FromStr for CrfSettings {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let mut parts = text.split(',').map(str::trim).peekable();
        let mut settings = match parts.next_if(|p| !p.contains('=')) {
            None => Self::default(),
            Some(name) => Self::preset(&name.replace('_', "-")).ok_or_else(|| {
                Error::Request(format!("CRF preset {name:?} is unknown, expected one of {}", Self::PRESETS.join(", ")))
            })?,
        };
        for part in parts {
            settings.set(part)?;
        }
        settings.check()?;
        Ok(settings)
    }
}

impl CrfSettings {
    fn set(&mut self, change: &str) -> Result<(), Error> {
        const NAMES: &str = "smooth_sxy, smooth_compat, sxy, srgb, compat, iterations, tau, side";
        let (name, value) = change
            .split_once('=')
            .ok_or_else(|| Error::Request(format!("CRF setting {change:?} is not NAME=NUMBER with NAME of {NAMES}")))?;
        let wrong = || Error::Request(format!("CRF setting {name} is {value:?}, expected a number"));
        let number = || value.trim().parse::<f32>().map_err(|_| wrong());
        match name.trim().replace('-', "_").as_str() {
            "smooth_sxy" => self.smooth_sxy = number()?,
            "smooth_compat" => self.smooth_compat = number()?,
            "sxy" => self.sxy = number()?,
            "srgb" => self.srgb = number()?,
            "compat" => self.compat = number()?,
            "tau" => self.tau = number()?,
            "side" => self.side = number()?,
            "iterations" => self.iterations = value.trim().parse().map_err(|_| wrong())?,
            _ => return Err(Error::Request(format!("CRF setting {name:?} is unknown, expected one of {NAMES}"))),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_a_preset_and_changes() {
        let settings: CrfSettings = "medclip_sam_v2, iterations = 3".parse().unwrap();
        assert_eq!((settings.sxy, settings.srgb, settings.iterations), (5.0, 3.0, 3));
        assert_eq!("srgb=8".parse::<CrfSettings>().unwrap().srgb, 8.0);
        for name in CrfSettings::PRESETS {
            assert!(CrfSettings::preset(name).is_some_and(|s| s.check().is_ok()));
        }
        for wrong in ["crf", "default,sxy", "default,sxy=x", "sxy=0", "sxy=NaN", "iterations=-1", "colour=3", ""] {
            assert!(wrong.parse::<CrfSettings>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn deviations_scale_with_the_longer_side() {
        let small = CrfSettings::default().for_size(256, 200);
        assert_eq!((small.smooth_sxy, small.sxy, small.srgb), (1.5, 30.0, 5.0));
        for name in ["default", "medclip-sam-v1", "medclip-sam-v2"] {
            assert!(CrfSettings::preset(name).is_some_and(|s| s.for_size(1, 1).check().is_ok()), "{name}");
        }
        assert_eq!(CrfSettings::medclip_sam_v1().for_size(256, 200).sxy, 60.0);
    }
}
