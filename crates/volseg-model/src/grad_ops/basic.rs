//! The operations of this module by candle's basic ones, whose gradients are right (specs: candle.md section 3.1): what runs on
//! a device other than the CPU.

use candle_core::{Result, Tensor};
use candle_nn::ops;

pub(crate) fn softmax(x: &Tensor) -> Result<Tensor> {
    ops::softmax(x, candle_core::D::Minus1)
}

pub(crate) fn add_relu(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    (a + b)?.relu()
}

pub(crate) fn upsample2(x: &Tensor) -> Result<Tensor> {
    let (b, h, w, c) = x.dims4()?;
    x.reshape((b, h, 1, w, 1, c))?.broadcast_as((b, h, 2, w, 2, c))?.reshape((b, 2 * h, 2 * w, c))
}

pub(crate) fn layer_norm(x: &Tensor, scale: &Tensor, shift: &Tensor, eps: f32) -> Result<Tensor> {
    // The fused form has no gradient.
    if [x, scale, shift].iter().any(|t| t.track_op()) {
        ops::layer_norm_slow(x, scale, shift, eps)
    } else {
        ops::layer_norm(&x.contiguous()?, scale, shift, eps)
    }
}

/// Adds `bias [c]` to `x [n, c]`; as a product with ones, so that its gradient is one too and not a slow sum over rows.
pub(crate) fn add_bias(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let ones = Tensor::ones((x.dim(0)?, 1), x.dtype(), x.device())?;
    x + ones.matmul(&bias.reshape((1, ()))?)?
}

pub(crate) fn mask_loss(logits: &Tensor, truth: &Tensor, bce_weight: f32, dice_weight: &[f32]) -> Result<Tensor> {
    let s = ops::sigmoid(logits)?;
    let log = (logits.abs()?.neg()?.exp()? + 1.0)?.log()?;
    let bce = ((logits.relu()? - (logits * truth)?)? + log)?.mean(1)?;
    let both = (&s * truth)?.sum(1)?.affine(2.0, 1.0)?;
    let dice = both.div(&((s.sum(1)? + truth.sum(1)?)? + 1.0)?)?.affine(-1.0, 1.0)?;
    let weight = Tensor::from_slice(dice_weight, dice_weight.len(), logits.device())?;
    (bce * f64::from(bce_weight))? + (dice * weight)?
}

#[cfg(test)]
mod tests {
    use super::super::tests::{compare, vars};

    #[test]
    fn the_basic_form_is_the_same_function() {
        let v = vars(&[&[3, 5, 16], &[3, 5, 16], &[16], &[16]]);
        compare(&v[..1], |t| super::softmax(&t[0]).unwrap(), |t| super::super::softmax(&t[0]).unwrap(), 1e-6);
        compare(
            &v[..2],
            |t| super::add_relu(&t[0], &t[1]).unwrap(),
            |t| super::super::add_relu(&t[0], &t[1]).unwrap(),
            1e-6,
        );
        let norm = [v[0].clone(), v[2].clone(), v[3].clone()];
        compare(
            &norm,
            |t| super::layer_norm(&t[0], &t[1], &t[2], 1e-5).unwrap(),
            |t| super::super::layer_norm(&t[0], &t[1], &t[2], 1e-5).unwrap(),
            1e-5,
        );
        let picture = vars(&[&[2, 3, 4, 5]]);
        compare(&picture, |t| super::upsample2(&t[0]).unwrap(), |t| super::super::upsample2(&t[0]).unwrap(), 1e-6);
        let rows = vars(&[&[6, 16], &[16]]);
        compare(&rows, |t| super::add_bias(&t[0], &t[1]).unwrap(), |t| t[0].broadcast_add(&t[1]).unwrap(), 1e-6);
        let truth = (vars(&[&[6, 16]])[0].as_tensor().detach() + 1.0).unwrap();
        let truth = (truth * 0.5).unwrap();
        compare(
            &rows[..1],
            |t| super::mask_loss(&t[0], &truth, 2.0, &[1.0, 0.0, 1.0, 1.0, 0.0, 1.0]).unwrap(),
            |t| super::super::mask_loss(&t[0], &truth, 2.0, vec![1.0, 0.0, 1.0, 1.0, 0.0, 1.0]).unwrap(),
            1e-5,
        );
    }
}
