//! Heart, liver, gallbladder, stomach, oesophagus and spleen.

use super::{
    scene::{BOWEL, FATS, Fill, Frame, LIVER, SOFT, STOMACH, Scene, Solid, curve},
    tissue::{Set, Tissue},
};
use crate::{
    draw::Draw,
    shape::{Shape, add, rotation, scale},
};

const LUMEN: Set = Set::of(&[Tissue::StomachWall]);

pub(crate) fn heart(scene: &mut Scene, draw: &mut Draw) {
    let r = draw.factor(0.08);
    let over = Set::of(&[Tissue::Lung, Tissue::Visceral]);
    let centre = [-24.0, 62.0, 158.0];
    let chest = |d: f32| Shape::Ellipsoid {
        centre,
        radii: [66.0 * r - d, 48.0 * r - d, 46.0 * r - d],
        axes: rotation([0.0, -0.25, -0.5]),
        bend: 0.0,
    };
    scene.put(chest(-4.0), Fill::Of(Tissue::Visceral), over, Frame::Organ);
    scene.soft(chest(0.0), Tissue::HeartWall, over);
    for (at, size) in [
        ([-42.0, 58.0, 160.0], [26.0, 20.0, 26.0]),
        ([4.0, 78.0, 165.0], [32.0, 20.0, 28.0]),
        ([22.0, 50.0, 172.0], [24.0, 24.0, 26.0]),
    ] {
        scene.soft(Shape::ellipsoid(at, scale(size, r)), Tissue::Heart, Set::of(&[Tissue::HeartWall]));
    }
}

pub(crate) fn liver(scene: &mut Scene, draw: &mut Draw) {
    let size = draw.factor(0.055);
    let long = draw.range(0.84, 1.2);
    let left = draw.range(0.7, 1.2);
    let [dx, dy, dz] = [draw.normal(0.0, 4.0), draw.normal(0.0, 5.0), draw.normal(0.0, 5.0)];
    // How far the left lobe hangs down behind the wall.
    let hangs = draw.range(-5.0, 70.0);
    let right = Shape::Ellipsoid {
        centre: [72.0 + dx, 16.0 + dy + 9.0 * scene.body.inner_fat, 58.0 + dz - (long - 1.0) * 40.0],
        radii: [69.0 * size, 92.0 * size + 12.0 * scene.body.inner_fat, 90.0 * size * long],
        axes: rotation([draw.normal(0.0, 0.1), draw.normal(-0.12, 0.08), draw.normal(0.0, 0.1)]),
        bend: 0.0,
    };
    let tip = [-42.0 * left + draw.normal(0.0, 8.0), 84.0, 92.0 + draw.normal(0.0, 8.0)];
    let front = scene.body.inner_fat * 22.0;
    let lobes = vec![
        right,
        Shape::Capsule {
            a: [34.0, 64.0, 78.0 + dz],
            b: add(tip, [0.0, front * 0.6, 0.0]),
            ra: 42.0 * size,
            rb: 17.0 * left,
            flat: 0.95,
        },
        Shape::Capsule {
            a: [26.0, 84.0 + front * 0.4, 66.0 + dz],
            b: [-8.0, 90.0 + front * 0.7, 40.0 + dz - hangs],
            ra: 30.0 * size,
            rb: (20.0 - 0.1 * hangs) * left,
            flat: 1.0,
        },
        // Segment 1, behind the portal vein and in front of the vena cava.
        Shape::ellipsoid([14.0, 42.0, 72.0 + dz], [15.0, 11.0, 24.0]),
    ];
    let hollows = vec![
        Shape::Capsule { a: [0.0, -18.0, -120.0], b: [0.0, -22.0, 140.0], ra: 42.0, rb: 40.0, flat: 1.0 },
        // Bed of stomach and duodenum.
        Shape::Capsule { a: [-30.0, 40.0, 60.0], b: [30.0, 44.0, 8.0], ra: 22.0, rb: 20.0, flat: 1.0 },
        // Behind and beside the right kidney the liver leaves room.
        Shape::Capsule { a: [58.0, -24.0, -90.0], b: [40.0, -34.0, 58.0], ra: 40.0, rb: 30.0, flat: 1.0 },
        Shape::Capsule { a: [36.0, 60.0, -10.0], b: [44.0, 40.0, -60.0], ra: 22.0, rb: 30.0, flat: 1.0 },
    ];
    let over = FATS.and(BOWEL);
    scene.paints.push(super::scene::Paint {
        solid: Solid::Liver { lobes, hollows, blend: 22.0 },
        fill: Fill::Of(Tissue::Liver),
        over,
        frame: Frame::Organ,
        rough: [0.0, 1.0],
        bounds: [[-110.0, -110.0, -90.0], [190.0, 190.0, 170.0]],
    });
    // Fissure of the round ligament, and the hilum.
    let x = draw.range(-6.0, 12.0);
    let deep = draw.range(4.0, 22.0);
    let y = 96.0 + front;
    scene.soft(
        Shape::Triangle {
            a: [x, y + 22.0, 28.0],
            b: [x + 2.0, y + 22.0, 70.0],
            c: [x + 8.0, y - deep - 14.0, 46.0],
            r: draw.range(1.2, 3.2),
        },
        Tissue::Visceral,
        LIVER,
    );
    scene.tube(
        &[[22.0, 46.0, 34.0, 9.0], [36.0, 46.0, 50.0, 7.0], [56.0, 40.0, 56.0, 3.0]],
        0.0,
        Fill::Of(Tissue::Visceral),
        LIVER,
        Frame::Organ,
        [2.0, 8.0],
    );
    let patches = if draw.chance(0.3) { draw.whole(1, 6) } else { 0 };
    for _ in 0..patches {
        let tissue = if draw.chance(0.5) { Tissue::LiverCyst } else { Tissue::LiverLesion };
        let r = draw.range(3.0, 16.0);
        let at = [draw.range(10.0, 110.0), draw.range(-30.0, 80.0), draw.range(0.0, 110.0)];
        scene.put_rough(
            Shape::ellipsoid(at, [r, r * draw.range(0.7, 1.2), r]),
            Fill::Of(tissue),
            Set::of(&[Tissue::Liver]),
            Frame::Organ,
            [r * 0.2, 7.0],
        );
    }
}

