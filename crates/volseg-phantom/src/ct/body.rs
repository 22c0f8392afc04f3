//! The trunk as radial profiles: cavity, muscle, fat and skin around a long axis, and the diaphragm.

use super::tissue::Tissue;
use crate::{draw::Draw, noise, shape::V3};

/// y of the long axis of the trunk; vertebral bodies lie at y = 0.
pub(crate) const AXIS_Y: f32 = 25.0;

/// Half-width, front depth and back depth of a section at a height z.
type Section = [f32; 3];

/// z, then the section; mm of the reference patient.
type Profile = &'static [(f32, Section)];

/// Inner surface of the trunk's wall: ribs and muscle begin here.
const CAVITY: Profile = &[
    (-330.0, [12.0, 14.0, 24.0]),
    (-290.0, [32.0, 42.0, 60.0]),
    (-250.0, [52.0, 64.0, 84.0]),
    (-210.0, [72.0, 76.0, 88.0]),
    (-170.0, [98.0, 80.0, 70.0]),
    (-130.0, [118.0, 82.0, 58.0]),
    (-80.0, [124.0, 82.0, 60.0]),
    (-30.0, [127.0, 85.0, 68.0]),
    (20.0, [131.0, 90.0, 78.0]),
    (70.0, [133.0, 93.0, 86.0]),
    (120.0, [131.0, 93.0, 90.0]),
    (180.0, [125.0, 84.0, 90.0]),
    (240.0, [112.0, 70.0, 86.0]),
];

/// Outer surface of the muscles, under the fat.
const MUSCLE: Profile = &[
    (-330.0, [164.0, 66.0, 104.0]),
    (-290.0, [170.0, 78.0, 112.0]),
    (-250.0, [172.0, 86.0, 114.0]),
    (-210.0, [164.0, 90.0, 110.0]),
    (-170.0, [150.0, 92.0, 102.0]),
    (-130.0, [139.0, 92.0, 97.0]),
    (-80.0, [136.0, 92.0, 97.0]),
    (-30.0, [139.0, 95.0, 98.0]),
    (20.0, [144.0, 100.0, 99.0]),
    (70.0, [147.0, 104.0, 101.0]),
    (120.0, [148.0, 104.0, 103.0]),
    (180.0, [150.0, 98.0, 104.0]),
    (240.0, [154.0, 88.0, 104.0]),
];

/// Sections every 4 mm.
struct Table {
    first: f32,
    rows: Vec<Section>,
}

impl Table {
    fn new(profile: Profile, change: impl Fn(f32, Section) -> Section) -> Self {
        let first = -330.0;
        let rows = (0..=143)
            .map(|i| {
                let z = first + 4.0 * i as f32;
                let at = profile.partition_point(|(k, _)| *k <= z).clamp(1, profile.len() - 1);
                let ((z0, a), (z1, b)) = (profile[at - 1], profile[at]);
                let t = ((z - z0) / (z1 - z0)).clamp(0.0, 1.0);
                let t = t * t * (3.0 - 2.0 * t) * 0.5 + t * 0.5;
                change(z, [0, 1, 2].map(|c| a[c] + (b[c] - a[c]) * t))
            })
            .collect();
        Self { first, rows }
    }

    #[inline]
    fn at(&self, z: f32) -> Section {
        let x = ((z - self.first) / 4.0).clamp(0.0, self.rows.len() as f32 - 1.001);
        let i = x as usize;
        let t = x - i as f32;
        let (a, b) = (self.rows[i], self.rows[i + 1]);
        [0, 1, 2].map(|c| a[c] + (b[c] - a[c]) * t)
    }
}

/// Depth under the surface of a section (positive inside), along the radius.
#[inline]
fn depth(x: f32, y: f32, section: Section, square: f32) -> f32 {
    let b = if y > 0.0 { section[1] } else { section[2] };
    let (u, v) = ((x / section[0]).powi(2), (y / b).powi(2));
    let q = u + v;
    let n = (q + ((u * u + v * v).sqrt() - q) * square).sqrt();
    let r = (x * x + y * y).sqrt();
    if n < 0.05 { section[0].min(b) } else { r * (1.0 / n - 1.0) }
}

/// A patient's trunk.
pub(crate) struct Body {
    cavity: Table,
    muscle: Table,
    fat: [f32; 3],
    square: f32,
    seed: u32,
    /// Bulge of the back muscles beside the furrow, mm.
    back: f32,
    dome: [f32; 2],
    /// Fluid in the chest stands up to this y, right and left.
    effusion: [f32; 2],
    /// How far the lungs reach down between diaphragm and ribs, and how thick they are there, mm.
    recess: [f32; 2],
    rib_level: f32,
    pub(crate) inner_fat: f32,
    pub(crate) female: bool,
    pub(crate) marbling: f32,
}

