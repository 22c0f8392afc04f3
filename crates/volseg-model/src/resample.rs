//! Antialiased resizing of 8-bit pictures, equal to the Python imaging library's to the last bit: whole-number weights of 22
//! bits, columns first, rounded to 8 bits after each pass. (Its version 13 takes rows first in some tall pictures: one grey level apart.)

/// The filter, which widens with the scale where the picture becomes smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Triangle ("bilinear").
    Triangle,
    /// Cubic with a = -0.5 ("bicubic").
    Cubic,
}

impl Filter {
    fn reach(self) -> f64 {
        match self {
            Self::Triangle => 1.0,
            Self::Cubic => 2.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let x = x.abs();
        match self {
            Self::Triangle => (1.0 - x).max(0.0),
            Self::Cubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Cubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            Self::Cubic => 0.0,
        }
    }

    /// For each target the first source and the weights from there on.
    fn taps(self, n: usize, out: usize) -> Vec<(usize, Vec<i64>)> {
        let scale = n as f64 / out as f64;
        let wide = scale.max(1.0);
        let reach = self.reach() * wide;
        let narrow = 1.0 / wide;
        (0..out)
            .map(|i| {
                let middle = (i as f64 + 0.5) * scale;
                let first = ((middle - reach + 0.5).max(0.0) as usize).min(n - 1);
                let end = ((middle + reach + 0.5) as usize).clamp(first + 1, n);
                let weights: Vec<f64> = (first..end).map(|s| self.weight((s as f64 - middle + 0.5) * narrow)).collect();
                let sum: f64 = weights.iter().sum();
                // `round` takes halves away from zero, as the library's truncation after ±0.5 does.
                (first, weights.iter().map(|w| (w / sum * f64::from(1 << FRACTION)).round() as i64).collect())
            })
            .collect()
    }
}

/// Bits of a weight behind the point.
const FRACTION: u32 = 22;

/// Resizes `height` rows of `width` pixels of `channels` interleaved 8-bit values to `to_width` x `to_height`. Sizes are
/// positive and fit `values`; otherwise the result is empty or shorter.
#[must_use]
pub fn resize_antialiased(
    values: &[u8],
    channels: usize,
    [width, height]: [usize; 2],
    [to_width, to_height]: [usize; 2],
    filter: Filter,
) -> Vec<u8> {
    if width * height * channels == 0 || to_width * to_height == 0 {
        return Vec::new();
    }
    let (columns, rows) = (filter.taps(width, to_width), filter.taps(height, to_height));
    let round = |sum: i64| ((sum + (1 << (FRACTION - 1))) >> FRACTION).clamp(0, 255) as u8;
    let mut across = Vec::with_capacity(to_width * height * channels);
    for line in values.chunks_exact(channels * width) {
        for (first, weights) in &columns {
            for c in 0..channels {
                let pixels = line.iter().skip(channels * first + c).step_by(channels);
                across.push(round(weights.iter().zip(pixels).map(|(w, &p)| w * i64::from(p)).sum()));
            }
        }
    }
    let stride = to_width * channels;
    let mut out = Vec::with_capacity(stride * to_height);
    for (first, weights) in &rows {
        for x in 0..stride {
            let pixels = across.iter().skip(first * stride + x).step_by(stride);
            out.push(round(weights.iter().zip(pixels).map(|(w, &p)| w * i64::from(p)).sum()));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_size_changes_nothing_and_a_constant_stays() {
        let picture: Vec<u8> = (0..7 * 5 * 3).map(|i| (i * 31 % 251) as u8).collect();
        for filter in [Filter::Triangle, Filter::Cubic] {
            assert_eq!(resize_antialiased(&picture, 3, [7, 5], [7, 5], filter), picture);
            assert!(resize_antialiased(&[93; 77], 1, [11, 7], [4, 13], filter).iter().all(|&v| v == 93));
        }
    }
}
