//! The solid organs, stomach, duodenum and pelvic organs.

use super::{
    scene::{BOWEL, FATS, Fill, Frame, KIDNEYS, LIVER, PANCREAS, SOFT, STOMACH, Scene, Solid, curve},
    tissue::{Set, Tissue},
};
use crate::{
    draw::Draw,
    shape::{Shape, V3, add, mix, rotation, scale, turn_back},
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
            b: [-8.0, 90.0 + front * 0.7, 40.0 + dz],
            ra: 30.0 * size,
            rb: 20.0 * left,
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
    let k = 0.62 + 0.55 * full;
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
    let wall = draw.range(3.0, 5.5);
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
            thick: 46.0 * size * draw.factor(0.08),
            tilt: draw.normal(-0.15, 0.25),
        },
        fill: Fill::Of(Tissue::Spleen),
        over: FATS.and(BOWEL).and(STOMACH).and(LIVER),
        frame: Frame::Organ,
        rough: [2.0, 14.0],
        bounds: [[-190.0, -110.0, -40.0], [-10.0, 110.0, 165.0]],
    });
    if draw.chance(0.12) {
        let at = scene.body.inside(degrees - 25.0, 0.62, z - 30.0);
        scene.soft(Shape::ball(at, draw.range(3.0, 7.0)), Tissue::Spleen, FATS);
    }
}

pub(crate) fn pancreas(scene: &mut Scene, draw: &mut Draw) {
    let r = draw.range(1.0, 1.36);
    let up = draw.normal(0.0, 8.0);
    let bow = draw.normal(4.0, 4.0);
    let path = curve(
        &[
            [24.0, 44.0, -24.0, 10.0 * r],
            [29.0, 49.0, -6.0, 14.5 * r],
            [22.0, 54.0, 9.0, 13.0 * r],
            [4.0, 60.0 + bow, 16.0 + up * 0.3, 8.5 * r],
            [-20.0, 57.0 + bow, 21.0 + up * 0.6, 9.5 * r],
            [-45.0, 40.0, 32.0 + up, 10.5 * r],
            [-66.0, 19.0, 43.0 + up, 11.0 * r],
            [-80.0, 6.0, 50.0 + up, 8.0 * r],
        ],
        8.0,
    );
    let over = FATS.and(BOWEL).and(LIVER).and(STOMACH);
    let gap = draw.range(1.0, 5.0);
    scene.tube(&path, gap, Fill::Of(Tissue::Visceral), BOWEL.and(LIVER).and(STOMACH), Frame::Organ, [0.0, 1.0]);
    let lobes = draw.range(1.2, 4.5);
    scene.tube(&path, 0.0, Fill::Of(Tissue::Pancreas), over, Frame::Organ, [lobes, 9.0]);
}

pub(crate) fn duodenum(scene: &mut Scene, draw: &mut Draw) {
    let r = draw.range(0.88, 1.2);
    let low = draw.normal(0.0, 7.0);
    let front = scene.body.inner_fat * 7.0;
    let path = curve(
        &[
            [35.0, 64.0 + front, 13.0, 9.5 * r],
            [46.0, 56.0, 17.0, 12.0 * r],
            [52.0, 44.0, 6.0, 12.0 * r],
            [52.0, 38.0, -20.0 + low * 0.5, 12.5 * r],
            [46.0, 36.0, -46.0 + low, 12.5 * r],
            [24.0, 42.0, -58.0 + low, 11.0 * r],
            [0.0, 47.0, -56.0 + low, 9.5 * r],
            [-20.0, 44.0, -42.0 + low, 10.5 * r],
            [-27.0, 48.0, -20.0 + low * 0.5, 10.5 * r],
        ],
        8.0,
    );
    let over = FATS.and(BOWEL).and(LIVER).and(STOMACH).and(PANCREAS);
    scene.tube(&path, 1.8, Fill::Of(Tissue::Visceral), BOWEL.and(LIVER), Frame::Organ, [0.0, 1.0]);
    scene.tube(&path, 0.0, Fill::Of(Tissue::DuodenumWall), over, Frame::Organ, [1.4, 7.0]);
    let gas = if draw.chance(0.4) { draw.range(44.0, 62.0) } else { 400.0 };
    let inner: Vec<[f32; 4]> = path.iter().map(|p| [p[0], p[1], p[2], p[3] * draw.range(0.35, 0.75)]).collect();
    let wall = Set::of(&[Tissue::DuodenumWall]);
    scene.tube(
        &inner,
        0.0,
        Fill::Level { y: gas, above: Tissue::DuodenumGas, below: Tissue::DuodenumFluid },
        wall,
        Frame::Organ,
        [2.5, 5.0],
    );
}

