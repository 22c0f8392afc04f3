//! A frontal chest X-ray as sums of attenuation along parallel rays; coordinates in mm, x to the patient's right.

use crate::{
    Result,
    draw::Draw,
    noise,
    picture::{Canvas, PicturePhantom},
};

/// Label of the lungs.
const LUNGS: u8 = 16;

/// A chest.
struct Chest {
    side: [f32; 2],
    tall: f32,
    dome: [f32; 2],
    heart: [f32; 4],
    knob: f32,
    body: f32,
    warp: f32,
    seed: u32,
}

impl Chest {
    fn draw(draw: &mut Draw) -> Self {
        Self {
            side: [draw.range(0.88, 1.1), draw.range(0.88, 1.1)],
            tall: draw.range(0.85, 1.12),
            dome: [draw.normal(18.0, 9.0), draw.normal(4.0, 9.0)],
            heart: [draw.normal(-22.0, 5.0), draw.normal(36.0, 7.0), draw.range(62.0, 90.0), draw.range(46.0, 58.0)],
            knob: draw.range(8.0, 17.0),
            body: draw.range(0.9, 1.25),
            warp: draw.range(0.4, 1.3),
            seed: draw.seed(),
        }
    }

    /// Share of the lung's full depth that a ray crosses; `None` outside the visible lung.
    fn lung(&self, x: f32, z: f32) -> Option<f32> {
        let wave = |salt: u32| {
            self.warp
                * (5.0 * noise::at([x, z, 0.0], 70.0, self.seed ^ salt)
                    + 1.8 * noise::at([x, z, 9.0], 24.0, self.seed ^ salt))
        };
        let (x, z) = (x + wave(1), (z + wave(2)) / self.tall);
        let right = x > 0.0;
        let size = self.side[usize::from(!right)];
        let v = ((z - 40.0) / 192.0).max(0.0);
        let centre = 86.0 * size - 24.0 * v * v;
        let flare = if z < 40.0 { 1.0 + (40.0 - z) * 0.0012 } else { 1.0 };
        let d = x.abs() - centre;
        let u = (d / if d > 0.0 { 62.0 * size * flare } else { 60.0 * size }).abs();
        let rest = 1.0 - u.powf(2.5) - v.powf(2.7);
        if rest <= 0.0 {
            return None;
        }
        let t = (x.abs() - 70.0 * size) / 66.0;
        let floor =
            self.dome[usize::from(!right)] - 34.0 * t * t - if t > 0.6 { 90.0 * (t - 0.6).powi(2) } else { 0.0 };
        if z < floor {
            return None;
        }
        // Heart, aortic arch, right atrium, hila's middle stand in the way.
        let [hx, hz, ha, hb] = self.heart;
        let (p, q) = (x - hx, z - hz);
        let (a, b) = (0.8 * p - 0.6 * q, 0.6 * p + 0.8 * q);
        if (a / ha).powi(2) + (b / hb).powi(2) < 1.0 {
            return None;
        }
        // Vessels and bronchi on both sides of the middle: arch of the aorta, pulmonary trunk, right atrium.
        let bump = |z0: f32, width: f32, height: f32| height * (-((z - z0) / width).powi(2)).exp();
        let middle = 22.0
            + if right {
                bump(115.0, 30.0, 7.0) + bump(38.0, 40.0, 20.0) + bump(210.0, 25.0, 5.0)
            } else {
                bump(160.0, 15.0, self.knob)
                    + bump(122.0, 18.0, 0.7 * self.knob)
                    + bump(215.0, 25.0, 5.0)
                    + bump(80.0, 30.0, 12.0)
            };
        if x.abs() < middle {
            return None;
        }
        let over_floor = ((z - floor) / 26.0).clamp(0.0, 1.0);
        Some(rest.sqrt() * (0.45 + 0.55 * over_floor))
    }
}

