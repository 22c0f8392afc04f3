//! Spine, ribs, cartilage, pelvis and hips.

use super::{
    scene::{Fill, Frame, Scene, curve},
    tissue::{Set, Tissue},
};
use crate::{
    draw::Draw,
    shape::{Shape, V3},
};

/// Bones displace everything; marrow and canal lie inside bone.
const ANY: Set = Set::of(&[
    Tissue::Skin,
    Tissue::Fat,
    Tissue::Muscle,
    Tissue::MuscleFat,
    Tissue::Visceral,
    Tissue::Perirenal,
    Tissue::Lung,
    Tissue::BowelWall,
    Tissue::BowelFluid,
    Tissue::Gas,
    Tissue::Stool,
    Tissue::Cartilage,
    Tissue::Disc,
    Tissue::Cortical,
    Tissue::Artery,
    Tissue::Vein,
    Tissue::Heart,
    Tissue::HeartWall,
    Tissue::Liver,
    Tissue::Spleen,
    Tissue::KidneyR,
    Tissue::KidneyL,
    Tissue::Bladder,
    Tissue::BladderWall,
    Tissue::Ureter,
    Tissue::Aorta,
    Tissue::Ivc,
]);
const BONE: Set = Set::of(&[Tissue::Cortical]);
const CANAL: Set = ANY.and(Set::of(&[Tissue::Spongy]));

/// Centres of the vertebral bodies from L5 up to T5: height and half height, mm.
const VERTEBRAE: [(f32, f32); 13] = [
    (-128.0, 14.5),
    (-91.0, 15.0),
    (-54.0, 15.0),
    (-18.0, 14.5),
    (17.0, 14.0),
    (50.0, 13.0),
    (80.0, 12.5),
    (109.0, 12.0),
    (137.0, 11.5),
    (164.0, 11.0),
    (190.0, 11.0),
    (215.0, 10.5),
    (240.0, 10.5),
];

/// y of the vertebral bodies' centres: lordosis below, kyphosis above.
pub(crate) fn spine_y(z: f32) -> f32 {
    if z > 20.0 { -0.0009 * (z - 20.0).powi(2) } else { 7.0 * (1.0 - ((z + 60.0) / 80.0).powi(2)) - 0.0 }
}

/// Bone with a shell `shell` mm thick around marrow.
fn bone(scene: &mut Scene, shape: Shape, inner: Shape) {
    scene.put(shape, Fill::Of(Tissue::Cortical), ANY, Frame::Bone);
    scene.put(inner, Fill::Of(Tissue::Spongy), BONE, Frame::Bone);
}

fn bar(scene: &mut Scene, a: V3, b: V3, ra: f32, rb: f32, shell: f32) {
    let cone = |d: f32| Shape::Capsule { a, b, ra: (ra - d).max(0.5), rb: (rb - d).max(0.5), flat: 1.0 };
    bone(scene, cone(0.0), cone(shell));
}

fn plate(scene: &mut Scene, a: V3, b: V3, c: V3, r: f32, shell: f32) {
    bone(scene, Shape::Triangle { a, b, c, r }, Shape::Triangle { a, b, c, r: (r - shell).max(0.4) });
}

pub(crate) fn build(scene: &mut Scene, draw: &mut Draw) {
    spine(scene, draw);
    ribs(scene, draw);
    pelvis(scene, draw);
}

