//! From picture to network input and from low-resolution mask back (specs: sam-med2d.md sections 5 and 6).

use crate::Error;
use crate::config::Arch;
use crate::resample::{Filter, resize_antialiased};
use volseg_geometry::{components_2d, resize_bilinear};

/// Means and deviations of the red, green and blue channel, on 0..255 values.
const MEAN: [f32; 3] = [123.675, 116.28, 103.53];
const DEVIATION: [f32; 3] = [58.395, 57.12, 57.375];

/// Longest side of a picture.
const MAX_SIDE: usize = 1 << 16;

/// An 8-bit colour picture, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Picture {
    /// From interleaved red, green, blue.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for no pixels, sides above 65536, or a number of values that does not fit.
    pub fn rgb(width: usize, height: usize, rgb: Vec<u8>) -> Result<Self, Error> {
        let sides = 1..=MAX_SIDE;
        if !sides.contains(&width) || !sides.contains(&height) || rgb.len() != 3 * width * height {
            return Err(Error::InvalidArgument {
                what: "picture",
                found: format!("{width} x {height} with {} values", rgb.len()),
                expected: format!("sides in 1..={MAX_SIDE} and 3 values a pixel"),
            });
        }
        Ok(Self { width, height, rgb })
    }

    /// From grey values: three equal channels.
    ///
    /// # Errors
    /// As [`Picture::rgb`].
    pub fn grey(width: usize, height: usize, values: &[u8]) -> Result<Self, Error> {
        Self::rgb(width, height, values.iter().flat_map(|&v| [v; 3]).collect())
    }

    /// Pixels in a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// Interleaved red, green, blue, row by row.
    #[must_use]
    pub fn values(&self) -> &[u8] {
        &self.rgb
    }
}

/// For each of `out` targets the source among `n` that OpenCV's nearest neighbour takes. Both divisions are in double
/// precision; plain `i · n / out` differs for some sizes.
#[must_use]
pub fn nearest(n: usize, out: usize) -> Vec<usize> {
    let r = 1.0 / (out as f64 / n as f64);
    (0..out).map(|i| ((i as f64 * r) as usize).min(n.saturating_sub(1))).collect()
}

/// A one-channel picture stretched by OpenCV's nearest neighbour: how masks are resized.
#[must_use]
pub fn resize_nearest<T: Copy>(pixels: &[T], width: usize, height: usize, out: usize) -> Vec<T> {
    let columns = nearest(width, out);
    let line = |y: usize| pixels.get(y * width..(y + 1) * width).unwrap_or_default();
    nearest(height, out)
        .into_iter()
        .flat_map(|y| columns.iter().filter_map(move |&x| line(y).get(x).copied()))
        .collect()
}

/// How a picture lies in the square input of a network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Placement {
    /// Stretched to the whole square.
    Stretched,
    /// At its own size, the first pixel at (left, top), zeros around it.
    Padded {
        /// Zeros to the left.
        left: usize,
        /// Zeros above.
        top: usize,
    },
    /// Scaled to `width` x `height` at the top left, zeros to the right and below.
    Fitted {
        /// Columns used.
        width: usize,
        /// Rows used.
        height: usize,
    },
}

/// A network's input `[3, side, side]` and how the picture lies in it.
#[derive(Clone, Debug)]
pub struct Input {
    /// Normalised values, channel by channel.
    pub values: Vec<f32>,
    /// Where the picture is.
    pub placement: Placement,
}