/// Draws a chest X-ray of `size` × `size` pixels; label 16 marks the visible lungs.
///
/// # Errors
/// [`crate::Error::Picture`] if the size is out of range.
pub fn chest_xray(seed: u64, size: usize) -> Result<PicturePhantom> {
    let mut canvas = Canvas::new(size)?;
    let draw = &mut Draw::new(seed, 11);
    let chest = Chest::draw(draw);
    let view = draw.range(350.0, 440.0);
    let pixel = view / size as f32;
    let (cx, cz) = (draw.normal(0.0, 8.0), draw.normal(92.0, 12.0));
    let tilt = draw.normal(0.0, 0.025);
    let to_mm = |col: f32, row: f32| {
        let (a, b) = ((size as f32 / 2.0 - col) * pixel, (size as f32 / 2.0 - row) * pixel);
        [a + tilt * b + cx, b - tilt * a + cz]
    };
    let to_pixel = |p: [f32; 2]| {
        let (x, z) = (p[0] - cx, p[1] - cz);
        let (a, b) = (x - tilt * z, z + tilt * x);
        [size as f32 / 2.0 - a / pixel, size as f32 / 2.0 - b / pixel]
    };
    let mut labels = vec![0u8; size * size];
    let soft = draw.range(0.85, 1.2);
    let aeration = draw.range(0.75, 1.15);
    let arms = draw.chance(0.75);
    let droop = draw.range(0.3, 0.5);
    let bubble = draw.chance(0.6);
    let bubble_at =
        [-70.0 + draw.normal(0.0, 10.0), chest.dome[1] - 26.0, draw.range(14.0, 34.0), draw.range(10.0, 20.0)];
    let chest_ref = &chest;
    canvas.fill(|col, row| {
        let [x, z] = to_mm(col as f32, row as f32);
        let wide = 172.0 * chest_ref.body * (1.0 + 0.1 * ((z - 40.0) / 150.0).clamp(-1.0, 1.0));
        // Trunk, neck and shoulders.
        let slope = 258.0 - x.abs() * droop;
        let top = ((slope - z) / 70.0).clamp(0.0, 1.0).sqrt();
        let trunk = (1.0 - (x / wide).powi(2)).max(0.0).sqrt() * top;
        let shoulder = if arms {
            top * 0.7 * ((z - 60.0) / 60.0).clamp(0.0, 1.0) * (1.0 - (x / 270.0).powi(4)).max(0.0)
        } else {
            0.0
        };
        let neck = if z > 190.0 { 0.75 * (1.0 - (x / 62.0).powi(2)).max(0.0).sqrt() } else { 0.0 };
        let mut depth = 1.35 * soft * trunk.max(shoulder).max(neck).powf(0.8);
        if z < 40.0 {
            depth += 0.35 * trunk * ((40.0 - z) / 60.0).clamp(0.0, 1.0);
        }
        if let Some(l) = chest_ref.lung(x, z) {
            depth -= aeration * 0.95 * l.powf(0.7);
        } else if x.abs() < 70.0 && (-10.0..230.0).contains(&z) {
            // Mediastinum is dense, the more towards the middle.
            depth += 0.18 * (1.0 - (x / 70.0).powi(2));
        }
        // Windpipe.
        if z > 150.0 && (x - 2.0).abs() < 9.0 {
            depth -= 0.22 * (1.0 - ((x - 2.0) / 9.0).powi(2)).sqrt();
        }
        let b = ((x - bubble_at[0]) / bubble_at[2]).powi(2) + ((z - bubble_at[1]) / bubble_at[3]).powi(2);
        if bubble && b < 1.0 {
            depth -= 0.4 * (1.0 - b).sqrt();
        }
        // Vertebral column.
        if x.abs() < 21.0 {
            let beat = (z * std::f32::consts::TAU / 27.0).cos();
            let edge = (1.0 - (x.abs() / 21.0).powi(6)).max(0.0);
            depth += 0.30 * edge * (0.85 + 0.15 * beat) + 0.12 * (-(x / 4.0).powi(2)).exp() * (0.5 + 0.5 * beat);
        }
        depth + 0.05 * noise::at([x, z, 3.0], 40.0, chest_ref.seed ^ 5)
    });
    for (at, label) in labels.iter_mut().enumerate() {
        let [x, z] = to_mm((at % size) as f32, (at / size) as f32);
        if chest.lung(x, z).is_some() {
            *label = LUNGS;
        }
    }
    bones(&mut canvas, draw, &chest, pixel, &to_pixel);
    vessels(&mut canvas, draw, &chest, pixel, &to_pixel);
    // Exposure: film darkens with what comes through.
    canvas.blur([draw.range(0.4, 1.3) / pixel, draw.range(0.4, 1.3) / pixel]);
    let (gamma, level, range) = (draw.range(0.75, 1.35), draw.range(0.0, 0.28), draw.range(0.85, 1.25));
    let (grain, noise_seed) = (draw.range(1.0, 6.0), draw.seed());
    let dark = draw.range(0.0, 25.0);
    let n = size;
    for (at, v) in canvas.data.iter_mut().enumerate() {
        let t = ((*v - level * 0.6) / (1.55 * range)).clamp(0.0, 1.4);
        let film = t.powf(gamma) / (1.0 + 0.22 * t * t);
        *v = dark + (255.0 - dark) * film + grain * noise::gaussian((at % n) as i32, (at / n) as i32, 0, noise_seed);
    }
    if draw.chance(0.6) {
        // The side marker.
        let (x, y) = (draw.range(0.04, 0.12) * n as f32, draw.range(0.04, 0.12) * n as f32);
        let (s, c) = (n as f32 * 0.02, if draw.chance(0.5) { x } else { n as f32 - x });
        canvas.stroke(&[[c, y], [c, y + s], [c + s * 0.6, y + s]], 0.004 * n as f32 + 0.5, |_, _| 200.0);
    }
    canvas.finish(labels, f64::from(pixel))
}

