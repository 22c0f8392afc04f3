//! A breast ultrasound: layers of tissue, a lesion or none, speckle, shadow.

use crate::{
    Result,
    draw::Draw,
    noise,
    picture::{Canvas, PicturePhantom},
};

/// Label of a breast tumour.
const TUMOUR: u8 = 17;

/// A lesion; lengths as shares of the picture's side.
struct Lesion {
    centre: [f32; 2],
    radii: [f32; 2],
    turn: f32,
    /// Height of lobes and of spicules on its outline.
    outline: [f32; 2],
    echo: f32,
    /// Below it: negative = shadow, positive = enhancement.
    beyond: f32,
    rim: f32,
    seed: u32,
}

impl Lesion {
    fn draw(draw: &mut Draw) -> Self {
        let malignant = draw.chance(0.45);
        let r = 0.05 + 0.2 * draw.unit().powf(1.4);
        let ratio = if malignant { draw.range(0.65, 1.25) } else { draw.range(0.42, 0.8) };
        let cyst = !malignant && draw.chance(0.35);
        Self {
            centre: [draw.range(0.22, 0.78), draw.range(0.26, 0.58)],
            radii: [r, r * ratio],
            turn: draw.normal(0.0, 0.25),
            outline: if malignant {
                [draw.range(0.12, 0.3), draw.range(0.05, 0.16)]
            } else {
                [draw.range(0.03, 0.12), 0.01]
            },
            echo: if cyst { draw.range(0.002, 0.02) } else { draw.range(0.04, 0.22) },
            beyond: if malignant {
                draw.range(-0.85, 0.0)
            } else if cyst {
                draw.range(0.2, 1.4)
            } else {
                draw.range(-0.2, 0.6)
            },
            rim: draw.range(-0.2, 1.0),
            seed: draw.seed(),
        }
    }

    /// Elliptic radius (1 = outline).
    fn radius(&self, x: f32, y: f32) -> f32 {
        let (s, c) = self.turn.sin_cos();
        let (dx, dy) = (x - self.centre[0], y - self.centre[1]);
        let (u, v) = ((c * dx + s * dy) / self.radii[0], (c * dy - s * dx) / self.radii[1]);
        let r = u.hypot(v);
        let (a, b) = if r > 1e-6 { (u / r, v / r) } else { (1.0, 0.0) };
        let lobes = noise::value([a * 1.6, b * 1.6, 0.5], self.seed);
        let spikes = noise::value([a * 5.0, b * 5.0, r], self.seed ^ 3);
        r / (1.0 + self.outline[0] * lobes + self.outline[1] * spikes)
    }
}

