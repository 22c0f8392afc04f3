//! Draws a scene on a grid: tissues, CT numbers, blur, noise.

use super::{
    body::{AXIS_Y, Place},
    scene::{Fill, Frame, Scene},
    tissue::{Numbers, Tissue},
};
use crate::{
    draw::Draw,
    noise,
    picture::blur,
    shape::{V3, add, sub, turn},
};
use rayon::prelude::*;

/// An upright RAS grid in the world's mm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    /// Samples along x and y in a pixel.
    pub(crate) oversample: usize,
    pub(crate) dim: [usize; 3],
    pub(crate) spacing: V3,
    pub(crate) origin: V3,
}

/// What stands around the patient.
pub(crate) struct Surroundings {
    table: usize,
    table_y: f32,
    curve: f32,
    arms: [Option<V3>; 2],
    arm_fat: f32,
}

/// How the scanner took it.
pub(crate) struct Scanner {
    pub(crate) numbers: Numbers,
    pub(crate) noise_hu: f32,
    /// Gaussian blur of the reconstruction in the plane, mm.
    pub(crate) blur_mm: f32,
    /// Correlation length of the noise, mm.
    pub(crate) grain_mm: f32,
    /// Share of each neighbouring slice in a slice.
    pub(crate) bleed: f32,
    pub(crate) streaks: f32,
    /// Radius of the reconstructed circle, mm; nothing is seen outside.
    pub(crate) circle_mm: f32,
    pub(crate) seed: u32,
}

impl Surroundings {
    pub(crate) fn draw(scene: &Scene, draw: &mut Draw) -> Self {
        let mut back = AXIS_Y;
        while scene.body.place([40.0, back, 40.0]).skin > 0.0 && back > -250.0 {
            back -= 1.0;
        }
        let mut side = 100.0;
        while scene.body.place([side, AXIS_Y, 30.0]).skin > 0.0 && side < 400.0 {
            side += 1.0;
        }
        let arm = |draw: &mut Draw, sign: f32| {
            let r = draw.range(36.0, 48.0);
            [sign * (side + r + draw.range(2.0, 40.0)), draw.range(-50.0, 40.0), r]
        };
        let arms = match draw.unit() {
            u if u < 0.2 => [Some(arm(draw, -1.0)), Some(arm(draw, 1.0))],
            u if u < 0.25 => [Some(arm(draw, -1.0)), None],
            _ => [None, None],
        };
        Self {
            table: draw.whole(0, 3),
            table_y: back - draw.range(1.0, 14.0),
            curve: draw.range(0.0005, 0.0016),
            arms,
            arm_fat: draw.range(4.0, 16.0),
        }
    }

    fn tissue(&self, p: V3) -> Tissue {
        for arm in self.arms.iter().flatten() {
            let r = ((p[0] - arm[0]).powi(2) + ((p[1] - arm[1]) * 0.9).powi(2)).sqrt();
            if r < arm[2] {
                return match arm[2] - r {
                    d if d < 1.8 => Tissue::Skin,
                    d if d < self.arm_fat => Tissue::Fat,
                    _ if r < 7.0 => Tissue::Fat,
                    _ if r < 12.0 => Tissue::Cortical,
                    _ => Tissue::Muscle,
                };
            }
        }
        let x = p[0].abs();
        match self.table {
            1 if x < 215.0 => {
                let top = self.table_y - 4.0 + self.curve * x * x;
                match top - p[1] {
                    d if !(0.0..=45.0).contains(&d) => Tissue::Air,
                    d if d < 2.2 || (x < 160.0 && (d - 42.0 + x * x * 0.0006).abs() < 1.4) => Tissue::Table,
                    d if d < 40.0 && x < 150.0 => Tissue::TableFoam,
                    _ => Tissue::Air,
                }
            }
            2 if x < 240.0 => {
                // A thin shell that comes up beside the body.
                let top = self.table_y - 14.0 + (x - 60.0).max(0.0) * 0.42;
                if (top - p[1]).abs() < 1.5 { Tissue::Table } else { Tissue::Air }
            }
            3 if x < 225.0 => {
                let top = self.table_y - 3.0 + 0.0014 * x * x;
                let d = top - p[1];
                if (0.0..2.0).contains(&d) || (12.0..15.0).contains(&d) || ((0.0..15.0).contains(&d) && x > 221.0) {
                    Tissue::Table
                } else if (2.0..12.0).contains(&d) {
                    Tissue::TableFoam
                } else {
                    Tissue::Air
                }
            }
            _ => Tissue::Air,
        }
    }
}