pub(crate) fn gallbladder(scene: &mut Scene, draw: &mut Draw) {
    if draw.chance(0.12) {
        return;
    }
    let r = draw.range(0.72, 1.28);
    let [dx, dy] = [draw.normal(0.0, 6.0), draw.normal(0.0, 5.0)];
    let front = scene.body.inner_fat * 14.0;
    let path = curve(
        &[
            [34.0, 50.0, 32.0, 4.5 * r],
            [42.0 + dx * 0.4, 56.0 + dy * 0.4, 20.0, 9.5 * r],
            [50.0 + dx, 68.0 + dy + front * 0.5, 4.0, 14.0 * r],
            [54.0 + dx, 79.0 + dy + front, -11.0, 13.5 * r],
        ],
        8.0,
    );
    let over = FATS.and(LIVER).and(BOWEL);
    scene.tube(&path, 2.5, Fill::Of(Tissue::Visceral), BOWEL, Frame::Organ, [0.0, 1.0]);
    scene.tube(&path, 0.0, Fill::Of(Tissue::Gallbladder), over, Frame::Organ, [0.0, 1.0]);
    if draw.chance(0.12) {
        for _ in 0..draw.whole(1, 4) {
            let at = add(
                [path[path.len() - 2][0], path[path.len() - 2][1] - 7.0 * r, path[path.len() - 2][2]],
                draw.jitter(3.0),
            );
            scene.soft(Shape::ball(at, draw.range(2.0, 5.0)), Tissue::Gallstone, Set::of(&[Tissue::Gallbladder]));
        }
    }
}

