//! A CT of an abdomen that never was: continuous anatomy in mm, drawn on any grid.

mod body;
mod bowel;
mod options;
mod organs;
mod pelvis;
mod render;
mod retroperitoneum;
mod scene;
mod skeleton;
mod tissue;
mod vessels;

pub use options::{Coverage, CtOptions, Phase, Size};

use crate::{
    Error, Result,
    draw::Draw,
    noise::{self, Warp},
    shape::{V3, rotation},
};
use body::Body;
use render::{Grid, Scanner, Surroundings};
use scene::{Pose, Scene};
use tissue::Numbers;
use volseg_geometry::{Affine, LabelMap, Volume};

/// Most voxels of a phantom: 1024 slices of 512×512.
pub const MOST_VOXELS: usize = 1 << 28;

/// Numbers of the independent streams drawn from one seed.
const PATIENT: u64 = 1;
const SCAN: u64 = 2;

/// A synthetic CT with its true labels.
#[derive(Clone, Debug)]
pub struct CtPhantom {
    /// CT numbers, HU.
    pub image: Volume<i16>,
    /// AMOS label ids 1–15 on the same grid; 0 elsewhere.
    pub labels: LabelMap,
    /// Contrast phase of the scan.
    pub phase: Phase,
    /// The patient's sex: label 15 is the uterus if `true`, else the prostate.
    pub female: bool,
}

/// Makes a CT of the abdomen. The patient depends on the seed alone, so that the same seed on another grid shows the
/// same anatomy; equal seed and options give equal bits on any number of threads.
///
/// # Errors
/// [`Error::Grid`] if the grid is empty, larger than [`MOST_VOXELS`], or its spacing is out of range.
pub fn ct_abdomen(seed: u64, options: &CtOptions) -> Result<CtPhantom> {
    let scene = patient(seed);
    let mut draw = Draw::new(seed, SCAN);
    let phase = match draw.unit() {
        u if u < 0.22 => Phase::Native,
        u if u < 0.42 => Phase::Arterial,
        u if u < 0.85 => Phase::PortalVenous,
        _ => Phase::Delayed,
    };
    let phase = options.phase.unwrap_or(phase);
    let numbers = Numbers::draw(phase, &mut draw);
    let around = Surroundings::draw(&scene, &mut draw);
    let grid = grid(options, &scene, &mut draw)?;
    let in_plane = grid.spacing[0];
    let noise_hu = if draw.chance(0.2) { draw.range(14.0, 30.0) } else { draw.range(5.0, 16.0) };
    let scanner = Scanner {
        numbers,
        noise_hu: options.noise_hu.unwrap_or(noise_hu),
        blur_mm: draw.range(0.45, 1.1).max(in_plane * draw.range(0.3, 0.62)),
        grain_mm: draw.range(0.3, 1.1),
        bleed: draw.range(0.0, 0.22),
        streaks: if draw.chance(0.2) { draw.range(4.0, 22.0) } else { 0.0 },
        circle_mm: if draw.chance(0.3) { grid.spacing[0] * grid.dim[0] as f32 * 0.5 } else { 1e4 },
        seed: draw.seed(),
    };
    let (image, labels) = render::render(&scene, &around, &scanner, &grid);
    let affine = Affine::from_columns(
        [0, 1, 2].map(|a| {
            let mut column = [0.0; 3];
            column[a] = f64::from(grid.spacing[a]);
            column
        }),
        grid.origin.map(f64::from),
    );
    Ok(CtPhantom {
        image: Volume::from_vec(image, grid.dim, affine)?,
        labels: LabelMap::from_vec(labels, grid.dim, affine)?,
        phase,
        female: scene.body.female,
    })
}

