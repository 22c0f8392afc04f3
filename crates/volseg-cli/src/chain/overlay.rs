//! Pictures of prompts: the slice, saliency as a warm glow, the mask's outline, box and points.

use volseg_geometry::PixelBox;
use volseg_preview::Canvas;
use volseg_prompt::chain::{ChainPrompt, View};

/// Least longer side of a picture, pixels.
const LEAST: usize = 512;
const OUTLINE: [u8; 3] = [64, 224, 255];
const BOX: [u8; 3] = [255, 221, 64];
const POINT: [u8; 3] = [90, 255, 120];
const TEXT: [u8; 3] = [235; 3];
/// Pixels above the picture for what it shows.
const HEAD: usize = 20;

/// The picture of a prompt; `None` if the chain kept no view.
pub(crate) fn draw(prompt: &ChainPrompt) -> Option<Canvas> {
    let view = prompt.view.as_ref()?;
    let [w, h] = view.size;
    let zoom = LEAST.div_ceil(w.max(h).max(1)).clamp(1, 8);
    let mut canvas = Canvas::new(w * zoom, h * zoom + HEAD, [16, 18, 22]);
    for y in 0..h * zoom {
        for x in 0..w * zoom {
            paint(&mut canvas, view, [x, y], zoom);
        }
    }
    rectangle(&mut canvas, view.bounds, zoom);
    for &p in &view.points {
        dot(&mut canvas, (p % w * zoom + zoom / 2) as isize, (p / w * zoom + zoom / 2) as isize);
    }
    let name = &prompt.trace.text;
    let presence = prompt.trace.presence.map_or(String::new(), |p| format!("  presence {p:.2}"));
    let fallback = match prompt.trace.fallback {
        volseg_prompt::chain::Fallback::None => "",
        volseg_prompt::chain::Fallback::Cam => "  from the map alone",
        volseg_prompt::chain::Fallback::WholeImage => "  nothing found: whole picture",
    };
    canvas.text(4, 2, &format!("{name}  slice {}{presence}{fallback}", prompt.slice), TEXT);
    Some(canvas)
}

fn paint(canvas: &mut Canvas, view: &View, [x, y]: [usize; 2], zoom: usize) {
    let [w, h] = view.size;
    let (u, v) = (x / zoom, y / zoom);
    let at = v * w + u;
    let rgb = [0, 1, 2].map(|c| view.rgb.get(3 * at + c).copied().unwrap_or(0));
    canvas.blend(x, y + HEAD, rgb, 1.0);
    let s = view.saliency.get(at).copied().unwrap_or(0.0);
    // Squared, so that a weak map does not dye the whole slice.
    canvas.blend(x, y + HEAD, warm(s), 0.6 * s * s);
    let inside = |u: isize, v: isize| {
        u >= 0 && v >= 0 && u < w as isize && v < h as isize && view.mask[v as usize * w + u as usize] != 0
    };
    let (u, v) = (u as isize, v as isize);
    let beside = [(u - 1, v), (u + 1, v), (u, v - 1), (u, v + 1)];
    if inside(u, v) && beside.iter().any(|&(a, b)| !inside(a, b)) {
        canvas.blend(x, y + HEAD, OUTLINE, 0.9);
    }
}

/// Dark red over orange to pale yellow.
fn warm(s: f32) -> [u8; 3] {
    let part = |from: f32, to: f32| (((s - from) / (to - from)).clamp(0.0, 1.0) * 255.0) as u8;
    [part(-0.4, 0.4), part(0.25, 0.9), part(0.75, 1.3)]
}

fn rectangle(canvas: &mut Canvas, b: PixelBox, zoom: usize) {
    let at = |v: f32| (v * zoom as f32).round().max(0.0) as usize;
    let (x0, y0, x1, y1) = (at(b.x0), at(b.y0), at(b.x1).max(1) - 1, at(b.y1).max(1) - 1);
    for t in 0..2 {
        for x in x0..=x1 {
            canvas.blend(x, HEAD + y0 + t, BOX, 1.0);
            canvas.blend(x, (HEAD + y1).saturating_sub(t), BOX, 1.0);
        }
        for y in y0..=y1 {
            canvas.blend(x0 + t, HEAD + y, BOX, 1.0);
            canvas.blend(x1.saturating_sub(t), HEAD + y, BOX, 1.0);
        }
    }
}

fn dot(canvas: &mut Canvas, x: isize, y: isize) {
    for dy in -5..=5isize {
        for dx in -5..=5isize {
            let square = dx * dx + dy * dy;
            if square <= 25 && x + dx >= 0 && y + dy >= 0 {
                let colour = if square <= 12 { POINT } else { [0; 3] };
                canvas.blend((x + dx) as usize, HEAD + (y + dy) as usize, colour, 1.0);
            }
        }
    }
}
