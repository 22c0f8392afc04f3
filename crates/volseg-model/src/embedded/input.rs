//! From stored intensities to the network's input: the same functions serve training and use.

use volseg_geometry::{AnyVolume, PixelBox, SliceStack, Window, components_2d, resize_area, resize_bilinear};

/// Distance in mm of the two slices that a CT slice is read together with.
const BESIDE_MM: f64 = 5.0;

/// Slices about 5 mm before and after slice `s`, kept inside the volume.
#[must_use]
pub fn neighbours(s: usize, slices: usize, spacing_mm: f64) -> [usize; 2] {
    let step = if spacing_mm > 0.0 { (BESIDE_MM / spacing_mm).round().max(1.0) as usize } else { 1 };
    [s.saturating_sub(step), (s + step).min(slices.saturating_sub(1))]
}

/// HU to network input: soft-tissue window to 0..1, then centred.
pub fn normalise_hu(pixels: &mut [f32]) {
    Window::SOFT_TISSUE.apply(pixels);
    for p in pixels {
        *p = (*p - 0.5) * 4.0;
    }
}

/// Grey values of one picture to network input: clipped at the 0.5 and 99.5 percentiles, mean 0, deviation 1.
pub fn normalise_grey(pixels: &mut [f32]) {
    Window::Percentile { low: 0.5, high: 99.5 }.apply(pixels);
    let n = pixels.len().max(1) as f64;
    let mean = pixels.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let var = pixels.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
    let scale = if var > 1e-12 { 1.0 / var.sqrt() } else { 0.0 };
    for p in pixels {
        *p = ((f64::from(*p) - mean) * scale) as f32;
    }
}

/// Stretches a picture to `side * side`: averaging where it shrinks, bilinear where it grows.
#[must_use]
pub fn stretch(pixels: &[f32], size: [usize; 2], side: usize) -> Vec<f32> {
    let [w, h] = size;
    let narrow = if w > side { resize_area(pixels, w, h, side, h) } else { resize_bilinear(pixels, w, h, side, h) };
    if h > side { resize_area(&narrow, side, h, side, side) } else { resize_bilinear(&narrow, side, h, side, side) }
}

/// HU that parts the body from the air around it.
pub const BODY_HU: f64 = -400.0;

/// Rectangle of the patient's body in shown pixels, one for the whole stack: largest connected part above `body_hu` of each
/// slice (so a table does not count), extremes over the slices with a margin. The whole slice if there is nothing.
/// `fat_is_black` is for pictures of a CT: a narrow window turns fat to black and the body to islands, so parts closer than
/// a sixty-fourth of the slice count as one.
#[must_use]
pub fn body_box(
    volume: &AnyVolume,
    slope: f64,
    intercept: f64,
    stack: &SliceStack,
    body_hu: f64,
    fat_is_black: bool,
) -> PixelBox {
    let [w, h] = stack.shown_size();
    let whole = PixelBox { x0: 0.0, y0: 0.0, x1: w as f32, y1: h as f32 };
    let step = (w.max(h) / 128).max(1);
    let (cw, ch) = (w.div_ceil(step), h.div_ceil(step));
    let every = (stack.slices / 24).max(1);
    let mut sides: [Vec<f32>; 4] = Default::default();
    let mut mask = vec![0u8; cw * ch];
    for s in (0..stack.slices).step_by(every) {
        let (first, column, row) = stack.shown_strides(s);
        for y in 0..ch {
            for x in 0..cw {
                let at = first as isize + column * (x * step) as isize + row * (y * step) as isize;
                let hu = volume.value(at as usize) * slope + intercept;
                mask[y * cw + x] = u8::from(hu > body_hu);
            }
        }
        let grown = usize::from(fat_is_black);
        if fat_is_black {
            mask = grow(&mask, cw);
        }
        let (_, parts) = components_2d(&mask, cw, false);
        let Some(largest) = parts.iter().max_by_key(|p| (p.pixels, std::cmp::Reverse(p.id))) else { continue };
        if largest.pixels * 50 < cw * ch {
            continue;
        }
        let b = largest.bounds;
        let back = grown as f32;
        for (side, v) in sides.iter_mut().zip([b.x0 + back, b.y0 + back, b.x1 - back, b.y1 - back]) {
            side.push(v * step as f32);
        }
    }
    if sides[0].is_empty() {
        return whole;
    }
    // A tenth of the slices may be odd (arms, couch edges) without widening the box.
    for side in &mut sides {
        side.sort_by(f32::total_cmp);
    }
    let n = sides[0].len();
    let (low, high) = (n / 10, n - 1 - n / 10);
    let margin = 0.02 * w.max(h) as f32;
    PixelBox {
        x0: (sides[0][low] - margin).max(0.0),
        y0: (sides[1][low] - margin).max(0.0),
        x1: (sides[2][high] + margin).min(w as f32),
        y1: (sides[3][high] + margin).min(h as f32),
    }
}