/// Draws a patient.
fn patient(seed: u64) -> Scene {
    let mut draw = Draw::new(seed, PATIENT);
    let draw = &mut draw;
    let body = Body::draw(draw);
    let tall = draw.normal(if body.female { 0.95 } else { 1.01 }, 0.045);
    let pose = Pose {
        size: [tall * draw.factor(0.035), tall * draw.factor(0.035), tall * draw.factor(0.03)],
        axes: rotation([draw.normal(0.0, 0.035), draw.normal(0.0, 0.03), draw.normal(0.0, 0.05)]),
        centre: [draw.normal(0.0, 8.0), draw.normal(0.0, 12.0), 0.0],
    };
    let (low, high) = ([-260.0, -200.0, -360.0], [260.0, 260.0, 280.0]);
    let octave =
        |p: V3, size: f32, amount: f32, seed: u32| [0, 1, 2].map(|a| amount * noise::at(p, size, seed.wrapping_add(a)));
    let (s, t) = (draw.seed(), draw.seed());
    let strength = draw.range(0.6, 1.45);
    let shape_warp = Warp::tabulate(low, high, 20.0, |p| {
        let (a, b) = (octave(p, 130.0, 7.0 * strength, s), octave(p, 60.0, 2.5 * strength, s ^ 77));
        [0, 1, 2].map(|c| a[c] + b[c])
    });
    let breath = draw.normal(0.0, 8.0);
    let organ_warp = Warp::tabulate(low, high, 14.0, |p| {
        let (a, b) = (octave(p, 75.0, 8.0 * strength, t), octave(p, 34.0, 3.2 * strength, t ^ 99));
        // Held by the spine.
        let loose = ((p[0].hypot(p[1]) - 22.0) / 40.0).clamp(0.1, 1.0);
        let t = ((p[2] + 70.0) / 140.0).clamp(0.0, 1.0);
        let slide = breath * t * t * (3.0 - 2.0 * t);
        [loose * (a[0] + b[0]), loose * (a[1] + b[1]), loose * (a[2] + b[2]) + slide]
    });
    let mut scene = Scene { body, paints: Vec::new(), pose, shape_warp, organ_warp, seed: draw.seed() };
    // Order is precedence: what comes later displaces what it may.
    // What lies around the pancreas moves together.
    let middle = [draw.normal(0.0, 5.0), draw.normal(0.0, 5.0), draw.normal(0.0, 12.0)];
    bowel::colon(&mut scene, draw);
    bowel::small_bowel(&mut scene, draw);
    organs::heart(&mut scene, draw);
    organs::liver(&mut scene, draw);
    organs::gallbladder(&mut scene, draw);
    organs::stomach(&mut scene, draw);
    organs::spleen(&mut scene, draw);
    retroperitoneum::pancreas(&mut scene, draw, middle);
    retroperitoneum::duodenum(&mut scene, draw, middle);
    pelvis::pelvic(&mut scene, draw);
    retroperitoneum::kidneys(&mut scene, draw);
    pelvis::muscles(&mut scene, draw);
    pelvis::crura(&mut scene, draw);
    vessels::hepatic(&mut scene, draw);
    organs::oesophagus(&mut scene, draw);
    vessels::great(&mut scene, draw);
    vessels::branches(&mut scene, draw, middle);
    retroperitoneum::adrenals(&mut scene, draw);
    skeleton::build(&mut scene, draw);
    scene
}

/// The grid that the options, or the seed, ask for.
fn grid(options: &CtOptions, scene: &Scene, draw: &mut Draw) -> Result<Grid> {
    let coverage = match draw.unit() {
        u if u < 0.45 => Coverage::UpperAbdomen,
        _ => Coverage::AbdomenPelvis,
    };
    let (low, high) = match options.coverage.unwrap_or(coverage) {
        Coverage::UpperAbdomen => (draw.range(-130.0, -50.0), draw.range(120.0, 190.0)),
        Coverage::AbdomenPelvis => (draw.range(-310.0, -285.0), draw.range(125.0, 190.0)),
    };
    let (low, high) = (low * scene.pose.size[2], high * scene.pose.size[2]);
    let view = f64::from(draw.range(335.0, 500.0));
    let view = options.field_of_view_mm.unwrap_or(view);
    let slice = f64::from(draw.range(2.5, 3.0));
    let spacing = options.spacing_mm.unwrap_or(match options.size {
        Size::Small => [slice; 3],
        Size::Full => [view / 512.0, view / 512.0, slice],
    });
    let bad = |dim: [usize; 3]| Error::Grid { dim, spacing_mm: spacing, most_voxels: MOST_VOXELS };
    if spacing.iter().any(|s| !(0.2..=20.0).contains(s)) || !(50.0..=2000.0).contains(&view) {
        return Err(bad(options.dim.unwrap_or_default()));
    }
    let dim = options.dim.unwrap_or_else(|| {
        let across = if options.size == Size::Full { 512 } else { (view / spacing[0]).round() as usize };
        let up = (f64::from(high - low) / spacing[2]).round() as usize;
        [across, if options.size == Size::Full { 512 } else { (view * 0.8 / spacing[1]).round() as usize }, up]
    });
    let voxels = dim.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).unwrap_or(0);
    if voxels == 0 || voxels > MOST_VOXELS {
        return Err(bad(dim));
    }
    let spacing = spacing.map(|s| s as f32);
    // The body lies near the middle of the field of view; with a given number of slices the scan starts at the top.
    let shift = [draw.normal(0.0, 8.0), draw.normal(18.0, 16.0)];
    let half = |a: usize| spacing[a] * (dim[a] - 1) as f32 / 2.0;
    let middle = [scene.pose.centre[0] + shift[0], scene.pose.centre[1] + shift[1]];
    let top = scene.pose.centre[2] + high;
    let oversample = options.oversample.unwrap_or(if spacing[0] < 1.2 { 1 } else { 2 }).clamp(1, 4);
    Ok(Grid { oversample, dim, spacing, origin: [middle[0] - half(0), middle[1] - half(1), top - 2.0 * half(2)] })
}
