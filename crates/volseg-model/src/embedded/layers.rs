//! Small layers that both halves of the network use.

use crate::grad_ops::{add_bias, conv2d, group_norm, layer_norm, softmax};
use crate::{Error, Init, Params};
use candle_core::Tensor;

/// 8 groups in every group norm.
const GROUPS: usize = 8;

/// `k × k` convolution without bias.
pub(super) struct Conv {
    weight: Tensor,
    stride: usize,
}

impl Conv {
    pub(super) fn new(p: &Params, name: &str, k: usize, c: usize, o: usize, stride: usize) -> Result<Self, Error> {
        let deviation = (2.0 / (k * k * c) as f32).sqrt();
        Ok(Self { weight: p.get(&format!("{name}.weight"), &[k, k, c, o], Init::Normal(deviation))?, stride })
    }
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        Ok(conv2d(x, &self.weight, self.stride)?)
    }
}

/// Convolution, group norm, and ReLU if asked.
pub(super) struct ConvNorm {
    conv: Conv,
    scale: Tensor,
    shift: Tensor,
    relu: bool,
}

impl ConvNorm {
    pub(super) fn new(
        p: &Params,
        name: &str,
        (k, c, o, stride): (usize, usize, usize, usize),
        relu: bool,
        scale: Init,
    ) -> Result<Self, Error> {
        Ok(Self {
            conv: Conv::new(p, name, k, c, o, stride)?,
            scale: p.get(&format!("{name}.norm.weight"), &[o], scale)?,
            shift: p.get(&format!("{name}.norm.bias"), &[o], Init::Zero)?,
            relu,
        })
    }
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        Ok(group_norm(&self.conv.forward(x)?, &self.scale, &self.shift, GROUPS, self.relu)?)
    }
}

/// `x · wᵀ + b` over the last axis; `w [out, in]` as torch stores it.
pub(super) struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    pub(super) fn new(p: &Params, name: &str, c: usize, o: usize) -> Result<Self, Error> {
        Ok(Self {
            weight: p.get(&format!("{name}.weight"), &[o, c], Init::Normal((1.0 / c as f32).sqrt()))?,
            bias: p.get(&format!("{name}.bias"), &[o], Init::Zero)?,
        })
    }
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        let mut dims = x.dims().to_vec();
        let c = dims.pop().unwrap_or(1);
        let rows: usize = dims.iter().product();
        dims.push(self.bias.elem_count());
        let y = x.contiguous()?.reshape((rows, c))?.matmul(&self.weight.t()?)?;
        Ok(add_bias(&y, &self.bias)?.reshape(dims)?)
    }
}

/// Layer norm over the last axis, epsilon 1e-5.
pub(super) struct Norm {
    scale: Tensor,
    shift: Tensor,
}

impl Norm {
    pub(super) fn new(p: &Params, name: &str, c: usize) -> Result<Self, Error> {
        Ok(Self {
            scale: p.get(&format!("{name}.weight"), &[c], Init::One)?,
            shift: p.get(&format!("{name}.bias"), &[c], Init::Zero)?,
        })
    }
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        Ok(layer_norm(x, &self.scale, &self.shift, 1e-5)?)
    }
}

/// Multi-head attention with projections, as SAM's decoder has it.
pub(super) struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    heads: usize,
}

impl Attention {
    pub(super) fn new(p: &Params, name: &str, width: usize, inner: usize, heads: usize) -> Result<Self, Error> {
        Ok(Self {
            q: Linear::new(p, &format!("{name}.q_proj"), width, inner)?,
            k: Linear::new(p, &format!("{name}.k_proj"), width, inner)?,
            v: Linear::new(p, &format!("{name}.v_proj"), width, inner)?,
            out: Linear::new(p, &format!("{name}.out_proj"), inner, width)?,
            heads,
        })
    }

    /// `q [r, n, d]`, `k` and `v [r, m, d]` -> `[r, n, d]`.
    pub(super) fn forward(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor, Error> {
        let split = |t: Tensor| -> Result<Tensor, Error> {
            let (r, n, d) = t.dims3()?;
            Ok(t.reshape((r, n, self.heads, d / self.heads))?.transpose(1, 2)?.contiguous()?)
        };
        let (q, k, v) = (split(self.q.forward(q)?)?, split(self.k.forward(k)?)?, split(self.v.forward(v)?)?);
        let (r, heads, n, c) = q.dims4()?;
        let logits = (q.matmul(&k.transpose(2, 3)?)? * (1.0 / (c as f64).sqrt()))?;
        let mixed = softmax(&logits)?.matmul(&v)?;
        self.out.forward(&mixed.transpose(1, 2)?.contiguous()?.reshape((r, n, heads * c))?)
    }
}