/// The input that the predictor of an architecture makes.
///
/// SAM-Med2D stretches by nearest neighbour after normalising. SAM scales the longer side, with antialiasing. MedSAM
/// stretches and scales values to 0..1; its published script resizes cubically, here the filter is SAM's.
#[must_use]
pub fn predictor_input(picture: &Picture, arch: Arch, side: usize) -> Input {
    let (w, h) = (picture.width, picture.height);
    match arch {
        Arch::SamMed2d => {
            let (columns, rows) = (nearest(w, side), nearest(h, side));
            let mut values = Vec::with_capacity(3 * side * side);
            for c in 0..3 {
                for &y in &rows {
                    let line = &picture.rgb[y * w * 3..(y + 1) * w * 3];
                    values.extend(columns.iter().map(|&x| (f32::from(line[3 * x + c]) - MEAN[c]) / DEVIATION[c]));
                }
            }
            Input { values, placement: Placement::Stretched }
        }
        Arch::Sam => {
            let scale = side as f64 / w.max(h) as f64;
            let fit = |n: usize| ((n as f64 * scale + 0.5) as usize).clamp(1, side);
            let (fw, fh) = (fit(w), fit(h));
            let mut values = vec![0f32; 3 * side * side];
            let small = resize_antialiased(&picture.rgb, 3, [w, h], [fw, fh], Filter::Triangle);
            for c in 0..3 {
                let plane = values[c * side * side..].chunks_exact_mut(side);
                for (out, line) in plane.zip(small.chunks_exact(3 * fw)) {
                    let line = line.iter().skip(c).step_by(3);
                    out.iter_mut().zip(line).for_each(|(o, &v)| *o = (f32::from(v) - MEAN[c]) / DEVIATION[c]);
                }
            }
            Input { values, placement: Placement::Fitted { width: fw, height: fh } }
        }
        Arch::MedSam => {
            let small = resize_antialiased(&picture.rgb, 3, [w, h], [side, side], Filter::Triangle);
            let channel = |c: usize| small.iter().skip(c).step_by(3).map(|&v| f32::from(v));
            let mut values: Vec<f32> = (0..3).flat_map(channel).collect();
            let (low, high) = values.iter().fold((f32::MAX, f32::MIN), |(a, b), &v| (a.min(v), b.max(v)));
            let range = (high - low).max(1e-8);
            values.iter_mut().for_each(|v| *v = (*v - low) / range);
            Input { values, placement: Placement::Stretched }
        }
    }
}

/// The input that SAM-Med2D's training and test loaders make: channels in the order blue, green, red, yet normalised
/// with the figures of red, green, blue; small pictures padded instead of stretched.
#[must_use]
pub fn loader_input(picture: &Picture, side: usize) -> Input {
    let (w, h) = (picture.width, picture.height);
    let value = |x: usize, y: usize, c: usize| {
        let v = f64::from(picture.rgb[(y * w + x) * 3 + 2 - c]);
        // The figures are written in decimal, so they are read at double precision here.
        let decimal = |v: f32| (f64::from(v) * 1000.0).round() / 1000.0;
        ((v - decimal(MEAN[c])) / decimal(DEVIATION[c])) as f32
    };
    let mut values = vec![0f32; 3 * side * side];
    let placement = loader_placement(w, h, side);
    let (columns, rows) = (nearest(w, side), nearest(h, side));
    for (i, out) in values.iter_mut().enumerate() {
        let (c, y, x) = (i / (side * side), i / side % side, i % side);
        match placement {
            Placement::Padded { left, top } => {
                if (left..left + w).contains(&x) && (top..top + h).contains(&y) {
                    *out = value(x - left, y - top, c);
                }
            }
            _ => *out = value(columns[x], rows[y], c),
        }
    }
    Input { values, placement }
}

fn loader_placement(w: usize, h: usize, side: usize) -> Placement {
    if w < side && h < side {
        Placement::Padded { left: (side - w) / 2, top: (side - h) / 2 }
    } else {
        Placement::Stretched
    }
}

/// A mask as the loaders resize it, `[side, side]` of 0 and 1.
#[must_use]
pub fn loader_label(mask: &[u8], width: usize, height: usize, side: usize) -> Vec<u8> {
    let mut label = match loader_placement(width, height, side) {
        Placement::Padded { left, top } => {
            let mut out = vec![0; side * side];
            for (line, row) in out.chunks_exact_mut(side).skip(top).zip(mask.chunks_exact(width)) {
                line[left..left + width].copy_from_slice(row);
            }
            out
        }
        _ => resize_nearest(mask, width, height, side),
    };
    label.iter_mut().for_each(|v| *v = u8::from(*v != 0));
    label
}

