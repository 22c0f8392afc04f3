use super::{basic, like, read, stored};
use crate::grad_ops::activation::fast_exp;
use crate::grad_ops::dispatch::dispatched;
use crate::grad_ops::gemm::{Operand, matmul};
use crate::grad_ops::values;
use crate::share;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

/// Multi-head attention `softmax(q kᵀ / √(d / heads)) v`: `q [b, n, d]`, `k` and `v [b, m, d]` -> `[b, n, d]`.
/// A batch of 1 stands for all rows; `k` and `v` have the same batch.
///
/// # Errors
/// Shapes that do not fit, or tensors that are not `f32` on the CPU.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Tensor> {
    if !q.device().is_cpu() {
        return basic::attention(q, k, v, heads);
    }
    q.contiguous()?.apply_op3(&k.contiguous()?, &v.contiguous()?, Attention { heads })
}

struct Attention {
    heads: usize,
}

#[derive(Clone, Copy)]
struct Sizes {
    /// Batches of queries, keys and the result.
    batch: [usize; 3],
    n: usize,
    m: usize,
    d: usize,
    heads: usize,
}

impl Sizes {
    fn new(q: &[usize], k: &[usize], v: &[usize], heads: usize) -> Result<Self> {
        let (&[bq, n, d], &[bk, m, dk]) = (q, k) else { candle_core::bail!("attention: q {q:?}, k {k:?}") };
        let fits = |b: usize| b == 1 || b == bq.max(bk);
        if k != v || d != dk || heads == 0 || d % heads != 0 || m == 0 || !fits(bq) || !fits(bk) {
            candle_core::bail!("attention of {heads} heads: q {q:?}, k {k:?}, v {v:?}")
        }
        Ok(Self { batch: [bq, bk, bq.max(bk)], n, m, d, heads })
    }

    fn width(&self) -> usize {
        self.d / self.heads
    }

    fn scale(&self) -> f32 {
        1.0 / (self.width() as f32).sqrt()
    }

    /// Calls `each(head, first query number, first key number)` for row `b`; the offsets honour batches of 1.
    fn heads_of(&self, b: usize, mut each: impl FnMut(usize, usize, usize)) {
        let q = if self.batch[0] == 1 { 0 } else { b };
        let k = if self.batch[1] == 1 { 0 } else { b };
        for h in 0..self.heads {
            each(h, q * self.n * self.d, k * self.m * self.d);
        }
    }

    /// [`Sizes::heads_of`] for all rows: `each(row, head, first query number, first key number)`.
    fn each(&self, mut each: impl FnMut(usize, usize, usize, usize)) {
        for b in 0..self.batch[2] {
            self.heads_of(b, |h, q, k| each(b, h, q, k));
        }
    }
}

/// Copies columns `first..first + w` of rows of `d` numbers, times `scale`.
pub(super) fn take(rows: &[f32], d: usize, first: usize, w: usize, scale: f32, out: &mut Vec<f32>) {
    out.clear();
    for row in rows.chunks_exact(d) {
        out.extend(row[first..first + w].iter().map(|v| v * scale));
    }
}

/// Adds rows of `w` numbers, times `scale`, to columns `first..first + w` of rows of `d`.
pub(super) fn put(rows: &[f32], w: usize, scale: f32, out: &mut [f32], d: usize, first: usize) {
    for (o, row) in out.chunks_exact_mut(d).zip(rows.chunks_exact(w)) {
        o[first..first + w].iter_mut().zip(row).for_each(|(o, v)| *o += v * scale);
    }
}

dispatched! {
    /// Softmax of rows of `m` numbers in place.
    pub(super) fn softmax_rows(s: &mut [f32], m: usize) {
        for row in s.chunks_exact_mut(m) {
            softmax_row(row);
        }
    }
}

/// Softmax of a row: sixteen lanes for maximum and sum, so that it vectorises with a fixed order.
#[inline(always)]
pub(super) fn softmax_row(row: &mut [f32]) {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let mut chunks = row.chunks_exact(16);
    for q in &mut chunks {
        for i in 0..16 {
            lanes[i] = if q[i] > lanes[i] { q[i] } else { lanes[i] };
        }
    }
    let mut max = f32::NEG_INFINITY;
    for &v in lanes.iter().chain(chunks.remainder()) {
        max = if v > max { v } else { max };
    }
    let mut sums = [0f32; 16];
    let mut chunks = row.chunks_exact_mut(16);
    for q in &mut chunks {
        for i in 0..16 {
            q[i] = fast_exp(q[i] - max);
            sums[i] += q[i];
        }
    }
    let mut sum: f32 = sums.iter().sum();
    for v in chunks.into_remainder() {
        *v = fast_exp(*v - max);
        sum += *v;
    }
    let scale = 1.0 / sum;
    for v in row {
        *v *= scale;
    }
}

