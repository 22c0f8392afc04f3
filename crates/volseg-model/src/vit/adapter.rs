use super::{Norm, Trace, patches};
use crate::config::SamConfig;
use crate::ops::{Linear, Window, fold, unfold};
use crate::weights::Weights;
use crate::{Error, Init};
use candle_core::Tensor;

/// SAM-Med2D's adapter (specs: sam-med2d.md section 2.3): a gate per channel, then down and up again over the whole grid,
/// beside a skip of the **ungated** input.
pub(super) struct Adapter {
    gate: [Linear; 2],
    down: Linear,
    up: Linear,
    norm: Norm,
}

/// Of the adapter's norm; the blocks' 1e-6 does not reach it in the official code.
const EPS: f32 = 1e-5;
const DOWN: Window = Window { size: 3, stride: 2, pad: 1 };
const UP: Window = Window { size: 4, stride: 2, pad: 1 };

impl Adapter {
    pub(super) fn new(config: &SamConfig, w: &dyn Weights, n: usize) -> Result<Self, Error> {
        let d = config.encoder_embed_dim;
        let name = format!("image_encoder.blocks.{n}.Adapter");
        // Kaiming normal, fan-out, ReLU gain.
        let start = |fan_out: usize| Init::Normal((2.0 / fan_out as f32).sqrt());
        let gate = |part: &str, out: usize, inputs: usize| -> Result<Linear, Error> {
            Ok(Linear::new(w.tensor(&format!("{name}.channel.{part}.weight"), &[out, inputs], start(out))?, None)?)
        };
        let up = w.tensor(&format!("{name}.spatial.2.weight"), &[d, d, 4, 4], start(d * 16))?;
        Ok(Self {
            gate: [gate("0", d / 4, d)?, gate("2", d, d / 4)?],
            down: patches(w, &format!("{name}.spatial.0"), [d, d, 3, 3], false)?,
            up: Linear::to_patches(up, None)?,
            norm: Norm::new(w, &format!("{name}.norm"), d, EPS)?,
        })
    }

    pub(super) fn linears(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.gate.iter_mut().chain([&mut self.down, &mut self.up])
    }

    /// `x [b, side², d]`, the second norm's output of the whole grid.
    pub(super) fn forward(&self, x: &Tensor, side: usize, trace: Trace<'_>) -> Result<Tensor, Error> {
        let (b, _, d) = x.dims3()?;
        let [squeeze, widen] = &self.gate;
        let gate = widen.forward(&squeeze.forward(&x.mean(1)?)?.relu()?)?;
        let gate = candle_nn::ops::sigmoid(&gate)?;
        trace("adapter_gate", &gate);
        let y = x.broadcast_mul(&gate.unsqueeze(1)?)?.reshape((b, side, side, d))?;
        let y = self.down.forward(&unfold(&y, DOWN)?)?.relu()?;
        let y = fold(&self.up.forward(&y)?, UP, side, side)?.relu()?;
        trace("adapter_spatial", &y);
        let out = self.norm.forward(&(x + y.reshape((b, side * side, d))?)?)?;
        trace("adapter", &out);
        Ok(out)
    }
}
