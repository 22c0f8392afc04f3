use super::{ClipConfig, TextTower, VisionTower, WordPieces};
use crate::weights::{Weights, WeightsFile};
use crate::{Error, Init, Params};
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::path::Path;

/// Name of the architecture in the metadata of weights files.
pub const ARCH: &str = "biomedclip";

/// Start of the logit scale: the exponent is 14, as published models start.
const LOGIT_SCALE: f32 = 2.659_26;

/// Both towers and the scale of their similarity.
pub struct ClipNetwork {
    /// Pictures to features.
    pub vision: VisionTower,
    /// Words to features.
    pub text: TextTower,
    /// Logarithm of the factor of the cosine, shape `[]`.
    pub logit_scale: Tensor,
}

impl ClipNetwork {
    /// Builds both towers from their tensors.
    ///
    /// # Errors
    /// Sizes that cannot work, missing or misshaped tensors.
    pub fn new(config: &ClipConfig, w: &dyn Weights) -> Result<Self, Error> {
        Ok(Self {
            vision: VisionTower::new(config, w)?,
            text: TextTower::new(config, w)?,
            logit_scale: w.tensor("logit_scale", &[], Init::Constant(LOGIT_SCALE))?,
        })
    }
}

/// Rows of unit length.
///
/// # Errors
/// Only if the back end fails.
pub fn normalised(features: &Tensor) -> Result<Tensor, Error> {
    let length = features.sqr()?.sum_keepdim(1)?.affine(1.0, 1e-24)?.sqrt()?;
    Ok(features.broadcast_div(&length)?)
}

/// An image-text model ready to use: networks, vocabulary, what its file says about it.
pub struct ClipModel {
    /// Sizes.
    pub config: ClipConfig,
    /// The networks.
    pub network: ClipNetwork,
    /// Factor of the cosine: the exponent of the stored logarithm.
    pub scale: f32,
    /// Metadata of its file.
    pub metadata: BTreeMap<String, String>,
    words: WordPieces,
}

impl ClipModel {
    /// Reads a weights file.
    ///
    /// # Errors
    /// A file that is missing, malformed, of another family, without a vocabulary, or that does not fit its configuration or
    /// digest.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let file = WeightsFile::open(path)?;
        let model = Self::build(file.metadata().clone(), &file)?;
        if file.metadata().contains_key("sha256") {
            file.verify()?;
        }
        Ok(model)
    }

    /// From the bytes of a file, such as the one that ships inside.
    ///
    /// # Errors
    /// As [`ClipModel::load`]; no digest is compared.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let malformed = |e: safetensors::SafeTensorError| Error::Malformed { reason: e.to_string() };
        let (_, header) = safetensors::SafeTensors::read_metadata(bytes).map_err(malformed)?;
        let metadata: BTreeMap<String, String> = header.metadata().clone().unwrap_or_default().into_iter().collect();
        let file = safetensors::SafeTensors::deserialize(bytes).map_err(malformed)?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors() {
            let dtype = match view.dtype() {
                safetensors::Dtype::F16 => DType::F16,
                safetensors::Dtype::F32 => DType::F32,
                other => {
                    return Err(Error::Malformed {
                        reason: format!("tensor {name} is {other:?}, expected F16 or F32"),
                    });
                }
            };
            let t = Tensor::from_raw_buffer(view.data(), dtype, view.shape(), &Device::Cpu)?.to_dtype(DType::F32)?;
            if t.flatten_all()?.to_vec1::<f32>()?.iter().any(|v| !v.is_finite()) {
                return Err(Error::NotFinite { name });
            }
            tensors.insert(name, t);
        }
        Self::build(metadata, &Params::given(tensors))
    }

    fn build(metadata: BTreeMap<String, String>, weights: &dyn Weights) -> Result<Self, Error> {
        match metadata.get("arch").map(String::as_str) {
            Some(ARCH) => {}
            other => {
                let found = other.unwrap_or("not stated").to_owned();
                return Err(Error::WrongArch { found, expected: ARCH.into() });
            }
        }
        let config = ClipConfig::from_json(metadata.get("config").map_or("", String::as_str))?;
        let Some(vocabulary) = metadata.get("vocab") else {
            return Err(Error::Malformed {
                reason: "it has no vocabulary; import it again with --vocab VOCAB.txt".into(),
            });
        };
        let words = WordPieces::new(vocabulary)?;
        let network = ClipNetwork::new(&config, weights)?;
        let scale = network.logit_scale.to_scalar::<f32>()?.exp();
        Ok(Self { config, network, scale, metadata, words })
    }

    /// What the file says under a name of its metadata, as JSON; `None` if it says nothing.
    ///
    /// # Errors
    /// A text of another form.
    pub fn stated<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        let read = |text: &String| {
            serde_json::from_str(text).map_err(|e| Error::Malformed { reason: format!("its metadata `{name}`: {e}") })
        };
        self.metadata.get(name).map(read).transpose()
    }

    /// Token ids of a text, cut to the model's context.
    ///
    /// # Errors
    /// As [`WordPieces::ids`].
    pub fn ids(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.words.ids(text, self.config.text.context)
    }

    /// Word pieces of a text, however long, without `[CLS]` and `[SEP]`; words that cannot be read count nothing.
    #[must_use]
    pub fn pieces(&self, text: &str) -> usize {
        // No piece goes over a blank, and a word alone is never cut.
        text.split_whitespace().map(|word| self.ids(word).map_or(0, |ids| ids.len().saturating_sub(2))).sum()
    }

    /// Features of texts, of unit length: `[texts][embed]`.
    ///
    /// # Errors
    /// No texts, or words that cannot be read.
    pub fn encode_texts(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Error> {
        let ids = texts.iter().map(|t| self.ids(t)).collect::<Result<Vec<_>, _>>()?;
        Ok(normalised(&self.network.text.forward(&ids)?)?.to_vec2()?)
    }

    /// Features of normalised pictures `[b, 3, side, side]`, of unit length.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for another shape.
    pub fn encode_images(&self, images: &Tensor) -> Result<Vec<Vec<f32>>, Error> {
        Ok(normalised(&self.network.vision.forward(images)?)?.to_vec2()?)
    }
}
