use super::ClipConfig;
use crate::grad_ops::gelu;
use crate::ops::{Linear, attention};
use crate::vit::{Norm, linear};
use crate::weights::Weights;
use crate::{Error, Init};
use candle_core::{Device, Tensor};
use std::collections::BTreeMap;

/// Words to features: a BERT whose first row is the answer.
pub struct TextTower {
    words: Tensor,
    positions: Tensor,
    kinds: Tensor,
    norm: Norm,
    layers: Vec<Layer>,
    proj: [Linear; 2],
}

struct Layer {
    qkv: [Linear; 3],
    out: Linear,
    norm1: Norm,
    mlp: [Linear; 2],
    norm2: Norm,
    heads: usize,
}

impl Layer {
    fn new(config: &ClipConfig, w: &dyn Weights, n: usize) -> Result<Self, Error> {
        let t = &config.text;
        let name = format!("text.transformer.encoder.layer.{n}");
        let part = |p: &str| linear(w, &format!("{name}.attention.self.{p}"), t.width, t.width);
        Ok(Self {
            qkv: [part("query")?, part("key")?, part("value")?],
            out: linear(w, &format!("{name}.attention.output.dense"), t.width, t.width)?,
            norm1: Norm::new(w, &format!("{name}.attention.output.LayerNorm"), t.width, t.ln_eps)?,
            mlp: [
                linear(w, &format!("{name}.intermediate.dense"), t.intermediate, t.width)?,
                linear(w, &format!("{name}.output.dense"), t.width, t.intermediate)?,
            ],
            norm2: Norm::new(w, &format!("{name}.output.LayerNorm"), t.width, t.ln_eps)?,
            heads: t.heads,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        let [q, k, v] = &self.qkv;
        let mixed = attention(&q.forward(x)?, &k.forward(x)?, &v.forward(x)?, self.heads)?;
        let x = self.norm1.forward(&(x + self.out.forward(&mixed)?)?)?;
        let [first, second] = &self.mlp;
        self.norm2.forward(&(&x + second.forward(&gelu(&first.forward(&x)?)?)?)?)
    }
}

impl TextTower {
    /// Builds the tower from its tensors.
    ///
    /// # Errors
    /// Sizes that cannot work, missing or misshaped tensors.
    pub fn new(config: &ClipConfig, w: &dyn Weights) -> Result<Self, Error> {
        config.check()?;
        let t = &config.text;
        let table = |name: &str, rows: usize| {
            w.tensor(
                &format!("text.transformer.embeddings.{name}_embeddings.weight"),
                &[rows, t.width],
                Init::Normal(0.02),
            )
        };
        let free = |name: &str, out: usize, inputs: usize| -> Result<Linear, Error> {
            let start = Init::Normal((1.0 / inputs as f32).sqrt());
            Ok(Linear::new(w.tensor(&format!("text.proj.{name}.weight"), &[out, inputs], start)?, None)?)
        };
        Ok(Self {
            words: table("word", t.vocab)?,
            positions: table("position", t.max_pos)?,
            kinds: table("token_type", 2)?,
            norm: Norm::new(w, "text.transformer.embeddings.LayerNorm", t.width, t.ln_eps)?,
            layers: (0..t.depth).map(|n| Layer::new(config, w, n)).collect::<Result<_, _>>()?,
            proj: [free("0", t.proj_hidden, t.width)?, free("2", config.embed_dim, t.proj_hidden)?],
        })
    }

    /// Token ids (unpadded, any lengths) -> features `[texts, embed]`, not of unit length. Texts of one length go through
    /// together, so that padding, which would be masked, is never computed.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an empty or too long text or an id beyond the table.
    pub fn forward(&self, texts: &[Vec<u32>]) -> Result<Tensor, Error> {
        let mut by_length: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (n, ids) in texts.iter().enumerate() {
            by_length.entry(ids.len()).or_default().push(n);
        }
        let mut rows: Vec<Option<Tensor>> = vec![None; texts.len()];
        for places in by_length.values() {
            let batch: Vec<&[u32]> = places.iter().map(|&n| texts[n].as_slice()).collect();
            let first = self.hidden(&batch)?.narrow(1, 0, 1)?.squeeze(1)?;
            let [a, b] = &self.proj;
            let features = b.forward(&gelu(&a.forward(&first)?)?)?;
            for (k, &n) in places.iter().enumerate() {
                rows[n] = Some(features.narrow(0, k, 1)?);
            }
        }
        let rows: Vec<Tensor> = rows.into_iter().flatten().collect();
        if rows.is_empty() {
            return Err(Error::InvalidArgument {
                what: "texts",
                found: "none".into(),
                expected: "at least one".into(),
            });
        }
        Ok(Tensor::cat(&rows, 0)?)
    }

    /// The last hidden state `[texts, length, width]` of texts of one length.
    ///
    /// # Errors
    /// As [`TextTower::forward`].
    pub fn hidden(&self, texts: &[&[u32]]) -> Result<Tensor, Error> {
        let length = texts.first().map_or(0, |t| t.len());
        let (vocab, most) = (self.words.dim(0)?, self.positions.dim(0)?);
        if length == 0 || length > most || texts.iter().any(|t| t.len() != length) {
            return Err(Error::InvalidArgument {
                what: "text length",
                found: length.to_string(),
                expected: format!("1 to {most} tokens, equal in a batch"),
            });
        }
        let ids: Vec<u32> = texts.iter().flat_map(|t| t.iter().copied()).collect();
        if let Some(id) = ids.iter().find(|&&id| id as usize >= vocab) {
            return Err(Error::InvalidArgument {
                what: "token id",
                found: id.to_string(),
                expected: format!("below {vocab}, the rows of the word table"),
            });
        }
        let ids = Tensor::from_vec(ids, texts.len() * length, &Device::Cpu)?;
        let words = self.words.index_select(&ids, 0)?.reshape((texts.len(), length, ()))?;
        let places = self.positions.narrow(0, 0, length)?.broadcast_add(&self.kinds.narrow(0, 0, 1)?)?;
        let mut x = self.norm.forward(&words.broadcast_add(&places.unsqueeze(0)?)?)?;
        for layer in &self.layers {
            x = layer.forward(&x)?;
        }
        Ok(x)
    }
}
