//! One slice as a tile: grey values, fills, outlines, letters.

use crate::canvas::{Canvas, LINE, text_width};
use volseg_geometry::{AnyVolume, LabelMap, Plane, SliceStack, resize_area, resize_bilinear};

const LETTER: [u8; 3] = [255, 214, 92];

/// A slice as shown: `size` pixels row by row, grey 0..1 and labels.
pub(crate) struct Slice {
    pub(crate) size: [usize; 2],
    pub(crate) grey: Vec<f32>,
    pub(crate) labels: Option<Vec<u8>>,
    /// Opacity of the fills.
    pub(crate) fill: f32,
}

/// The shown pixels of a slice in physical values.
pub(crate) fn values(image: &AnyVolume, slope: f64, intercept: f64, stack: &SliceStack, slice: usize) -> Vec<f32> {
    let [w, h] = stack.shown_size();
    let mut out = vec![0f32; w * h];
    stack.for_each_shown(slice, |pixel, voxel| out[pixel] = (image.value(voxel) * slope + intercept) as f32);
    out
}

/// The shown labels of a slice.
pub(crate) fn labels(map: &LabelMap, stack: &SliceStack, slice: usize) -> Vec<u8> {
    let [w, h] = stack.shown_size();
    let mut out = vec![0u8; w * h];
    stack.for_each_shown(slice, |pixel, voxel| out[pixel] = map.voxels()[voxel]);
    out
}

/// Draws a slice into the `size` pixels at `at`; `rgb` gives the colour of a label.
pub(crate) fn draw(canvas: &mut Canvas, at: [usize; 2], size: [usize; 2], slice: &Slice, rgb: &dyn Fn(u8) -> [u8; 3]) {
    let ([w, h], [out_w, out_h]) = (slice.size, size);
    // Averaging where the tile is smaller, interpolation where it is larger.
    let small = resize_area(&slice.grey, w, h, out_w.min(w), out_h.min(h));
    let grey = resize_bilinear(&small, out_w.min(w), out_h.min(h), out_w, out_h);
    for (pixel, value) in grey.iter().enumerate() {
        let level = (value.clamp(0.0, 1.0) * 255.0).round() as u8;
        canvas.blend(at[0] + pixel % out_w, at[1] + pixel / out_w, [level; 3], 1.0);
    }
    let Some(source) = &slice.labels else { return };
    let nearest = |i: usize, n: usize, out: usize| ((2 * i + 1) * n / (2 * out)).min(n - 1);
    let label = |x: usize, y: usize| source[nearest(y, h, out_h) * w + nearest(x, w, out_w)];
    let thick = if out_w.max(out_h) >= 480 { 2 } else { 1 };
    for y in 0..out_h {
        for x in 0..out_w {
            let here = label(x, y);
            if here == 0 {
                continue;
            }
            let edge = (1..=thick).any(|d| {
                (x >= d && label(x - d, y) != here)
                    || (y >= d && label(x, y - d) != here)
                    || (x + d < out_w && label(x + d, y) != here)
                    || (y + d < out_h && label(x, y + d) != here)
            });
            canvas.blend(at[0] + x, at[1] + y, rgb(here), if edge { 1.0 } else { slice.fill });
        }
    }
}

/// Letters of the patient's sides at the left, right, upper and lower edge of a shown slice. [`SliceStack`] turns every
/// orientation to these.
pub(crate) fn side_letters(plane: Plane) -> [&'static str; 4] {
    match plane {
        Plane::Axial => ["R", "L", "A", "P"],
        Plane::Coronal => ["R", "L", "S", "I"],
        Plane::Sagittal => ["A", "P", "S", "I"],
    }
}

/// Writes the side letters and the slice's number into a drawn tile.
pub(crate) fn annotate(canvas: &mut Canvas, at: [usize; 2], size: [usize; 2], letters: [&str; 4], name: &str) {
    let ([x, y], [w, h]) = (at, size);
    if w < 4 * LINE || h < 4 * LINE {
        return;
    }
    let one = text_width("L");
    let (middle_x, middle_y) = (x + (w - one) / 2, y + (h - LINE) / 2);
    let [left, right, top, bottom] = letters;
    canvas.text_on_picture(x + 3, middle_y, left, LETTER);
    canvas.text_on_picture(x + w - one - 3, middle_y, right, LETTER);
    canvas.text_on_picture(middle_x, y + 2, top, LETTER);
    canvas.text_on_picture(middle_x, y + h - LINE - 2, bottom, LETTER);
    canvas.text_on_picture(x + 3, y + 2, name, [235; 3]);
}