/// Gradient of the logits from probabilities and their gradient, in place of the latter.
pub(super) fn softmax_backward(p: &[f32], g: &mut [f32], m: usize) {
    for (p, g) in p.chunks_exact(m).zip(g.chunks_exact_mut(m)) {
        let dot: f32 = p.iter().zip(g.iter()).map(|(a, b)| a * b).sum();
        g.iter_mut().zip(p).for_each(|(g, p)| *g = p * (*g - dot));
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let z = Sizes::new(l1.dims(), l2.dims(), l3.dims(), self.heads)?;
        let (q, k, v) = (values(s1, l1)?, values(s2, l2)?, values(s3, l3)?);
        let (Sizes { n, m, d, .. }, w) = (z, z.width());
        let mut out = vec![0f32; z.batch[2] * n * d];
        share::each(out.chunks_exact_mut(n * d).enumerate(), |(b, out)| {
            let (mut qh, mut kh, mut vh) = (Vec::new(), Vec::new(), Vec::new());
            let (mut s, mut o) = (vec![0f32; n * m], vec![0f32; n * w]);
            z.heads_of(b, |h, q0, k0| {
                take(&q[q0..q0 + n * d], d, h * w, w, z.scale(), &mut qh);
                take(&k[k0..k0 + m * d], d, h * w, w, 1.0, &mut kh);
                take(&v[k0..k0 + m * d], d, h * w, w, 1.0, &mut vh);
                matmul(&mut s, Operand::new(&qh, n, w), Operand::new(&kh, m, w).t(), false);
                softmax_rows(&mut s, m);
                matmul(&mut o, Operand::new(&s, n, m), Operand::new(&vh, m, w), false);
                put(&o, w, 1.0, out, d, h * w);
            });
        });
        Ok((stored(out), Shape::from((z.batch[2], n, d))))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let z = Sizes::new(q.dims(), k.dims(), v.dims(), self.heads)?;
        let (Sizes { n, m, d, .. }, w) = (z, z.width());
        let (mut dq, mut dk, mut dv) =
            (vec![0f32; q.elem_count()], vec![0f32; k.elem_count()], vec![0f32; k.elem_count()]);
        let (mut qh, mut kh, mut vh, mut gh) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut s, mut ds) = (vec![0f32; n * m], vec![0f32; n * m]);
        let (mut rows_n, mut rows_m) = (vec![0f32; n * w], vec![0f32; m * w]);
        read(q, |q| {
            read(k, |k| {
                read(v, |v| {
                    read(grad, |g| {
                        z.each(|b, h, q0, k0| {
                            take(&q[q0..q0 + n * d], d, h * w, w, z.scale(), &mut qh);
                            take(&k[k0..k0 + m * d], d, h * w, w, 1.0, &mut kh);
                            take(&v[k0..k0 + m * d], d, h * w, w, 1.0, &mut vh);
                            take(&g[b * n * d..(b + 1) * n * d], d, h * w, w, 1.0, &mut gh);
                            let (qm, km) = (Operand::new(&qh, n, w), Operand::new(&kh, m, w));
                            let (vm, gm) = (Operand::new(&vh, m, w), Operand::new(&gh, n, w));
                            matmul(&mut s, qm, km.t(), false);
                            softmax_rows(&mut s, m);
                            matmul(&mut rows_m, Operand::new(&s, n, m).t(), gm, false);
                            put(&rows_m, w, 1.0, &mut dv[k0..k0 + m * d], d, h * w);
                            matmul(&mut ds, gm, vm.t(), false);
                            softmax_backward(&s, &mut ds, m);
                            matmul(&mut rows_n, Operand::new(&ds, n, m), km, false);
                            put(&rows_n, w, z.scale(), &mut dq[q0..q0 + n * d], d, h * w);
                            // The queries already carry the scale.
                            matmul(&mut rows_m, Operand::new(&ds, n, m).t(), qm, false);
                            put(&rows_m, w, 1.0, &mut dk[k0..k0 + m * d], d, h * w);
                        });
                        Ok(())
                    })
                })
            })
        })?;
        Ok((like(dq, q)?, like(dk, k)?, like(dv, v)?))
    }
}
