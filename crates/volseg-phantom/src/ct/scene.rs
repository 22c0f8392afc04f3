//! The list of solids that make up one patient, painted over each other in order.

use super::{
    body::{Body, Place},
    tissue::{Set, Tissue},
};
use crate::{
    noise::{self, Warp},
    shape::{Shape, V3, add, scale, turn_back},
};

/// Coordinates in which a solid is still undeformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// The trunk's own.
    Bone,
    /// Soft parts: moved by breath and squeezed by their neighbours.
    Organ,
}

/// Tissue of a solid's voxels.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fill {
    /// One tissue.
    Of(Tissue),
    /// Gas over something else, parted at a height (the patient lies on the back: gas gathers in front).
    Level { y: f32, above: Tissue, below: Tissue },
}

/// A solid, or an organ that the trunk's wall shapes.
pub(crate) enum Solid {
    /// Freestanding.
    Free(Shape),
    /// The liver: lobes joined smoothly, pressed against diaphragm and ribs, hollowed by the spine's bulge.
    Liver { lobes: Vec<Shape>, hollows: Vec<Shape>, blend: f32 },
    /// The spleen: a cap on the wall, `thick` mm at `degrees`, `z`.
    Spleen { degrees: f32, z: f32, reach: [f32; 2], thick: f32, tilt: f32 },
}

/// One step of the painting.
pub(crate) struct Paint {
    pub(crate) solid: Solid,
    pub(crate) fill: Fill,
    pub(crate) over: Set,
    pub(crate) frame: Frame,
    /// Height and width of bumps on the surface, mm.
    pub(crate) rough: [f32; 2],
    pub(crate) bounds: [V3; 2],
}

/// Reference patient to world: turn, size, place.
pub(crate) struct Pose {
    pub(crate) size: V3,
    pub(crate) axes: [V3; 3],
    pub(crate) centre: V3,
}

impl Pose {
    /// From reference coordinates to the world's, mm.
    pub(crate) fn to_world(&self, p: V3) -> V3 {
        add(turn_back(&self.axes, [p[0] * self.size[0], p[1] * self.size[1], p[2] * self.size[2]]), self.centre)
    }
}

/// A patient on the table.
pub(crate) struct Scene {
    pub(crate) body: Body,
    pub(crate) paints: Vec<Paint>,
    pub(crate) pose: Pose,
    /// Deforms everything.
    pub(crate) shape_warp: Warp,
    /// Deforms soft parts further.
    pub(crate) organ_warp: Warp,
    pub(crate) seed: u32,
}

pub(crate) const FATS: Set = Set::of(&[Tissue::Visceral, Tissue::Perirenal]);
pub(crate) const BOWEL: Set = Set::of(&[Tissue::BowelWall, Tissue::BowelFluid, Tissue::Gas, Tissue::Stool]);
pub(crate) const LIVER: Set =
    Set::of(&[Tissue::Liver, Tissue::LiverVein, Tissue::LiverPortal, Tissue::LiverCyst, Tissue::LiverLesion]);
pub(crate) const STOMACH: Set =
    Set::of(&[Tissue::StomachWall, Tissue::StomachFluid, Tissue::StomachFood, Tissue::StomachGas]);
pub(crate) const DUODENUM: Set = Set::of(&[Tissue::DuodenumWall, Tissue::DuodenumFluid, Tissue::DuodenumGas]);
pub(crate) const KIDNEYS: Set = Set::of(&[Tissue::KidneyR, Tissue::KidneyL, Tissue::MedullaR, Tissue::MedullaL]);
pub(crate) const SPLEEN: Set = Set::of(&[Tissue::Spleen]);
pub(crate) const PANCREAS: Set = Set::of(&[Tissue::Pancreas]);
/// All that a retroperitoneal organ may push aside.
pub(crate) const SOFT: Set = FATS.and(BOWEL).and(LIVER).and(STOMACH).and(DUODENUM).and(SPLEEN).and(PANCREAS);

impl Scene {
    /// Adds a solid.
    pub(crate) fn put(&mut self, shape: Shape, fill: Fill, over: Set, frame: Frame) {
        self.put_rough(shape, fill, over, frame, [0.0, 1.0]);
    }

    /// Adds a solid with bumps.
    pub(crate) fn put_rough(&mut self, shape: Shape, fill: Fill, over: Set, frame: Frame, rough: [f32; 2]) {
        let [low, high] = shape.bounds();
        let grow = [rough[0]; 3];
        let bounds = [add(low, scale(grow, -1.0)), add(high, grow)];
        self.paints.push(Paint { solid: Solid::Free(shape), fill, over, frame, rough, bounds });
    }