/// Index box of every paint.
fn boxes(scene: &Scene, grid: &Grid) -> Vec<[[usize; 2]; 3]> {
    scene
        .paints
        .iter()
        .map(|paint| {
            let mut most = scene.shape_warp.most;
            if paint.frame == Frame::Organ {
                most = add(most, scene.organ_warp.most);
            }
            let (low, high) = (sub(paint.bounds[0], most), add(paint.bounds[1], most));
            let (mut from, mut to) = ([f32::MAX; 3], [f32::MIN; 3]);
            for corner in 0..8 {
                let p = [0, 1, 2].map(|a| if corner >> a & 1 == 0 { low[a] } else { high[a] });
                let w = scene.pose.to_world(p);
                for a in 0..3 {
                    from[a] = from[a].min(w[a]);
                    to[a] = to[a].max(w[a]);
                }
            }
            [0, 1, 2].map(|a| {
                let index = |w: f32| (w - grid.origin[a]) / grid.spacing[a];
                let n = grid.dim[a] as f32;
                [index(from[a]).floor().clamp(0.0, n) as usize, (index(to[a]).ceil() + 1.0).clamp(0.0, n) as usize]
            })
        })
        .collect()
}

/// Tissue and organ coordinates of one slice.
struct Slice {
    tissue: Vec<Tissue>,
    organ: Vec<V3>,
    place: Vec<Place>,
}

fn paint_slice(scene: &Scene, around: &Surroundings, grid: &Grid, boxes: &[[[usize; 2]; 3]], k: usize) -> Slice {
    let [nx, ny, _] = grid.dim;
    let mut bone = Vec::with_capacity(nx * ny);
    let mut organ = Vec::with_capacity(nx * ny);
    let mut place = Vec::with_capacity(nx * ny);
    let mut tissue = Vec::with_capacity(nx * ny);
    for j in 0..ny {
        for i in 0..nx {
            let w = [0, 1, 2].map(|a| grid.origin[a] + grid.spacing[a] * [i, j, k][a] as f32);
            let r = turn(&scene.pose.axes, sub(w, scene.pose.centre));
            let r = [0, 1, 2].map(|a| r[a] / scene.pose.size[a]);
            let p = add(r, scene.shape_warp.sample(r));
            let at = scene.body.place(p);
            if at.skin < 0.0 {
                bone.push(p);
                organ.push(p);
                place.push(at);
                tissue.push(around.tissue(r));
                continue;
            }
            let q = add(p, scene.organ_warp.sample(p));
            tissue.push(scene.body.tissue(at, p, q));
            bone.push(p);
            organ.push(q);
            place.push(at);
        }
    }
    for (paint, [x, y, z]) in scene.paints.iter().zip(boxes) {
        if k < z[0] || k >= z[1] {
            continue;
        }
        let points = if paint.frame == Frame::Bone { &bone } else { &organ };
        let [low, high] = paint.bounds;
        for j in y[0]..y[1] {
            for i in x[0]..x[1] {
                let at = i + nx * j;
                if !paint.over.has(tissue[at]) {
                    continue;
                }
                let p = points[at];
                if (0..3).any(|a| p[a] < low[a] || p[a] > high[a])
                    || !paint.holds(p, place[at], &scene.body, scene.seed)
                {
                    continue;
                }
                tissue[at] = match paint.fill {
                    Fill::Of(t) => t,
                    Fill::Level { y, above, below } => {
                        if p[1] > y {
                            above
                        } else {
                            below
                        }
                    }
                };
            }
        }
    }
    Slice { tissue, organ, place }
}

/// The label most samples have; the first such one where several do.
fn majority(votes: &[u8]) -> u8 {
    let count = |label: u8| votes.iter().filter(|v| **v == label).count();
    let mut best = (0, 0);
    for &label in votes {
        let n = count(label);
        if n > best.0 {
            best = (n, label);
        }
    }
    best.1
}

