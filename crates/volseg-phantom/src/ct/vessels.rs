//! Aorta, vena cava, their branches, portal system and the trees in the liver.

use super::{
    scene::{BOWEL, DUODENUM, FATS, Fill, Frame, LIVER, PANCREAS, SPLEEN, STOMACH, Scene, curve, moved},
    tissue::{Set, Tissue},
};
use crate::{
    draw::Draw,
    shape::{V3, add, scale, unit},
};

const CHEST: Set = Set::of(&[Tissue::Lung, Tissue::Muscle, Tissue::HeartWall, Tissue::Heart]);

pub(crate) fn great(scene: &mut Scene, draw: &mut Draw) {
    let r = draw.range(9.0, 12.3);
    let sway = draw.normal(0.0, 4.0);
    let soft = FATS.and(BOWEL).and(LIVER).and(DUODENUM).and(PANCREAS).and(STOMACH).and(CHEST);
    // Vena cava: oval, in front of the right side of the spine, then through the liver to the heart.
    let v = draw.range(0.75, 1.2);
    let away = [draw.normal(0.0, 4.0), draw.normal(0.0, 3.0), 0.0];
    let cava = curve(
        &[
            [14.0, 22.0, -108.0, 9.0 * v],
            moved([20.0, 27.0, -70.0, 10.5 * v], away, 1.0),
            moved([24.0, 28.0, -20.0, 11.5 * v], away, 1.0),
            moved([25.0, 30.0, 30.0, 12.5 * v], away, 1.0),
            [24.0, 34.0, 70.0, 13.0 * v],
            [22.0, 40.0, 105.0, 13.5 * v],
            [20.0, 46.0, 135.0, 13.5 * v],
            [20.0, 50.0, 155.0, 13.0 * v],
        ],
        8.0,
    );
    let flat = draw.range(1.0, 2.0);
    for pair in cava.windows(2) {
        let [a, b] = [pair[0], pair[1]];
        let tube = |d: f32| crate::shape::Shape::Capsule {
            a: [a[0], a[1], a[2]],
            b: [b[0], b[1], b[2]],
            ra: a[3] + d,
            rb: b[3] + d,
            flat,
        };
        if a[2] < 40.0 {
            scene.soft(tube(2.0), Tissue::Visceral, BOWEL.and(LIVER));
        }
        scene.soft(tube(0.0), Tissue::Ivc, soft);
    }
    let aorta = curve(
        &[
            [-22.0, 10.0, 260.0, r * 1.15],
            [-22.0, 16.0, 190.0, r * 1.12],
            [-18.0, 22.0, 140.0, r * 1.08],
            [-9.0 + sway * 0.3, 30.0, 95.0, r * 1.05],
            [-7.0 + sway * 0.7, 31.0, 50.0, r],
            [-7.0 + sway, 33.0, 0.0, r * 0.97],
            [-6.0 + sway, 35.0, -50.0, r * 0.93],
            [-2.0 + sway * 0.6, 33.0, -97.0, r * 0.9],
        ],
        8.0,
    );
    scene.tube(
        &aorta,
        2.0,
        Fill::Of(Tissue::Visceral),
        BOWEL.and(LIVER).and(Set::of(&[Tissue::Lung])),
        Frame::Organ,
        [0.0, 1.0],
    );
    scene.tube(&aorta, 0.0, Fill::Of(Tissue::Aorta), soft, Frame::Organ, [0.0, 1.0]);
    let plaques = if draw.chance(0.4) { draw.whole(1, 12) } else { 0 };
    for _ in 0..plaques {
        let p = aorta[draw.whole(aorta.len() / 3, aorta.len() - 2)];
        let (s, c) = draw.range(0.0, std::f32::consts::TAU).sin_cos();
        let at = [p[0] + c * p[3] * 0.9, p[1] + s * p[3] * 0.9, p[2]];
        scene.soft(
            crate::shape::Shape::ellipsoid(at, [2.2, 2.2, draw.range(2.0, 6.0)]),
            Tissue::AortaPlaque,
            Set::of(&[Tissue::Aorta]),
        );
    }
    let end = aorta[aorta.len() - 1];
    let pelvis = FATS.and(BOWEL);
    for side in [-1.0, 1.0] {
        let artery = [
            [end[0] + side * 4.0, end[1], end[2] - 3.0, 5.8],
            [side * 28.0, 26.0, -140.0, 5.2],
            [side * 48.0, 10.0, -172.0, 4.8],
            [side * 62.0, 34.0, -215.0, 4.6],
            [side * 72.0, 66.0, -258.0, 4.4],
            [side * 80.0, 78.0, -300.0, 4.2],
        ];
        scene.vessel(&artery, Tissue::Artery, 1.0, pelvis);
        let vein = [
            [12.0 + side * 4.0, 20.0, -110.0, 7.5],
            [side * 30.0, 12.0, -145.0, 6.5],
            [side * 50.0, 0.0, -175.0, 6.0],
            [side * 58.0, 26.0, -218.0, 5.8],
            [side * 64.0, 62.0, -262.0, 5.6],
            [side * 70.0, 72.0, -305.0, 5.4],
        ];
        scene.vessel(&vein, Tissue::Vein, 1.0, pelvis);
        let inner =
            [[side * 48.0, 8.0, -172.0, 3.6], [side * 52.0, -18.0, -205.0, 3.0], [side * 50.0, -20.0, -240.0, 2.0]];
        scene.vessel(&inner, Tissue::Artery, 0.0, pelvis);
    }
}

