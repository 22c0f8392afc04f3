use super::dispatch::dispatched;
use super::{basic, values, with_values};
use crate::share;
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

/// Group normalisation of `x [b, h, w, c]` over pixels and the channels of each of `groups` groups, then scale and shift
/// per channel, then ReLU if asked. Epsilon 1e-5.
///
/// # Errors
/// Shapes that do not fit, or tensors that are not `f32` on the CPU.
pub fn group_norm(x: &Tensor, scale: &Tensor, shift: &Tensor, groups: usize, relu: bool) -> Result<Tensor> {
    x.contiguous()?.apply_op3(scale, shift, GroupNorm { groups, relu })
}

/// Layer normalisation over the last axis, then scale and shift.
///
/// # Errors
/// Shapes that do not fit, or tensors that are not `f32` on the CPU.
pub fn layer_norm(x: &Tensor, scale: &Tensor, shift: &Tensor, eps: f32) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return basic::layer_norm(x, scale, shift, eps);
    }
    x.contiguous()?.apply_op3(scale, shift, LayerNorm { eps })
}

struct GroupNorm {
    groups: usize,
    relu: bool,
}

dispatched! {
    /// Per-channel sums of `u` and `u · v` over pixels, in f64 across pixels' blocks.
    fn channel_sums(u: &[f32], v: &[f32], c: usize, sum: &mut [f64], dot: &mut [f64]) {
        let mut s = vec![0f32; c];
        let mut d = vec![0f32; c];
        for (us, vs) in u.chunks(64 * c).zip(v.chunks(64 * c)) {
            s.fill(0.0);
            d.fill(0.0);
            for (up, vp) in us.chunks_exact(c).zip(vs.chunks_exact(c)) {
                for i in 0..c {
                    s[i] += up[i];
                    d[i] += up[i] * vp[i];
                }
            }
            for i in 0..c {
                sum[i] += f64::from(s[i]);
                dot[i] += f64::from(d[i]);
            }
        }
    }
}

dispatched! {
    fn scale_shift(x: &[f32], a: &[f32], b: &[f32], floor: f32, out: &mut [f32]) {
        let c = a.len();
        for (o, p) in out.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
            for i in 0..c {
                let v = p[i] * a[i] + b[i];
                o[i] = if v > floor { v } else { floor };
            }
        }
    }
}

dispatched! {
    fn combine(z: &[f32], x: &[f32], a: &[f32], b: &[f32], k: &[f32], out: &mut [f32]) {
        let c = a.len();
        for ((o, zp), xp) in out.chunks_exact_mut(c).zip(z.chunks_exact(c)).zip(x.chunks_exact(c)) {
            for i in 0..c {
                o[i] = zp[i] * a[i] + xp[i] * b[i] + k[i];
            }
        }
    }
}

impl GroupNorm {
    #[cfg(feature = "cuda")]
    fn on_gpu(&self, x: &[usize], scale: &[usize]) -> Result<crate::cuda::Norm> {
        match (x, scale) {
            (&[batch, h, w, c], &[n]) if n == c && c % self.groups == 0 => {
                Ok(crate::cuda::Norm { batch, pixels: h * w, c, groups: self.groups, relu: self.relu })
            }
            _ => candle_core::bail!("group_norm: {x:?} with {scale:?} channels in {} groups", self.groups),
        }
    }

    /// Mean and 1/deviation per channel of one image (equal inside a group).
    fn statistics(&self, x: &[f32], c: usize) -> (Vec<f64>, Vec<f64>) {
        let (mut sum, mut square) = (vec![0f64; c], vec![0f64; c]);
        channel_sums(x, x, c, &mut sum, &mut square);
        let size = c / self.groups;
        let n = (x.len() / c * size) as f64;
        let mut mean = vec![0f64; c];
        let mut rstd = vec![0f64; c];
        for g in 0..self.groups {
            let r = g * size..(g + 1) * size;
            let m = sum[r.clone()].iter().sum::<f64>() / n;
            let v = (square[r.clone()].iter().sum::<f64>() / n - m * m).max(0.0);
            mean[r.clone()].fill(m);
            rstd[r].fill(1.0 / (v + 1e-5).sqrt());
        }
        (mean, rstd)
    }
}

