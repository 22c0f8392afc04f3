use crate::config::{MOST_BATCH, check_sets, read_table, typed};
use crate::preference::{CANDIDATES, Mode, Reduction};
use crate::{CtSet, Error, PictureSet};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use volseg_geometry::Modality;

/// Which masks are ranked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CandidateSource {
    /// Thresholds of the model's answer of the moment, ranked anew at every step. Only a simulated annotator can do that.
    Policy,
    /// Thresholds of the first model's answer, ranked once; or those that people ranked.
    Frozen,
    /// Answers of the first model to clicks all over the picture, ranked once, then outlines of the best of them, ranked once. For
    /// `retrain`.
    Places,
}

/// What is learned from the images without masks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// Eqn 5.
    #[default]
    Preference,
    /// The best of the four candidates as if it were a mask.
    BestPseudo,
    /// The candidate at 0.5 as if it were a mask: no annotator at all.
    Pseudo,
    /// The true masks: what full labels would teach in the same steps.
    Masks,
    /// Nothing: labelled images alone, for as many steps.
    Replay,
}

/// Which numbers change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trained {
    /// The mask decoder; slices are read once and kept.
    #[default]
    Decoder,
    /// Encoder and decoder.
    All,
}

/// How organs are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asked {
    /// By organ token and the network's own first mask, as in use without prompts.
    #[default]
    Organ,
    /// By a box around the true mask, its sides off by up to a tenth of its size.
    Box,
    /// By the feature of the organ's description and the network's own first mask.
    Text,
    /// By the box of [`PictureSet::boxes`].
    GivenBox,
    /// By that box and the feature of the organ's description.
    TextAndGivenBox,
}

impl Asked {
    /// Whether networks that are asked so read texts.
    #[must_use]
    pub fn reads_text(self) -> bool {
        matches!(self, Self::Text | Self::TextAndGivenBox)
    }

    /// Whether the box of [`PictureSet::boxes`] is the prompt.
    #[must_use]
    pub fn takes_box(self) -> bool {
        matches!(self, Self::GivenBox | Self::TextAndGivenBox)
    }

    /// Refuses given boxes where none are given.
    pub(crate) fn check(self, pictures: &[PictureSet]) -> Result<(), Error> {
        match pictures.iter().find(|p| self.takes_box() && p.boxes.is_none()) {
            Some(set) => {
                Err(Error::Config(format!("prompts = {self:?}: [[pictures]] {} has no `boxes`", set.path.display())))
            }
            None => Ok(()),
        }
    }
}

/// Configuration of `volseg train align`, read from TOML. Unknown keys are refused. The defaults are those of a study on
/// real images (specs: alignment-findings.md section 5).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlignConfig {
    /// Weights of stage 1; the embedded ones if absent.
    pub model: Option<PathBuf>,
    /// Seed of order, prompts and the annotator's errors.
    pub seed: u64,
    /// Passes over the images without masks.
    pub epochs: usize,
    /// Adam's rate; 1e-4 with replay, 3e-5 without, if absent.
    pub learning_rate: Option<f32>,
    /// The rate is halved every so many epochs.
    pub halve_every: usize,
    /// Images without masks a step.
    pub batch: usize,
    /// Labelled images a step, as a multiple of half a batch: 1 is 4 labelled beside 8. 0 is the paper's form.
    pub replay: f32,
    /// Candidates are ranked in each of `tiles * tiles` parts of the slice; 1 ranks whole masks.
    pub tiles: usize,
    /// Which masks are ranked; `policy` if absent, `frozen` with `preferences`.
    pub candidates: Option<CandidateSource>,
    /// What is learned from the images without masks.
    pub objective: Objective,
    /// How the annotator's answer weighs the candidates.
    pub mode: Mode,
    /// What the margin is divided by.
    pub reduction: Reduction,
    /// b1 and b2 of Eqn 5.
    pub beta: [f64; 2],
    /// Thresholds of the candidates, ascending.
    pub thresholds: [f32; CANDIDATES],
    /// Weight of the mean Bernoulli KL divergence from the first model.
    pub kl_weight: f64,
    /// Share of images on which the simulated annotator exchanges two neighbouring ranks.
    pub noise: f32,
    /// Which numbers change.
    pub train: Trained,
    /// How organs are asked for.
    pub prompts: Asked,
    /// Stop after so many epochs without a better validation; 0 never stops.
    pub patience: usize,
    /// Steps of a training of the whole network as in stage 1, on labelled pictures and on ranked ones with what `objective` makes of
    /// the ranks as their masks, in place of epochs of Eqn 5; 0: none.
    pub retrain: usize,
    /// Labelled pictures, and with `unannotated` pictures whose masks only the simulated annotator sees.
    pub pictures: Vec<PictureSet>,
    /// The same for CTs with several organs; one slice and organ is one image.
    pub cts: Option<CtSet>,
    /// Judgements by people, JSON lines.
    pub preferences: Option<PathBuf>,
    /// Folders that hold the judged images; they are found by their digest.
    pub images: Vec<PathBuf>,
    /// What the judged images are, if they do not say so themselves.
    pub modality: Option<Modality>,
}

