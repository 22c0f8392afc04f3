use super::MedVintConfig;
use super::language::attend;
use crate::ops::Linear;
use crate::vit::{Norm, linear};
use crate::weights::Weights;
use crate::{Error, Init};
use candle_core::Tensor;

/// Epsilon of the norms.
const EPS: f32 = 1e-5;

/// Learned queries that gather what the residual network saw, and the map of the result to LLaMA's tokens.
pub(super) struct Queries {
    start: Tensor,
    layers: Vec<Layer>,
    norm: Norm,
    out: [Linear; 2],
}

struct Layer {
    norms: [Norm; 3],
    own: Attention,
    across: Attention,
    feed: [Linear; 2],
}

struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    heads: usize,
}

impl Queries {
    pub(super) fn new(config: &MedVintConfig, w: &dyn Weights) -> Result<Self, Error> {
        let (width, q) = (config.seen_width(), &config.queries);
        let layer = |n: usize| -> Result<Layer, Error> {
            let name = format!("decoder.layers.{n}");
            let norm = |i: usize| Norm::new(w, &format!("{name}.norm{i}"), width, EPS);
            Ok(Layer {
                norms: [norm(1)?, norm(2)?, norm(3)?],
                own: Attention::new(w, &format!("{name}.self_attn"), width, q.heads)?,
                across: Attention::new(w, &format!("{name}.multihead_attn"), width, q.heads)?,
                feed: [
                    linear(w, &format!("{name}.linear1"), q.hidden, width)?,
                    linear(w, &format!("{name}.linear2"), width, q.hidden)?,
                ],
            })
        };
        let start = w.tensor("query_embed.weight", &[q.count, width], Init::Normal(1.0))?;
        Ok(Self {
            start: start.unsqueeze(0)?,
            layers: (0..q.layers).map(layer).collect::<Result<_, _>>()?,
            norm: Norm::new(w, "decoder.norm", width, EPS)?,
            out: [linear(w, "fc_l1", width, width)?, linear(w, "fc_l2", config.language.width, width)?],
        })
    }

    /// `[1, pixels, width]` to tokens `[1, count, LLaMA's width]`.
    pub(super) fn forward(&self, seen: &Tensor) -> Result<Tensor, Error> {
        let mut q = self.start.clone();
        for layer in &self.layers {
            let x = layer.norms[0].forward(&q)?;
            q = (q + layer.own.forward(&x, &x)?)?;
            q = (&q + layer.across.forward(&layer.norms[1].forward(&q)?, seen)?)?;
            let x = layer.feed[0].forward(&layer.norms[2].forward(&q)?)?.relu()?;
            q = (q + layer.feed[1].forward(&x)?)?;
        }
        let x = self.out[0].forward(&self.norm.forward(&q)?)?.relu()?;
        Ok(self.out[1].forward(&x)?)
    }
}

impl Attention {
    fn new(w: &dyn Weights, name: &str, width: usize, heads: usize) -> Result<Self, Error> {
        let weight = w.tensor(&format!("{name}.in_proj_weight"), &[3 * width, width], Init::Zero)?;
        let bias = w.tensor(&format!("{name}.in_proj_bias"), &[3 * width], Init::Zero)?;
        let part = |n: usize| -> Result<Linear, Error> {
            let rows = |t: &Tensor| t.narrow(0, n * width, width)?.contiguous();
            Ok(Linear::new(rows(&weight)?, Some(rows(&bias)?))?)
        };
        let out = linear(w, &format!("{name}.out_proj"), width, width)?;
        Ok(Self { query: part(0)?, key: part(1)?, value: part(2)?, out, heads })
    }

    fn forward(&self, x: &Tensor, memory: &Tensor) -> Result<Tensor, Error> {
        let heads = |map: &Linear, x: &Tensor| -> Result<Tensor, Error> { split(&map.forward(x)?, self.heads) };
        let (q, k, v) = (heads(&self.query, x)?, heads(&self.key, memory)?, heads(&self.value, memory)?);
        Ok(self.out.forward(&attend(&q, &k, &v, false)?)?)
    }
}

/// `[1, n, width]` to `[1, heads, n, width / heads]`.
pub(super) fn split(x: &Tensor, heads: usize) -> Result<Tensor, Error> {
    let (b, n, width) = x.dims3()?;
    Ok(x.reshape((b, n, heads, width / heads))?.transpose(1, 2)?.contiguous()?)
}