/// What differs between the two kidneys.
struct Side {
    sign: f32,
    centre: V3,
    cortex: Tissue,
    medulla: Tissue,
    cyst: Tissue,
}

pub(crate) fn kidneys(scene: &mut Scene, draw: &mut Draw) {
    let size = draw.factor(0.06);
    let out = 4.0 + 12.0 * scene.body.inner_fat;
    for side in [
        Side {
            sign: 1.0,
            centre: [63.0, -8.0, -6.0],
            cortex: Tissue::KidneyR,
            medulla: Tissue::MedullaR,
            cyst: Tissue::CystR,
        },
        Side {
            sign: -1.0,
            centre: [-64.0, -8.0, 8.0],
            cortex: Tissue::KidneyL,
            medulla: Tissue::MedullaL,
            cyst: Tissue::CystL,
        },
    ] {
        kidney(scene, draw, &side, size, out);
    }
}

fn kidney(scene: &mut Scene, draw: &mut Draw, side: &Side, size: f32, out: f32) {
    let s = side.sign;
    let size = size * draw.factor(0.04);
    let centre =
        add(side.centre, [s * (out - 4.0) * 0.5 + draw.normal(0.0, 3.0), draw.normal(0.0, 3.0), draw.normal(0.0, 9.0)]);
    let radii = [29.0 * size, 26.0 * size, 56.0 * size * draw.factor(0.05)];
    // Its x axis points to the hilum: towards the spine and forward; the upper pole leans in and back.
    let axes = {
        let hilum = draw.range(0.25, 0.75);
        rotation([draw.normal(0.16, 0.07), s * draw.normal(0.22, 0.08), s * hilum])
    };
    let own = |at: V3| add(centre, turn_back(&axes, [-s * at[0], at[1], at[2]]));
    let bean = |grow: f32| Shape::Ellipsoid { centre, radii: radii.map(|r| r + grow), axes, bend: -s * 6.0 };
    // The fat capsule pushes liver, spleen and bowel aside.
    let grow = draw.range(0.5, 4.0) + out * 0.75;
    let capsule = Shape::Ellipsoid {
        centre: add(centre, [-s * 0.5 * grow, -0.5 * grow, 0.3 * grow]),
        radii: [radii[0] + grow * 0.9, radii[1] + grow * 0.8, radii[2] + grow * 1.6],
        axes,
        bend: -s * 6.0,
    };
    scene.put_rough(capsule, Fill::Of(Tissue::Perirenal), SOFT, Frame::Organ, [4.0, 24.0]);
    scene.put_rough(bean(0.0), Fill::Of(side.cortex), SOFT, Frame::Organ, [1.3, 13.0]);
    let cortex = Set::of(&[side.cortex, side.medulla]);
    // Pyramids around the sinus.
    for ring in [-0.62f32, -0.32, 0.0, 0.32, 0.62] {
        for step in 0..4 {
            let angle = -1.9 + 1.27 * step as f32 + draw.normal(0.0, 0.15);
            let (sa, ca) = angle.sin_cos();
            let k = (1.0 - ring * ring).sqrt() * 0.62;
            let at = own([-ca * radii[0] * k, sa * radii[1] * k, ring * radii[2]]);
            let r = draw.range(6.0, 9.5) * size;
            scene.soft(Shape::ellipsoid(at, [r, r, r * 1.2]), side.medulla, cortex);
        }
    }
    // Sinus, open to the hilum.
    let wide = draw.range(0.75, 1.25);
    let inner = KIDNEYS;
    scene.tube(
        &[
            [own([4.0, 1.0, 24.0]), own([2.0, 1.0, 0.0]), own([4.0, 1.0, -24.0])]
                .map(|p| [p[0], p[1], p[2], 5.5 * wide])[0],
            {
                let p = own([6.0, 1.0, 8.0]);
                [p[0], p[1], p[2], 8.5 * wide]
            },
            {
                let p = own([6.0, 1.0, -8.0]);
                [p[0], p[1], p[2], 8.5 * wide]
            },
            {
                let p = own([4.0, 1.0, -24.0]);
                [p[0], p[1], p[2], 5.5 * wide]
            },
        ],
        0.0,
        Fill::Of(Tissue::Sinus),
        inner,
        Frame::Organ,
        [2.0, 7.0],
    );
    let (mid, gate) = (own([8.0, 1.0, 0.0]), own([34.0, 3.0, -2.0]));
    scene.tube(
        &[[mid[0], mid[1], mid[2], 9.0 * wide], [gate[0], gate[1], gate[2], 11.0 * wide]],
        0.0,
        Fill::Of(Tissue::Sinus),
        inner,
        Frame::Organ,
        [1.5, 8.0],
    );
    let wet = if draw.chance(0.08) { draw.range(6.0, 11.0) } else { draw.range(2.0, 4.5) };
    let sinus = Set::of(&[Tissue::Sinus]);
    let pelvis = [own([4.0, -1.0, 12.0]), own([10.0, -1.0, 0.0]), own([24.0, -1.0, -10.0])];
    scene.tube(
        &pelvis.map(|p| [p[0], p[1], p[2], wet]),
        0.0,
        Fill::Of(Tissue::Ureter),
        sinus.and(FATS),
        Frame::Organ,
        [0.0, 1.0],
    );
    let ureter = [
        pelvis[2],
        [s * 40.0, 16.0, -70.0],
        [s * 34.0, 24.0, -130.0],
        [s * 48.0, -10.0, -200.0],
        [s * 18.0, 20.0, -240.0],
    ];
    let ureter = curve(&ureter.map(|p| [p[0], p[1], p[2], 2.0]), 12.0);
    scene.tube(&ureter, 0.0, Fill::Of(Tissue::Ureter), FATS, Frame::Organ, [0.0, 1.0]);
    // Vessels in the sinus.
    for (shift, tissue) in [(5.0, Tissue::Vein), (9.0, Tissue::Artery)] {
        let (a, b) = (own([5.0, shift * 0.4, draw.range(-8.0, 12.0)]), own([34.0, shift, 0.0]));
        scene.tube(
            &[[a[0], a[1], a[2], 1.6], [b[0], b[1], b[2], 2.8]],
            0.0,
            Fill::Of(tissue),
            sinus,
            Frame::Organ,
            [0.0, 1.0],
        );
    }
    let cysts = if draw.chance(0.3) { draw.whole(1, 3) } else { 0 };
    for _ in 0..cysts {
        let (sa, ca) = draw.range(-2.0, 2.0).sin_cos();
        let at = own([-ca * radii[0] * 0.9, sa * radii[1] * 0.9, draw.range(-40.0, 40.0)]);
        scene.soft(Shape::ball(at, draw.range(3.0, 15.0)), side.cyst, cortex.and(FATS));
    }
}