/// Shadow of a tubular bone: faint inside, brighter along its edges.
fn tube(distance: f32, r: f32, strength: f32) -> f32 {
    let d = distance / r;
    if d >= 1.0 { 0.0 } else { strength * ((1.0 - d * d).sqrt() * 0.55 + 0.5 * (-((d - 0.88) / 0.1).powi(2)).exp()) }
}

fn bones(canvas: &mut Canvas, draw: &mut Draw, chest: &Chest, pixel: f32, to_pixel: &impl Fn([f32; 2]) -> [f32; 2]) {
    let steep = draw.range(0.75, 1.25);
    let strength = draw.range(0.16, 0.32);
    for side in [1.0f32, -1.0] {
        let size = chest.side[usize::from(side < 0.0)];
        for i in 0..11 {
            let top = (222.0 - 23.5 * i as f32) * chest.tall;
            let lateral = |z: f32| {
                let v = ((z / chest.tall - 40.0) / 196.0).clamp(0.0, 1.0);
                ((86.0 * size - 24.0 * v * v) + 64.0 * size * (1.0 - v.powf(2.7)).max(0.02).powf(0.4)).max(52.0)
            };
            let drop = steep * (22.0 + 4.2 * i as f32);
            let reach = lateral(top - drop * 0.7);
            let back: Vec<[f32; 2]> = (0..=14)
                .map(|k| {
                    let t = k as f32 / 14.0;
                    let x = 18.0 + (reach - 18.0) * (t * 1.57).sin();
                    to_pixel([side * x, top + 9.0 * (t * 4.5).min(std::f32::consts::PI).sin() - drop * t * t])
                })
                .collect();
            let r = draw.range(4.8, 6.6) / pixel;
            canvas.stroke(&back, r, |_, d| tube(d, r, strength));
            if i < 9 {
                let from = top - drop;
                let end = 52.0 + 5.0 * i as f32;
                let front: Vec<[f32; 2]> = (0..=12)
                    .map(|k| {
                        let t = k as f32 / 12.0;
                        let x = reach + (end.min(reach - 8.0) - reach) * (1.0 - (t * 1.57).cos());
                        to_pixel([side * x, from - steep * (34.0 * t + 22.0 * t * t)])
                    })
                    .collect();
                let r = r * 1.15;
                canvas.stroke(&front, r, |t, d| tube(d, r, strength * 0.75 * (1.0 - 0.5 * t)));
            }
        }
        let lift = draw.normal(0.0, 12.0);
        let clavicle: Vec<[f32; 2]> = (0..=14)
            .map(|k| {
                let t = k as f32 / 14.0;
                to_pixel([side * (16.0 + 142.0 * t), 196.0 * chest.tall + (28.0 + lift) * t + 9.0 * (t * 6.0).sin()])
            })
            .collect();
        let r = draw.range(5.5, 7.5) / pixel;
        canvas.stroke(&clavicle, r, |_, d| tube(d, r, strength * 1.5));
        // Shoulder blade and head of the humerus.
        let blade = [[150.0, 205.0], [118.0, 170.0], [128.0, 90.0], [168.0, 185.0], [150.0, 205.0]]
            .map(|p: [f32; 2]| to_pixel([side * p[0] * chest.body, p[1]]));
        let r = 5.0 / pixel;
        canvas.stroke(&blade, r, |_, d| tube(d, r, strength * 0.6));
        let arm = [[196.0, 205.0], [206.0, 120.0], [210.0, 60.0]]
            .map(|p: [f32; 2]| to_pixel([side * p[0] * chest.body, p[1]]));
        let r = 13.0 / pixel;
        canvas.stroke(&arm, r, |_, d| tube(d, r, strength * 2.0));
    }
}

