//! Slices as pictures: grey, as a radiologist looks at them, and with the outline of a mask.

use crate::refusal::Refusal;
use std::io::Cursor;
use volseg_engine::OpenCase;
use volseg_geometry::Window;

/// Outline colours of the four candidates, in order; the page and the panel name them.
pub(crate) const CANDIDATE_COLOURS: [[u8; 3]; 4] = [[230, 159, 0], [86, 180, 233], [0, 200, 120], [230, 90, 200]];

/// Least side of a cut-out, shown pixels.
const LEAST_CUT: usize = 72;

/// Shown pixels `[x, y, width, height]` around a mask in stored pixels, with as much room about it as it is large, so that
/// outlines of a small organ can be told apart. The whole slice for an empty mask.
pub(crate) fn around(case: &OpenCase, mask: &[u8]) -> [u32; 4] {
    let stack = case.stack();
    let size = stack.shown_size();
    let (mut low, mut high) = (size, [0, 0]);
    for y in 0..size[1] {
        for x in 0..size[0] {
            let (sx, sy) = stack.to_stored(x as f32 + 0.5, y as f32 + 0.5);
            if mask.get(sx as usize + stack.size[0] * sy as usize).is_some_and(|&v| v != 0) {
                low = [low[0].min(x), low[1].min(y)];
                high = [high[0].max(x + 1), high[1].max(y + 1)];
            }
        }
    }
    if low[0] >= high[0] {
        return [0, 0, size[0] as u32, size[1] as u32];
    }
    let side = (2 * (high[0] - low[0]).max(high[1] - low[1])).max(LEAST_CUT);
    let cut = [0, 1].map(|a| {
        let length = side.min(size[a]);
        ((low[a] + high[a]).saturating_sub(length) / 2).min(size[a] - length)
    });
    [cut[0] as u32, cut[1] as u32, side.min(size[0]) as u32, side.min(size[1]) as u32]
}

/// A PNG of a slice, shown pixels; `outline` is a mask in stored pixels and its colour, `cut` the part of [`around`].
pub(crate) fn slice_png(
    case: &OpenCase,
    slice: usize,
    window: Option<Window>,
    outline: Option<(&[u8], [u8; 3])>,
    cut: Option<[u32; 4]>,
) -> Result<Vec<u8>, Refusal> {
    let (image, stack) = (case.image(), case.stack());
    let [w, h] = stack.shown_size();
    let mut grey = vec![0f32; w * h];
    stack.for_each_shown(slice, |p, l| {
        grey[p] = (image.volume.value(l) * image.slope + image.intercept) as f32;
    });
    let window = window.unwrap_or_else(|| {
        if image.is_picture() { Window::Percentile { low: 0.0, high: 100.0 } } else { Window::of(case.modality()) }
    });
    window.apply(&mut grey);
    let mut rgb: Vec<u8> = grey.iter().flat_map(|&v| [(v * 255.0).round() as u8; 3]).collect();
    if let Some((mask, colour)) = outline {
        let width = stack.size[0];
        let inside = |x: usize, y: usize| {
            let (sx, sy) = stack.to_stored(x as f32 + 0.5, y as f32 + 0.5);
            mask.get(sx as usize + width * sy as usize).is_some_and(|&v| v != 0)
        };
        for y in 0..h {
            for x in 0..w {
                let edge = inside(x, y)
                    && (x == 0
                        || y == 0
                        || x + 1 == w
                        || y + 1 == h
                        || !inside(x - 1, y)
                        || !inside(x + 1, y)
                        || !inside(x, y - 1)
                        || !inside(x, y + 1));
                if edge {
                    rgb[3 * (y * w + x)..3 * (y * w + x) + 3].copy_from_slice(&colour);
                }
            }
        }
    }
    let failed = |_| Refusal::failed("the picture could not be drawn");
    let picture = image::RgbImage::from_raw(w as u32, h as u32, rgb)
        .ok_or_else(|| Refusal::failed("the picture could not be drawn"))?;
    let picture = match cut {
        Some([x, y, w, h]) => image::imageops::crop_imm(&picture, x, y, w, h).to_image(),
        None => picture,
    };
    let mut out = Cursor::new(Vec::new());
    picture.write_to(&mut out, image::ImageFormat::Png).map_err(failed)?;
    Ok(out.into_inner())
}
