//! Pelvic organs and the deep muscles.

use super::{
    scene::{BOWEL, FATS, Fill, Frame, SOFT, Scene, curve},
    tissue::{Set, Tissue},
};
use crate::{
    draw::Draw,
    shape::{Shape, mix, rotation},
};

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
        let sling =
            [[side * 40.0, 20.0, -280.0, 5.0], [side * 18.0, -20.0, -290.0, 5.0], [side * 6.0, -48.0, -280.0, 4.0]];
        scene.tube(&curve(&sling, 10.0), 0.0, Fill::Of(Tissue::Muscle), FATS, Frame::Bone, [0.0, 1.0]);
    }
}

/// Crura of the diaphragm: from the front of the lumbar spine up past both sides of the aorta, in front of which they meet; behind they go on
/// along the vertebrae to the wall.
pub(crate) fn crura(scene: &mut Scene, draw: &mut Draw) {
    let over = SOFT.and(Set::of(&[Tissue::Lung]));
    for (side, levels) in [
        (
            1.0,
            [
                (112.0, [[-4.0, 46.0], [9.0, 38.0], [21.0, 18.0], [28.0, -2.0], [36.0, -24.0]]),
                (78.0, [[-1.0, 43.0], [9.0, 33.0], [19.0, 15.0], [24.0, -2.0], [34.0, -21.0]]),
                (52.0, [[6.0, 36.0], [12.0, 27.0], [20.0, 12.0], [24.5, -6.0], [34.0, -22.0]]),
                (26.0, [[8.0, 29.0], [14.0, 22.0], [22.0, 11.0], [25.0, 2.0], [27.0, -4.0]]),
                (0.0, [[8.0, 24.0], [13.0, 20.0], [17.0, 17.0], [19.0, 13.0], [20.0, 10.0]]),
                (-32.0, [[7.0, 21.0], [9.0, 20.0], [11.0, 19.0], [12.0, 18.0], [13.0, 17.0]]),
            ],
        ),
        (
            -1.0,
            [
                (112.0, [[-8.0, 46.0], [-23.0, 37.0], [-27.0, 18.0], [-30.0, -2.0], [-37.0, -24.0]]),
                (78.0, [[-9.0, 44.0], [-22.0, 33.0], [-23.0, 15.0], [-26.0, -2.0], [-35.0, -21.0]]),
                (52.0, [[-20.0, 36.0], [-22.0, 26.0], [-23.0, 12.0], [-26.0, -6.0], [-35.0, -22.0]]),
                (26.0, [[-18.0, 28.0], [-19.0, 21.0], [-23.0, 11.0], [-25.0, 2.0], [-27.0, -4.0]]),
                (0.0, [[-16.0, 23.0], [-16.0, 20.0], [-17.0, 17.0], [-19.0, 13.0], [-20.0, 10.0]]),
                (-32.0, [[-9.0, 20.0], [-10.0, 19.5], [-11.0, 19.0], [-12.0, 18.0], [-13.0, 17.0]]),
            ],
        ),
    ] {
        let thick = draw.range(0.7, 1.3) * if side > 0.0 { 1.12 } else { 1.0 };
        let (out, front) = (draw.normal(0.0, 1.5), draw.normal(0.0, 1.5));
        // How far from the spine they leave it for the diaphragm.
        let spread = draw.range(0.0, 1.0);
        for pair in levels.windows(2) {
            let [(za, a), (zb, b)] = [pair[0], pair[1]];
            let at = |p: [f32; 2], z: f32| {
                let away = spread * ((z - 52.0) / 60.0).max(0.0) * ((50.0 - p[1]) / 70.0).max(0.0);
                [p[0] + (out + 26.0 * away) * side, p[1] + front + 10.0 * away, z]
            };
            for (n, r) in [4.3, 3.7, 2.8, 2.0].into_iter().enumerate() {
                let (p, q) = ([at(a[n], za), at(a[n + 1], za)], [at(b[n], zb), at(b[n + 1], zb)]);
                // Thin where it begins.
                let r = thick * r * if zb < -20.0 { 0.65 } else { 1.0 };
                for [a, b, c] in [[p[0], p[1], q[0]], [p[1], q[0], q[1]]] {
                    scene.put_rough(
                        Shape::Triangle { a, b, c, r },
                        Fill::Of(Tissue::Muscle),
                        over,
                        Frame::Bone,
                        [0.8, 12.0],
                    );
                }
            }
        }
    }
}