fn vessels(canvas: &mut Canvas, draw: &mut Draw, chest: &Chest, pixel: f32, to_pixel: &impl Fn([f32; 2]) -> [f32; 2]) {
    let strength = draw.range(0.010, 0.026);
    for side in [1.0f32, -1.0] {
        let hilum = [side * 36.0, (if side > 0.0 { 104.0 } else { 114.0 }) * chest.tall];
        for _ in 0..draw.whole(14, 26) {
            let mut angle = draw.range(-1.9, 1.5);
            let mut at = [hilum[0] + draw.normal(0.0, 7.0), hilum[1] + draw.normal(0.0, 14.0)];
            let mut line = vec![to_pixel(at)];
            let r = draw.range(1.4, 4.2);
            for _ in 0..draw.whole(6, 14) {
                angle += draw.normal(0.0, 0.18);
                at = [at[0] + side * 9.0 * angle.cos(), at[1] + 9.0 * angle.sin()];
                if chest.lung(at[0], at[1]).is_none() && at[0].abs() > 60.0 {
                    break;
                }
                line.push(to_pixel(at));
            }
            if line.len() < 2 {
                continue;
            }
            canvas.stroke(&line, r / pixel, |t, d| {
                let w = (r * (1.0 - 0.75 * t)).max(0.6) / pixel;
                if d < w { strength * r * (1.0 - (d / w).powi(2)).sqrt() * (1.0 - 0.5 * t) } else { 0.0 }
            });
        }
    }
    // Haze and nodules of the ill.
    if draw.chance(0.3) {
        for _ in 0..draw.whole(1, 5) {
            let at = to_pixel([draw.range(-110.0, 110.0), draw.range(20.0, 190.0)]);
            let r = draw.range(6.0, 38.0) / pixel;
            let dense = draw.range(0.04, 0.22);
            canvas.stroke(&[at, [at[0] + r * 0.4, at[1] + r * 0.3]], r, |_, d| dense * (1.0 - (d / r).powi(2)).powi(2));
        }
    }
}
