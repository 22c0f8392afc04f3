use super::{like, read, stored};
use crate::grad_ops::values;
use crate::share;
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

/// A square sliding window over zero-padded pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Side of the window.
    pub size: usize,
    /// Step between windows.
    pub stride: usize,
    /// Zeros around the picture.
    pub pad: usize,
}

/// The windows of `x [b, h, w, c]` as rows: `[b, oh, ow, size · size · c]` (row, column, channel), with
/// `oh = (h + 2 pad - size) / stride + 1`. A convolution is this and a [`Linear`](super::Linear).
///
/// # Errors
/// A window larger than the padded picture, or a tensor that is not `f32` on the CPU.
pub fn unfold(x: &Tensor, window: Window) -> Result<Tensor> {
    let (_, h, w, c) = x.dims4()?;
    let shape = Pixels::new(window, h, w, c)?;
    x.contiguous()?.apply_op1(Unfold(shape))
}

/// The adjoint of [`unfold`]: adds rows of windows `[b, oh, ow, size · size · c]` into pixels `[b, h, w, c]`.
/// A transposed convolution is a [`Linear`](super::Linear) and this.
///
/// # Errors
/// Shapes that do not fit, or a tensor that is not `f32` on the CPU.
pub fn fold(x: &Tensor, window: Window, h: usize, w: usize) -> Result<Tensor> {
    let (_, oh, ow, n) = x.dims4()?;
    let shape = Pixels::new(window, h, w, n / (window.size * window.size).max(1))?;
    if (shape.oh, shape.ow) != (oh, ow) || shape.row() != n {
        candle_core::bail!("fold: {:?} into {h} x {w} pixels with {window:?}", x.dims())
    }
    x.contiguous()?.apply_op1(Fold(shape))
}

#[derive(Clone, Copy)]
struct Pixels {
    window: Window,
    h: usize,
    w: usize,
    c: usize,
    oh: usize,
    ow: usize,
}

impl Pixels {
    fn new(window: Window, h: usize, w: usize, c: usize) -> Result<Self> {
        let Window { size, stride, pad } = window;
        if size == 0 || stride == 0 || pad >= size || h + 2 * pad < size || w + 2 * pad < size {
            candle_core::bail!("{window:?} on {h} x {w} pixels")
        }
        let out = |n: usize| (n + 2 * pad - size) / stride + 1;
        Ok(Self { window, h, w, c, oh: out(h), ow: out(w) })
    }

    #[cfg(feature = "cuda")]
    fn on_gpu(&self, batch: usize) -> crate::cuda::Windows {
        let Self { window: Window { size, stride, pad }, h, w, c, oh, ow } = *self;
        crate::cuda::Windows { batch, h, w, c, oh, ow, size, stride, pad }
    }

    fn row(&self) -> usize {
        self.window.size * self.window.size * self.c
    }

    /// Visits the runs of row `ky` of the windows of row `oy` that lie inside the picture:
    /// `each(offset in rows, offset in pixels, length)`, both from the beginning of their line.
    fn runs(&self, ky: usize, mut each: impl FnMut(usize, usize, usize)) {
        let Window { size, stride, pad } = self.window;
        for ox in 0..self.ow {
            let x = ox * stride;
            let (first, end) = (pad.saturating_sub(x), size.min((self.w + pad).saturating_sub(x)));
            if first < end {
                let row = ox * self.row() + (ky * size + first) * self.c;
                each(row, (x + first - pad) * self.c, (end - first) * self.c);
            }
        }
    }

    /// The line of pixels that row `ky` of the windows of row `oy` lies on, if it is inside the picture.
    fn line(&self, oy: usize, ky: usize) -> Option<usize> {
        (oy * self.window.stride + ky).checked_sub(self.window.pad).filter(|&y| y < self.h)
    }

    fn unfold(&self, pixels: &[f32]) -> Vec<f32> {
        let (line, rows) = (self.w * self.c, self.ow * self.row());
        let picture = self.h * line;
        let mut out = vec![0f32; pixels.len() / picture.max(1) * self.oh * rows];
        share::each(out.chunks_exact_mut(rows.max(1)).enumerate(), |(n, out)| {
            let (picture, oy) = (&pixels[n / self.oh * picture..], n % self.oh);
            for ky in 0..self.window.size {
                if let Some(y) = self.line(oy, ky) {
                    self.runs(ky, |r, s, n| out[r..r + n].copy_from_slice(&picture[y * line + s..][..n]));
                }
            }
        });
        out
    }

    fn fold(&self, rows: &[f32]) -> Vec<f32> {
        let (line, row) = (self.w * self.c, self.ow * self.row());
        let size = self.oh * row;
        let mut out = vec![0f32; rows.len() / size.max(1) * self.h * line];
        share::each(out.chunks_exact_mut(line.max(1)).enumerate(), |(n, out)| {
            let (rows, y) = (&rows[n / self.h * size..], n % self.h);
            // Windows in their order, so that sums do not depend on how lines are shared out.
            for (oy, ky) in (0..self.oh).flat_map(|oy| (0..self.window.size).map(move |ky| (oy, ky))) {
                if self.line(oy, ky) == Some(y) {
                    self.runs(ky, |r, s, n| {
                        out[s..s + n].iter_mut().zip(&rows[oy * row + r..][..n]).for_each(|(o, v)| *o += v);
                    });
                }
            }
        });
        out
    }
}

struct Unfold(Pixels);

impl CustomOp1 for Unfold {
    fn name(&self) -> &'static str {
        "unfold"
    }
    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let out = self.0.unfold(values(s, l)?);
        Ok((stored(out), Shape::from((l.dims()[0], self.0.oh, self.0.ow, self.0.row()))))
    }
    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, s: &CudaStorage, l: &Layout) -> Result<(CudaStorage, Shape)> {
        let batch = l.dims()[0];
        Ok((self.0.on_gpu(batch).unfold(s, l)?, Shape::from((batch, self.0.oh, self.0.ow, self.0.row()))))
    }
    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        if !x.device().is_cpu() {
            return Ok(Some(grad.contiguous()?.apply_op1_no_bwd(&Fold(self.0))?));
        }
        like(read(grad, |g| Ok(self.0.fold(g)))?, x)
    }
}

struct Fold(Pixels);

impl CustomOp1 for Fold {
    fn name(&self) -> &'static str {
        "fold"
    }
    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let out = self.0.fold(values(s, l)?);
        Ok((stored(out), Shape::from((l.dims()[0], self.0.h, self.0.w, self.0.c))))
    }
    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, s: &CudaStorage, l: &Layout) -> Result<(CudaStorage, Shape)> {
        let batch = l.dims()[0];
        Ok((self.0.on_gpu(batch).fold(s, l)?, Shape::from((batch, self.0.h, self.0.w, self.0.c))))
    }
    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        if !x.device().is_cpu() {
            return Ok(Some(grad.contiguous()?.apply_op1_no_bwd(&Unfold(self.0))?));
        }
        like(read(grad, |g| Ok(self.0.unfold(g)))?, x)
    }
}