pub(crate) fn stomach(scene: &mut Scene, draw: &mut Draw) {
    let full = draw.range(0.0, 1.0).powf(1.2);
    let k = 0.42 + 0.75 * full;
    let front = scene.body.inner_fat * 24.0;
    let low = draw.range(-35.0, 12.0);
    let [dx, dz] = [draw.normal(0.0, 6.0), draw.normal(0.0, 7.0)];
    let path = curve(
        &[
            [-56.0 + dx, 8.0, 98.0 + dz, 30.0 * k],
            [-60.0 + dx, 24.0, 80.0 + dz, 34.0 * k],
            [-60.0 + dx, 50.0 + front * 0.4, 52.0 + dz, 30.0 * k],
            [-48.0 + dx, 74.0 + front * 0.8, 22.0 + low * 0.4, 26.0 * k],
            [-22.0, 86.0 + front, 4.0 + low, 22.0 * k],
            [8.0, 84.0 + front * 0.9, 2.0 + low, 17.0 * k],
            [28.0, 72.0 + front * 0.5, 10.0 + low * 0.5, 9.0],
            [34.0, 64.0 + front * 0.3, 13.0, 7.0],
        ],
        10.0,
    );
    let wall = draw.range(3.0, 5.5) + 1.5 * (1.0 - full);
    let over = FATS.and(BOWEL).and(LIVER);
    let rough = [2.0 * (1.2 - full), 11.0];
    scene.tube(&path, 3.0, Fill::Of(Tissue::Visceral), BOWEL.and(LIVER), Frame::Organ, [0.0, 1.0]);
    scene.tube(&path, 0.0, Fill::Of(Tissue::StomachWall), over, Frame::Organ, [0.0, 1.0]);
    let below = if draw.chance(0.45) { Tissue::StomachFood } else { Tissue::StomachFluid };
    // The level that leaves a random share of gas in front.
    let y = draw.range(20.0, 120.0) + front * 0.6;
    scene.tube(&path, -wall, Fill::Level { y, above: Tissue::StomachGas, below }, LUMEN, Frame::Organ, rough);
}

pub(crate) fn oesophagus(scene: &mut Scene, draw: &mut Draw) {
    let r = draw.range(7.5, 10.5);
    let path = curve(
        &[
            [-2.0, 30.0, 260.0, r],
            [-4.0, 32.0, 180.0, r],
            [-8.0, 34.0, 140.0, r],
            [-16.0, 36.0, 115.0, r],
            [-28.0, 32.0, 98.0, r * 1.05],
            [-42.0, 26.0, 90.0, r],
        ],
        9.0,
    );
    let over = SOFT.and(Set::of(&[Tissue::Lung, Tissue::Muscle, Tissue::HeartWall, Tissue::Heart]));
    scene.tube(&path, 2.0, Fill::Of(Tissue::Visceral), LIVER.and(Set::of(&[Tissue::Lung])), Frame::Organ, [0.0, 1.0]);
    scene.tube(&path[..path.len() - 1], 0.0, Fill::Of(Tissue::Oesophagus), over, Frame::Organ, [0.0, 1.0]);
    if draw.chance(0.5) {
        let from = draw.whole(0, path.len() / 2);
        let gas: Vec<_> = path[from..(from + 6).min(path.len() - 2)]
            .iter()
            .map(|p| [p[0], p[1] + 1.0, p[2], draw.range(0.8, 4.0)])
            .collect();
        scene.tube(
            &gas,
            0.0,
            Fill::Of(Tissue::OesophagusGas),
            Set::of(&[Tissue::Oesophagus]),
            Frame::Organ,
            [0.0, 1.0],
        );
    }
}

pub(crate) fn spleen(scene: &mut Scene, draw: &mut Draw) {
    let size = draw.factor(0.085) * if draw.chance(0.12) { draw.range(1.1, 1.35) } else { 1.0 };
    let degrees = draw.normal(215.0, 7.0);
    let z = draw.normal(62.0, 8.0);
    scene.paints.push(super::scene::Paint {
        solid: Solid::Spleen {
            degrees,
            z,
            reach: [43.0 * size * draw.factor(0.08), 54.0 * size * draw.factor(0.1)],
            thick: 46.0 * size * draw.range(0.85, 1.3),
            tilt: draw.normal(-0.15, 0.25),
        },
        fill: Fill::Of(Tissue::Spleen),
        over: FATS.and(BOWEL).and(STOMACH).and(LIVER),
        frame: Frame::Organ,
        rough: [2.0, 14.0],
        bounds: [[-190.0, -110.0, -40.0], [-10.0, 110.0, 165.0]],
    });
    // Lobules bulge to the kidney and the tail of the pancreas.
    for _ in 0..draw.whole(0, 3) {
        let at =
            scene.body.inside(degrees + draw.range(-15.0, 28.0), draw.range(0.48, 0.62), z + draw.range(-28.0, 28.0));
        let r = draw.range(12.0, 22.0) * size;
        scene.soft(
            Shape::ellipsoid(at, [r, r * draw.range(0.8, 1.1), r * draw.range(0.8, 1.2)]),
            Tissue::Spleen,
            FATS.and(STOMACH),
        );
    }
    if draw.chance(0.12) {
        let at = scene.body.inside(degrees - 25.0, 0.62, z - 30.0);
        scene.soft(Shape::ball(at, draw.range(3.0, 7.0)), Tissue::Spleen, FATS);
    }
}
