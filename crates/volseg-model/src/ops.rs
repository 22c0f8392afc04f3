//! Operations of the transformers, each with a forward pass on `f32` CPU tensors and a backward pass. Pixels-last-channel
//! layout. Large ones share their work among the threads of a rayon pool, in parts that do not depend on the number of
//! threads, so neither do the results; [`crate::share::on_this_thread`] keeps to one thread, for callers with a slice for each.
//!
//! Large matrices go to `gemm`; convolutions are a gather or scatter ([`unfold`], [`fold`]) beside a [`Linear`].

mod attention;
mod basic;
mod fold;
mod linear;
mod relative;

pub use attention::attention;
pub use fold::{Window, fold, unfold};
pub use linear::{Linear, matmul_transposed};
pub use relative::{Grid, relative_attention};

use candle_core::{CpuStorage, Result, Tensor};

/// Bilinear resizing (half-pixel centres, no antialiasing) of `x [b, side, side]` to `[b, to, to]` as two matrix products,
/// so that it has a gradient.
///
/// # Errors
/// A tensor of another shape.
pub fn resize_square(x: &Tensor, to: usize) -> Result<Tensor> {
    let (b, side, _) = x.dims3()?;
    let mut matrix = vec![0f32; to * side];
    let scale = side as f64 / to as f64;
    for (i, row) in matrix.chunks_exact_mut(side).enumerate() {
        let s = ((i as f64 + 0.5) * scale - 0.5).max(0.0);
        let first = (s as usize).min(side - 1);
        let weight = (s - first as f64) as f32;
        row[first] += 1.0 - weight;
        row[(first + 1).min(side - 1)] += weight;
    }
    let matrix = Tensor::from_vec(matrix, (1, to, side), x.device())?.broadcast_as((b, to, side))?.contiguous()?;
    // m · (m · xᵀ)ᵀ: each product is with a transposed right side.
    matmul_transposed(&matrix, &matmul_transposed(&matrix, x)?)
}

/// Several buffers as tensors of their arguments' shapes.
fn like(v: Vec<f32>, t: &Tensor) -> Result<Option<Tensor>> {
    Ok(Some(Tensor::from_vec(v, t.dims(), t.device())?))
}

/// The values of a tensor, borrowed while `f` runs.
fn read<R>(t: &Tensor, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    crate::grad_ops::with_values(t, f)
}

fn stored(v: Vec<f32>) -> CpuStorage {
    CpuStorage::F32(v)
}

#[cfg(test)]
mod tests;
