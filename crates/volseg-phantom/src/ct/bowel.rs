//! Colon and small bowel: tubes with folds, contents and gas.

use super::{
    scene::{FATS, Fill, Frame, Scene, curve},
    tissue::{Set, Tissue},
};
use crate::{
    draw::Draw,
    shape::{V3, add, dot, scale, sub, unit},
};

const WALL: Set = Set::of(&[Tissue::BowelWall]);

/// Paints one stretch of gut: wall, then contents.
fn gut(scene: &mut Scene, path: &[[f32; 4]], wall: f32, content: Fill, rough: [f32; 2]) {
    scene.tube(path, 0.0, Fill::Of(Tissue::BowelWall), FATS, Frame::Organ, [0.0, 1.0]);
    scene.tube(path, -wall, content, WALL, Frame::Organ, rough);
}

/// The colon from the caecum to the rectum.
pub(crate) fn colon(scene: &mut Scene, draw: &mut Draw) {
    // A colon full of air is wide, and its left bend may lie under the diaphragm.
    let airy = draw.chance(0.35);
    let wide = if airy { draw.range(1.05, 1.5) } else { draw.range(0.75, 1.25) };
    let high = draw.range(-10.0, 40.0);
    let sag = draw.range(-75.0, 25.0);
    let along = |scene: &Scene, list: &[[f32; 4]]| -> Vec<[f32; 4]> {
        list.iter()
            .map(|[angle, share, z, r]| {
                let p = scene.body.inside(*angle, *share, *z);
                [p[0], p[1], p[2], *r * wide]
            })
            .collect()
    };
    let mut path = along(
        scene,
        &[
            [-8.0, 0.66, -142.0, 24.0],
            [-10.0, 0.72, -115.0, 28.0],
            [-12.0, 0.76, -80.0, 25.0],
            [-12.0, 0.78, -45.0, 23.0],
            [0.0, 0.76, -24.0, 22.0],
            [28.0, 0.70, -22.0, 22.0],
            [52.0, 0.74, -14.0 + sag * 0.4, 21.0],
            [74.0, 0.78, -2.0 + sag, 21.0],
            [98.0, 0.79, 2.0 + sag, 20.0],
            [124.0, 0.78, 10.0 + sag * 0.6, 20.0],
            [146.0, 0.77, 34.0 + high * 0.6, 21.0],
            [166.0, 0.78, 58.0 + high, 21.0],
            [186.0, 0.78, 44.0 + high * 0.7, 19.0],
            [194.0, 0.80, 10.0, 18.0],
            [193.0, 0.82, -40.0, 17.0],
            [190.0, 0.82, -90.0, 17.0],
            [188.0, 0.72, -135.0, 15.0],
        ],
    );
    path.extend([
        [-70.0, 28.0, -168.0, 15.0],
        [-38.0, 36.0, -190.0, 16.0],
        [-8.0, 24.0 + draw.range(-8.0, 25.0), -176.0, 17.0],
        [16.0, 2.0, -192.0, 16.0],
        [6.0, -22.0, -210.0, 16.0],
        [0.0, -36.0, -232.0, 19.0],
        [0.0, -40.0, -256.0, 20.0],
        [0.0, -32.0, -280.0, 14.0],
        [0.0, -36.0, -302.0, 10.0],
    ]);
    for p in &mut path {
        let j = draw.jitter(3.0);
        *p = [p[0] + j[0], p[1] + j[1], p[2] + j[2], p[3] * draw.range(0.85, 1.15)];
    }
    let path = curve(&path, 7.0);
    let mut from = 0;
    let mut haustra = draw.range(0.0, 6.0);
    while from + 1 < path.len() {
        let to = (from + draw.whole(5, 12)).min(path.len() - 1);
        let squeezed = draw.chance(0.18);
        let piece: Vec<[f32; 4]> = path[from..=to]
            .iter()
            .map(|p| {
                haustra += 1.25;
                let r = if squeezed { p[3] * 0.55 } else { p[3] * (1.0 + 0.14 * haustra.sin()) };
                [p[0], p[1], p[2], r]
            })
            .collect();
        let middle = piece[piece.len() / 2];
        let content = match draw.unit() {
            u if airy && u < 0.5 => Fill::Of(Tissue::Gas),
            u if u < 0.4 => Fill::Of(Tissue::Stool),
            u if u < 0.9 => Fill::Level {
                y: middle[1] + middle[3] * draw.range(-1.0, 0.5),
                above: Tissue::Gas,
                below: if draw.chance(0.7) { Tissue::Stool } else { Tissue::BowelFluid },
            },
            _ => Fill::Of(Tissue::BowelFluid),
        };
        gut(scene, &piece, draw.range(1.6, 3.2), content, [1.5, 8.0]);
        from = to;
    }
}

