use crate::config::{MOST_BATCH, check_sets, read_table, typed};
use crate::{Error, PictureSet};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Which part of the image encoder changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EncoderPart {
    /// The adapters alone, as the published training does.
    #[default]
    Adapters,
    /// Everything, as the paper's stage 1 says.
    All,
    /// Nothing.
    None,
}

/// Prompts of the first pass over a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SamPrompts {
    /// A fair coin takes box or point for the whole batch, as the published training does.
    #[default]
    Either,
    /// Box and point together, as in the paper.
    Both,
}

/// Configuration of `volseg train prompt` for SAM-Med2D's network (`arch = "sam-med2d"`). Unknown keys are refused.
/// The defaults are those of the published training (specs: sam-med2d.md section 7) with the paper's schedule.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamTrainConfig {
    /// Always `sam-med2d`.
    pub arch: String,
    /// Weights to begin with, as `volseg weights import` writes them.
    pub model: PathBuf,
    /// Seed of order and prompts.
    pub seed: u64,
    /// Passes over the training part.
    pub epochs: usize,
    /// Adam's rate.
    pub learning_rate: f32,
    /// The rate is halved every so many epochs.
    pub halve_every: usize,
    /// Pictures a batch.
    pub batch: usize,
    /// Parts that a batch is cut into, one after the other in memory; gradients are their mean, weighted by pictures. The Dice, which
    /// the published loss sums over the batch before it divides, is then one of each part.
    pub accumulate: usize,
    /// Keep only the inputs of the encoder's blocks and compute a block once more for its gradient: less memory, about a third more
    /// time, the same gradients.
    pub recompute: bool,
    /// Rows a picture: masks drawn with replacement, each with prompts of its own.
    pub masks: usize,
    /// Which part of the image encoder changes.
    pub encoder: EncoderPart,
    /// Prompts of the first pass.
    pub prompts: SamPrompts,
    /// Weight of the squared error of the predicted IoU; the paper names none (0).
    pub iou_weight: f64,
    /// Passes of the decoder alone that follow, with its own mask and points on its errors.
    pub feedback: usize,
    /// Stop after so many epochs without a better validation; 0 never stops.
    pub patience: usize,
    /// Image-text model whose features of a text (an answer about the picture, if `answers` has one, then the organ's
    /// description) become a token of the first pass of a batch, through a projection that is learnt: `embedded` or a
    /// file. `None` leaves texts alone.
    pub text: Option<String>,
    /// Answers about the pictures, JSON lines as `volseg prompt --answers` takes them.
    pub answers: Option<PathBuf>,
    /// Sets of pictures with one mask each; `batch` of a set has no meaning here.
    pub pictures: Vec<PictureSet>,
}

impl Default for SamTrainConfig {
    fn default() -> Self {
        Self {
            arch: "sam-med2d".into(),
            model: PathBuf::new(),
            seed: 1,
            epochs: 15,
            learning_rate: 1e-4,
            halve_every: 10,
            batch: 2,
            accumulate: 1,
            recompute: false,
            masks: 5,
            encoder: EncoderPart::Adapters,
            prompts: SamPrompts::Either,
            iou_weight: 1.0,
            feedback: 8,
            patience: 0,
            text: None,
            answers: None,
            pictures: Vec::new(),
        }
    }
}

impl SamTrainConfig {
    /// Parses TOML and then `key=value` changes; `None` if its `arch` is not SAM-Med2D's.
    ///
    /// # Errors
    /// [`Error::Config`] naming what does not fit.
    pub fn parse(text: &str, changes: &[String]) -> Result<Option<Self>, Error> {
        let table = read_table(text, changes)?;
        match table.get("arch").and_then(|a| a.as_str()) {
            Some("sam-med2d") => {}
            Some(other) => {
                return Err(Error::Config(format!("arch `{other}`: only sam-med2d is trained by this name")));
            }
            None => return Ok(None),
        }
        let config: Self = typed(table, text)?;
        let sizes = [config.epochs, config.batch, config.accumulate, config.masks, config.halve_every];
        if sizes.contains(&0) || !(config.learning_rate.is_finite() && config.learning_rate > 0.0) {
            return Err(Error::Config(
                "epochs, batch, accumulate, masks, halve_every and learning_rate must be positive".into(),
            ));
        }
        if config.batch > MOST_BATCH
            || config.masks > 256
            || config.feedback > 256
            || !(0.0..).contains(&config.iou_weight)
        {
            return Err(Error::Config(format!(
                "batch {}, masks {}, feedback {}, iou_weight {}: expected at most {MOST_BATCH}, 256 and 256, and a weight that is not negative",
                config.batch, config.masks, config.feedback, config.iou_weight
            )));
        }
        check_sets(&config.pictures, None, None)?;
        if config.pictures.is_empty() || config.model.as_os_str().is_empty() {
            return Err(Error::Config("`model` and at least one of [[pictures]] are needed".into()));
        }
        if config.answers.is_some() && config.text.is_none() {
            return Err(Error::Config("`answers` needs `text`, the image-text model that reads them".into()));
        }
        Ok(Some(config))
    }
}
