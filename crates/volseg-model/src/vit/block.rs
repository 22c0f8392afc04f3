use super::adapter::Adapter;
use super::{EPS, Norm, Trace, linear};
use crate::config::SamConfig;
use crate::grad_ops::gelu;
use crate::ops::{Grid, Linear, relative_attention};
use crate::weights::Weights;
use crate::{Error, Init};
use candle_core::Tensor;

/// One block: attention, then MLP and adapter side by side, both reading the second norm.
pub(super) struct Block {
    norm1: Norm,
    norm2: Norm,
    qkv: Linear,
    qkv_bias: Tensor,
    tables: [Tensor; 2],
    grid: Grid,
    proj: Linear,
    mlp: [Linear; 2],
    adapter: Option<Adapter>,
}

impl Block {
    pub(super) fn new(config: &SamConfig, w: &dyn Weights, n: usize) -> Result<Self, Error> {
        let (d, heads, window) = (config.encoder_embed_dim, config.encoder_num_heads, config.window(n));
        let name = format!("image_encoder.blocks.{n}");
        let hidden = d * config.encoder_mlp_ratio;
        let shape = [2 * window - 1, d / heads];
        let table = |axis: &str| w.tensor(&format!("{name}.attn.rel_pos_{axis}"), &shape, Init::Zero);
        let qkv_bias = w.tensor(&format!("{name}.attn.qkv.bias"), &[3 * d], Init::Zero)?;
        let start = Init::Normal((1.0 / d as f32).sqrt());
        let qkv = w.tensor(&format!("{name}.attn.qkv.weight"), &[3 * d, d], start)?;
        Ok(Self {
            norm1: Norm::new(w, &format!("{name}.norm1"), d, EPS)?,
            norm2: Norm::new(w, &format!("{name}.norm2"), d, EPS)?,
            qkv: Linear::new(qkv, Some(qkv_bias.clone()))?,
            qkv_bias,
            tables: [table("h")?, table("w")?],
            grid: Grid { side: config.grid(), window, heads },
            proj: linear(w, &format!("{name}.attn.proj"), d, d)?,
            mlp: [
                linear(w, &format!("{name}.mlp.lin1"), hidden, d)?,
                linear(w, &format!("{name}.mlp.lin2"), d, hidden)?,
            ],
            adapter: if config.encoder_adapter { Some(Adapter::new(config, w, n)?) } else { None },
        })
    }

    pub(super) fn linears(&mut self) -> impl Iterator<Item = &mut Linear> {
        let adapter = self.adapter.iter_mut().flat_map(Adapter::linears);
        [&mut self.qkv, &mut self.proj].into_iter().chain(&mut self.mlp).chain(adapter)
    }

    pub(super) fn forward(&self, x: &Tensor, adapters: bool, trace: Trace<'_>) -> Result<Tensor, Error> {
        let n = self.norm1.forward(x)?;
        trace("norm1", &n);
        let tables = Tensor::stack(&self.tables, 0)?;
        let mixed = relative_attention(&self.qkv.forward(&n)?, &tables, &self.qkv_bias, self.grid)?;
        let mixed = self.proj.forward(&mixed)?;
        trace("attn_out", &mixed);
        let x = (x + mixed)?;
        let n = self.norm2.forward(&x)?;
        trace("norm2", &n);
        let [first, second] = &self.mlp;
        let mlp = second.forward(&gelu(&first.forward(&n)?)?)?;
        trace("mlp", &mlp);
        let mut out = (x + mlp)?;
        if let Some(adapter) = self.adapter.as_ref().filter(|_| adapters) {
            out = (out + adapter.forward(&n, self.grid.side, trace)?)?;
        }
        trace("out", &out);
        Ok(out)
    }
}
