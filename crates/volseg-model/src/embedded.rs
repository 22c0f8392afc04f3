//! The network that ships inside volseg: a residual convolution encoder with a dense organ head and a prompted decoder of
//! SAM's kind (specs: embedded-model.md). Pixels-last-channel layout, `f32`.
//!
//! One slice is read once ([`Encoder::forward`]); the dense head gives a first mask for every organ from its learned token;
//! the decoder refines rows of (slice, organ, box, points, first mask) to masks as fine as the input. All sizes come from
//! [`Config`].

mod config;
mod decoder;
mod encoder;
mod input;
mod layers;
mod prompt;
mod weights;

pub use config::Config;
pub use decoder::{Decoded, Decoder};
pub use encoder::{Encoder, Features};
pub use input::{BODY_HU, body_box, neighbours, normalise_grey, normalise_hu, stretch};
pub use prompt::{POINT_TOKENS, PromptRow, RASTER_CHANNELS, draw_raster};
pub(crate) use weights::shapes;
pub use weights::{ARCH, LICENCE, Weights, write_weights};

use crate::{Error, Params};

/// The weights file that ships inside (model card: docs/explanation/model-card.md; licence: weights/WEIGHTS-LICENSE.md).
pub static SHIPPED: &[u8] = include_bytes!("../weights/embedded.safetensors");

/// Weights of the same network for CTs, trained further on phantoms: what CTs gain from it, pictures would lose (model card).
pub static SHIPPED_CT: &[u8] = include_bytes!("../weights/embedded-ct.safetensors");

/// Files of weights that ship inside, by the names that options take.
pub static SHIPPED_FILES: [(&str, &[u8]); 2] = [("embedded", SHIPPED), ("embedded-ct", SHIPPED_CT)];

/// The file of a name.
#[must_use]
pub fn shipped(name: &str) -> Option<&'static [u8]> {
    SHIPPED_FILES.into_iter().find(|(n, _)| *n == name).map(|(_, bytes)| bytes)
}

/// Encoder and decoder together.
pub struct Network {
    /// Sizes.
    pub config: Config,
    /// Slice to features and first masks.
    pub encoder: Encoder,
    /// Features and prompts to masks.
    pub decoder: Decoder,
}

impl Network {
    /// Where it runs.
    #[must_use]
    pub fn device(&self) -> &candle_core::Device {
        self.decoder.device()
    }

    /// Builds the network from its numbers.
    ///
    /// # Errors
    /// Missing or misshaped tensors.
    pub fn new(config: &Config, params: &Params) -> Result<Self, Error> {
        config.check()?;
        Ok(Self {
            config: config.clone(),
            encoder: Encoder::new(config, params)?,
            decoder: Decoder::new(config, params)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};

    /// Every variable of the whole network receives a gradient, from dense and prompted loss together.
    #[test]
    fn every_variable_receives_a_gradient() {
        let config = Config { side: 32, ..Config::default() };
        let params = Params::trainable(7, Default::default());
        let net = Network::new(&config, &params).unwrap();
        let n = 2 * 32 * 32 * 3;
        let x: Vec<f32> = (0..n).map(|i| ((i * 37 % 101) as f32 / 50.0) - 1.0).collect();
        let features = net.encoder.forward(&Tensor::from_vec(x, (2, 32, 32, 3), &Device::Cpu).unwrap()).unwrap();
        assert_eq!(features.dense.dims(), [2, 32 * 32, config.organs]);
        let rows = [
            PromptRow { image: 0, organ: Some(3), bounds: Some([4.0, 5.0, 20.0, 30.0]), ..PromptRow::default() },
            PromptRow {
                image: 1,
                organ: None,
                points: vec![[8.0, 9.0, 1.0], [20.0, 3.0, 0.0]],
                ..PromptRow::default()
            },
        ];
        let decoded = net.decoder.forward(&features, &rows).unwrap();
        assert_eq!(decoded.logits.dims(), [2, 32 * 32]);
        let loss = (decoded.logits.sqr().unwrap().mean_all().unwrap()
            + (decoded.iou.sqr().unwrap().mean_all().unwrap() + features.dense.sqr().unwrap().mean_all().unwrap())
                .unwrap())
        .unwrap();
        let grads = loss.backward().unwrap();
        for (name, var) in params.variables() {
            let g = grads.get(&var).unwrap_or_else(|| panic!("{name} has no gradient"));
            assert!(g.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|v| v.is_finite()), "{name}");
        }
    }

    /// A text moves the answer and is learned from; without one the network gives the same bits, and so does its file.
    #[test]
    fn a_text_stands_in_place_of_an_organ() {
        let plain = Config { side: 32, ..Config::default() };
        let reads = Config { text: Some(6), ..plain.clone() };
        let x: Vec<f32> = (0..32 * 32 * 3).map(|i| ((i * 37 % 101) as f32 / 50.0) - 1.0).collect();
        let x = Tensor::from_vec(x, (1, 32, 32, 3), &Device::Cpu).unwrap();
        let row =
            |text: Option<Vec<f32>>| PromptRow { text, bounds: Some([4.0, 5.0, 20.0, 30.0]), ..PromptRow::default() };
        let answers = |config: &Config, rows: &[PromptRow]| {
            let params = Params::trainable(7, Default::default());
            let net = Network::new(config, &params).unwrap();
            let features = net.encoder.forward(&x).unwrap();
            let logits = net.decoder.forward(&features, rows).map(|d| d.logits);
            (logits, params)
        };
        let (rows, other) = ([row(None), row(Some(vec![1.0; 6]))], row(Some(vec![-1.0; 6])));
        let (logits, params) = answers(&reads, &rows);
        let logits = logits.unwrap();
        let values = logits.to_vec2::<f32>().unwrap();
        assert_ne!(values[0], values[1]);
        assert_ne!(answers(&reads, &[other]).0.unwrap().to_vec2::<f32>().unwrap()[0], values[1]);
        assert_eq!(answers(&plain, &rows[..1]).0.unwrap().to_vec2::<f32>().unwrap()[0], values[0]);
        let store = logits.sqr().unwrap().mean_all().unwrap().backward().unwrap();
        let gradient = store.get(&params.variables()["decoder.text_proj.weight"]).unwrap();
        assert!(gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().any(|g| *g != 0.0));
        assert!(answers(&plain, &rows).0.is_err());
        assert!(answers(&reads, &[row(Some(vec![1.0; 5]))]).0.is_err());
        assert!(answers(&reads, &[PromptRow { organ: Some(1), ..rows[1].clone() }]).0.is_err());
        assert!(!serde_json::to_string(&plain).unwrap().contains("text"));
        assert!(serde_json::from_str::<Config>(&serde_json::to_string(&reads).unwrap()).unwrap() == reads);
    }

    #[test]
    fn absurd_configurations_are_refused() {
        for config in [
            Config { side: 100, ..Config::default() },
            Config { heads: 7, ..Config::default() },
            Config { text: Some(0), ..Config::default() },
            Config { side: 1 << 20, ..Config::default() },
        ] {
            assert!(config.check().is_err());
        }
    }
}