fn spine(scene: &mut Scene, draw: &mut Draw) {
    let wide = draw.factor(0.06);
    let shell = draw.range(1.3, 2.2);
    for (i, &(z, half)) in VERTEBRAE.iter().enumerate() {
        let lumbar = i < 5;
        let y = spine_y(z);
        let [rx, ry] = if lumbar { [23.5 * wide, 17.0 * wide] } else { [(20.5 - 0.4 * i as f32) * wide, 15.5 * wide] };
        // The disc below.
        let below = VERTEBRAE.get(i.wrapping_sub(1)).map_or(-152.0, |v| v.0 + v.1);
        let middle = (below + z - half) / 2.0;
        let disc = Shape::Drum {
            centre: [0.0, spine_y(middle), middle],
            radii: [rx, ry],
            half: (z - half - below) / 2.0 + 1.0,
            waist: -0.04,
        };
        scene.put(disc, Fill::Of(Tissue::Disc), ANY, Frame::Bone);
        let back = y - ry;
        // Arch: pedicles, joints, laminae, processes.
        for side in [-1.0, 1.0] {
            bar(scene, [side * 14.0, back + 3.0, z + 4.0], [side * 16.0, back - 14.0, z + 2.0], 5.2, 5.5, 1.8);
            bar(scene, [side * 17.0, back - 15.0, z - 14.0], [side * 18.0, back - 15.0, z + 13.0], 5.5, 5.0, 2.2);
            bar(scene, [side * 15.0, back - 17.0, z], [0.0, back - 25.0, z - 6.0], 4.2, 4.5, 2.0);
            let reach = if lumbar { 44.0 } else { 33.0 };
            bar(
                scene,
                [side * 17.0, back - 12.0, z + 3.0],
                [side * reach, back - 15.0 - if lumbar { 0.0 } else { 8.0 }, z + 4.0],
                4.2,
                3.2,
                1.6,
            );
        }
        let drop = if lumbar { 8.0 } else { 20.0 };
        plate(scene, [0.0, back - 24.0, z + 4.0], [0.0, back - 26.0, z - 12.0], [0.0, back - 48.0, z - drop], 3.2, 1.5);
        plate(
            scene,
            [0.0, back - 24.0, z + 2.0],
            [0.0, back - 48.0, z - drop],
            [0.0, back - 46.0, z - drop - 10.0],
            3.2,
            1.5,
        );
        let drum = |grow: f32| Shape::Drum {
            centre: [0.0, y, z],
            radii: [rx + grow, ry + grow],
            half: half + grow,
            waist: 0.07,
        };
        bone(scene, drum(0.0), drum(-shell));
    }
    let canal: Vec<[f32; 4]> = [260.0, 190.0, 130.0, 80.0, 40.0, 0.0, -40.0, -80.0, -120.0, -150.0, -190.0, -215.0]
        .map(|z| {
            [
                0.0,
                spine_y(f32::max(z, -150.0)) - 26.5 + if z < -150.0 { (z + 150.0) * 0.45 } else { 0.0 },
                z,
                if z < -150.0 { 6.0 } else { 8.3 },
            ]
        })
        .to_vec();
    scene.tube(&canal, 0.0, Fill::Of(Tissue::Cord), CANAL, Frame::Bone, [0.0, 1.0]);
}

fn ribs(scene: &mut Scene, draw: &mut Draw) {
    let level = scene.body.rib_level();
    let slope = draw.range(0.85, 1.2);
    // Number of the rib, height of its vertebra, angle where bone ends (0 = side, 90 = front).
    let list = [
        (12, 50.0, -42.0),
        (11, 80.0, -16.0),
        (10, 109.0, 5.0),
        (9, 137.0, 19.0),
        (8, 164.0, 28.0),
        (7, 190.0, 39.0),
        (6, 215.0, 47.0),
        (5, 240.0, 53.0),
        (4, 265.0, 57.0),
    ];
    for (number, top, end) in list {
        let end = end + draw.normal(0.0, 5.0);
        let steep = if number < 7 { 0.6 + 0.05 * number as f32 } else { 1.0 };
        for side in [-1.0, 1.0] {
            let point = |scene: &Scene, angle: f32, z: f32, share: f32| {
                let around = if side > 0.0 { angle } else { 180.0 - angle };
                let [inner, outer] = scene.body.radii(around, z);
                let (s, c) = around.to_radians().sin_cos();
                let r = (inner + 4.0).min(inner + (outer - inner) * share);
                [c * r, super::body::AXIS_Y + s * r, z]
            };
            let mut path = vec![[side * 18.0, spine_y(top) - 20.0, top + 2.0, 4.2]];
            let mut angle = -62.0f32;
            while angle <= end {
                let t = (angle + 62.0) / 125.0;
                let fall = slope * steep * (45.0 * t + 165.0 * t.powf(1.25));
                let p = point(scene, angle, top + 4.0 - fall + level, 0.45);
                path.push([p[0], p[1], p[2], 4.6]);
                angle += 11.0;
            }
            for shift in [-2.5, 2.5] {
                let lane: Vec<[f32; 4]> = path.iter().map(|p| [p[0], p[1], p[2] + shift, p[3]]).collect();
                scene.tube(&lane, 0.0, Fill::Of(Tissue::Cortical), ANY, Frame::Bone, [0.0, 1.0]);
            }
            for shift in [-2.2, 2.2] {
                let lane: Vec<[f32; 4]> = path.iter().map(|p| [p[0], p[1], p[2] + shift, p[3]]).collect();
                scene.tube(&lane, -1.7, Fill::Of(Tissue::Spongy), BONE, Frame::Bone, [0.0, 1.0]);
            }
            if number <= 10 {
                let last = path[path.len() - 1];
                let rise = 104.0 + (10 - number) as f32 * 8.0 + level * 0.6;
                let mut gristle = vec![[last[0], last[1], last[2], 5.2]];
                let from = angle - 11.0;
                for k in 1..=5 {
                    let t = k as f32 / 5.0;
                    let a = from + (84.0 - from) * t;
                    let z = last[2] + (rise - last[2]) * (t * t * 0.7 + t * 0.3) - 10.0 * (1.0 - t) * t;
                    let p = point(scene, a, z, 0.5);
                    gristle.push([p[0], p[1], p[2], 6.0]);
                }
                let soft = Set::of(&[
                    Tissue::Muscle,
                    Tissue::MuscleFat,
                    Tissue::Visceral,
                    Tissue::Lung,
                    Tissue::Fat,
                    Tissue::Skin,
                ]);
                scene.tube(&curve(&gristle, 12.0), 0.0, Fill::Of(Tissue::Cartilage), soft, Frame::Bone, [0.0, 1.0]);
            }
        }
    }
    for z in [112.0, 130.0, 160.0, 190.0, 220.0] {
        let [inner, _] = scene.body.radii(90.0, z);
        let y = super::body::AXIS_Y + inner + 5.0;
        let r = if z < 120.0 { 4.0 } else { 6.0 };
        let w = if z < 120.0 { 6.0 } else { 13.0 };
        for side in [-1.0, 1.0] {
            bar(scene, [side * w, y, z + level], [side * w * 0.3, y, z + 25.0 + level], r, r, 1.5);
        }
    }
}

