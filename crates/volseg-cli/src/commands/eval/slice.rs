//! The slice of a case with the most wrong voxels, as a picture.

use rayon::prelude::*;
use std::fmt::Write;
use volseg_geometry::Side;
use volseg_metrics::Labels;

/// Background around what is drawn, pixels.
const MARGIN: usize = 8;
/// Ground truth only, prediction only, both agree, both with different labels.
pub(super) const COLOURS: [&str; 4] = ["#d1495b", "#2e86ab", "#c9d1d9", "#edae49"];

/// A slice across the third axis, cropped to what is in it, as radiologists look at it: the patient's right on the left,
/// anterior or superior on top.
pub(super) struct Slice {
    /// Along the third axis, from 0.
    pub(super) index: usize,
    pub(super) wrong: usize,
    size: [usize; 2],
    /// Height of a pixel over its width.
    aspect: f64,
    /// 0 nothing, else a place in [`COLOURS`] plus 1; row by row.
    pixels: Vec<u8>,
}

impl Slice {
    /// `None` if no voxel is wrong.
    pub(super) fn worst(gt: &Labels, pred: &Labels) -> Option<Self> {
        let [nx, ny, nz] = gt.dim();
        let (g, p) = (gt.view(), pred.view());
        let wrong = |z: usize| (z * nx * ny..(z + 1) * nx * ny).filter(|&n| g.id(n) != p.id(n)).count();
        let counts: Vec<usize> = (0..nz).into_par_iter().map(wrong).collect();
        let index = (0..nz).max_by_key(|&z| (counts[z], nz - z)).filter(|&z| counts[z] > 0)?;
        let kind = |x: usize, y: usize| {
            let n = x + nx * (y + ny * index);
            match (g.id(n), p.id(n)) {
                (0, 0) => 0,
                (_, 0) => 1,
                (0, _) => 2,
                (a, b) if a == b => 3,
                _ => 4,
            }
        };
        let range = |n: usize, used: &dyn Fn(usize) -> bool| {
            let low = (0..n).find(|&i| used(i)).unwrap_or(0).saturating_sub(MARGIN);
            let high = (0..n).rev().find(|&i| used(i)).map_or(n, |i| (i + 1 + MARGIN).min(n));
            (low, high)
        };
        let (x0, x1) = range(nx, &|x| (0..ny).any(|y| kind(x, y) > 0));
        let (y0, y1) = range(ny, &|y| (x0..x1).any(|x| kind(x, y) > 0));
        let sides = gt.affine().orientation().sides();
        let backwards = |axis: usize| matches!(sides[axis], Side::Right | Side::Anterior | Side::Superior);
        let place = |axis: usize, low: usize, high: usize, n: usize| if backwards(axis) { high - 1 - n } else { low + n };
        let mut pixels = Vec::with_capacity((x1 - x0) * (y1 - y0));
        for y in 0..y1 - y0 {
            pixels.extend((0..x1 - x0).map(|x| kind(place(0, x0, x1, x), place(1, y0, y1, y))));
        }
        let [sx, sy, _] = gt.affine().spacing_mm();
        Some(Self { index, wrong: counts[index], size: [x1 - x0, y1 - y0], aspect: sy / sx, pixels })
    }

    /// One path a colour, runs of pixels as rectangles.
    pub(super) fn svg(&self) -> String {
        let [w, h] = self.size;
        let mut out = format!(
            "<svg viewBox=\"0 0 {w} {:.2}\" shape-rendering=\"crispEdges\" role=\"img\"><g transform=\"scale(1 {:.5})\">",
            h as f64 * self.aspect,
            self.aspect
        );
        for (n, colour) in COLOURS.iter().enumerate() {
            let mut path = String::new();
            for (y, row) in self.pixels.chunks(w.max(1)).enumerate() {
                let mut x = 0;
                for run in row.chunk_by(|a, b| a == b) {
                    if run.first() == Some(&(n as u8 + 1)) {
                        let _ = write!(path, "M{x} {y}h{}v1h-{0}z", run.len());
                    }
                    x += run.len();
                }
            }
            if !path.is_empty() {
                let _ = write!(out, "<path fill=\"{colour}\" d=\"{path}\"/>");
            }
        }
        out + "</g></svg>"
    }
}
