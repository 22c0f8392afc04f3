use super::{basic, like, read, stored};
use crate::grad_ops::gemm::{Operand, matmul_shared};
use crate::grad_ops::values;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor};

/// A linear map of the last axis: `y = x wᵀ + b`.
pub struct Linear {
    weight: Tensor,
    /// How the stored weight becomes a matrix `[out, in]`.
    matrix: fn(&Tensor) -> Result<Tensor>,
    bias: Option<Tensor>,
    /// How often the bias stands side by side in a row of the output.
    repeats: usize,
    /// The matrix of a frozen weight as `[in, out]`, the order in which the product reads it fastest.
    ready: Option<Tensor>,
}

impl Linear {
    /// From a weight `[out, in]`.
    ///
    /// # Errors
    /// Only if the backend fails.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        Self::with_matrix(weight, bias, 1, |w| Ok(w.clone()))
    }

    /// From a convolution's weight `[out, in, k, k]`; the input is what [`unfold`](super::unfold) gives.
    ///
    /// # Errors
    /// Only if the backend fails.
    pub fn of_patches(weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        Self::with_matrix(weight, bias, 1, |w| w.permute((0, 2, 3, 1))?.contiguous()?.flatten_from(1))
    }

    /// From a transposed convolution's weight `[in, out, k, k]`; the output is what [`fold`](super::fold) takes. A bias is
    /// right only for windows that do not overlap.
    ///
    /// # Errors
    /// Only if the backend fails.
    pub fn to_patches(weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        let repeats = weight.dim(2)? * weight.dim(3)?;
        Self::with_matrix(weight, bias, repeats, |w| w.permute((2, 3, 1, 0))?.contiguous()?.flatten_to(2))
    }

    fn with_matrix(
        weight: Tensor,
        bias: Option<Tensor>,
        repeats: usize,
        matrix: fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Self> {
        let ready = if weight.track_op() { None } else { Some(matrix(&weight)?.t()?.contiguous()?) };
        // A frozen weight is kept once, not in both orders.
        let weight = if let Some(ready) = &ready { ready.clone() } else { weight };
        Ok(Self { weight, matrix, bias, repeats, ready })
    }

    /// Keeps a frozen weight as `bf16`, in which a GPU then computes the product; a variable stays as it is.
    ///
    /// # Errors
    /// Only if the backend fails.
    pub fn to_bf16(&mut self) -> Result<()> {
        if let Some(ready) = &mut self.ready {
            *ready = ready.to_dtype(DType::BF16)?;
            self.weight = ready.clone();
        }
        Ok(())
    }

    /// `x [.., in]` -> `[.., out]`.
    ///
    /// # Errors
    /// Shapes that do not fit, or tensors that are not `f32` on the CPU.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.contiguous()?;
        let (weight, op) = match &self.ready {
            Some(w) => (w.clone(), Product { transposed: false, frozen: true }),
            None => ((self.matrix)(&self.weight)?, Product { transposed: true, frozen: false }),
        };
        let repeated =
            if self.repeats == 1 { None } else { self.bias.as_ref().map(|b| b.repeat(self.repeats)).transpose()? };
        let bias = repeated.as_ref().or(self.bias.as_ref());
        if !x.device().is_cpu() {
            let weight = if op.transposed { weight.t()? } else { weight };
            return basic::linear(&x, &weight, bias);
        }
        match bias {
            Some(b) => x.apply_op3(&weight, b, op),
            None => x.apply_op2(&weight, op),
        }
    }
}

struct Product {
    /// The weight is `[out, in]`.
    transposed: bool,
    /// The weight needs no gradient; candle would compute and keep it all the same.
    frozen: bool,
}

