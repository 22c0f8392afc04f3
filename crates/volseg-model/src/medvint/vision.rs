use super::VisionConfig;
use crate::ops::{Linear, Window, unfold};
use crate::weights::Weights;
use crate::{Error, Init};
use candle_core::Tensor;

/// Epsilon of the batch norms.
const EPS: f32 = 1e-5;

/// PMC-CLIP's residual network up to its third stage. Pixels are `[batch, rows, columns, channels]`.
pub(super) struct Vision {
    stem: [Convolution; 3],
    blocks: Vec<Block>,
}

impl Vision {
    pub(super) fn new(config: &VisionConfig, w: &dyn Weights) -> Result<Self, Error> {
        let c = config.width;
        let stem = |n: usize, out: usize, inputs: usize, stride: usize| {
            let (name, norm) = (format!("vision_model.{}", 3 * n), format!("vision_model.{}", 3 * n + 1));
            Convolution::new(w, &name, &norm, [out, inputs, 3], stride)
        };
        let mut blocks = Vec::new();
        let mut inputs = c;
        for (stage, &count) in config.blocks.iter().enumerate() {
            for b in 0..count {
                // Stages behind the first halve the picture in their first block.
                let halve = stage > 0 && b == 0;
                let name = format!("vision_model.{}.{b}", 10 + stage);
                blocks.push(Block::new(w, &name, c << stage, inputs, halve, b == 0)?);
                inputs = 4 * (c << stage);
            }
        }
        Ok(Self { stem: [stem(0, c / 2, 3, 2)?, stem(1, c / 2, c / 2, 1)?, stem(2, c, c / 2, 1)?], blocks })
    }

    /// `[1, side, side, 3]` to `[1, (side / 16)², 16 · width]`, row by row.
    pub(super) fn forward(&self, picture: &Tensor) -> Result<Tensor, Error> {
        let mut x = picture.clone();
        for layer in &self.stem {
            x = layer.forward(&x)?.relu()?;
        }
        x = halve(&x)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        Ok(x.flatten(1, 2)?)
    }
}

/// A convolution without bias and the batch norm behind it, as one map: `norm(conv(x)) = (w g) x + (b - m g)`, `g = scale / deviation`.
struct Convolution {
    map: Linear,
    window: Option<Window>,
}

impl Convolution {
    fn new(w: &dyn Weights, name: &str, norm: &str, sizes: [usize; 3], stride: usize) -> Result<Self, Error> {
        let [out, inputs, side] = sizes;
        let weight = w.tensor(&format!("{name}.weight"), &[out, inputs, side, side], Init::Zero)?;
        let norm = |part: &str| w.tensor(&format!("{norm}.{part}"), &[out], Init::One);
        let gain = (norm("weight")? / (norm("running_var")? + f64::from(EPS))?.sqrt()?)?;
        let bias = (norm("bias")? - (norm("running_mean")? * &gain)?)?;
        let weight = weight.broadcast_mul(&gain.reshape((out, 1, 1, 1))?)?;
        let window = (side > 1).then_some(Window { size: side, stride, pad: side / 2 });
        Ok(Self { map: Linear::of_patches(weight, Some(bias))?, window })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        Ok(match self.window {
            Some(window) => self.map.forward(&unfold(x, window)?)?,
            None => self.map.forward(x)?,
        })
    }
}

struct Block {
    layers: [Convolution; 3],
    shortcut: Option<Convolution>,
    halve: bool,
}

impl Block {
    fn new(w: &dyn Weights, name: &str, inner: usize, inputs: usize, halve: bool, first: bool) -> Result<Self, Error> {
        let layer = |n: usize, sizes: [usize; 3]| {
            Convolution::new(w, &format!("{name}.conv{n}"), &format!("{name}.bn{n}"), sizes, 1)
        };
        let shortcut = || {
            let name = format!("{name}.downsample");
            Convolution::new(w, &format!("{name}.0"), &format!("{name}.1"), [4 * inner, inputs, 1], 1)
        };
        Ok(Self {
            layers: [layer(1, [inner, inputs, 1])?, layer(2, [inner, inner, 3])?, layer(3, [4 * inner, inner, 1])?],
            shortcut: if first { Some(shortcut()?) } else { None },
            halve,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        let [first, second, third] = &self.layers;
        let y = second.forward(&first.forward(x)?.relu()?)?.relu()?;
        let y = third.forward(&if self.halve { halve(&y)? } else { y })?;
        let around = match &self.shortcut {
            Some(map) => map.forward(&if self.halve { halve(x)? } else { x.clone() })?,
            None => x.clone(),
        };
        Ok((y + around)?.relu()?)
    }
}

/// Means of 2 x 2 pixels.
fn halve(x: &Tensor) -> Result<Tensor, Error> {
    let (b, h, w, c) = x.dims4()?;
    Ok(x.reshape((b, h / 2, 2, w / 2, 2, c))?.mean(4)?.mean(2)?)
}