pub(crate) fn adrenals(scene: &mut Scene, draw: &mut Draw) {
    let over = SOFT.and(Set::of(&[Tissue::Muscle]));
    for (sign, tissue, centre) in
        [(1.0, Tissue::AdrenalR, [27.0, 8.0, 46.0]), (-1.0, Tissue::AdrenalL, [-31.0, 12.0, 42.0])]
    {
        let centre: V3 = add(centre, draw.jitter(2.0));
        let thick = draw.range(4.4, 6.0) / 2.0;
        let long = draw.range(0.9, 1.15);
        let (front, tips): (V3, [V3; 2]) = if sign > 0.0 {
            ([-1.0, 9.0, 0.0], [[2.0, -15.0, 0.0], [11.0, -14.0, 0.0]])
        } else {
            ([3.0, 11.0, 0.0], [[6.0, -13.0, 0.0], [-9.0, -14.0, 0.0]])
        };
        // Each limb is a plate that leans: body in front, limbs behind, lower part longer.
        let lean = [sign * 4.0, -6.0, 0.0];
        let point = |p: V3, z: f32| add(add(centre, scale(p, long)), add(scale(lean, -z / 30.0), [0.0, 0.0, z]));
        let body = [0.0, -1.0, 0.0];
        let (high, low) = (13.0 * long, -13.0 * long);
        let mut sheet = |a: V3, b: V3, r: f32, top: f32, bottom: f32| {
            for [p, q, t] in
                [[point(a, top), point(a, bottom), point(b, bottom)], [point(a, top), point(b, bottom), point(b, top)]]
            {
                scene.put(
                    Shape::Triangle { a: p, b: q, c: t, r: r + 1.6 },
                    Fill::Of(Tissue::Perirenal),
                    SOFT,
                    Frame::Organ,
                );
                scene.put(Shape::Triangle { a: p, b: q, c: t, r }, Fill::Of(tissue), over, Frame::Organ);
            }
        };
        sheet(front, body, thick * 1.08, high * 0.7, low * 0.6);
        for tip in tips {
            sheet(
                body,
                mix(body, tip, draw.range(0.85, 1.1)),
                thick * draw.range(0.85, 1.0),
                high,
                low * draw.range(0.8, 1.1),
            );
        }
        // The second limb's fat sheath must not cut the first: paint the cores again.
        let cores: Vec<Shape> = scene.paints[scene.paints.len() - 12..]
            .iter()
            .filter(|p| matches!(p.fill, Fill::Of(t) if t == tissue))
            .filter_map(|p| if let Solid::Free(s) = &p.solid { Some(s.clone()) } else { None })
            .collect();
        for core in cores {
            scene.soft(core, tissue, over);
        }
    }
}