/// Draws a breast ultrasound of `size` × `size` pixels; label 17 marks the lesion. One picture in six has none.
///
/// # Errors
/// [`crate::Error::Picture`] if the size is out of range.
pub fn breast_ultrasound(seed: u64, size: usize) -> Result<PicturePhantom> {
    let mut canvas = Canvas::new(size)?;
    let draw = &mut Draw::new(seed, 12);
    let lesion = if draw.chance(1.0 / 6.0) { None } else { Some(Lesion::draw(draw)) };
    let n = size as f32;
    let noise_seed = draw.seed();
    let glands = draw.range(0.12, 0.32);
    let muscle = draw.range(0.6, 0.95);
    let wall = muscle + draw.range(0.1, 0.3);
    let (fat_echo, gland_echo, muscle_echo) = (draw.range(0.15, 0.4), draw.range(0.5, 1.1), draw.range(0.15, 0.45));
    let septa = draw.range(0.5, 2.2);
    let bed = draw.range(0.15, 0.5);
    let stripes = draw.range(0.25, 0.7);
    let field = |p: [f32; 3], salt: u32| noise::value(p, noise_seed ^ salt);
    // Echo strength of the tissue.
    let echo = |x: f32, y: f32| -> f32 {
        let wave = 0.05 * field([x * 2.5, 0.0, 1.0], 1) + 0.02 * field([x * 7.0, y * 3.0, 1.0], 2);
        let depth = y + wave;
        let mut e = if depth < 0.035 {
            1.6
        } else if depth < glands {
            // Lobules of fat between bright septa.
            let a = field([x * 4.5, (y + 0.5 * wave) * 11.0, 2.0], 3) + 0.3 * field([x * 12.0, y * 25.0, 2.0], 11);
            fat_echo + septa * (-(a / 0.07).powi(2)).exp()
        } else if depth < muscle {
            let bent = y + 0.06 * field([x * 3.0, y * 2.0, 8.0], 9);
            let band = field([x * 2.5, bent * 16.0, 3.0], 4) + 0.7 * field([x * 5.0, bent * 34.0, 3.0], 10);
            let patch = field([x * 5.0, y * 6.0, 4.0], 5);
            let line = field([x * 3.0 + y, bent * 20.0, 5.0], 6);
            (gland_echo * (1.0 + 1.3 * stripes * band + 0.45 * patch)).max(0.05)
                + 0.6 * septa * (-(line / 0.06).powi(2)).exp()
        } else if depth < wall {
            let line = field([x * 2.0, y * 40.0, 6.0], 7);
            muscle_echo * (1.0 + 0.7 * line) + if depth - muscle < 0.012 { 1.5 } else { 0.0 }
        } else {
            0.4 * muscle_echo + if depth - wall < 0.02 { 2.0 } else { 0.0 }
        };
        if let Some(l) = &lesion {
            let r = l.radius(x, y);
            if r < 1.0 {
                let inner = field([x * 14.0, y * 14.0, 7.0], 8);
                e = l.echo * (1.0 + bed * inner);
            } else if r < 1.18 {
                e *= 1.0 + l.rim;
            }
        }
        e
    };
    // Sound lost or kept on the way down, under lesions and at random shadows.
    let fade = draw.range(0.2, 1.6);
    let (shadow_x, shadow_w, shadow) =
        (draw.unit(), draw.range(0.02, 0.1), if draw.chance(0.35) { draw.range(0.2, 0.8) } else { 0.0 });
    let focus = draw.range(0.3, 0.6);
    let beam = |x: f32, y: f32| -> f32 {
        let mut b = (-fade * (y - focus).max(0.0)).exp() * (1.0 - 0.4 * (-y / 0.06).exp());
        if let Some(l) = &lesion {
            let across = (x - l.centre[0]) / l.radii[0];
            let under = ((y - l.centre[1]) / l.radii[1]).clamp(0.0, 1.6) / 1.6;
            if across.abs() < 1.0 {
                b *= 1.0 + l.beyond * under * (1.0 - across.powi(4));
            }
        }
        b *= 1.0 - shadow * (-((x - shadow_x) / shadow_w).powi(2)).exp() * ((y - glands) * 4.0).clamp(0.0, 1.0);
        b.max(0.0)
    };
    // Speckle: sums of many echoes with random phase, smeared by the pulse and more by the beam's width.
    let (pulse, width) = (draw.range(0.0018, 0.0035) * n, draw.range(0.0035, 0.008) * n);
    let mut parts = [Canvas::new(size)?, Canvas::new(size)?];
    for (i, part) in parts.iter_mut().enumerate() {
        part.fill(|col, row| {
            let (x, y) = ((col as f32 + 0.5) / n, (row as f32 + 0.5) / n);
            echo(x, y).max(1e-4).sqrt() * noise::gaussian(col as i32, row as i32, i as i32, noise_seed ^ 21)
        });
        part.blur([width, pulse]);
    }
    let gain = 2.0 * (std::f32::consts::PI * (width.max(0.3) * pulse.max(0.3))).sqrt();
    let smooth = draw.range(0.2, 0.9) * n / 256.0;
    canvas.fill(|col, row| {
        let at = row * size + col;
        let (x, y) = ((col as f32 + 0.5) / n, (row as f32 + 0.5) / n);
        gain * parts[0].data[at].hypot(parts[1].data[at]) * beam(x, y)
    });
    let (range_db, bright) = (draw.range(38.0, 58.0), draw.range(0.85, 1.2));
    for v in &mut canvas.data {
        let db = 20.0 * (v.max(1e-5) / 5.5).log10();
        *v = 255.0 * bright * (1.0 + db / range_db).clamp(0.0, 1.0).powf(1.5);
    }
    canvas.blur([smooth, smooth]);
    let mut labels = vec![0u8; size * size];
    if let Some(l) = &lesion {
        for (at, label) in labels.iter_mut().enumerate() {
            let (x, y) = (((at % size) as f32 + 0.5) / n, ((at / size) as f32 + 0.5) / n);
            if l.radius(x, y) < 1.0 {
                *label = TUMOUR;
            }
        }
        if draw.chance(0.25) {
            calipers(&mut canvas, l);
        }
    }
    canvas.finish(labels, 40.0 / f64::from(n))
}

/// The crosses that an examiner sets.
fn calipers(canvas: &mut Canvas, lesion: &Lesion) {
    let n = canvas.size as f32;
    let arm = 0.012 * n;
    let (s, c) = lesion.turn.sin_cos();
    for (u, v) in [(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)] {
        let (a, b) = (u * lesion.radii[0], v * lesion.radii[1]);
        let (x, y) = ((lesion.centre[0] + c * a - s * b) * n, (lesion.centre[1] + s * a + c * b) * n);
        for line in [[[x - arm, y], [x + arm, y]], [[x, y - arm], [x, y + arm]]] {
            canvas.stroke(&line, 0.6, |_, _| 220.0);
        }
    }
}
