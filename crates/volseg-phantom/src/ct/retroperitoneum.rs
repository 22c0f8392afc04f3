//! Pancreas, duodenum, kidneys and adrenals.

use super::{
    scene::{BOWEL, FATS, Fill, Frame, KIDNEYS, LIVER, PANCREAS, SOFT, STOMACH, Scene, Solid, curve, moved},
    tissue::{Set, Tissue},
};
use crate::{
    draw::Draw,
    shape::{Shape, V3, add, mix, rotation, scale, turn_back},
};

/// `middle`: how far head, portal vein and duodenum lie from where they mostly do.
pub(crate) fn pancreas(scene: &mut Scene, draw: &mut Draw, middle: V3) {
    // A few are wasted.
    let r = 0.55 + 0.81 * draw.unit().powf(0.4);
    let (head, neck, tail) = (draw.factor(0.12), draw.range(0.75, 1.15), draw.range(0.65, 1.15));
    let up = draw.normal(0.0, 14.0);
    let bow = draw.normal(4.0, 6.0);
    let back = draw.normal(0.0, 6.0);
    let path = curve(
        &[
            moved([24.0, 44.0, -24.0, 10.0 * r * head], middle, 1.0),
            moved([29.0, 49.0, -6.0, 14.5 * r * head], middle, 1.0),
            moved([22.0, 54.0, 9.0, 13.0 * r * head], middle, 1.0),
            moved([4.0, 60.0 + bow, 16.0 + up * 0.3, 8.5 * r * neck], middle, 0.8),
            moved([-20.0, 57.0 + bow, 21.0 + up * 0.6, 9.5 * r * neck], middle, 0.5),
            [-45.0, 40.0 + back * 0.5, 32.0 + up, 10.5 * r * tail],
            [-66.0, 19.0 + back, 43.0 + up, 11.0 * r * tail],
            [-80.0, 6.0 + back, 50.0 + up, 8.0 * r * tail],
        ],
        8.0,
    );
    let over = FATS.and(BOWEL).and(LIVER).and(STOMACH);
    let gap = draw.range(1.0, 5.0);
    scene.tube(&path, gap, Fill::Of(Tissue::Visceral), BOWEL.and(LIVER).and(STOMACH), Frame::Organ, [0.0, 1.0]);
    let lobes = draw.range(1.2, 4.5);
    scene.tube(&path, 0.0, Fill::Of(Tissue::Pancreas), over, Frame::Organ, [lobes, 9.0]);
}

pub(crate) fn duodenum(scene: &mut Scene, draw: &mut Draw, middle: V3) {
    let r = draw.range(0.75, 1.25);
    let (out, low) = (draw.normal(0.0, 4.0), draw.normal(0.0, 9.0));
    let front = scene.body.inner_fat * 7.0;
    let path = curve(
        &[
            [35.0, 64.0 + front, 13.0, 9.5 * r],
            moved([46.0 + out * 0.5, 56.0, 17.0, 12.0 * r], middle, 0.7),
            moved([52.0 + out, 44.0, 6.0, 12.0 * r], middle, 1.0),
            moved([52.0 + out, 38.0, -20.0 + low * 0.5, 12.5 * r], middle, 1.0),
            moved([46.0 + out, 36.0, -46.0 + low, 12.5 * r], middle, 1.0),
            moved([24.0, 42.0, -58.0 + low, 11.0 * r], middle, 0.7),
            moved([0.0, 47.0, -56.0 + low, 9.5 * r], middle, 0.3),
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
    let centre = add(
        side.centre,
        [s * (out - 4.0) * 0.5 + draw.normal(0.0, 3.0), draw.normal(0.0, 3.0), draw.normal(-4.0, 12.0)],
    );
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
    let wet = if draw.chance(0.15) { draw.range(6.0, 11.0) } else { draw.range(2.0, 4.5) };
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
        [(1.0, Tissue::AdrenalR, [31.0, 13.0, 46.0]), (-1.0, Tissue::AdrenalL, [-34.0, 18.0, 42.0])]
    {
        let centre: V3 = add(centre, [draw.normal(0.0, 2.5), draw.normal(0.0, 3.0), draw.normal(0.0, 6.0)]);
        let thick = draw.range(3.4, 6.0) / 2.0;
        // Its limbs point back, and more or less outwards.
        let (sin, cos) = (sign * draw.range(-5.0, 55.0).to_radians()).sin_cos();
        let long = draw.range(0.9, 1.15);
        let (front, tips): (V3, [V3; 2]) = if sign > 0.0 {
            ([-1.0, 9.0, 0.0], [[2.0, -15.0, 0.0], [11.0, -14.0, 0.0]])
        } else {
            ([3.0, 11.0, 0.0], [[6.0, -13.0, 0.0], [-9.0, -14.0, 0.0]])
        };
        // Each limb is a plate that leans: body in front, limbs behind, lower part longer.
        let lean = [sign * 4.0, -6.0, 0.0];
        let point = |p: V3, z: f32| {
            let p = [p[0] * cos - p[1] * sin, p[0] * sin + p[1] * cos, p[2]];
            add(add(centre, scale(p, long)), add(scale(lean, -z / 30.0), [0.0, 0.0, z]))
        };
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
