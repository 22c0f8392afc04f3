//! Slices as pictures: grey, as a radiologist looks at them, and with the outline of a mask.

use crate::refusal::Refusal;
use std::io::Cursor;
use volseg_engine::OpenCase;
use volseg_geometry::Window;

/// Outline colours of the four candidates, in order; the page and the panel name them.
pub(crate) const CANDIDATE_COLOURS: [[u8; 3]; 4] = [[230, 159, 0], [86, 180, 233], [0, 200, 120], [230, 90, 200]];

/// A PNG of a slice, shown pixels; `outline` is a mask in stored pixels and its colour.
pub(crate) fn slice_png(
    case: &OpenCase,
    slice: usize,
    window: Option<Window>,
    outline: Option<(&[u8], [u8; 3])>,
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
    let mut out = Cursor::new(Vec::new());
    picture.write_to(&mut out, image::ImageFormat::Png).map_err(failed)?;
    Ok(out.into_inner())
}
