/// Resamples a picture (rows of `width` pixels) to `out_width` × `out_height` by averaging the area that each target pixel
/// covers; where the target is larger than the source this is nearest neighbour with soft edges.
#[must_use]
pub fn resize_area(pixels: &[f32], width: usize, height: usize, out_width: usize, out_height: usize) -> Vec<f32> {
    let columns = area_weights(width, out_width);
    let rows = area_weights(height, out_height);
    let mut across = vec![0f32; out_width * height];
    for y in 0..height {
        let line = &pixels[y * width..(y + 1) * width];
        for (x, (first, w)) in columns.iter().enumerate() {
            across[y * out_width + x] = w.iter().zip(&line[*first..]).map(|(a, b)| a * b).sum();
        }
    }
    let mut out = vec![0f32; out_width * out_height];
    for (y, (first, w)) in rows.iter().enumerate() {
        let target = &mut out[y * out_width..(y + 1) * out_width];
        for (k, a) in w.iter().enumerate() {
            for (t, s) in target.iter_mut().zip(&across[(first + k) * out_width..]) {
                *t += a * s;
            }
        }
    }
    out
}

fn area_weights(n: usize, out: usize) -> Vec<(usize, Vec<f32>)> {
    let r = n as f64 / out as f64;
    (0..out)
        .map(|i| {
            let (a, b) = (i as f64 * r, (i + 1) as f64 * r);
            let first = (a.floor() as usize).min(n - 1);
            let last = (b.ceil() as usize).clamp(first + 1, n);
            let w = (first..last).map(|s| (((b.min((s + 1) as f64)) - a.max(s as f64)) / r).max(0.0) as f32).collect();
            (first, w)
        })
        .collect()
}

/// Bilinear resampling without antialiasing, half-pixel centres (`align_corners` off), as torch's `interpolate`:
/// source position `max((i + 0.5) · in / out − 0.5, 0)`.
#[must_use]
pub fn resize_bilinear(pixels: &[f32], width: usize, height: usize, out_width: usize, out_height: usize) -> Vec<f32> {
    let mut out = vec![0f32; out_width * out_height];
    resize_bilinear_into(pixels, width, height, out_width, out_height, &mut out);
    out
}

/// [`resize_bilinear`] into a buffer of `out_width * out_height` pixels.
pub fn resize_bilinear_into(
    pixels: &[f32],
    width: usize,
    height: usize,
    out_width: usize,
    out_height: usize,
    out: &mut [f32],
) {
    let columns = bilinear_taps(width, out_width);
    let rows = bilinear_taps(height, out_height);
    let mut above: (usize, Vec<f32>) = (usize::MAX, vec![0.0; out_width]);
    let mut below: (usize, Vec<f32>) = (usize::MAX, vec![0.0; out_width]);
    let across = |y: usize, line: &mut Vec<f32>| {
        let source = &pixels[y * width..(y + 1) * width];
        for (o, &(i0, i1, w)) in line.iter_mut().zip(&columns) {
            *o = source[i0] + (source[i1] - source[i0]) * w;
        }
    };
    for (y, &(j0, j1, w)) in rows.iter().enumerate() {
        if above.0 != j0 {
            if below.0 == j0 {
                std::mem::swap(&mut above, &mut below);
            } else {
                across(j0, &mut above.1);
                above.0 = j0;
            }
        }
        if below.0 != j1 {
            across(j1, &mut below.1);
            below.0 = j1;
        }
        for ((o, a), b) in out[y * out_width..(y + 1) * out_width].iter_mut().zip(&above.1).zip(&below.1) {
            *o = a + (b - a) * w;
        }
    }
}

fn bilinear_taps(n: usize, out: usize) -> Vec<(usize, usize, f32)> {
    let r = n as f64 / out as f64;
    (0..out)
        .map(|i| {
            let s = ((i as f64 + 0.5) * r - 0.5).max(0.0);
            let i0 = (s as usize).min(n - 1);
            (i0, (i0 + 1).min(n - 1), (s - i0 as f64) as f32)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn area_keeps_the_mean_and_same_size_is_identity() {
        let p: Vec<f32> = (0..35).map(|v| (v * v % 17) as f32).collect();
        let small = resize_area(&p, 7, 5, 3, 2);
        let mean = |v: &[f32]| v.iter().sum::<f32>() / v.len() as f32;
        assert!((mean(&small) - mean(&p)).abs() < 1e-4);
        assert_eq!(resize_area(&p, 7, 5, 7, 5), p);
        assert_eq!(resize_bilinear(&p, 7, 5, 7, 5), p);
    }

    #[test]
    fn bilinear_matches_the_rule_by_hand() {
        assert_eq!(resize_bilinear(&[0.0, 1.0], 2, 1, 4, 1), [0.0, 0.25, 0.75, 1.0]);
    }
}
