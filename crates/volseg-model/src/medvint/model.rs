use super::language::{Language, Memory};
use super::layout::ARCH;
use super::queries::Queries;
use super::vision::Vision;
use super::{MedVintConfig, Precision, SentencePieces};
use crate::Error;
use crate::picture::Picture;
use crate::resample::{Filter, resize_antialiased};
use crate::weights::{Weights, WeightsFile};
use candle_core::{Device, Tensor};
use std::path::Path;

/// Means and deviations of red, green and blue that the residual network was trained with, on 0..1 values.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

/// Longest question, bytes.
const MOST_BYTES: usize = 4096;

/// A network that answers questions about a picture.
pub struct MedVint {
    config: MedVintConfig,
    pieces: SentencePieces,
    vision: Vision,
    queries: Queries,
    language: Language,
}

/// An answer as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// Tokens of the answer, the one that ends it not among them.
    pub tokens: Vec<u32>,
    /// Logits that each token (and the end) was chosen from.
    pub logits: Vec<Vec<f32>>,
}

impl MedVint {
    /// Reads a weights file that `weights import --arch medvint` wrote.
    ///
    /// # Errors
    /// A file that is missing, malformed, of another family, or does not fit its own configuration or digest.
    pub fn load(path: &Path, precision: Precision) -> Result<Self, Error> {
        let file = WeightsFile::open(path)?;
        let stated = |key: &str| file.metadata().get(key).map_or("", String::as_str);
        if stated("arch") != ARCH {
            return Err(Error::WrongArch { found: stated("arch").into(), expected: ARCH.into() });
        }
        let config = MedVintConfig::from_json(stated("config"))?;
        let model = Self::new(config, SentencePieces::from_json(stated("pieces"))?, &file, precision)?;
        file.verify()?;
        Ok(model)
    }

    /// Builds the network from its tensors.
    ///
    /// # Errors
    /// Sizes that cannot work, missing or misshaped tensors.
    pub fn new(
        config: MedVintConfig,
        pieces: SentencePieces,
        weights: &dyn Weights,
        precision: Precision,
    ) -> Result<Self, Error> {
        config.check()?;
        Ok(Self {
            vision: Vision::new(&config.vision, weights)?,
            queries: Queries::new(&config, weights)?,
            language: Language::new(&config.language, weights, precision)?,
            config,
            pieces,
        })
    }

    /// The sizes.
    #[must_use]
    pub fn config(&self) -> &MedVintConfig {
        &self.config
    }

    /// The words for a question about a picture.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a question that is too long.
    pub fn answer(&self, picture: &Picture, question: &str) -> Result<String, Error> {
        if question.len() > MOST_BYTES {
            return Err(Error::InvalidArgument {
                what: "question",
                found: format!("{} bytes", question.len()),
                expected: format!("at most {MOST_BYTES}"),
            });
        }
        let prompt = self.pieces.encode(&self.config.template.replace("{question}", question));
        Ok(self.pieces.decode(&self.generate(&self.see(picture)?, &prompt)?.tokens))
    }

    /// The tokens `[1, count, LLaMA's width]` of a picture, stretched to the network's square.
    ///
    /// # Errors
    /// Only if the back end fails.
    pub fn see(&self, picture: &Picture) -> Result<Tensor, Error> {
        let side = self.config.image_size;
        let from = [picture.width(), picture.height()];
        let values = resize_antialiased(picture.values(), 3, from, [side, side], Filter::Cubic);
        let normalised = values
            .iter()
            .enumerate()
            .map(|(n, &v)| (f32::from(v) / 255.0 - MEAN[n % 3]) / DEVIATION[n % 3])
            .collect::<Vec<_>>();
        let x = Tensor::from_vec(normalised, (1, side, side, 3), &Device::Cpu)?;
        self.queries.forward(&self.vision.forward(&x)?)
    }

    /// Writes behind the picture's tokens and a prompt, always the likeliest token (the lower number on a tie), until a token that
    /// ends answers or the longest answer.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for tokens that the model does not know or more of them than it has positions.
    pub fn generate(&self, seen: &Tensor, prompt: &[u32]) -> Result<Generation, Error> {
        let l = &self.config.language;
        let length = self.config.queries.count + prompt.len() + self.config.most_tokens;
        if prompt.iter().any(|&t| t as usize >= l.vocab) || prompt.is_empty() || length > l.positions {
            return Err(Error::InvalidArgument {
                what: "prompt",
                found: format!("{} tokens", prompt.len()),
                expected: format!(
                    "tokens below {}, at most {} positions with picture and answer",
                    l.vocab, l.positions
                ),
            });
        }
        let mut memory = Memory::default();
        let mut next = Tensor::cat(&[seen, &self.language.embed(prompt)?], 1)?;
        let mut answer = Generation { tokens: Vec::new(), logits: Vec::new() };
        while answer.tokens.len() < self.config.most_tokens {
            let logits = self.language.forward(&next, &mut memory)?;
            let token = likeliest(&logits);
            answer.logits.push(logits);
            if self.config.stop.contains(&token) {
                break;
            }
            answer.tokens.push(token);
            next = self.language.embed(&[token])?;
        }
        Ok(answer)
    }
}

fn likeliest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (n, v) in logits.iter().enumerate() {
        if *v > logits[best] {
            best = n;
        }
    }
    best as u32
}