fn pelvis(scene: &mut Scene, draw: &mut Draw) {
    let w = draw.range(0.95, 1.07) * if scene.body.female { 1.04 } else { 1.0 };
    // Sacrum: a stack that narrows and curves back, with its wings.
    let sacrum = [
        (-162.0, -6.0, 25.0, 15.0),
        (-182.0, -24.0, 22.0, 13.0),
        (-202.0, -42.0, 19.0, 11.0),
        (-222.0, -55.0, 15.0, 9.0),
        (-242.0, -62.0, 11.0, 7.0),
        (-258.0, -62.0, 7.0, 5.0),
        (-272.0, -56.0, 4.0, 4.0),
    ];
    for (z, y, rx, ry) in sacrum {
        let body = |d: f32| Shape::ellipsoid([0.0, y, z], [(rx - d).max(1.0), (ry - d).max(1.0), 13.0 - d]);
        for side in [-1.0, 1.0] {
            if z > -230.0 {
                let r = 13.0 + (z + 200.0) * 0.06;
                bar(
                    scene,
                    [side * rx * 0.7, y - 6.0, z - 2.0],
                    [side * w * (46.0 + (z + 162.0) * 0.22), y - 20.0, z - 4.0],
                    r,
                    r * 0.8,
                    1.8,
                );
            }
        }
        bone(scene, body(0.0), body(1.8));
        bar(scene, [0.0, y - 26.0, z], [0.0, y - 36.0, z - 6.0], 4.0, 3.5, 1.6);
    }
    for side in [-1.0, 1.0] {
        let at = |x: f32, y: f32, z: f32| [side * w * x, y, z];
        let (rear, crest, front) = (at(48.0, -58.0, -150.0), at(92.0, -12.0, -104.0), at(120.0, 42.0, -142.0));
        let (joint, notch, socket) = (at(46.0, -40.0, -185.0), at(66.0, -28.0, -212.0), at(88.0, 14.0, -226.0));
        let rim = at(112.0, 52.0, -176.0);
        plate(scene, rear, crest, joint, 6.0, 1.8);
        plate(scene, joint, crest, notch, 5.0, 1.8);
        plate(scene, crest, notch, socket, 5.0, 1.7);
        plate(scene, crest, front, socket, 4.2, 1.6);
        plate(scene, front, rim, socket, 5.0, 1.7);
        bar(scene, crest, front, 6.0, 6.0, 1.8);
        bar(scene, notch, socket, 9.0, 13.0, 2.0);
        // Socket with the head of the femur in it.
        let head = at(94.0, 8.0, -252.0);
        bar(scene, at(78.0, 18.0, -240.0), at(72.0, -4.0, -256.0), 15.0, 14.0, 2.0);
        bar(scene, at(90.0, 12.0, -226.0), at(98.0, 10.0, -224.0), 12.0, 11.0, 2.0);
        bar(scene, at(76.0, 30.0, -256.0), at(10.0, 62.0, -284.0), 9.0, 8.5, 1.8);
        bar(scene, at(8.0, 60.0, -280.0), at(9.0, 52.0, -304.0), 8.5, 7.5, 1.8);
        bar(scene, at(76.0, -14.0, -262.0), at(58.0, -34.0, -308.0), 13.0, 15.0, 2.0);
        bar(scene, at(10.0, 52.0, -306.0), at(54.0, -24.0, -316.0), 6.0, 8.0, 1.6);
        scene.put(Shape::ball(head, 26.0), Fill::Of(Tissue::Muscle), BONE.and(CANAL), Frame::Bone);
        bar(scene, head, head, 24.0, 24.0, 1.6);
        bar(scene, head, at(132.0, -4.0, -272.0), 16.0, 17.0, 2.0);
        bar(scene, at(134.0, -8.0, -264.0), at(128.0, 2.0, -360.0), 17.0, 14.0, 4.0);
    }
}