/// CT number at the body's surface, where skin is thinner than a pixel: the average over the pixel's width.
fn edge(t: Tissue, place: Place, width: f32, scanner: &Scanner) -> Option<f32> {
    if !matches!(t, Tissue::Air | Tissue::Skin | Tissue::Fat) || place.skin.abs() > 2.5 + width {
        return None;
    }
    let mean = |t: Tissue| scanner.numbers.mean[t as usize];
    let outside = (0.5 - place.skin / width).clamp(0.0, 1.0);
    let under = (0.5 + (place.skin - 1.9) / width).clamp(0.0, 1.0);
    Some(outside * mean(Tissue::Air) + under * mean(Tissue::Fat) + (1.0 - outside - under) * mean(Tissue::Skin))
}

/// CT number of a voxel before blur and noise.
fn number(t: Tissue, p: V3, place: Place, scene: &Scene, scanner: &Scanner) -> f32 {
    let (mean, texture) = (scanner.numbers.mean[t as usize], scanner.numbers.texture[t as usize]);
    let seed = scene.seed;
    let n = |size: f32, salt: u32| noise::at(p, size, seed ^ salt);
    match t {
        Tissue::Air | Tissue::Table | Tissue::TableFoam | Tissue::Skin => mean,
        Tissue::Visceral => {
            // Small vessels and strands where two fields cross zero together.
            let (a, b) = (n(13.0, 11), n(13.0, 12));
            let line = a * a + b * b;
            let width = 0.018;
            if line < width {
                let vessel = scanner.numbers.mean[Tissue::Vein as usize];
                return mean + (vessel - mean) * (1.0 - line / width).min(0.6) / 0.6;
            }
            mean + texture * n(9.0, 1) + if (a - 0.3).abs() < 0.03 { 22.0 } else { 0.0 }
        }
        Tissue::Perirenal | Tissue::Sinus => {
            mean + texture * n(7.0, 1) + if n(15.0, 13).abs() < 0.03 { 25.0 } else { 0.0 }
        }
        Tissue::Fat => mean + texture * n(12.0, 1) + if n(20.0, 14).abs() < 0.012 { 35.0 } else { 0.0 },
        Tissue::Muscle => {
            let fine = noise::at([p[0], p[1], p[2] * 0.5], 6.0, seed ^ 15);
            mean + texture * n(14.0, 1) - 55.0 * scene.body.marbling * (fine - 0.25).max(0.0) * 2.0
        }
        Tissue::Lung => {
            let (a, b) = (n(15.0, 16), n(15.0, 17));
            let line = a * a + b * b;
            let down = -0.35 * (p[1] - 20.0);
            if line < 0.02 { mean + 800.0 * (1.0 - line / 0.02).min(0.8) } else { mean + down + texture * n(5.0, 1) }
        }
        Tissue::Stool => {
            let coarse = n(7.0, 18) + 0.6 * n(3.5, 19);
            if coarse > 0.5 { -620.0 } else { mean + texture * 1.6 * coarse }
        }
        Tissue::StomachFood => {
            let coarse = n(9.0, 20) + 0.5 * n(4.0, 21);
            if coarse > 0.85 { -350.0 } else { mean + texture * coarse }
        }
        Tissue::Spongy => mean + texture * (n(5.0, 22) + 0.7 * n(12.0, 23)),
        Tissue::Cortical => mean + texture * n(6.0, 24),
        Tissue::Pancreas => {
            let fatty = (n(6.0, 25) - 0.35).max(0.0);
            mean + texture * n(4.0, 26) - 140.0 * scene.body.marbling * fatty
        }
        Tissue::BowelFluid | Tissue::BowelWall | Tissue::DuodenumFluid | Tissue::DuodenumWall => {
            mean + texture * (n(5.0, 27) + 0.5 * n(11.0, 28))
        }
        Tissue::Spleen if scanner.numbers.mean[Tissue::Aorta as usize] > 230.0 => {
            // Arterial phase: bands.
            mean + 38.0 * noise::at([p[0], p[1], p[2] * 0.8], 13.0, seed ^ 29)
        }
        _ => mean + texture * (0.7 * n(10.0, 1) + 0.5 * n(4.5, 30)) - 0.01 * place.cavity.clamp(0.0, 50.0),
    }
}

