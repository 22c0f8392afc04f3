use crate::config::{check_sets, read_table, typed};
use crate::{Error, PhantomSet, PictureSet};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use volseg_model::clip::{ClipConfig, TextConfig, VisionConfig};

/// Configuration of `volseg train clip`, read from TOML. Unknown keys are refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClipTrainConfig {
    /// Steps of the whole run; the learning rate's cosine ends with them.
    pub steps: usize,
    /// Greatest learning rate (AdamW).
    pub learning_rate: f32,
    /// Decoupled weight decay of matrices.
    pub weight_decay: f32,
    /// Warm-up steps.
    pub warmup: usize,
    /// Decay of the averaged weights that are saved and validated.
    pub average: f32,
    /// Seed of initial weights, order, captions and augmentation.
    pub seed: u64,
    /// Save a checkpoint every so many steps.
    pub save_every: usize,
    /// Validate every so many steps.
    pub validate_every: usize,
    /// Share of pictures that are shown behind a mask, as saliency will show them.
    pub masked: f32,
    /// Weight of the loss of the activations' place beside that of presence.
    pub local_weight: f32,
    /// Begin with the weights of this file.
    pub start_from: Option<PathBuf>,
    /// The network; the vocabulary's size is set by the captions.
    pub model: ClipConfig,
    /// Sets of pictures with one mask each.
    pub pictures: Vec<PictureSet>,
    /// CT phantoms made on the fly.
    pub phantoms: Option<PhantomSet>,
}

impl Default for ClipTrainConfig {
    fn default() -> Self {
        let published = ClipConfig::biomedclip();
        Self {
            steps: 3000,
            learning_rate: 1.5e-3,
            weight_decay: 0.05,
            warmup: 100,
            average: 0.998,
            seed: 1,
            save_every: 100,
            validate_every: 250,
            masked: 0.35,
            local_weight: 2.0,
            start_from: None,
            model: ClipConfig {
                image_size: 112,
                patch: 8,
                vision: VisionConfig { width: 128, depth: 4, heads: 4, mlp_ratio: 4, ln_eps: 1e-6 },
                text: TextConfig {
                    vocab: 512,
                    width: 64,
                    depth: 2,
                    heads: 2,
                    intermediate: 128,
                    max_pos: 128,
                    context: 96,
                    ln_eps: 1e-12,
                    proj_hidden: 64,
                },
                embed_dim: 64,
                ..published
            },
            pictures: Vec::new(),
            phantoms: None,
        }
    }
}

impl ClipTrainConfig {
    /// Parses TOML and then `key=value` changes, whose keys are dotted paths.
    ///
    /// # Errors
    /// [`Error::Config`] naming what does not fit.
    pub fn parse(text: &str, changes: &[String]) -> Result<Self, Error> {
        let config: Self = typed(read_table(text, changes)?, text)?;
        config.model.check()?;
        if config.pictures.is_empty() && config.phantoms.is_none() {
            return Err(Error::Config("nothing to train on is named: add [[pictures]] or [phantoms]".into()));
        }
        let batch =
            config.pictures.iter().map(|p| p.batch).sum::<usize>() + config.phantoms.as_ref().map_or(0, |p| p.batch);
        let shares = [config.average, config.masked].iter().all(|v| (0.0..1.0).contains(v));
        if batch == 0 || config.steps == 0 || config.save_every == 0 || config.validate_every == 0 || !shares {
            return Err(Error::Config(
                "steps, save_every, validate_every and `batch` of at least one set must be positive, average and masked in 0..1"
                    .into(),
            ));
        }
        check_sets(&config.pictures, None, config.phantoms.as_ref())?;
        let finite = [config.learning_rate, config.local_weight, config.weight_decay].iter().all(|v| v.is_finite());
        if !finite || config.learning_rate <= 0.0 || config.local_weight < 0.0 || config.weight_decay < 0.0 {
            return Err(Error::Config(
                "learning_rate must be positive, local_weight and weight_decay not negative".into(),
            ));
        }
        Ok(config)
    }

    /// Warm-up, then a cosine to 2 %.
    pub(super) fn rate(&self, step: usize) -> f32 {
        if step < self.warmup {
            return self.learning_rate * (step + 1) as f32 / self.warmup as f32;
        }
        let t = (step - self.warmup) as f32 / (self.steps.saturating_sub(self.warmup)).max(1) as f32;
        self.learning_rate * (0.02 + 0.98 * 0.5 * (1.0 + (std::f32::consts::PI * t.min(1.0)).cos()))
    }
}
