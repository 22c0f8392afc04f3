//! Operations that train: each has its own forward pass on the CPU **and** a backward pass, checked against candle's
//! basic operations in this module's tests. Layout is pixels-last-channel: `[batch, rows, columns, channels]`, `f32`.
//!
//! Candle's fused norms and softmax lose their gradient without an error and its convolutions are slow on the CPU
//! (specs: candle.md sections 2.1 and 3.1); these do neither.

pub(crate) mod activation;
pub(crate) mod basic;
mod conv;
pub(crate) mod dispatch;
pub(crate) mod gemm;
mod mask_loss;
mod norm;

pub use activation::{add_relu, gelu, softmax, upsample2};
pub use conv::conv2d;
pub use mask_loss::mask_loss;
pub use norm::{group_norm, layer_norm};

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor};

/// Adds `bias [c]` to every row of `x [n, c]`.
///
/// # Errors
/// Shapes that do not fit.
pub fn add_bias(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() { x.broadcast_add(bias) } else { basic::add_bias(x, bias) }
}

/// The values of a contiguous `f32` storage.
pub(crate) fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or_else(|| candle_core::Error::Msg("operation needs contiguous input".into()))?;
    storage
        .as_slice::<f32>()?
        .get(start..end)
        .ok_or_else(|| candle_core::Error::Msg("storage is shorter than its layout".into()))
}

/// Runs `f` on the values of a tensor without copying them.
pub(crate) fn with_values<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(cpu) => f(values(cpu, layout)?),
        _ => candle_core::bail!("this operation runs on the CPU only"),
    }
}

#[cfg(test)]
mod tests;