pub(crate) fn pelvic(scene: &mut Scene, draw: &mut Draw) {
    let fill = draw.unit();
    let k = 0.72 + 0.5 * fill;
    let female = scene.body.female;
    let all = FATS.and(BOWEL).and(Set::of(&[Tissue::Muscle]));
    let centre = [draw.normal(0.0, 3.0), 36.0 - 4.0 * fill, -250.0 + 26.0 * k];
    let radii = [43.0 * k, 32.0 * k, 30.0 * k];
    if female {
        let x = draw.normal(0.0, 8.0);
        let size = draw.range(0.8, 1.2);
        let top = [x, 8.0 + 16.0 * (1.0 - fill), -196.0 + 10.0 * fill];
        let neck = [x * 0.3, -6.0, -246.0];
        scene.put_rough(
            Shape::Capsule { a: top, b: neck, ra: 25.0 * size, rb: 14.0 * size, flat: 1.12 },
            Fill::Of(Tissue::Uterus),
            all,
            Frame::Organ,
            [1.5, 15.0],
        );
        scene.soft(
            Shape::Capsule { a: top, b: mix(top, neck, 0.5), ra: 5.0 * size, rb: 2.0, flat: 1.5 },
            Tissue::UterusCavity,
            Set::of(&[Tissue::Uterus]),
        );
        for side in [-1.0, 1.0] {
            let at = [x + side * 42.0, -4.0, -202.0];
            scene.soft(Shape::ellipsoid(at, [9.0, 11.0, 14.0]), Tissue::BowelWall, FATS.and(BOWEL));
        }
    } else {
        let size = draw.factor(0.12);
        scene.soft(
            Shape::ellipsoid([0.0, 24.0, -272.0], [24.0 * size, 18.0 * size, 19.0 * size]),
            Tissue::Prostate,
            all,
        );
        for side in [-1.0, 1.0] {
            let ends = [[side * 8.0, 2.0, -252.0, 6.0], [side * 26.0, -6.0, -244.0, 5.0]];
            scene.tube(&ends, 0.0, Fill::Of(Tissue::BowelWall), FATS.and(BOWEL), Frame::Organ, [1.5, 6.0]);
        }
    }
    let wall = draw.range(2.2, 5.0);
    let axes = rotation([draw.normal(0.15, 0.12), 0.0, 0.0]);
    let over = all.and(Set::of(&[Tissue::Uterus, Tissue::UterusCavity]));
    let bag = |d: f32| Shape::Ellipsoid { centre, radii: radii.map(|r| r - d), axes, bend: 0.0 };
    scene.soft(bag(-2.0), Tissue::Visceral, BOWEL);
    scene.soft(bag(0.0), Tissue::BladderWall, over);
    scene.soft(bag(wall), Tissue::Bladder, Set::of(&[Tissue::BladderWall]));
}