/// Where a point lies with respect to the trunk, mm.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// Depth inside the cavity; negative in the wall.
    pub(crate) cavity: f32,
    /// Depth under the muscle's surface; negative in fat and outside.
    pub(crate) muscle: f32,
    /// Depth under the skin; negative outside.
    pub(crate) skin: f32,
}

impl Body {
    pub(crate) fn draw(draw: &mut Draw) -> Self {
        let female = draw.chance(0.45);
        // Fatness 0..1, skewed to the lean side.
        let fatness = draw.unit().powf(1.4);
        let under_skin = fatness * draw.range(0.6, 1.4) * if female { 1.35 } else { 0.9 };
        let inner_fat = (fatness * draw.range(0.5, 1.4) * if female { 0.75 } else { 1.15 }).min(1.3);
        let (front, side) =
            (1.0 + 0.42 * inner_fat + draw.range(-0.06, 0.1), 1.0 + 0.13 * inner_fat + draw.range(-0.04, 0.03));
        let brawn = draw.range(0.75, 1.25);
        let belly = move |z: f32, s: Section| {
            // The belly grows below the ribs, less above and in the pelvis.
            let w = (1.0 - ((z + 40.0) / 190.0).powi(2)).max(0.0);
            [s[0] * (1.0 + (side - 1.0) * (0.4 + 0.6 * w)), s[1] * (1.0 + (front - 1.0) * w), s[2]]
        };
        let cavity = Table::new(CAVITY, belly);
        let muscle = Table::new(MUSCLE, |z, m| {
            let [m, c] = [belly(z, m), cavity.at(z)];
            let keep = if z < -150.0 { 1.0 } else { brawn };
            [c[0] + (m[0] - c[0]) * keep, c[1] + (m[1] - c[1]) * keep, m[2]]
        });
        Self {
            cavity,
            muscle,
            fat: [7.0 + 38.0 * under_skin, 6.0 + 30.0 * under_skin, 7.0 + 30.0 * under_skin],
            square: draw.range(0.15, 0.5),
            seed: draw.seed(),
            dome: [draw.normal(128.0, 8.0), draw.normal(114.0, 9.0)],
            back: draw.range(3.0, 9.0),
            effusion: [0; 2].map(|_| if draw.chance(0.07) { draw.range(-60.0, -5.0) } else { -500.0 }),
            recess: [draw.range(45.0, 78.0), draw.range(8.0, 16.0)],
            rib_level: draw.normal(0.0, 8.0),
            inner_fat,
            female,
            marbling: draw.unit().powi(2),
        }
    }

    /// Places a point of the reference frame.
    #[inline]
    pub(crate) fn place(&self, p: V3) -> Place {
        let (x, y) = (p[0], p[1] - AXIS_Y);
        let cavity = depth(x, y, self.cavity.at(p[2]), self.square);
        let mut muscle = depth(x, y, self.muscle.at(p[2]), self.square);
        let r = (x * x + y * y).sqrt().max(1.0);
        let (cx, cy) = (x / r, y / r);
        // The furrow over the spine.
        if y < 0.0 {
            let low = ((p[2] + 150.0) / 60.0).clamp(0.0, 1.0);
            let bulge = (-((x.abs() - 40.0) / 24.0).powi(2)).exp();
            muscle += self.back * low * (bulge - (-(x / 15.0).powi(2)).exp());
        }
        let skin = if muscle > 25.0 {
            muscle
        } else {
            let hips =
                0.5 * ((-p[2] - 60.0) / 150.0).clamp(0.0, 1.0) + 0.75 + 0.25 * ((60.0 - p[2]) / 100.0).clamp(0.0, 1.0);
            let (front, back) = (cy.max(0.0).powi(2), cy.min(0.0).powi(2));
            let fat = self.fat[0] * front + self.fat[1] * cx * cx + self.fat[2] * back;
            let wave = 1.0 + 0.25 * noise::at([cx * 90.0, cy * 90.0, p[2]], 60.0, self.seed);
            // The navel.
            let navel = if y > 0.0 { 0.75 * (-(x * x + (p[2] + 90.0).powi(2)) / 90.0).exp() } else { 0.0 };
            muscle + fat * hips * wave * (1.0 - navel)
        };
        Place { cavity, muscle, skin }
    }

    /// Height of the domes over a point, and how far the diaphragm drops from there at the wall.
    #[inline]
    fn dome(&self, p: V3) -> [f32; 2] {
        let t = ((p[0] + 15.0) / 45.0).clamp(-1.0, 1.0) * 0.5 + 0.5;
        let t = t * t * (3.0 - 2.0 * t);
        let dome = self.dome[1] + (self.dome[0] - self.dome[1]) * t - 12.0 * (-(p[0] / 30.0).powi(2)).exp();
        let y = (p[1] - AXIS_Y) / 80.0;
        [dome - 18.0 * y.clamp(-1.0, 1.0) * y.signum(), self.recess[0] - 42.0 * y.clamp(-0.6, 1.0)]
    }