/// A mask of rows of `w` with every set pixel's eight neighbours set too.
fn grow(mask: &[u8], w: usize) -> Vec<u8> {
    let h = mask.len() / w.max(1);
    let set = |x: usize, y: usize| mask[y * w + x] != 0;
    (0..mask.len())
        .map(|i| {
            let (x, y) = (i % w, i / w);
            let (xs, ys) = (x.saturating_sub(1)..(x + 2).min(w), y.saturating_sub(1)..(y + 2).min(h));
            u8::from(ys.into_iter().any(|v| xs.clone().any(|u| set(u, v))))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use volseg_geometry::{Affine, Plane, Volume};

    #[test]
    fn the_body_is_found_and_the_table_is_not() {
        let mut v = vec![-1000i16; 64 * 64 * 3];
        for z in 0..3 {
            for y in 20..40 {
                for x in 10..50 {
                    v[x + 64 * (y + 64 * z)] = 40;
                }
            }
            for x in 0..64 {
                v[x + 64 * (5 + 64 * z)] = 200;
            }
        }
        let affine = Affine::from_columns([[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]], [0.0; 3]);
        let volume = AnyVolume::from(Volume::from_vec(v, [64, 64, 3], affine).unwrap());
        let stack = SliceStack::new([64, 64, 3], &affine, Plane::Axial);
        let b = body_box(&volume, 1.0, 0.0, &stack, BODY_HU, false);
        assert!((b.x0 - 10.0).abs() < 3.0 && (b.y0 - 20.0).abs() < 3.0 && (b.y1 - 40.0).abs() < 3.0, "{b:?}");
    }

    #[test]
    fn islands_of_a_picture_are_one_body() {
        let mut v = vec![0u8; 128 * 128];
        for i in 30..90 {
            for (x, y) in [(30, i), (89, i), (i, 30), (i, 89)] {
                // Skin with gaps of two pixels.
                if i % 6 > 1 {
                    v[x + 128 * y] = 90;
                }
            }
            v[i + 128 * 100] = 200;
        }
        let affine = Affine::from_columns([[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]], [0.0; 3]);
        let volume = AnyVolume::from(Volume::from_vec(v, [128, 128, 1], affine).unwrap());
        let stack = SliceStack::new([128, 128, 1], &affine, Plane::Axial);
        let b = body_box(&volume, 1.0, 0.0, &stack, 10.0, true);
        for (found, true_side) in [b.x0, b.y0, b.x1, b.y1].into_iter().zip([30.0f32, 30.0, 90.0, 90.0]) {
            assert!((found - true_side).abs() < 5.0, "{b:?}");
        }
    }

    #[test]
    fn a_constant_picture_is_zero() {
        let mut p = vec![7.0; 16];
        normalise_grey(&mut p);
        assert!(p.iter().all(|&v| v == 0.0));
    }
}
