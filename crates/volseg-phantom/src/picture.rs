//! What the two kinds of 2D phantoms share: the result, smoothing and strokes.

use crate::{Error, Result};
use volseg_geometry::{Affine, LabelMap, Volume};

/// A synthetic picture with its true labels: `dim = [size, size, 1]`, first index along a row, rows from top to bottom.
#[derive(Clone, Debug)]
pub struct PicturePhantom {
    /// Grey values.
    pub image: Volume<u8>,
    /// Label ids of [`volseg_geometry::ORGANS`] on the same grid.
    pub labels: LabelMap,
}

/// A square of numbers.
pub(crate) struct Canvas {
    pub(crate) size: usize,
    pub(crate) data: Vec<f32>,
}

impl Canvas {
    pub(crate) fn new(size: usize) -> Result<Self> {
        if (64..=4096).contains(&size) {
            Ok(Self { size, data: vec![0.0; size * size] })
        } else {
            Err(Error::Picture { found: size })
        }
    }

    /// Fills from pixel positions (column, row).
    pub(crate) fn fill(&mut self, f: impl Fn(usize, usize) -> f32) {
        let n = self.size;
        for (at, v) in self.data.iter_mut().enumerate() {
            *v = f(at % n, at / n);
        }
    }

    /// Gaussian blur of `sigma` pixels along rows and columns; weights add up to 1.
    pub(crate) fn blur(&mut self, sigma: [f32; 2]) {
        blur(&mut self.data, self.size, self.size, sigma);
    }

    /// Distance in pixels to a line through `points` (pixels), up to `reach`; `f` gets position and distance.
    pub(crate) fn stroke(&mut self, points: &[[f32; 2]], reach: f32, f: impl Fn(f32, f32) -> f32) {
        let n = self.size;
        let bound = |v: f32| v.clamp(0.0, n as f32) as usize;
        let (mut x0, mut x1, mut y0, mut y1) = (f32::MAX, f32::MIN, f32::MAX, f32::MIN);
        for p in points {
            (x0, x1, y0, y1) = (x0.min(p[0]), x1.max(p[0]), y0.min(p[1]), y1.max(p[1]));
        }
        let (x0, x1) = (bound(x0 - reach), bound(x1 + reach + 1.0));
        let (y0, y1) = (bound(y0 - reach), bound(y1 + reach + 1.0));
        if x0 >= x1 || y0 >= y1 {
            return;
        }
        let wide = x1 - x0;
        let mut near = vec![(f32::MAX, 0f32); wide * (y1 - y0)];
        for (i, pair) in points.windows(2).enumerate() {
            let (a, d) = (pair[0], [pair[1][0] - pair[0][0], pair[1][1] - pair[0][1]]);
            let square = (d[0] * d[0] + d[1] * d[1]).max(1e-6);
            let low = [a[0].min(a[0] + d[0]), a[1].min(a[1] + d[1])];
            let high = [a[0].max(a[0] + d[0]), a[1].max(a[1] + d[1])];
            for y in bound(low[1] - reach).max(y0)..bound(high[1] + reach + 1.0).min(y1) {
                for x in bound(low[0] - reach).max(x0)..bound(high[0] + reach + 1.0).min(x1) {
                    let p = [x as f32 - a[0], y as f32 - a[1]];
                    let t = ((p[0] * d[0] + p[1] * d[1]) / square).clamp(0.0, 1.0);
                    let distance = (p[0] - t * d[0]).hypot(p[1] - t * d[1]);
                    let slot = &mut near[(y - y0) * wide + x - x0];
                    if distance < slot.0 {
                        *slot = (distance, (i as f32 + t) / (points.len() - 1) as f32);
                    }
                }
            }
        }
        for (i, (distance, along)) in near.into_iter().enumerate() {
            if distance <= reach {
                self.data[(y0 + i / wide) * n + x0 + i % wide] += f(along, distance);
            }
        }
    }

    /// Makes the result, with square pixels of `spacing` mm.
    pub(crate) fn finish(&self, labels: Vec<u8>, spacing: f64) -> Result<PicturePhantom> {
        let dim = [self.size, self.size, 1];
        let affine = Affine::from_spacing_mm([spacing, spacing, 1.0]);
        let grey = self.data.iter().map(|v| v.round().clamp(0.0, 255.0) as u8).collect();
        Ok(PicturePhantom {
            image: Volume::from_vec(grey, dim, affine)?,
            labels: LabelMap::from_vec(labels, dim, affine)?,
        })
    }
}

/// Blurs rows, then columns, with a Gaussian of `sigma` pixels; less than 0.2 pixels is left alone.
pub(crate) fn blur(data: &mut [f32], nx: usize, ny: usize, sigma: [f32; 2]) {
    for (axis, sigma) in sigma.into_iter().enumerate() {
        if sigma < 0.2 {
            continue;
        }
        let reach = (2.5 * sigma).ceil() as usize;
        let mut kernel: Vec<f32> = (0..=reach).map(|d| (-0.5 * (d as f32 / sigma).powi(2)).exp()).collect();
        let total = kernel[0] + 2.0 * kernel[1..].iter().sum::<f32>();
        kernel.iter_mut().for_each(|k| *k /= total);
        let (len, step, lines, next) = if axis == 0 { (nx, 1, ny, nx) } else { (ny, nx, nx, 1) };
        let mut line = vec![0f32; len + 2 * reach];
        for l in 0..lines {
            for (i, v) in line.iter_mut().enumerate() {
                *v = data[l * next + i.saturating_sub(reach).min(len - 1) * step];
            }
            for i in 0..len {
                let c = i + reach;
                let mut sum = kernel[0] * line[c];
                for (d, k) in kernel.iter().enumerate().skip(1) {
                    sum += k * (line[c - d] + line[c + d]);
                }
                data[l * next + i * step] = sum;
            }
        }
    }
}
