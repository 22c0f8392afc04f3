//! The operations of this module by candle's basic ones, whose gradients are right: what runs on a device other than the CPU.

use super::Grid;
use crate::grad_ops::basic as grad_ops;
use candle_core::{Result, Tensor};

/// `x [.., in]` times `weight [in, out]`, plus the bias. The product is computed in the weight's type, all else in that of `x`.
pub(super) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let mut dims = x.dims().to_vec();
    let inputs = dims.pop().unwrap_or(1);
    dims.push(weight.dim(1)?);
    let y = x.reshape(((), inputs))?.to_dtype(weight.dtype())?.matmul(weight)?.to_dtype(x.dtype())?;
    let y = match bias {
        Some(b) => y.broadcast_add(b)?,
        None => y,
    };
    y.reshape(dims)
}

fn softmax(x: &Tensor) -> Result<Tensor> {
    // The fused form has no gradient.
    if x.track_op() { grad_ops::softmax(x) } else { candle_nn::ops::softmax_last_dim(&x.contiguous()?) }
}

pub(super) fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Tensor> {
    let batch = q.dim(0)?.max(k.dim(0)?);
    let split = |t: &Tensor| -> Result<Tensor> {
        let (_, n, d) = t.dims3()?;
        t.broadcast_as((batch, n, d))?.reshape((batch, n, heads, d / heads))?.transpose(1, 2)?.contiguous()
    };
    let (n, d) = (q.dim(1)?, q.dim(2)?);
    let (q, k, v) = (split(q)?, split(k)?, split(v)?);
    let logits = (q.matmul(&k.t()?)? * (1.0 / ((d / heads) as f64).sqrt()))?;
    softmax(&logits)?.matmul(&v)?.transpose(1, 2)?.contiguous()?.reshape((batch, n, d))
}

pub(super) fn relative_attention(qkv: &Tensor, tables: &Tensor, bias: &Tensor, grid: Grid) -> Result<Tensor> {
    let Grid { side, window: k, heads } = grid;
    let (b, tokens, d3) = qkv.dims3()?;
    let (d, w) = (d3 / 3, d3 / 3 / heads);
    let indices = |v: Vec<u32>| {
        let n = v.len();
        Tensor::from_vec(v, n, qkv.device())
    };
    // Places of all windows; the row behind the tokens is the bias, which is what padding amounts to.
    let across = side.div_ceil(k);
    let mut places = Vec::with_capacity(across * across * k * k);
    let mut place_of = vec![0u32; tokens];
    for tile in 0..across * across {
        for i in 0..k * k {
            let (y, x) = (tile / across * k + i / k, tile % across * k + i % k);
            if y < side && x < side {
                place_of[y * side + x] = places.len() as u32;
                places.push((y * side + x) as u32);
            } else {
                places.push(tokens as u32);
            }
        }
    }
    let padded = Tensor::cat(&[qkv, &bias.reshape((1, 1, d3))?.broadcast_as((b, 1, d3))?.contiguous()?], 1)?;
    let all = padded.index_select(&indices(places)?, 1)?;
    let rows = b * across * across;
    let all = all.reshape((rows, k * k, 3, heads, w))?.permute((2, 0, 3, 1, 4))?.contiguous()?;
    let all = all.reshape((3, rows * heads, k * k, w))?;
    let (q, key, v) = (all.get(0)?, all.get(1)?, all.get(2)?);
    // The table's rows for every pair of a query's and a key's place along one axis: [k, w, k].
    let steps = indices((0..k * k).map(|i| (i / k + k - 1 - i % k) as u32).collect())?;
    let pairs =
        |axis: usize| tables.get(axis)?.index_select(&steps, 0)?.reshape((k, k, w))?.transpose(1, 2)?.contiguous();
    let places = q.reshape((rows * heads, k, k, w))?;
    let along = |axis: usize, order: (usize, usize, usize, usize)| -> Result<Tensor> {
        let lines = places.permute(order)?.contiguous()?.reshape((k, rows * heads * k, w))?;
        lines.matmul(&pairs(axis)?)?.reshape((k, rows * heads, k, k))
    };
    let vertical = along(0, (1, 0, 2, 3))?.permute((1, 0, 2, 3))?.unsqueeze(4)?;
    let horizontal = along(1, (2, 0, 1, 3))?.permute((1, 2, 0, 3))?.unsqueeze(3)?;
    let logits = (q.matmul(&key.t()?)? * (1.0 / (w as f64).sqrt()))?.reshape((rows * heads, k, k, k, k))?;
    let logits = logits.broadcast_add(&vertical)?.broadcast_add(&horizontal)?.reshape((rows * heads, k * k, k * k))?;
    let mixed = softmax(&logits)?.matmul(&v)?.reshape((rows, heads, k * k, w))?.transpose(1, 2)?.contiguous()?;
    mixed.reshape((b, across * across * k * k, d))?.index_select(&indices(place_of)?, 1)
}

#[cfg(test)]
mod tests {
    use super::super::tests::noise;
    use super::*;

    fn far(a: &Tensor, b: &Tensor) -> f32 {
        (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
    }

    #[test]
    fn the_basic_form_is_the_same_function() {
        let (x, weight, bias) = (noise(&[2, 3, 8], 1), noise(&[6, 8], 2), noise(&[6], 3));
        let ours = super::super::Linear::new(weight.clone(), Some(bias.clone())).unwrap().forward(&x).unwrap();
        let ready = weight.t().unwrap().contiguous().unwrap();
        assert!(far(&linear(&x, &ready, Some(&bias)).unwrap(), &ours) < 1e-5);
        let (q, k, v) = (noise(&[1, 5, 8], 4), noise(&[3, 7, 8], 5), noise(&[3, 7, 8], 6));
        let ours = super::super::attention(&q, &k, &v, 2).unwrap();
        assert!(far(&attention(&q, &k, &v, 2).unwrap(), &ours) < 1e-5);
        for (side, window) in [(4, 4), (5, 3), (6, 3)] {
            let grid = Grid { side, window, heads: 2 };
            let (qkv, bias) = (noise(&[2, side * side, 24], 7), noise(&[24], 8));
            let tables = noise(&[2, 2 * window - 1, 4], 9);
            let ours = super::super::relative_attention(&qkv, &tables, &bias, grid).unwrap();
            assert!(far(&relative_attention(&qkv, &tables, &bias, grid).unwrap(), &ours) < 1e-5);
        }
    }
}