impl CustomOp3 for GroupNorm {
    fn name(&self) -> &'static str {
        "group-norm-nhwc"
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
        let (x, gamma, beta) = (values(s1, l1)?, values(s2, l2)?, values(s3, l3)?);
        let c = gamma.len();
        let dims = l1.dims();
        if dims.len() != 4 || dims[3] != c || beta.len() != c || c % self.groups != 0 {
            candle_core::bail!("group_norm: {dims:?} with {c} channels in {} groups", self.groups)
        }
        let mut out = vec![0f32; x.len()];
        let image = dims[1] * dims[2] * c;
        for (o, p) in out.chunks_exact_mut(image).zip(x.chunks_exact(image)) {
            let (mean, rstd) = self.statistics(p, c);
            let a: Vec<f32> = (0..c).map(|i| (rstd[i] * f64::from(gamma[i])) as f32).collect();
            let b: Vec<f32> =
                (0..c).map(|i| (f64::from(beta[i]) - mean[i] * rstd[i] * f64::from(gamma[i])) as f32).collect();
            scale_shift(p, &a, &b, if self.relu { 0.0 } else { f32::NEG_INFINITY }, o);
        }
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        s1: &CudaStorage,
        l1: &Layout,
        s2: &CudaStorage,
        l2: &Layout,
        s3: &CudaStorage,
        l3: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let out = self.on_gpu(l1.dims(), l2.dims())?.forward((s1, l1), (s2, l2), (s3, l3))?;
        Ok((out, l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        #[cfg(not(feature = "cuda"))]
        let _ = shift;
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            let [dx, dgamma, dbeta] = self.on_gpu(x.dims(), scale.dims())?.backward([x, scale, shift, y, grad])?;
            return Ok((Some(dx), Some(dgamma), Some(dbeta)));
        }
        let dims = x.dims().to_vec();
        let c = dims[3];
        let image = dims[1] * dims[2] * c;
        let mut dx = vec![0f32; x.elem_count()];
        let (mut dgamma, mut dbeta) = (vec![0f64; c], vec![0f64; c]);
        let gamma = scale.to_vec1::<f32>()?;
        let mut z = with_values(grad, |g| Ok(g.to_vec()))?;
        if self.relu {
            with_values(y, |ys| {
                for (v, r) in z.iter_mut().zip(ys) {
                    *v = if *r > 0.0 { *v } else { 0.0 };
                }
                Ok(())
            })?;
        }
        with_values(x, |xs| {
            for ((d, p), zp) in dx.chunks_exact_mut(image).zip(xs.chunks_exact(image)).zip(z.chunks_exact(image)) {
                let (mean, rstd) = self.statistics(p, c);
                let (mut sum, mut dot) = (vec![0f64; c], vec![0f64; c]);
                channel_sums(zp, p, c, &mut sum, &mut dot);
                let size = c / self.groups;
                let n = (image / c * size) as f64;
                let (mut a, mut b, mut k) = (vec![0f32; c], vec![0f32; c], vec![0f32; c]);
                for g in 0..self.groups {
                    let r = g * size..(g + 1) * size;
                    let (m, s) = (mean[r.start], rstd[r.start]);
                    // Means over the group of dz·gamma and of dz·gamma·xhat.
                    let m1 = r.clone().map(|i| sum[i] * f64::from(gamma[i])).sum::<f64>() / n;
                    let m2 = r.clone().map(|i| (dot[i] - m * sum[i]) * s * f64::from(gamma[i])).sum::<f64>() / n;
                    for i in r {
                        dbeta[i] += sum[i];
                        dgamma[i] += (dot[i] - m * sum[i]) * s;
                        a[i] = (s * f64::from(gamma[i])) as f32;
                        b[i] = (-s * s * m2) as f32;
                        k[i] = (-s * m1 + s * s * m2 * m) as f32;
                    }
                }
                combine(zp, p, &a, &b, &k, d);
            }
            Ok(())
        })?;
        let vector = |v: Vec<f64>| Tensor::from_vec(v.iter().map(|&x| x as f32).collect::<Vec<_>>(), c, x.device());
        Ok((Some(Tensor::from_vec(dx, dims, x.device())?), Some(vector(dgamma)?), Some(vector(dbeta)?)))
    }
}

