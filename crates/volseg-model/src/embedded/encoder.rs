use super::Config;
use super::layers::ConvNorm;
use crate::grad_ops::{add_bias, add_relu, upsample2};
use crate::{Error, Init, Params};
use candle_core::Tensor;

/// What is known of a batch of slices after one reading.
pub struct Features {
    /// `[b, side/8, side/8, width]`.
    pub embedding: Tensor,
    /// Dense features at stride 4, 2 and 1: `[b, side/4, side/4, dense[0]]` and so on.
    pub levels: [Tensor; 3],
    /// Logits of the first mask of every organ: `[b, side * side, organs]`.
    pub dense: Tensor,
}

struct Block {
    first: ConvNorm,
    second: ConvNorm,
}

impl Block {
    fn new(p: &Params, name: &str, c: usize) -> Result<Self, Error> {
        Ok(Self {
            first: ConvNorm::new(p, &format!("{name}.0"), (3, c, c, 1), true, Init::One)?,
            // Starting at zero makes the block the identity at first.
            second: ConvNorm::new(p, &format!("{name}.1"), (3, c, c, 1), false, Init::Zero)?,
        })
    }
    fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        Ok(add_relu(x, &self.second.forward(&self.first.forward(x)?)?)?)
    }
}

struct Stage {
    down: ConvNorm,
    blocks: Vec<Block>,
}

/// One step of the way back up: the coarser features, enlarged, joined with the encoder's features of this stride.
struct Rise {
    coarse: ConvNorm,
    lateral: ConvNorm,
    mix: ConvNorm,
}

impl Rise {
    fn new(p: &Params, name: &str, coarse: usize, lateral: usize, out: usize) -> Result<Self, Error> {
        Ok(Self {
            coarse: ConvNorm::new(p, &format!("{name}.coarse"), (1, coarse, out, 1), false, Init::One)?,
            lateral: ConvNorm::new(p, &format!("{name}.lateral"), (1, lateral, out, 1), false, Init::One)?,
            mix: ConvNorm::new(p, &format!("{name}.mix"), (3, out, out, 1), true, Init::One)?,
        })
    }
    fn forward(&self, coarse: &Tensor, lateral: &Tensor) -> Result<Tensor, Error> {
        let up = upsample2(&self.coarse.forward(coarse)?)?;
        self.mix.forward(&add_relu(&up, &self.lateral.forward(lateral)?)?)
    }
}

/// Slices to features: residual convolutions at six strides, a way back up, and the dense organ head.
pub struct Encoder {
    stages: Vec<Stage>,
    rises: [Rise; 5],
    tokens: Tensor,
    bias: Tensor,
}

impl Encoder {
    /// Builds the encoder from its numbers.
    ///
    /// # Errors
    /// Missing or misshaped tensors.
    pub fn new(config: &Config, p: &Params) -> Result<Self, Error> {
        let s = config.stages;
        let mut stages = Vec::new();
        let mut before = config.channels;
        for (n, (&c, &blocks)) in s.iter().zip(&config.blocks).enumerate() {
            let name = format!("encoder.stages.{n}");
            let stride = if n == 0 { 1 } else { 2 };
            stages.push(Stage {
                down: ConvNorm::new(p, &format!("{name}.down"), (3, before, c, stride), true, Init::One)?,
                blocks: (0..blocks)
                    .map(|b| Block::new(p, &format!("{name}.blocks.{b}"), c))
                    .collect::<Result<_, _>>()?,
            });
            before = c;
        }
        let [d2, d1, d0] = config.dense;
        let w = config.width;
        let rise = |n: usize, coarse, lateral, out| Rise::new(p, &format!("encoder.rises.{n}"), coarse, lateral, out);
        Ok(Self {
            stages,
            rises: [
                rise(0, s[5], s[4], w)?,
                rise(1, w, s[3], w)?,
                rise(2, w, s[2], d2)?,
                rise(3, d2, s[1], d1)?,
                rise(4, d1, s[0], d0)?,
            ],
            tokens: p.get("encoder.organ_tokens", &[d0, config.organs], Init::Normal((1.0 / d0 as f32).sqrt()))?,
            // Most pixels belong to no organ.
            bias: p.get("encoder.organ_bias", &[config.organs], Init::Constant(-4.0))?,
        })
    }

    /// `x [b, side, side, channels]` -> features of every slice.
    ///
    /// # Errors
    /// A shape that does not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Features, Error> {
        let mut x = x.clone();
        let mut skips = Vec::with_capacity(self.stages.len());
        for stage in &self.stages {
            x = stage.down.forward(&x)?;
            for block in &stage.blocks {
                x = block.forward(&x)?;
            }
            skips.push(x.clone());
        }
        let mut risen = Vec::with_capacity(5);
        for (n, rise) in self.rises.iter().enumerate() {
            x = rise.forward(&x, &skips[4 - n])?;
            risen.push(x.clone());
        }
        let (b, h, w, c) = x.dims4()?;
        let dense = x.reshape((b * h * w, c))?.matmul(&self.tokens)?;
        let dense = add_bias(&dense, &self.bias)?;
        let dense = dense.reshape((b, h * w, self.bias.elem_count()))?;
        let mut levels = risen.into_iter().skip(1);
        let mut next = || levels.next().ok_or_else(|| Error::Device(candle_core::Error::Msg("levels".into())));
        Ok(Features { embedding: next()?, levels: [next()?, next()?, next()?], dense })
    }
}