impl Default for AlignConfig {
    fn default() -> Self {
        Self {
            model: None,
            seed: 1,
            epochs: 30,
            learning_rate: None,
            halve_every: 10,
            batch: 8,
            replay: 1.0,
            tiles: 1,
            candidates: None,
            objective: Objective::Preference,
            mode: Mode::Ranking,
            reduction: Reduction::BandMean,
            beta: [1.0, 0.5],
            thresholds: [0.3, 0.4, 0.5, 0.6],
            kl_weight: 0.0,
            noise: 0.0,
            train: Trained::Decoder,
            prompts: Asked::Organ,
            patience: 10,
            retrain: 0,
            pictures: Vec::new(),
            cts: None,
            preferences: None,
            images: Vec::new(),
            modality: None,
        }
    }
}

impl AlignConfig {
    /// Parses TOML and then `key=value` changes, whose keys are dotted paths.
    ///
    /// # Errors
    /// [`Error::Config`] naming what does not fit, or what is known to destroy the model.
    pub fn parse(text: &str, changes: &[String]) -> Result<Self, Error> {
        let config: Self = typed(read_table(text, changes)?, text)?;
        config.check()?;
        Ok(config)
    }

    /// Refuses what cannot work.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn check(&self) -> Result<(), Error> {
        let bad = |text: String| Err(Error::Config(text));
        let positive = |v: f32| v.is_finite() && v >= 0.0;
        if self.epochs == 0 || self.batch == 0 || self.halve_every == 0 || !(1..=32).contains(&self.tiles) {
            return bad("epochs, batch and halve_every must be positive, tiles in 1..=32".into());
        }
        if !positive(self.replay)
            || !self.rate().is_finite()
            || self.rate() <= 0.0
            || !(0.0..=1.0).contains(&self.noise)
        {
            return bad("replay must not be negative, learning_rate positive, noise in 0..=1".into());
        }
        if !(self.kl_weight.is_finite() && self.kl_weight >= 0.0 && self.beta.iter().all(|b| b.is_finite())) {
            return bad("kl_weight and beta must be finite, kl_weight not negative".into());
        }
        let inside = self.thresholds.iter().all(|t| *t > 0.0 && *t < 1.0);
        if !inside || !self.thresholds.is_sorted() {
            return bad(format!("thresholds {:?}: expected ascending ones between 0 and 1", self.thresholds));
        }
        if self.pictures.is_empty() && self.cts.is_none() {
            return bad("[[pictures]] (or [cts]) names no labelled pictures: they are needed to validate".into());
        }
        if self.source() != CandidateSource::Policy
            && self.retrain == 0
            && self.objective == Objective::Preference
            && self.replay == 0.0
            && self.kl_weight == 0.0
        {
            return bad(
                "frozen candidates push without end and ruin the model: add --replay 1 (labelled images) or kl_weight = 10"
                    .into(),
            );
        }
        if self.preferences.is_some() {
            if self.source() != CandidateSource::Frozen {
                return bad("with --preferences the candidates are the file's: use --candidates frozen".into());
            }
            if matches!(self.objective, Objective::Masks | Objective::Pseudo) {
                return bad("with --preferences the objective is preference, best-pseudo or replay".into());
            }
            if self.images.is_empty() {
                return bad("`images` names no folder with the judged images".into());
            }
        }
        if self.source() == CandidateSource::Places && self.retrain == 0 {
            return bad("candidates = \"places\" is for retrain: set its steps".into());
        }
        if self.retrain > 0 {
            if self.objective == Objective::Preference || self.source() == CandidateSource::Policy {
                return bad("retrain learns from masks that are made once: use objective = \"best-pseudo\" and candidates = \"frozen\" or \"places\"".into());
            }
            if self.cts.is_some() {
                return bad("retrain is for pictures: leave [cts] out".into());
            }
        }
        if self.batch > MOST_BATCH || self.labelled() > MOST_BATCH {
            return bad(format!(
                "batch {} and {} labelled images a step (by replay): expected at most {MOST_BATCH}",
                self.batch,
                self.labelled()
            ));
        }
        check_sets(&self.pictures, self.cts.as_ref(), None)?;
        self.prompts.check(&self.pictures)?;
        let own = self.prompts.reads_text() || self.prompts.takes_box();
        if own && (self.cts.is_some() || self.preferences.is_some()) {
            return bad(
                "texts and given boxes are for [[pictures]]: ask for CTs and judged images by organ or box".into()
            );
        }
        if self.objective == Objective::Replay && self.replay == 0.0 {
            return bad("objective replay needs a replay above 0".into());
        }
        Ok(())
    }

    /// Where the candidates come from.
    #[must_use]
    pub fn source(&self) -> CandidateSource {
        self.candidates.unwrap_or(match self.preferences {
            Some(_) => CandidateSource::Frozen,
            None => CandidateSource::Policy,
        })
    }

    /// Adam's rate of the first epochs, or the greatest rate with `retrain`.
    #[must_use]
    pub fn rate(&self) -> f32 {
        self.learning_rate.unwrap_or(match self.retrain {
            0 if self.replay > 0.0 => 1e-4,
            0 => 3e-5,
            _ => 5e-4,
        })
    }

    /// Labelled images a step of Eqn 5.
    #[must_use]
    pub fn labelled(&self) -> usize {
        (self.replay * self.batch as f32 / 2.0).round() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: &str = "[[pictures]]\npath = \"p\"\nmodality = \"xray\"\norgan = \"lungs\"\n";

    #[test]
    fn what_ruins_the_model_is_refused() {
        let parse =
            |changes: &[&str]| AlignConfig::parse(SET, &changes.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>());
        assert_eq!(parse(&[]).unwrap().source(), CandidateSource::Policy);
        assert_eq!((parse(&[]).unwrap().rate(), parse(&["replay=0"]).unwrap().rate()), (1e-4, 3e-5));
        let collapse = parse(&["candidates=frozen", "replay=0"]).unwrap_err().to_string();
        assert!(collapse.contains("--replay"), "{collapse}");
        assert!(parse(&["candidates=frozen", "replay=0", "kl_weight=10.0"]).is_ok());
        let people = ["preferences=j.jsonl", "images=[\"i\"]"];
        assert_eq!(parse(&people).unwrap().source(), CandidateSource::Frozen);
        assert!(parse(&[&people[..], &["candidates=policy"]].concat()).is_err());
        assert!(parse(&["preferences=j.jsonl"]).unwrap_err().to_string().contains("images"));
        assert!(parse(&["thresholds=[0.6, 0.5, 0.4, 0.3]"]).is_err());
        assert!(parse(&["prompts=given-box"]).unwrap_err().to_string().contains("boxes"));
        assert!(parse(&["prompts=text"]).is_ok());
        let retrain = ["retrain=100", "objective=best-pseudo", "candidates=places"];
        assert_eq!(parse(&retrain).unwrap().rate(), 5e-4);
        assert!(parse(&retrain[..2]).unwrap_err().to_string().contains("candidates"));
        assert!(parse(&["candidates=places", "replay=0"]).is_err());
        assert!(parse(&["prompts=text", "preferences=j.jsonl", "images=[\"i\"]"]).is_err());
        assert!(parse(&["tilez=4"]).unwrap_err().to_string().contains("tilez"));
        assert!(AlignConfig::parse("", &[]).unwrap_err().to_string().contains("pictures"));
    }
}
