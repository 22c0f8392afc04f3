use super::gemm::{Operand, matmul};
use super::{values, with_values};
use crate::ops::{Window, unfold};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

/// Patches of one chunk take about this many numbers, so that they stay in the L2 cache between writing and use.
const PATCH_NUMBERS: usize = 48 * 1024;

/// 2D convolution without bias: `x [b, h, w, c]`, `weight [k, k, c, o]` -> `[b, oh, ow, o]`, zero padding `k / 2`.
///
/// Gathers patches chunk by chunk and multiplies; both gradients are computed the same way.
///
/// # Errors
/// Shapes that do not fit, or tensors that are not `f32` on the CPU.
pub fn conv2d(x: &Tensor, weight: &Tensor, stride: usize) -> Result<Tensor> {
    if !x.device().is_cpu() {
        let g = Geometry::new(x.dims(), weight.dims(), stride)?;
        let window = Window { size: g.k, stride, pad: g.k / 2 };
        let rows = if g.direct() { x.clone() } else { unfold(x, window)? };
        let rows = rows.reshape((g.batch * g.oh * g.ow, g.patch()))?;
        return rows.matmul(&weight.reshape((g.patch(), g.o))?)?.reshape((g.batch, g.oh, g.ow, g.o));
    }
    x.contiguous()?.apply_op2(&weight.contiguous()?, Conv { stride })
}

struct Conv {
    stride: usize,
}

#[derive(Clone, Copy)]
struct Geometry {
    batch: usize,
    h: usize,
    w: usize,
    c: usize,
    k: usize,
    o: usize,
    stride: usize,
    oh: usize,
    ow: usize,
}

impl Geometry {
    fn new(x: &[usize], weight: &[usize], stride: usize) -> Result<Self> {
        let (&[batch, h, w, c], &[k, k2, c2, o]) = (x, weight) else {
            candle_core::bail!("conv2d: x {x:?} and weight {weight:?} must have four axes")
        };
        if k != k2 || c != c2 || k % 2 == 0 || stride == 0 {
            candle_core::bail!("conv2d: weight {weight:?} does not fit x {x:?}")
        }
        let out = |n: usize| (n + 2 * (k / 2) - k) / stride + 1;
        Ok(Self { batch, h, w, c, k, o, stride, oh: out(h), ow: out(w) })
    }

    fn patch(&self) -> usize {
        self.k * self.k * self.c
    }

    /// 1x1 with stride 1 needs no patches: the pixels are the patches.
    fn direct(&self) -> bool {
        self.k == 1 && self.stride == 1
    }

    /// Calls `each(first output pixel, number of pixels, image, first output row, output rows)` over all chunks in order.
    fn chunks(&self, mut each: impl FnMut(usize, usize, usize, usize, usize)) {
        let rows = (PATCH_NUMBERS / (self.patch() * self.ow)).clamp(1, self.oh);
        for b in 0..self.batch {
            for y in (0..self.oh).step_by(rows) {
                let n = rows.min(self.oh - y);
                each((b * self.oh + y) * self.ow, n * self.ow, b, y, n);
            }
        }
    }

    /// Visits the runs of a chunk's patches that lie inside the picture:
    /// `each(offset in patches, offset in x, length)`; the rest of the patches is padding.
    fn runs(&self, b: usize, y0: usize, rows: usize, mut each: impl FnMut(usize, usize, usize)) {
        let (k, c, pad) = (self.k, self.c, self.k / 2);
        for oy in 0..rows {
            for ky in 0..k {
                let Some(iy) = ((y0 + oy) * self.stride + ky).checked_sub(pad).filter(|&v| v < self.h) else {
                    continue;
                };
                let line = (b * self.h + iy) * self.w;
                for ox in 0..self.ow {
                    let x = ox * self.stride;
                    let first = pad.saturating_sub(x);
                    let end = k.min(self.w + pad - x);
                    let patch = (oy * self.ow + ox) * self.patch() + ky * k * c;
                    each(patch + first * c, (line + x + first - pad) * c, (end - first) * c);
                }
            }
        }
    }

    fn gather(&self, x: &[f32], b: usize, y0: usize, rows: usize, patches: &mut Vec<f32>) {
        patches.clear();
        patches.resize(rows * self.ow * self.patch(), 0.0);
        self.runs(b, y0, rows, |p, s, n| patches[p..p + n].copy_from_slice(&x[s..s + n]));
    }
}

impl CustomOp2 for Conv {
    fn name(&self) -> &'static str {
        "conv2d-nhwc"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let g = Geometry::new(l1.dims(), l2.dims(), self.stride)?;
        let (x, weight) = (values(s1, l1)?, values(s2, l2)?);
        let weight = Operand::new(weight, g.patch(), g.o);
        let mut out = vec![0f32; g.batch * g.oh * g.ow * g.o];
        if g.direct() {
            matmul(&mut out, Operand::new(x, g.batch * g.h * g.w, g.c), weight, false);
        } else {
            let mut patches = Vec::new();
            g.chunks(|first, n, b, y, rows| {
                g.gather(x, b, y, rows, &mut patches);
                matmul(&mut out[first * g.o..(first + n) * g.o], Operand::new(&patches, n, g.patch()), weight, false);
            });
        }
        Ok((CpuStorage::F32(out), Shape::from((g.batch, g.oh, g.ow, g.o))))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let g = Geometry::new(x.dims(), w.dims(), self.stride)?;
        let mut dx = vec![0f32; x.elem_count()];
        let mut dw = vec![0f32; w.elem_count()];
        with_values(x, |xs| {
            with_values(w, |ws| {
                with_values(grad, |gs| {
                    let weight = Operand::new(ws, g.patch(), g.o);
                    if g.direct() {
                        let n = g.batch * g.h * g.w;
                        let go = Operand::new(gs, n, g.o);
                        matmul(&mut dw, Operand::new(xs, n, g.c).t(), go, false);
                        matmul(&mut dx, go, weight.t(), false);
                        return Ok(());
                    }
                    let mut patches = Vec::new();
                    g.chunks(|first, n, b, y, rows| {
                        let go = Operand::new(&gs[first * g.o..(first + n) * g.o], n, g.o);
                        g.gather(xs, b, y, rows, &mut patches);
                        matmul(&mut dw, Operand::new(&patches, n, g.patch()).t(), go, true);
                        matmul(&mut patches, go, weight.t(), false);
                        g.runs(b, y, rows, |p, s, len| {
                            for (d, v) in dx[s..s + len].iter_mut().zip(&patches[p..p + len]) {
                                *d += v;
                            }
                        });
                    });
                    Ok(())
                })
            })
        })?;
        Ok((Some(Tensor::from_vec(dx, x.dims(), x.device())?), Some(Tensor::from_vec(dw, w.dims(), w.device())?)))
    }
}