/// Loops of jejunum and ileum: a walk that turns smoothly and keeps off what is there already.
pub(crate) fn small_bowel(scene: &mut Scene, draw: &mut Draw) {
    let filling = draw.range(0.55, 1.0);
    let mut taken: Vec<(V3, f32)> = scene
        .paints
        .iter()
        .filter_map(|p| match (&p.solid, &p.fill) {
            (super::scene::Solid::Free(crate::shape::Shape::Capsule { a, ra, .. }), Fill::Of(Tissue::BowelWall)) => {
                Some((*a, *ra))
            }
            _ => None,
        })
        .collect();
    let front = scene.body.inner_fat * 26.0;
    let steps = (560.0 * filling) as usize;
    let mut at = [-30.0, 55.0, -15.0];
    let mut heading = unit([-1.0, 0.4, -0.6]);
    let mut run: Vec<[f32; 4]> = Vec::new();
    let mut r = draw.range(9.0, 13.0);
    let mut left = draw.whole(6, 14);
    let wall = draw.range(2.0, 3.2);
    for step in 0..steps {
        let mut best = (f32::MAX, at, heading);
        for _ in 0..10 {
            let h =
                unit(add(scale(heading, 1.5), [draw.normal(0.0, 1.0), draw.normal(0.0, 0.9), draw.normal(0.0, 0.7)]));
            let p = add(at, scale(h, 8.5));
            let mut cost = draw.unit() * 2.0;
            let share = |v: f32, low: f32, high: f32| (low - v).max(0.0) + (v - high).max(0.0);
            let place = scene.body.place(p);
            let drift = 5.0 - 185.0 * step as f32 / steps as f32;
            cost += 1.2 * share(place.cavity, r + 3.0, 500.0);
            cost += 0.9 * share(p[1], if p[2] < -150.0 { 0.0 } else { 38.0 } + r, 110.0 + front);
            cost += 0.9 * share(p[2], -215.0, 30.0) + 0.25 * share(p[2], drift - 55.0, drift + 45.0);
            for (q, qr) in taken.iter().rev().skip(3) {
                let d = sub(*q, p);
                let gap = r + qr + 1.0 - dot(d, d).sqrt();
                if gap > 0.0 {
                    cost += gap;
                }
            }
            if cost < best.0 {
                best = (cost, p, h);
            }
        }
        let crowded = best.0 > 22.0;
        at = best.1;
        heading = best.2;
        if crowded {
            // No room: begin anew elsewhere.
            let drift = 5.0 - 185.0 * step as f32 / steps as f32;
            at = [draw.range(-95.0, 85.0), draw.range(50.0, 95.0 + front), drift + draw.range(-25.0, 25.0)];
        }
        left = left.saturating_sub(1);
        if crowded || left == 0 {
            finish(scene, draw, &run, wall);
            let last = run.last().copied();
            run.clear();
            if let (false, Some(last)) = (crowded, last) {
                run.push(last);
            }
            left = draw.whole(6, 16);
            r = (r * draw.range(0.8, 1.25)).clamp(8.0, 15.0);
        }
        taken.push((at, r));
        run.push([at[0], at[1], at[2], r * draw.range(0.9, 1.1)]);
    }
    finish(scene, draw, &run, wall);
}

fn finish(scene: &mut Scene, draw: &mut Draw, run: &[[f32; 4]], wall: f32) {
    if run.len() < 2 {
        return;
    }
    let middle = run[run.len() / 2];
    let content = match draw.unit() {
        u if u < 0.5 => Fill::Of(Tissue::BowelFluid),
        u if u < 0.62 => Fill::Level {
            y: middle[1] + middle[3] * draw.range(-0.2, 0.7),
            above: Tissue::Gas,
            below: Tissue::BowelFluid,
        },
        // Empty: wall on wall.
        _ => Fill::Of(Tissue::BowelWall),
    };
    gut(scene, run, wall, content, [1.5, 4.0]);
}
