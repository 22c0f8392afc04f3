//! Pictures of a CT made with a narrow window, in which fat is as black as the air around the body.
//!
//! The network tells organs by the fat between them. Inside the body what is black was fat (gas in the bowel is rarer by far),
//! outside it was air, so the body's outline gives back what the window took.

use volseg_geometry::{AnyVolume, SliceStack, components_2d};

/// Longest side of the coarse grid on which the body is sought.
const COARSE: usize = 128;
/// Gaps of twice this many coarse pixels between the islands of a body are closed.
const CLOSE: usize = 5;
/// The rim in which subcutaneous fat lies, in coarse pixels from the outline.
const RIM: [usize; 2] = [1, 4];
/// HU of fat, and of air.
const FAT_HU: f32 = -100.0;
const AIR_HU: f32 = -1000.0;
/// The window that such a picture is read with: its lowest and highest HU. Its true window is not known; results hardly change
/// between -30 and 30 for the lower end and 160 to 250 for the width.
const WINDOW_HU: [f32; 2] = [-30.0, 220.0];

/// Where the body is in a picture whose fat is black.
#[derive(Clone, Debug)]
pub(crate) struct BlackFat {
    /// 1 inside the body; rows of `width` coarse pixels.
    body: Vec<u8>,
    width: usize,
    /// Shown pixels a coarse pixel.
    step: usize,
}

impl BlackFat {
    /// The body, if the fat of its rim is black. `volume` holds stored values 0 (black) to 255.
    pub(crate) fn find(volume: &AnyVolume, stack: &SliceStack) -> Option<Self> {
        let [w, h] = stack.shown_size();
        let step = w.max(h).div_ceil(COARSE);
        let (width, height) = (w.div_ceil(step), h.div_ceil(step));
        let (first, column, row) = stack.shown_strides(0);
        let value =
            |x: usize, y: usize| volume.value((first as isize + column * x as isize + row * y as isize) as usize);
        // A coarse pixel belongs to tissue if a quarter of it is not black, and is black if less than a fifth is not.
        let bright = |x: usize, y: usize| {
            let (xs, ys) = (x * step..((x + 1) * step).min(w), y * step..((y + 1) * step).min(h));
            let n = xs.len() * ys.len();
            let above = ys.flat_map(|v| xs.clone().map(move |u| (u, v))).filter(|&(u, v)| value(u, v) > 12.0).count();
            above as f32 / n as f32
        };
        let share: Vec<f32> = (0..width * height).map(|i| bright(i % width, i / width)).collect();
        let tissue = largest(share.iter().map(|&s| u8::from(s > 0.25)).collect(), width, CLOSE);
        let body = filled(&tissue, width);
        let inner = |n: usize| inverted(&grown(inverted(&body), width, n));
        let (outer, inner) = (inner(RIM[0]), inner(RIM[1]));
        let rim = || outer.iter().zip(&inner).zip(&share).filter(|((o, i), _)| **o == 1 && **i == 0).map(|(_, s)| *s);
        let black = rim().filter(|&s| s < 0.2).count();
        (2 * black > rim().count()).then_some(Self { body, width, step })
    }

    /// HU of a row of stored values, in place. (x, y) is its first shown pixel.
    pub(crate) fn restore(&self, values: &mut [f32], x: usize, y: usize) {
        let row = self.body.chunks_exact(self.width).nth(y / self.step).unwrap_or_default();
        for (u, v) in values.iter_mut().enumerate() {
            let inside = row.get((x + u) / self.step).is_some_and(|&b| b == 1);
            *v = match (*v <= 1.0, inside) {
                (true, true) => FAT_HU,
                (true, false) => AIR_HU,
                _ => WINDOW_HU[0] + *v / 255.0 * (WINDOW_HU[1] - WINDOW_HU[0]),
            };
        }
    }
}

fn inverted(mask: &[u8]) -> Vec<u8> {
    mask.iter().map(|&m| 1 - m).collect()
}