    /// Adds a tissue.
    pub(crate) fn soft(&mut self, shape: Shape, tissue: Tissue, over: Set) {
        self.put(shape, Fill::Of(tissue), over, Frame::Organ);
    }

    /// Adds a chain of cones through `points` (x, y, z, radius).
    pub(crate) fn tube(
        &mut self,
        points: &[[f32; 4]],
        grow: f32,
        fill: Fill,
        over: Set,
        frame: Frame,
        rough: [f32; 2],
    ) {
        for pair in points.windows(2) {
            let [a, b] = [pair[0], pair[1]];
            let shape = Shape::Capsule {
                a: [a[0], a[1], a[2]],
                b: [b[0], b[1], b[2]],
                ra: (a[3] + grow).max(0.5),
                rb: (b[3] + grow).max(0.5),
                flat: 1.0,
            };
            self.put_rough(shape, fill, over, frame, rough);
        }
    }

    /// A vessel with a sheath of fat, so that it stands out from its neighbours.
    pub(crate) fn vessel(&mut self, points: &[[f32; 4]], tissue: Tissue, sheath: f32, over: Set) {
        let points = curve(points, 7.0);
        if sheath > 0.0 {
            self.tube(&points, sheath, Fill::Of(Tissue::Visceral), over, Frame::Organ, [0.0, 1.0]);
        }
        self.tube(&points, 0.0, Fill::Of(tissue), over.and(FATS), Frame::Organ, [0.0, 1.0]);
    }
}

/// A point of a tube, moved by a share of `by`.
pub(crate) fn moved(point: [f32; 4], by: V3, share: f32) -> [f32; 4] {
    [point[0] + share * by[0], point[1] + share * by[1], point[2] + share * by[2], point[3]]
}

/// A smooth curve (Catmull-Rom) through points of position and radius, cut about every `step` mm.
pub(crate) fn curve(points: &[[f32; 4]], step: f32) -> Vec<[f32; 4]> {
    let at = |i: isize| points[i.clamp(0, points.len() as isize - 1) as usize];
    let mut out = Vec::new();
    for i in 0..points.len().saturating_sub(1) as isize {
        let [p, q, r, s] = [at(i - 1), at(i), at(i + 1), at(i + 2)];
        let long = (0..3).map(|c| (r[c] - q[c]).powi(2)).sum::<f32>().sqrt();
        let pieces = (long / step).ceil().max(1.0) as usize;
        for k in 0..pieces {
            let t = k as f32 / pieces as f32;
            let (t2, t3) = (t * t, t * t * t);
            out.push([0, 1, 2, 3].map(|c| {
                0.5 * (2.0 * q[c]
                    + (r[c] - p[c]) * t
                    + (2.0 * p[c] - 5.0 * q[c] + 4.0 * r[c] - s[c]) * t2
                    + (3.0 * q[c] - p[c] - 3.0 * r[c] + s[c]) * t3)
            }));
        }
    }
    out.extend(points.last());
    out
}

fn smooth_min(a: f32, b: f32, k: f32) -> f32 {
    let h = (k - (a - b).abs()).max(0.0) / k;
    a.min(b) - h * h * k * 0.25
}

impl Paint {
    /// Is the point inside?
    #[inline]
    pub(crate) fn holds(&self, p: V3, place: Place, body: &Body, seed: u32) -> bool {
        let d = match &self.solid {
            Solid::Free(shape) => shape.distance(p),
            Solid::Liver { lobes, hollows, blend } => {
                if place.cavity < 2.0 {
                    return false;
                }
                let d = lobes.iter().fold(1e3, |d, s| smooth_min(d, s.distance(p), *blend));
                let d = hollows.iter().fold(d, |d, s| -smooth_min(-d, s.distance(p), 12.0));
                if d < 0.0 { d.max(p[2] - body.diaphragm(p, place.cavity) + 3.0) } else { d }
            }
            Solid::Spleen { degrees, z, reach, thick, tilt } => {
                if place.cavity < 2.0 || p[0] > -15.0 {
                    return false;
                }
                let angle = (super::body::AXIS_Y - p[1]).atan2(-p[0]).to_degrees() + 180.0;
                let turn = angle - degrees;
                let e = (turn / reach[0]).powi(2) + ((p[2] - z + tilt * turn) / reach[1]).powi(2);
                if e >= 1.0 {
                    return false;
                }
                let d = place.cavity - body.lung_depth(p).clamp(2.0, 26.0) - thick * (1.0 - e).sqrt();
                if d < 0.0 { d.max(p[2] - body.diaphragm(p, place.cavity) + 3.0) } else { d }
            }
        };
        let [height, width] = self.rough;
        if height > 0.0 && d.abs() < height { d + height * noise::at(p, width, seed) < 0.0 } else { d < 0.0 }
    }
}