struct LayerNorm {
    eps: f32,
}

dispatched! {
    fn layer_norm_rows(x: &[f32], gamma: &[f32], beta: &[f32], eps: f32, out: &mut [f32]) {
        let c = gamma.len();
        for (o, p) in out.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
            let (mean, rstd) = row_statistics(p, eps);
            for i in 0..c {
                o[i] = (p[i] - mean) * rstd * gamma[i] + beta[i];
            }
        }
    }
}

#[inline(always)]
fn row_statistics(p: &[f32], eps: f32) -> (f32, f32) {
    let mean = lanes_sum(p, |v| v) / p.len() as f32;
    let var = lanes_sum(p, |v| (v - mean) * (v - mean)) / p.len() as f32;
    (mean, 1.0 / (var + eps).sqrt())
}

/// Sum in sixteen lanes, so that it vectorises with a fixed order.
#[inline(always)]
fn lanes_sum(p: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0f32; 16];
    let chunks = p.chunks_exact(16);
    let rest: f32 = chunks.remainder().iter().map(|&v| f(v)).sum();
    for q in chunks {
        for i in 0..16 {
            lanes[i] += f(q[i]);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

dispatched! {
    fn layer_norm_backward(
        x: &[f32], g: &[f32], gamma: &[f32], eps: f32, dx: &mut [f32], dgamma: &mut [f32], dbeta: &mut [f32],
    ) {
        let c = gamma.len();
        let mut scaled = vec![0f32; c];
        let mut normed = vec![0f32; c];
        for ((d, p), q) in dx.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(g.chunks_exact(c)) {
            let (mean, rstd) = row_statistics(p, eps);
            for i in 0..c {
                normed[i] = (p[i] - mean) * rstd;
                scaled[i] = q[i] * gamma[i];
                dgamma[i] += q[i] * normed[i];
                dbeta[i] += q[i];
            }
            let m1 = lanes_sum(&scaled, |v| v) / c as f32;
            for i in 0..c {
                d[i] = scaled[i] * normed[i];
            }
            let m2 = lanes_sum(d, |v| v) / c as f32;
            for i in 0..c {
                d[i] = rstd * (scaled[i] - m1 - normed[i] * m2);
            }
        }
    }
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
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
        let (x, gamma, beta) = (values(s1, l1)?, values(s2, l2)?, values(s3, l3)?);
        if l1.dims().last() != Some(&gamma.len()) || beta.len() != gamma.len() {
            candle_core::bail!("layer_norm: {:?} with {} channels", l1.dims(), gamma.len())
        }
        let mut out = vec![0f32; x.len()];
        let part = gamma.len().max(1) * (share::PART / gamma.len().max(1)).max(1);
        share::each(out.chunks_mut(part).zip(x.chunks(part)), |(o, x)| layer_norm_rows(x, gamma, beta, self.eps, o));
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        scale: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gamma = scale.to_vec1::<f32>()?;
        let c = gamma.len();
        let mut dx = vec![0f32; x.elem_count()];
        let (mut dgamma, mut dbeta) = (vec![0f32; c], vec![0f32; c]);
        with_values(x, |xs| {
            with_values(grad, |gs| {
                layer_norm_backward(xs, gs, &gamma, self.eps, &mut dx, &mut dgamma, &mut dbeta);
                Ok(())
            })
        })?;
        Ok((
            Some(Tensor::from_vec(dx, x.dims(), x.device())?),
            Some(Tensor::from_vec(dgamma, c, x.device())?),
            Some(Tensor::from_vec(dbeta, c, x.device())?),
        ))
    }
}