impl Product {
    /// (out, in, weight as `in × out`)
    fn weight<'a>(&self, w: &'a [f32], dims: &[usize]) -> Result<(usize, usize, Operand<'a>)> {
        let &[a, b] = dims else { candle_core::bail!("weight of a linear map has shape {dims:?}") };
        let w = Operand::new(w, a, b);
        Ok(if self.transposed { (a, b, w.t()) } else { (b, a, w) })
    }

    fn forward(
        &self,
        x: &[f32],
        lx: &Layout,
        w: &[f32],
        lw: &Layout,
        b: Option<&[f32]>,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, k, w) = self.weight(w, lw.dims())?;
        let mut dims = lx.dims().to_vec();
        if dims.pop() != Some(k) || b.is_some_and(|b| b.len() != n) {
            candle_core::bail!("linear map of {k} to {n} numbers applied to {:?}", lx.dims())
        }
        let m = dims.iter().product();
        dims.push(n);
        let mut out = vec![0f32; m * n];
        matmul_shared(&mut out, Operand::new(x, m, k), w, b);
        Ok((stored(out), Shape::from(dims)))
    }

    fn backward(&self, x: &Tensor, w: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>, Vec<f32>)> {
        read(x, |xs| {
            read(w, |ws| {
                read(grad, |gs| {
                    let (n, k, wm) = self.weight(ws, w.dims())?;
                    let m = xs.len() / k.max(1);
                    let g = Operand::new(gs, m, n);
                    let mut dx = vec![0f32; xs.len()];
                    matmul_shared(&mut dx, g, wm.t(), None);
                    let mut db = vec![0f32; n];
                    for row in gs.chunks_exact(n) {
                        db.iter_mut().zip(row).for_each(|(d, g)| *d += g);
                    }
                    let dw = if self.frozen {
                        None
                    } else {
                        let mut dw = vec![0f32; ws.len()];
                        let x = Operand::new(xs, m, k);
                        if self.transposed {
                            matmul_shared(&mut dw, g.t(), x, None);
                        } else {
                            matmul_shared(&mut dw, x.t(), g, None);
                        }
                        like(dw, w)?
                    };
                    Ok((like(dx, x)?, dw, db))
                })
            })
        })
    }
}

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "linear"
    }
    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward(values(s1, l1)?, l1, values(s2, l2)?, l2, None)
    }
    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, dw, _) = self.backward(x, w, grad)?;
        Ok((dx, dw))
    }
}

impl CustomOp3 for Product {
    fn name(&self) -> &'static str {
        "linear-bias"
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
        self.forward(values(s1, l1)?, l1, values(s2, l2)?, l2, Some(values(s3, l3)?))
    }
    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dx, dw, db) = self.backward(x, w, grad)?;
        Ok((dx, dw, if b.track_op() { like(db, b)? } else { None }))
    }
}

/// `a [b, m, k]`, `c [b, n, k]` -> `a · cᵀ` as `[b, m, n]`.
///
/// # Errors
/// Shapes that do not fit, or tensors that are not `f32` on the CPU.
pub fn matmul_transposed(a: &Tensor, c: &Tensor) -> Result<Tensor> {
    if !a.device().is_cpu() {
        return a.matmul(&c.t()?);
    }
    a.contiguous()?.apply_op2(&c.contiguous()?, Batched)
}

struct Batched;

impl CustomOp2 for Batched {
    fn name(&self) -> &'static str {
        "matmul-transposed"
    }
    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (&[b, m, k], &[b2, n, k2]) = (l1.dims(), l2.dims()) else {
            candle_core::bail!("matmul_transposed: {:?} and {:?}", l1.dims(), l2.dims())
        };
        if b != b2 || k != k2 {
            candle_core::bail!("matmul_transposed: {:?} and {:?}", l1.dims(), l2.dims())
        }
        let (x, y) = (values(s1, l1)?, values(s2, l2)?);
        let mut out = vec![0f32; b * m * n];
        for ((o, x), y) in out.chunks_exact_mut(m * n).zip(x.chunks_exact(m * k)).zip(y.chunks_exact(n * k)) {
            matmul_shared(o, Operand::new(x, m, k), Operand::new(y, n, k).t(), None);
        }
        Ok((stored(out), Shape::from((b, m, n))))
    }
    fn bwd(&self, a: &Tensor, c: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ((_, m, k), n) = (a.dims3()?, c.dim(1)?);
        let (mut da, mut dc) = (vec![0f32; a.elem_count()], vec![0f32; c.elem_count()]);
        read(a, |xs| {
            read(c, |ys| {
                read(grad, |gs| {
                    let inputs = xs.chunks_exact(m * k).zip(ys.chunks_exact(n * k)).zip(gs.chunks_exact(m * n));
                    let grads = da.chunks_exact_mut(m * k).zip(dc.chunks_exact_mut(n * k));
                    for ((da, dc), ((x, y), g)) in grads.zip(inputs) {
                        let g = Operand::new(g, m, n);
                        matmul_shared(da, g, Operand::new(y, n, k), None);
                        matmul_shared(dc, g.t(), Operand::new(x, m, k), None);
                    }
                    Ok(())
                })
            })
        })?;
        Ok((like(da, a)?, like(dc, c)?))
    }
}
