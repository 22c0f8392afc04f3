use super::LanguageConfig;
use super::queries::split;
use crate::ops::Linear;
use crate::weights::Weights;
use crate::{Error, Init};
use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{D, DType, Device, Module, Tensor};
use candle_nn::{ops, rotary_emb::rope};

/// How the matrices of the language model are kept in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 32 bits a number: exact, 27 GB for the released model.
    #[default]
    Full,
    /// 8 bits and a scale for 32 numbers: 7.2 GB.
    Eight,
    /// 4 bits and a scale for 32 numbers: 3.8 GB.
    Four,
}

/// LLaMA.
pub(super) struct Language {
    embedding: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    head: Map,
    cos: Tensor,
    sin: Tensor,
    heads: usize,
    eps: f32,
}

struct Layer {
    norms: [Tensor; 2],
    query: Map,
    key: Map,
    value: Map,
    out: Map,
    gate: Map,
    up: Map,
    down: Map,
}

/// Keys and values of the tokens so far, for each layer.
#[derive(Default)]
pub(super) struct Memory(Vec<(Tensor, Tensor)>);

impl Memory {
    fn length(&self) -> usize {
        self.0.first().map_or(0, |(k, _)| k.dims()[2])
    }
}

enum Map {
    Full(Linear),
    Short(QMatMul),
}

impl Map {
    fn new(weight: Tensor, precision: Precision) -> Result<Self, Error> {
        let kind = match precision {
            Precision::Eight => GgmlDType::Q8_0,
            Precision::Four => GgmlDType::Q4_0,
            Precision::Full => return Ok(Self::Full(Linear::new(weight, None)?)),
        };
        Ok(Self::Short(QMatMul::from_qtensor(QTensor::quantize(&weight, kind)?)?))
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Full(map) => map.forward(x),
            Self::Short(map) => map.forward(x),
        }
    }
}

impl Language {
    pub(super) fn new(config: &LanguageConfig, w: &dyn Weights, precision: Precision) -> Result<Self, Error> {
        let (width, hidden) = (config.width, config.hidden);
        let map = |name: &str, out: usize, inputs: usize| -> Result<Map, Error> {
            Map::new(w.tensor(&format!("language.{name}.weight"), &[out, inputs], Init::Normal(0.02))?, precision)
        };
        let norm = |name: &str| w.tensor(&format!("language.model.{name}.weight"), &[width], Init::One);
        let layer = |n: usize| -> Result<Layer, Error> {
            let square = |part: &str| map(&format!("model.layers.{n}.self_attn.{part}_proj"), width, width);
            let feed = |part: &str, out, inputs| map(&format!("model.layers.{n}.mlp.{part}_proj"), out, inputs);
            Ok(Layer {
                norms: [
                    norm(&format!("layers.{n}.input_layernorm"))?,
                    norm(&format!("layers.{n}.post_attention_layernorm"))?,
                ],
                query: square("q")?,
                key: square("k")?,
                value: square("v")?,
                out: square("o")?,
                gate: feed("gate", hidden, width)?,
                up: feed("up", hidden, width)?,
                down: feed("down", width, hidden)?,
            })
        };
        let side = width / config.heads;
        let frequencies: Vec<f32> = (0..side / 2)
            .map(|i| (1.0 / f64::from(config.rope_theta).powf((2 * i) as f64 / side as f64)) as f32)
            .collect();
        let angles: Vec<f32> =
            (0..config.positions).flat_map(|p| frequencies.iter().map(move |f| p as f32 * f)).collect();
        let angles = Tensor::from_vec(angles, (config.positions, side / 2), &Device::Cpu)?;
        Ok(Self {
            embedding: w.tensor("language.model.embed_tokens.weight", &[config.vocab, width], Init::Normal(0.02))?,
            layers: (0..config.layers).map(layer).collect::<Result<_, _>>()?,
            norm: norm("norm")?,
            head: map("lm_head", config.vocab, width)?,
            cos: angles.cos()?,
            sin: angles.sin()?,
            heads: config.heads,
            eps: config.eps,
        })
    }

    /// Tokens to `[1, n, width]`.
    pub(super) fn embed(&self, tokens: &[u32]) -> Result<Tensor, Error> {
        let tokens = Tensor::new(tokens, &Device::Cpu)?;
        Ok(self.embedding.index_select(&tokens, 0)?.unsqueeze(0)?)
    }

    /// Reads `[1, n, width]` behind what `memory` holds, and gives the logits of what follows the last of them.
    pub(super) fn forward(&self, x: &Tensor, memory: &mut Memory) -> Result<Vec<f32>, Error> {
        let (from, n) = (memory.length(), x.dim(1)?);
        let (cos, sin) = (self.cos.narrow(0, from, n)?, self.sin.narrow(0, from, n)?);
        let mut x = x.clone();
        for (index, layer) in self.layers.iter().enumerate() {
            let y = ops::rms_norm(&x.contiguous()?, &layer.norms[0], self.eps)?;
            let heads = |map: &Map| split(&map.forward(&y)?, self.heads);
            let mut k = rope(&heads(&layer.key)?, &cos, &sin)?;
            let mut v = heads(&layer.value)?;
            match memory.0.get_mut(index) {
                Some(old) => {
                    k = Tensor::cat(&[&old.0, &k], 2)?;
                    v = Tensor::cat(&[&old.1, &v], 2)?;
                    *old = (k.clone(), v.clone());
                }
                None => memory.0.push((k.clone(), v.clone())),
            }
            let seen = attend(&rope(&heads(&layer.query)?, &cos, &sin)?, &k, &v, true)?;
            x = (x + layer.out.forward(&seen)?)?;
            let y = ops::rms_norm(&x, &layer.norms[1], self.eps)?;
            let y = (ops::silu(&layer.gate.forward(&y)?)? * layer.up.forward(&y)?)?;
            x = (x + layer.down.forward(&y)?)?;
        }
        let last = ops::rms_norm(&x.narrow(1, n - 1, 1)?.contiguous()?, &self.norm, self.eps)?;
        Ok(self.head.forward(&last)?.flatten_all()?.to_vec1()?)
    }
}

/// Attention of `q [1, heads, n, d]` over `k, v [1, heads, m, d]` as `[1, n, heads · d]`. If `causal`, the last query sees all
/// keys, and each one before it one key less.
pub(super) fn attend(q: &Tensor, k: &Tensor, v: &Tensor, causal: bool) -> Result<Tensor, Error> {
    let (n, m, d) = (q.dim(2)?, k.dim(2)?, q.dim(3)?);
    let mut scores = (q.matmul(&k.t()?.contiguous()?)? * (1.0 / (d as f64).sqrt()))?;
    if causal && n > 1 {
        let hidden = |i: usize, j: usize| if j + n > i + m { f32::NEG_INFINITY } else { 0.0 };
        let mask: Vec<f32> = (0..n).flat_map(|i| (0..m).map(move |j| hidden(i, j))).collect();
        scores = scores.broadcast_add(&Tensor::from_vec(mask, (1, 1, n, m), &Device::Cpu)?.to_dtype(DType::F32)?)?;
    }
    let weights = ops::softmax(&scores, D::Minus1)?;
    Ok(weights.matmul(&v.contiguous()?)?.transpose(1, 2)?.flatten_from(2)?)
}