/// `n` times grown by the four neighbours.
fn grown(mut mask: Vec<u8>, width: usize, n: usize) -> Vec<u8> {
    for _ in 0..n {
        let before = mask.clone();
        for (i, m) in mask.iter_mut().enumerate() {
            let left = i % width > 0 && before[i - 1] == 1;
            let right = i % width + 1 < width && before[i + 1] == 1;
            let above = i >= width && before[i - width] == 1;
            let below = before.get(i + width) == Some(&1);
            *m |= u8::from(left || right || above || below);
        }
    }
    mask
}

/// The largest part after gaps of `2 * close` are closed.
fn largest(mask: Vec<u8>, width: usize, close: usize) -> Vec<u8> {
    let closed = inverted(&grown(inverted(&grown(mask, width, close)), width, close));
    let (parts, found) = components_2d(&closed, width, false);
    let best = found.iter().max_by_key(|p| (p.pixels, std::cmp::Reverse(p.id))).map(|p| p.id);
    parts.iter().map(|&p| u8::from(Some(p) == best)).collect()
}

/// A mask with its holes.
fn filled(mask: &[u8], width: usize) -> Vec<u8> {
    let height = mask.len() / width.max(1);
    let (parts, found) = components_2d(&inverted(mask), width, false);
    let mut outside = vec![false; found.iter().map(|p| p.id as usize + 1).max().unwrap_or(1)];
    for (i, &p) in parts.iter().enumerate() {
        let (x, y) = (i % width, i / width);
        if x == 0 || y == 0 || x + 1 == width || y + 1 == height {
            outside[p as usize] = true;
        }
    }
    parts.iter().zip(mask).map(|(&p, &m)| u8::from(m == 1 || !outside[p as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use volseg_geometry::{Affine, Plane, Volume};

    /// A body of radius 90 with a rim of 12 pixels of fat, organs in fat, and a table below.
    fn picture(fat: u8) -> (AnyVolume, SliceStack) {
        let mut v = vec![0u8; 256 * 256];
        for (i, v) in v.iter_mut().enumerate() {
            let (x, y) = ((i % 256) as f32 - 128.0, (i / 256) as f32 - 120.0);
            let r = x.hypot(y);
            *v = match r {
                r if r < 78.0 && ((x / 20.0).sin() * (y / 20.0).cos()).abs() > 0.4 => 110,
                r if (78.0..88.0).contains(&r) => 60 * u8::from(r < 80.0) + fat * u8::from(r >= 80.0),
                r if (88.0..90.0).contains(&r) => 70,
                r if r < 90.0 => fat,
                _ if (240..243).contains(&(i / 256)) => 255,
                _ => 0,
            };
        }
        let affine = Affine::from_columns([[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]], [0.0; 3]);
        let stack = SliceStack::new([256, 256, 1], &affine, Plane::Axial);
        (AnyVolume::from(Volume::from_vec(v, [256, 256, 1], affine).unwrap()), stack)
    }

    #[test]
    fn black_fat_is_fat_and_black_air_is_air() {
        let (volume, stack) = picture(0);
        let found = BlackFat::find(&volume, &stack).unwrap();
        let mut row = vec![0.0, 110.0];
        found.restore(&mut row, 128 + 84, 120);
        assert_eq!(row[0], FAT_HU);
        assert!((row[1] - 77.8).abs() < 0.1);
        let mut outside = vec![0.0; 4];
        found.restore(&mut outside, 2, 120);
        assert_eq!(outside, [AIR_HU; 4]);
    }

    #[test]
    fn grey_fat_needs_nothing() {
        let (volume, stack) = picture(38);
        assert!(BlackFat::find(&volume, &stack).is_none());
    }

    #[test]
    fn an_empty_picture_has_no_fat() {
        let affine = Affine::from_spacing_mm([1.0; 3]);
        let volume = AnyVolume::from(Volume::from_vec(vec![0u8; 64], [8, 8, 1], affine).unwrap());
        assert!(BlackFat::find(&volume, &SliceStack::new([8, 8, 1], &affine, Plane::Axial)).is_none());
    }
}