/// Renders CT numbers and labels.
pub(crate) fn render(scene: &Scene, around: &Surroundings, scanner: &Scanner, grid: &Grid) -> (Vec<i16>, Vec<u8>) {
    let [nx, ny, nz] = grid.dim;
    let area = nx * ny;
    let over = grid.oversample;
    let mut fine = *grid;
    for a in 0..2 {
        fine.spacing[a] /= over as f32;
        fine.dim[a] *= over;
        fine.origin[a] -= 0.5 * (grid.spacing[a] - fine.spacing[a]);
    }
    let boxes = boxes(scene, &fine);
    let mut clean = vec![0i16; area * nz];
    let mut labels = vec![0u8; area * nz];
    clean.par_chunks_mut(area).zip(labels.par_chunks_mut(area)).enumerate().for_each(|(k, (clean, labels))| {
        let slice = paint_slice(scene, around, &fine, &boxes, k);
        let mut hu = vec![0f32; area];
        let mut votes = vec![0u8; over * over];
        for at in 0..area {
            let (i, j) = (at % nx, at / nx);
            let mut sum = 0.0;
            for (n, vote) in votes.iter_mut().enumerate() {
                let sample = i * over + n % over + nx * over * (j * over + n / over);
                let t = slice.tissue[sample];
                let place = slice.place[sample];
                *vote = Tissue::LABELS[t as usize];
                sum += edge(t, place, fine.spacing[0], scanner)
                    .unwrap_or_else(|| number(t, slice.organ[sample], place, scene, scanner));
            }
            hu[at] = sum / (over * over) as f32;
            labels[at] = majority(&votes);
        }
        blur(&mut hu, nx, ny, [scanner.blur_mm / grid.spacing[0], scanner.blur_mm / grid.spacing[1]]);
        for (o, h) in clean.iter_mut().zip(hu) {
            *o = (h * 8.0).round().clamp(-32_768.0, 32_767.0) as i16;
        }
    });
    let mut image = vec![0i16; area * nz];
    let grain = [scanner.grain_mm / grid.spacing[0], scanner.grain_mm / grid.spacing[1]];
    // Blurring thins noise out: measure by how much, on a slice of its own.
    let gain = {
        let mut probe = vec![0f32; 64 * 64];
        for (i, v) in probe.iter_mut().enumerate() {
            *v = noise::gaussian(i as i32, 0, 0, scanner.seed);
        }
        blur(&mut probe, 64, 64, grain);
        1.0 / (probe.iter().map(|v| v * v).sum::<f32>() / 4096.0).sqrt().max(0.02)
    };
    let centre =
        [grid.origin[0] + grid.spacing[0] * nx as f32 * 0.5, grid.origin[1] + grid.spacing[1] * ny as f32 * 0.5];
    image.par_chunks_mut(area).enumerate().for_each(|(k, out)| {
        let (below, above) = (k.saturating_sub(1), (k + 1).min(nz - 1));
        let mut grains: Vec<f32> =
            (0..area).map(|at| noise::gaussian((at % nx) as i32, (at / nx) as i32, k as i32, scanner.seed)).collect();
        blur(&mut grains, nx, ny, grain);
        for at in 0..area {
            let v = |k: usize| f32::from(clean[k * area + at]) / 8.0;
            let hu = (1.0 - 2.0 * scanner.bleed) * v(k) + scanner.bleed * (v(below) + v(above));
            let x = grid.origin[0] + grid.spacing[0] * (at % nx) as f32;
            let y = grid.origin[1] + grid.spacing[1] * (at / nx) as f32;
            let (dx, dy) = (x - centre[0], y - centre[1]);
            let from_axis = ((x - scene.pose.centre[0]).powi(2) + (y - scene.pose.centre[1]).powi(2)).sqrt();
            let mut sd = scanner.noise_hu * (1.15 - 0.45 * (from_axis / 170.0).min(1.2));
            if hu < -800.0 {
                sd *= 0.7;
            }
            let mut value = hu + sd * gain * grains[at];
            if scanner.streaks > 0.0 && hu > -400.0 {
                let z = grid.origin[2] + grid.spacing[2] * k as f32;
                value += scanner.streaks * noise::value([x / 140.0, y / 3.0, z / 4.0], scanner.seed ^ 5);
            }
            if dx * dx + dy * dy > scanner.circle_mm * scanner.circle_mm {
                value = -1024.0;
            }
            out[at] = value.round().clamp(-1024.0, 3071.0) as i16;
        }
    });
    (image, labels)
}