/// The box that training takes from a mask, before jitter: around the largest 8-connected component (the first of equal
/// ones), end-exclusive. `None` for an empty mask, where the published code crashes.
#[must_use]
pub fn training_box(mask: &[u8], width: usize) -> Option<[f32; 4]> {
    let (_, list) = components_2d(mask, width, true);
    let largest = list.iter().rev().max_by_key(|c| c.pixels)?;
    let b = largest.bounds;
    Some([b.x0, b.y0, b.x1, b.y1])
}

/// Logits `[mask_side, mask_side]` at the picture's own size: in **two** bilinear steps, by way of the network's input.
#[must_use]
pub fn full_logits(
    low: &[f32],
    mask_side: usize,
    side: usize,
    placement: Placement,
    width: usize,
    height: usize,
) -> Vec<f32> {
    let middle = resize_bilinear(low, mask_side, mask_side, side, side);
    let crop = |left: usize, top: usize, w: usize, h: usize| -> Vec<f32> {
        middle.chunks_exact(side).skip(top).take(h).flat_map(|l| l[left..left + w].iter().copied()).collect()
    };
    match placement {
        Placement::Stretched => resize_bilinear(&middle, side, side, width, height),
        Placement::Padded { left, top } => crop(left, top, width, height),
        Placement::Fitted { width: w, height: h } => resize_bilinear(&crop(0, 0, w, h), w, h, width, height),
    }
}

/// 1 / (1 + e^-x)
#[must_use]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes for which i · n / out and OpenCV differ, 33 for each target (checked against OpenCV 4.10 for the specification).
    #[test]
    fn nearest_neighbour_is_that_of_opencv() {
        assert_eq!(nearest(4, 8), [0, 0, 1, 1, 2, 2, 3, 3]);
        let differs = |n: usize, out: usize| nearest(n, out) != (0..out).map(|i| i * n / out).collect::<Vec<_>>();
        let differing = [128, 256].map(|out| (1..1300).filter(|&n| differs(n, out)).count());
        assert_eq!(differing, [33, 33]);
    }

    #[test]
    fn pictures_are_checked() {
        assert!(Picture::rgb(0, 1, vec![]).is_err());
        assert!(Picture::rgb(2, 2, vec![0; 11]).is_err());
        assert!(Picture::rgb(1 << 40, 1 << 40, vec![0; 3]).is_err());
        assert_eq!(Picture::grey(1, 1, &[7]).unwrap(), Picture::rgb(1, 1, vec![7; 3]).unwrap());
    }

    #[test]
    fn a_fitted_picture_comes_back_where_it_was() {
        let picture = Picture::grey(40, 20, &[128; 800]).unwrap();
        let input = predictor_input(&picture, Arch::Sam, 64);
        assert_eq!(input.placement, Placement::Fitted { width: 64, height: 32 });
        assert!((input.values[0] - (128.0 - MEAN[0]) / DEVIATION[0]).abs() < 1e-6);
        assert_eq!(input.values[40 * 64], 0.0);
        let mut low = vec![-1.0; 16 * 16];
        low[..8 * 16].fill(1.0);
        let full = full_logits(&low, 16, 64, input.placement, 40, 20);
        assert_eq!(full.len(), 800);
        assert!(full[..16 * 40].iter().all(|&v| v == 1.0));
    }

    #[test]
    fn boxes_are_around_the_largest_component_and_end_exclusive() {
        let mut mask = vec![0u8; 60];
        for i in [0, 22, 33, 34] {
            mask[i] = 1;
        }
        assert_eq!(training_box(&mask, 10), Some([2.0, 2.0, 5.0, 4.0]));
        assert_eq!(training_box(&[0; 60], 10), None);
    }
}
