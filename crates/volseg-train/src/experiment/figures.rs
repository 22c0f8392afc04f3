//! Pictures side by side: image, what the first mask is sure of, its mask, stage 1, stage 2, truth.

use super::evaluate::{read, show};
use crate::pictures::Picture;
use crate::{AlignConfig, Asked, Error};
use std::path::Path;
use volseg_preview::Canvas;

const TILE: usize = 192;
const GAP: usize = 8;
const TITLES: [&str; 6] = ["image", "saliency (first)", "U-Net (first)", "stage 1", "stage 2", "truth"];

pub(super) fn draw(
    pictures: &[(u64, &Picture)],
    stage1: &Path,
    stage2: &Path,
    prompts: Asked,
    to: &Path,
) -> Result<(), Error> {
    let (before, after) = (read(stage1)?, read(stage2)?);
    let config = AlignConfig { prompts, ..AlignConfig::default() };
    let step = TILE + GAP;
    let mut canvas = Canvas::new(GAP + TITLES.len() * step, 24 + pictures.len() * step, [255; 3]);
    for (n, title) in TITLES.iter().enumerate() {
        canvas.text(GAP + n * step, 4, title, [0; 3]);
    }
    for (row, (place, p)) in pictures.iter().enumerate() {
        let (a, b) = (show(&before, p, &config, *place)?, show(&after, p, &config, *place)?);
        let truth: Vec<f32> = p.mask.iter().map(|&m| if m != 0 { 1.0 } else { -1.0 }).collect();
        let masks: [Option<&[f32]>; 6] = [None, None, Some(&a.first), Some(&a.asked), Some(&b.asked), Some(&truth)];
        let [w, h] = p.size;
        for (column, mask) in masks.iter().enumerate() {
            let (left, top) = (GAP + column * step, 24 + row * step);
            for (y, x) in (0..TILE * TILE).map(|i| (i / TILE, i % TILE)) {
                let i = y * h / TILE * w + x * w / TILE;
                let grey = p.grey[i].clamp(0.0, 255.0) as u8;
                canvas.blend(left + x, top + y, [grey; 3], 1.0);
                match mask {
                    Some(m) if m[i] > 0.0 => canvas.blend(left + x, top + y, [255, 80, 0], 0.45),
                    // The probability as heat.
                    None if column == 1 => {
                        canvas.blend(left + x, top + y, [255, 0, 0], 0.8 / (1.0 + (-a.first[i]).exp()));
                    }
                    _ => {}
                }
            }
        }
    }
    let failed = |e: &dyn std::fmt::Display| Error::Io {
        what: format!("draw {}", to.display()),
        source: std::io::Error::other(e.to_string()),
    };
    std::fs::write(to, canvas.to_png().map_err(|e| failed(&e))?).map_err(|e| failed(&e))
}