pub(crate) fn muscles(scene: &mut Scene, draw: &mut Draw) {
    let k = draw.range(0.8, 1.2);
    let over = SOFT;
    for side in [-1.0, 1.0] {
        let psoas = curve(
            &[
                [side * 25.0, -3.0, 30.0, 6.0 * k],
                [side * 33.0, 0.0, -15.0, 12.0 * k],
                [side * 40.0, 5.0, -70.0, 19.0 * k],
                [side * 48.0, 8.0, -120.0, 22.0 * k],
                [side * 62.0, 24.0, -175.0, 19.0 * k],
                [side * 80.0, 46.0, -230.0, 17.0 * k],
                [side * 98.0, 36.0, -275.0, 15.0 * k],
            ],
            14.0,
        );
        scene.tube(&psoas, 0.0, Fill::Of(Tissue::Muscle), over, Frame::Organ, [1.0, 15.0]);
        let iliacus =
            [[side * 92.0, 6.0, -118.0, 12.0], [side * 92.0, 16.0, -150.0, 17.0], [side * 84.0, 30.0, -195.0, 17.0]];
        scene.tube(&curve(&iliacus, 14.0), 0.0, Fill::Of(Tissue::Muscle), over, Frame::Bone, [0.0, 1.0]);
        let loin = [
            [side * 45.0, -36.0, 45.0, 8.0],
            [side * 60.0, -34.0, -20.0, 13.0 * k],
            [side * 72.0, -32.0, -105.0, 15.0 * k],
        ];
        scene.tube(&curve(&loin, 14.0), 0.0, Fill::Of(Tissue::Muscle), over, Frame::Bone, [0.0, 1.0]);
        let deep: Vec<[f32; 4]> = [-160.0, -90.0, -30.0, 30.0, 90.0, 150.0, 270.0]
            .map(|z| [side * 17.0, super::skeleton::spine_y(f32::max(z, -140.0)) - 41.0, z, 15.0])
            .to_vec();
        scene.tube(&deep, 0.0, Fill::Of(Tissue::Muscle), FATS.and(Set::of(&[Tissue::Lung])), Frame::Bone, [0.0, 1.0]);
        // The long muscles of the back fill the space beside the spinous processes.
        let wide = 27.0 * k.max(0.9);
        let back: Vec<[f32; 4]> = [-190.0, -120.0, -60.0, 0.0, 60.0, 120.0, 180.0, 270.0]
            .map(|z| {
                let narrow = 1.0 - 0.0011 * f32::max(z - 20.0, 0.0);
                [side * 33.0 * narrow, super::skeleton::spine_y(f32::max(z, -140.0)) - 55.0, z, wide * narrow]
            })
            .to_vec();
        for pair in back.windows(2) {
            let [a, b] = [pair[0], pair[1]];
            let column =
                Shape::Capsule { a: [a[0], a[1], a[2]], b: [b[0], b[1], b[2]], ra: a[3], rb: b[3], flat: 1.25 };
            scene.put(
                column,
                Fill::Of(Tissue::Muscle),
                FATS.and(Set::of(&[Tissue::Lung, Tissue::Liver, Tissue::Spleen])),
                Frame::Bone,
            );
        }
        // Crura of the diaphragm.
        let crus = curve(
            &[
                [side * 4.0, 34.0, 104.0, 4.5],
                [side * 16.0, 24.0, 85.0, 5.0 * k],
                [side * 19.0, 18.0, 50.0, 5.0 * k],
                [side * 12.0, 21.0, 10.0, 4.5 * k],
                [side * 7.0, 21.0, -30.0, 2.5],
            ],
            10.0,
        );
        scene.tube(&crus, 0.0, Fill::Of(Tissue::Muscle), over.and(Set::of(&[Tissue::Lung])), Frame::Bone, [0.0, 1.0]);
        let sling =
            [[side * 40.0, 20.0, -280.0, 5.0], [side * 18.0, -20.0, -290.0, 5.0], [side * 6.0, -48.0, -280.0, 4.0]];
        scene.tube(&curve(&sling, 10.0), 0.0, Fill::Of(Tissue::Muscle), FATS, Frame::Bone, [0.0, 1.0]);
    }
}
