//! Prompts of the embedded network: what is drawn into its mask prompt and which tokens stand beside it.

use volseg_geometry::{PixelBox, components_2d};

/// Number of point tokens of a row: absent ones are filled, since every token is a key in every softmax and the network
/// must see the number it was trained with (specs: embedded-model.md section 6).
pub const POINT_TOKENS: usize = 4;

/// Channels of the drawn prompt: prior mask, inside points, outside points.
pub const RASTER_CHANNELS: usize = 3;

/// One row of the decoder's batch: which slice, which organ, which hints. Coordinates are input pixels (0..side).
#[derive(Clone, Debug, Default)]
pub struct PromptRow {
    /// Index of the slice in the batch of features.
    pub image: usize,
    /// Organ token (organ id - 1).
    pub organ: Option<usize>,
    /// Feature of a text, for networks with [`super::Config::text`]; it stands in place of the organ token.
    pub text: Option<Vec<f32>>,
    /// x0, y0, x1, y1; half-open.
    pub bounds: Option<[f32; 4]>,
    /// x, y, 1 inside or 0 outside.
    pub points: Vec<[f32; 3]>,
    /// First mask, probabilities of `side * side` pixels. Without it a box is drawn as a soft ellipse.
    pub prior: Option<Vec<f32>>,
}

impl PromptRow {
    /// Takes the dense head's logits of `side * side` pixels as first mask, and the box around its larger connected parts
    /// (8 neighbours) where they are positive: what automatic use knows before the decoder runs.
    pub fn set_first_mask(&mut self, logits: &[f32], side: usize) {
        self.prior = Some(logits.iter().map(|l| 1.0 / (1.0 + (-l).exp())).collect());
        let mask: Vec<u8> = logits.iter().map(|&l| u8::from(l > 0.0)).collect();
        let (_, parts) = components_2d(&mask, side, true);
        let largest = parts.iter().map(|p| p.pixels).max().unwrap_or(0);
        // Parts of at least a fifth of the largest count, so that both lungs are in the box.
        let kept = parts.iter().filter(|p| p.pixels * 5 >= largest && p.pixels >= 4).map(|p| p.bounds);
        self.bounds = kept
            .reduce(|a, b| PixelBox { x0: a.x0.min(b.x0), y0: a.y0.min(b.y0), x1: a.x1.max(b.x1), y1: a.y1.max(b.y1) })
            .map(|b| [b.x0, b.y0, b.x1, b.y1]);
    }
}

/// Draws a prompt as `[side, side, 3]`: the prior mask (or, with a box and no mask, `sigmoid(8 (1 - r))` with `r` the elliptic
/// radius of the box), and discs of about 3 pixels at inside and outside points.
#[must_use]
pub fn draw_raster(row: &PromptRow, side: usize) -> Vec<f32> {
    let mut raster = vec![0f32; side * side * RASTER_CHANNELS];
    if let Some(prior) = &row.prior {
        for (r, p) in raster.chunks_exact_mut(RASTER_CHANNELS).zip(prior) {
            r[0] = *p;
        }
    } else if let Some([x0, y0, x1, y1]) = row.bounds {
        let (cx, cy) = ((x0 + x1) / 2.0, (y0 + y1) / 2.0);
        let (rx, ry) = (((x1 - x0) / 2.0).max(0.5), ((y1 - y0) / 2.0).max(0.5));
        for y in 0..side {
            for x in 0..side {
                let (u, v) = ((x as f32 + 0.5 - cx) / rx, (y as f32 + 0.5 - cy) / ry);
                let r = (u * u + v * v).sqrt();
                raster[(y * side + x) * RASTER_CHANNELS] = 1.0 / (1.0 + (-8.0 * (1.0 - r)).exp());
            }
        }
    }
    let scale = side as f32 / 128.0;
    for &[px, py, inside] in &row.points {
        let channel = if inside > 0.5 { 1 } else { 2 };
        let reach = (8.0 * scale).ceil() as isize;
        let (ix, iy) = (px.floor() as isize, py.floor() as isize);
        for y in (iy - reach).max(0)..=(iy + reach).min(side as isize - 1) {
            for x in (ix - reach).max(0)..=(ix + reach).min(side as isize - 1) {
                let (u, v) = ((x as f32 + 0.5 - px) / scale, (y as f32 + 0.5 - py) / scale);
                let value = (-(u * u + v * v) / 9.0).exp();
                let r = &mut raster[(y as usize * side + x as usize) * RASTER_CHANNELS + channel];
                *r = r.max(value);
            }
        }
    }
    raster
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_is_an_ellipse_and_points_are_discs() {
        let row = PromptRow {
            bounds: Some([32.0, 32.0, 96.0, 96.0]),
            points: vec![[64.0, 64.0, 1.0], [-5.0, 140.0, 0.0]],
            ..PromptRow::default()
        };
        let r = draw_raster(&row, 128);
        let at = |x: usize, y: usize, c: usize| r[(y * 128 + x) * 3 + c];
        assert!(at(64, 64, 0) > 0.99 && at(0, 0, 0) < 1e-3 && at(35, 35, 0) < 0.5);
        assert!(at(64, 64, 1) > 0.5 && at(64, 64, 2) == 0.0);
    }
}