    /// Height of the diaphragm over a point; `depth` is the point's depth in the cavity.
    #[inline]
    pub(crate) fn diaphragm(&self, p: V3, depth: f32) -> f32 {
        let [dome, drop] = self.dome(p);
        dome - drop * (-depth.max(0.0) / self.recess[1]).exp()
    }

    /// Thickness of the lung between wall and diaphragm beside a point, mm.
    #[inline]
    pub(crate) fn lung_depth(&self, p: V3) -> f32 {
        let [dome, drop] = self.dome(p);
        self.recess[1] * (drop / (dome - p[2]).max(0.1)).ln().max(0.0)
    }

    /// Tissue of the wall, or of the empty cavity.
    #[inline]
    pub(crate) fn tissue(&self, place: Place, bone_frame: V3, organ_frame: V3) -> Tissue {
        let p = bone_frame;
        if place.skin < 0.0 {
            return Tissue::Air;
        }
        if place.skin < 1.9 {
            return Tissue::Skin;
        }
        if place.muscle < 0.0 {
            return Tissue::Fat;
        }
        if place.cavity < 0.0 {
            return self.wall(place, p);
        }
        let roof = self.diaphragm(organ_frame, place.cavity);
        let above = organ_frame[2] - roof;
        if above > 0.0 {
            // Mediastinum: a column around oesophagus, aorta and heart.
            let lean = (p[1] - 40.0) / 60.0;
            let column = ((p[0] + 8.0 + 10.0 * lean) / (26.0 + 12.0 * (lean - 0.4).abs())).powi(2)
                + if p[1] > 40.0 { 0.0 } else { ((p[1] - 40.0) / 48.0).powi(2) };
            if column < 1.0 {
                Tissue::Visceral
            } else if organ_frame[1] < self.effusion[usize::from(p[0] < 0.0)] {
                Tissue::Effusion
            } else {
                Tissue::Lung
            }
        } else if above > -3.0 || (place.cavity < 1.5 && p[2] > -20.0) {
            Tissue::Muscle
        } else {
            Tissue::Visceral
        }
    }

    #[inline]
    fn wall(&self, place: Place, p: V3) -> Tissue {
        let f = -place.cavity / (place.muscle - place.cavity).max(0.1);
        let (x, y) = (p[0].abs(), p[1]);
        // Three flat muscles at the side with fat between, two straight ones in front.
        if p[2] < 40.0 && p[2] > -150.0 {
            let thin = 0.045 + 0.04 * self.marbling;
            if y > -10.0 && x > 60.0 && ((f - 0.36).abs() < thin || (f - 0.68).abs() < thin) {
                return Tissue::MuscleFat;
            }
            if y > 60.0 && (56.5..60.0).contains(&x) {
                return Tissue::MuscleFat;
            }
            if y > 60.0 && x < 2.0 {
                return Tissue::MuscleFat;
            }
        }
        // Septa between the muscles of back, buttocks and thighs.
        let scale = if p[2] < -150.0 { 38.0 } else { 26.0 };
        if y < -15.0 || p[2] < -150.0 {
            let n = noise::at([p[0] + 500.0, p[1], p[2] * 0.45], scale, self.seed ^ 7);
            if n.abs() < 0.035 + 0.06 * self.marbling {
                return Tissue::MuscleFat;
            }
        }
        if p[2] < -120.0 && place.cavity > -4.0 { Tissue::Visceral } else { Tissue::Muscle }
    }

    /// Depth and height of the rib cage's lower rim move with this.
    pub(crate) fn rib_level(&self) -> f32 {
        self.rib_level
    }

    /// A point at a share of the way from the axis to the cavity's wall (angle 0 = right, 90° = front).
    pub(crate) fn inside(&self, degrees: f32, share: f32, z: f32) -> V3 {
        let (s, c) = degrees.to_radians().sin_cos();
        let section = self.cavity.at(z);
        // The radius where the depth vanishes is linear in the direction.
        let probe = depth(c * 50.0, s * 50.0, section, self.square) + 50.0;
        [c * probe * share, AXIS_Y + s * probe * share, z]
    }

    /// Radius of the cavity and of the muscle at an angle.
    pub(crate) fn radii(&self, degrees: f32, z: f32) -> [f32; 2] {
        let (s, c) = degrees.to_radians().sin_cos();
        [&self.cavity, &self.muscle].map(|t| depth(c * 50.0, s * 50.0, t.at(z), self.square) + 50.0)
    }
}
