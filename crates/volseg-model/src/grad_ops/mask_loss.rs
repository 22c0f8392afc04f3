use super::activation::fast_exp;
use super::dispatch::dispatched;
use super::{basic, values, with_values};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

/// Loss of mask logits against soft truth, per row: `bce_weight · mean BCE + dice_weight · (1 − soft Dice)`.
///
/// `logits`, `truth`: `[rows, pixels]`, truth in 0..1. `dice_weight` has one entry a row: 0 for rows whose truth is empty,
/// where Dice would only push towards its smoothing term. Dice is taken **per row**, so that a large organ does not drown a
/// small one (specs: embedded-model.md section 6). Returns `[rows]`.
///
/// # Errors
/// Shapes that do not fit, or tensors that are not `f32` on the CPU.
pub fn mask_loss(logits: &Tensor, truth: &Tensor, bce_weight: f32, dice_weight: Vec<f32>) -> Result<Tensor> {
    if !logits.device().is_cpu() {
        return basic::mask_loss(logits, &truth.detach(), bce_weight, &dice_weight);
    }
    logits.contiguous()?.apply_op2(&truth.detach().contiguous()?, MaskLoss { bce_weight, dice_weight })
}

struct MaskLoss {
    bce_weight: f32,
    dice_weight: Vec<f32>,
}

/// Smoothing of the Dice term, in pixels.
const SMOOTH: f32 = 1.0;

dispatched! {
    /// (sum of BCE, sum s·t, sum s, sum t) of a row.
    fn row_sums(x: &[f32], t: &[f32]) -> [f32; 4] {
        let mut lanes = [[0f32; 8]; 4];
        for (xs, ts) in x.chunks_exact(8).zip(t.chunks_exact(8)) {
            for i in 0..8 {
                let v = xs[i];
                let e = fast_exp(-v.abs());
                let s = if v > 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) };
                let p = if v > 0.0 { v } else { 0.0 };
                // log(1 + e) for e in 0..1 by the series of artanh: u = e / (2 + e), 2 (u + u³/3 + ...).
                let u = e / (2.0 + e);
                let q = u * u;
                let log1p = 2.0 * u * (1.0 + q * (0.333_333_34 + q * (0.2 + q * (0.142_857_15 + q * 0.111_111_11))));
                lanes[0][i] += p - v * ts[i] + log1p;
                lanes[1][i] += s * ts[i];
                lanes[2][i] += s;
                lanes[3][i] += ts[i];
            }
        }
        [lanes[0].iter().sum(), lanes[1].iter().sum(), lanes[2].iter().sum(), lanes[3].iter().sum()]
    }
}

dispatched! {
    fn row_backward(x: &[f32], t: &[f32], bce: f32, d_st: f32, d_s: f32, out: &mut [f32]) {
        for i in 0..x.len() {
            let v = x[i];
            let e = fast_exp(-v.abs());
            let s = if v > 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) };
            out[i] = bce * (s - t[i]) + (d_st * t[i] + d_s) * s * (1.0 - s);
        }
    }
}

impl CustomOp2 for MaskLoss {
    fn name(&self) -> &'static str {
        "mask-loss"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let &[rows, pixels] = l1.dims() else { candle_core::bail!("mask_loss: logits {:?}", l1.dims()) };
        if l2.dims() != l1.dims() || self.dice_weight.len() != rows || pixels % 8 != 0 {
            candle_core::bail!(
                "mask_loss: logits {:?}, truth {:?}, {} Dice weights; pixels must be a multiple of 8",
                l1.dims(),
                l2.dims(),
                self.dice_weight.len()
            )
        }
        let (x, t) = (values(s1, l1)?, values(s2, l2)?);
        let out = x
            .chunks_exact(pixels)
            .zip(t.chunks_exact(pixels))
            .zip(&self.dice_weight)
            .map(|((x, t), w)| {
                let [bce, st, s, tt] = row_sums(x, t);
                let dice = 1.0 - (2.0 * st + SMOOTH) / (s + tt + SMOOTH);
                self.bce_weight * bce / pixels as f32 + w * dice
            })
            .collect();
        Ok((CpuStorage::F32(out), Shape::from(rows)))
    }

    fn bwd(
        &self,
        logits: &Tensor,
        truth: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (_, pixels) = logits.dims2()?;
        let g = grad.to_vec1::<f32>()?;
        let mut d = vec![0f32; logits.elem_count()];
        with_values(logits, |xs| {
            with_values(truth, |ts| {
                let rows = xs.chunks_exact(pixels).zip(ts.chunks_exact(pixels)).zip(d.chunks_exact_mut(pixels));
                for (((x, t), d), (w, g)) in rows.zip(self.dice_weight.iter().zip(&g)) {
                    let [_, st, s, tt] = row_sums(x, t);
                    let below = s + tt + SMOOTH;
                    let bce = g * self.bce_weight / pixels as f32;
                    row_backward(x, t, bce, -g * w * 2.0 / below, g * w * (2.0 * st + SMOOTH) / (below * below), d);
                }
                Ok(())
            })
        })?;
        Ok((Some(Tensor::from_vec(d, logits.dims(), logits.device())?), None))
    }
}