/// `middle` as for the pancreas.
pub(crate) fn branches(scene: &mut Scene, draw: &mut Draw, middle: V3) {
    let soft = FATS.and(BOWEL).and(DUODENUM);
    let deep = soft.and(PANCREAS);
    // Kidneys: veins in front of arteries; the left vein crosses in front of the aorta.
    for (side, z) in [(1.0, -4.0), (-1.0, 8.0)] {
        let vein = if side > 0.0 {
            vec![[32.0, 28.0, z, 5.0], [44.0, 16.0, z - 1.0, 4.5], [60.0, 8.0, z - 2.0, 3.5]]
        } else {
            vec![
                [20.0, 34.0, z - 6.0, 4.0],
                [-6.0, 45.0, z - 4.0, 4.2],
                [-26.0, 30.0, z - 2.0, 5.0],
                [-46.0, 14.0, z, 4.5],
                [-60.0, 8.0, z, 3.5],
            ]
        };
        scene.vessel(&vein, Tissue::Vein, 0.8, soft);
        let artery =
            [[-6.0 + side * 8.0, 28.0, z + 2.0, 3.0], [side * 26.0, 14.0, z + 2.0, 2.8], [side * 58.0, 5.0, z, 2.5]];
        scene.vessel(&artery, Tissue::Artery, 0.0, soft);
    }
    // Mesenteric artery and vein run down side by side in the mesentery.
    let sma = [
        [-6.0, 40.0, 14.0, 3.8],
        [-5.0, 50.0, 2.0, 3.8],
        [-3.0, 57.0, -25.0, 3.6],
        [0.0, 63.0, -70.0, 3.2],
        [12.0, 62.0, -120.0, 2.4],
    ];
    scene.vessel(&sma, Tissue::Artery, 2.5, deep);
    // The portal system, wide in a few.
    let wide = 0.85 + 0.75 * draw.unit().powi(2);
    let smv = [
        [14.0, 60.0, -115.0, 3.5 * wide],
        moved([12.0, 62.0, -65.0, 5.2 * wide], middle, 0.5),
        moved([11.0, 57.0, -25.0, 6.0 * wide], middle, 1.0),
        moved([12.0, 52.0, 4.0, 6.6 * wide], middle, 1.0),
    ];
    scene.vessel(&smv, Tissue::PortalVein, 1.2, deep);
    let trunk = [[-6.0, 42.0, 28.0, 3.8], [-5.0, 50.0, 30.0, 3.6]];
    scene.vessel(&trunk, Tissue::Artery, 1.0, deep);
    let hepatic = [[-5.0, 50.0, 30.0, 3.0], [10.0, 58.0, 30.0, 2.6], [24.0, 56.0, 38.0, 2.2], [34.0, 48.0, 50.0, 1.8]];
    scene.vessel(&hepatic, Tissue::Artery, 0.0, deep.and(LIVER));
    let (a, b) = (draw.normal(0.0, 4.0), draw.normal(0.0, 5.0));
    let splenic = [
        [-5.0, 50.0, 30.0, 2.8],
        [-24.0, 48.0 + a, 40.0 + b, 2.8],
        [-46.0, 28.0, 42.0 + b, 2.6],
        [-72.0, 6.0, 54.0, 2.2],
        [-88.0, 0.0, 58.0, 1.6],
    ];
    scene.vessel(&splenic, Tissue::Artery, 0.0, deep);
    let vein = [
        moved([12.0, 51.0, 6.0, 5.2 * wide], middle, 1.0),
        moved([-16.0, 46.0 + a * 0.5, 16.0 + b * 0.5, 4.6 * wide], middle, 0.5),
        [-42.0, 28.0 + a * 0.5, 30.0 + b, 4.2 * wide],
        [-66.0, 8.0, 44.0 + b * 0.5, 3.8 * wide],
        [-82.0, 0.0, 54.0, 3.0],
        [-96.0, -4.0, 60.0, 2.0],
    ];
    scene.vessel(&vein, Tissue::PortalVein, 0.6, deep.and(STOMACH).and(SPLEEN));
    let gastric = [[-20.0, 60.0, 44.0, 1.8], [-30.0, 70.0, 40.0, 1.6], [-14.0, 72.0, 20.0, 1.4]];
    scene.vessel(&gastric, Tissue::Artery, 0.0, FATS);
    let portal = [
        moved([12.0, 51.0, 5.0, 6.6 * wide], middle, 1.0),
        moved([19.0, 49.0, 22.0, 6.8 * wide], middle, 0.7),
        moved([27.0, 47.0, 38.0, 6.6 * wide], middle, 0.3),
        [36.0, 45.0, 50.0, 6.0 * wide],
    ];
    scene.vessel(&portal, Tissue::PortalVein, 0.8, deep.and(LIVER));
    let duct = [
        moved([30.0, 48.0, 0.0, 2.4], middle, 1.0),
        moved([30.0, 52.0, 20.0, 2.6], middle, 0.5),
        [36.0, 52.0, 42.0, 2.2],
    ];
    scene.vessel(&duct, Tissue::BowelFluid, 0.0, deep);
    // Vessels of the mesentery, fanning out to the bowel.
    for _ in 0..22 {
        let from = sma[draw.whole(2, 4)];
        let root = [from[0], from[1], from[2] - draw.range(0.0, 20.0)];
        let way = unit([draw.range(-1.0, 1.0), draw.range(-0.1, 0.6), draw.range(-0.9, 0.3)]);
        let tissue = if draw.chance(0.5) { Tissue::Artery } else { Tissue::PortalVein };
        grow(scene, draw, root, way, draw_radius(tissue), 45.0, 2, tissue, FATS);
    }
}

