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
    /// Points along x and y in a pixel where tissues meet.
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
            let [mut low, mut high] = paint.bounds;
            let warps = [(&scene.organ_warp, paint.frame == Frame::Organ), (&scene.shape_warp, true)];
            for (warp, _) in warps.into_iter().filter(|w| w.1) {
                // Points that the warp moves into the box come from no farther than its greatest displacement.
                let [least, greatest] = warp.range(sub(low, warp.most), add(high, warp.most));
                (low, high) = (sub(low, greatest), sub(high, least));
            }
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

/// A point of a slice.
struct Sample {
    /// Column of its pixel.
    column: usize,
    bone: V3,
    organ: V3,
    place: Place,
    tissue: Tissue,
}

/// Points of a slice, by rows of pixels and sorted by column in each.
struct Samples {
    /// Where each row begins, and the end.
    rows: Vec<usize>,
    list: Vec<Sample>,
}

impl Samples {
    /// Takes `per`×`per` points in every pixel that `wanted` names (by linear index).
    fn take(
        scene: &Scene,
        around: &Surroundings,
        grid: &Grid,
        k: usize,
        per: usize,
        wanted: impl Fn(usize) -> bool,
    ) -> Self {
        let [nx, ny, _] = grid.dim;
        let (mut rows, mut list) = (vec![0], Vec::new());
        for j in 0..ny {
            for i in (0..nx).filter(|i| wanted(i + nx * j)) {
                for n in 0..per * per {
                    let part = |n: usize| ((n as f32 + 0.5) / per as f32) - 0.5;
                    let at = [i as f32 + part(n % per), j as f32 + part(n / per), k as f32];
                    let world = [0, 1, 2].map(|a| grid.origin[a] + grid.spacing[a] * at[a]);
                    list.push(sample(scene, around, world, i));
                }
            }
            rows.push(list.len());
        }
        Self { rows, list }
    }

    /// Lays the solids of a scene over the points.
    fn paint(&mut self, scene: &Scene, boxes: &[[[usize; 2]; 3]], k: usize) {
        for (paint, [x, y, z]) in scene.paints.iter().zip(boxes) {
            if k < z[0] || k >= z[1] {
                continue;
            }
            let [low, high] = paint.bounds;
            for j in y[0]..y[1] {
                let row = &mut self.list[self.rows[j]..self.rows[j + 1]];
                let first = row.partition_point(|s| s.column < x[0]);
                for s in row[first..].iter_mut().take_while(|s| s.column < x[1]) {
                    let p = if paint.frame == Frame::Bone { s.bone } else { s.organ };
                    if !paint.over.has(s.tissue)
                        || (0..3).any(|a| p[a] < low[a] || p[a] > high[a])
                        || !paint.holds(p, s.place, &scene.body, scene.seed)
                    {
                        continue;
                    }
                    s.tissue = match paint.fill {
                        Fill::Of(t) => t,
                        Fill::Level { y, above, .. } if p[1] > y => above,
                        Fill::Level { below, .. } => below,
                    };
                }
            }
        }
    }
}

fn sample(scene: &Scene, around: &Surroundings, world: V3, column: usize) -> Sample {
    let r = turn(&scene.pose.axes, sub(world, scene.pose.centre));
    let r = [0, 1, 2].map(|a| r[a] / scene.pose.size[a]);
    let bone = add(r, scene.shape_warp.sample(r));
    let place = scene.body.place(bone);
    if place.skin < 0.0 {
        return Sample { column, bone, organ: bone, place, tissue: around.tissue(r) };
    }
    let organ = add(bone, scene.organ_warp.sample(bone));
    Sample { column, bone, organ, place, tissue: scene.body.tissue(place, bone, organ) }
}

/// CT numbers and labels of a slice before noise. Pixels in which tissues meet are averaged over `grid.oversample`²
/// points.
fn slice(
    scene: &Scene,
    around: &Surroundings,
    scanner: &Scanner,
    grid: &Grid,
    boxes: &[[[usize; 2]; 3]],
    k: usize,
    labels: &mut [u8],
) -> Vec<f32> {
    let [nx, ny, _] = grid.dim;
    let hu = |s: &Sample, width: f32| {
        edge(s.tissue, s.place, width, scanner).unwrap_or_else(|| number(s.tissue, s.organ, s.place, scene, scanner))
    };
    let mut centres = Samples::take(scene, around, grid, k, 1, |_| true);
    centres.paint(scene, boxes, k);
    let mut out: Vec<f32> = centres.list.iter().map(|s| hu(s, grid.spacing[0])).collect();
    for (label, s) in labels.iter_mut().zip(&centres.list) {
        *label = Tissue::LABELS[s.tissue as usize];
    }
    let per = grid.oversample;
    if per < 2 {
        return out;
    }
    // Tissues that look alike need no care unless a label ends there.
    let differ = |at: usize, t: Tissue| {
        let o = centres.list[at].tissue;
        let mean = |t: Tissue| scanner.numbers.mean[t as usize];
        o != t && (Tissue::LABELS[o as usize] != Tissue::LABELS[t as usize] || (mean(o) - mean(t)).abs() > 25.0)
    };
    let mixed: Vec<bool> = (0..nx * ny)
        .map(|at| {
            let (i, j, t) = (at % nx, at / nx, centres.list[at].tissue);
            (i > 0 && differ(at - 1, t))
                || (i + 1 < nx && differ(at + 1, t))
                || (j > 0 && differ(at - nx, t))
                || (j + 1 < ny && differ(at + nx, t))
        })
        .collect();
    let mut parts = Samples::take(scene, around, grid, k, per, |at| mixed[at]);
    parts.paint(scene, boxes, k);
    let pixels = mixed.iter().enumerate().filter_map(|(at, m)| m.then_some(at));
    for (at, parts) in pixels.zip(parts.list.chunks_exact(per * per)) {
        out[at] = parts.iter().map(|s| hu(s, grid.spacing[0] / per as f32)).sum::<f32>() / (per * per) as f32;
        labels[at] = majority(parts);
    }
    out
}

/// The label most points have; of several such labels the first.
fn majority(parts: &[Sample]) -> u8 {
    let label = |s: &Sample| Tissue::LABELS[s.tissue as usize];
    let mut best = (0, 0);
    for s in parts {
        let n = parts.iter().filter(|o| label(o) == label(s)).count();
        if n > best.0 {
            best = (n, label(s));
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
    let boxes = boxes(scene, grid);
    let mut clean = vec![0i16; area * nz];
    let mut labels = vec![0u8; area * nz];
    clean.par_chunks_mut(area).zip(labels.par_chunks_mut(area)).enumerate().for_each(|(k, (clean, labels))| {
        let mut hu = slice(scene, around, scanner, grid, &boxes, k, labels);
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