fn draw_radius(tissue: Tissue) -> f32 {
    if tissue == Tissue::Artery { 1.5 } else { 2.1 }
}

/// The two trees in the liver.
pub(crate) fn hepatic(scene: &mut Scene, draw: &mut Draw) {
    let liver = Set::of(&[Tissue::Liver]);
    let cava = [22.0, 42.0, 106.0];
    for (way, r) in
        [([0.9, -0.35, -0.25], 5.0), ([0.45, 0.75, -0.45], 4.6), ([-0.55, 0.8, -0.25], 4.2), ([0.95, 0.1, -0.5], 3.6)]
    {
        grow(scene, draw, cava, unit(way), r, 42.0, 4, Tissue::LiverVein, liver);
    }
    let hilum = [36.0, 45.0, 50.0];
    grow(scene, draw, hilum, unit([0.8, -0.5, 0.15]), 5.0, 32.0, 4, Tissue::LiverPortal, liver);
    grow(scene, draw, hilum, unit([0.7, 0.6, 0.35]), 4.6, 32.0, 4, Tissue::LiverPortal, liver);
    grow(scene, draw, hilum, unit([-0.7, 0.6, 0.4]), 4.6, 40.0, 3, Tissue::LiverPortal, liver);
}

#[allow(clippy::too_many_arguments)]
fn grow(
    scene: &mut Scene,
    draw: &mut Draw,
    from: V3,
    way: V3,
    r: f32,
    long: f32,
    left: usize,
    tissue: Tissue,
    over: Set,
) {
    let bend = draw.jitter(0.22);
    let mid = add(from, scale(unit(add(way, bend)), long * 0.5));
    let way = unit(add(way, scale(bend, 2.0)));
    let end = add(mid, scale(way, long * 0.5));
    let line = [[from[0], from[1], from[2], r], [mid[0], mid[1], mid[2], r * 0.92], [end[0], end[1], end[2], r * 0.82]];
    scene.tube(&line, 0.0, Fill::Of(tissue), over, Frame::Organ, [0.0, 1.0]);
    if left == 0 || r < 0.9 {
        return;
    }
    for share in [0.78, 0.66] {
        let turn = unit(add(way, draw.jitter(0.6)));
        let shorter = long * draw.range(0.65, 0.9);
        grow(scene, draw, end, turn, r * share, shorter, left - 1, tissue, over);
    }
}
