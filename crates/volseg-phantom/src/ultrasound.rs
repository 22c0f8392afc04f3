//! A breast ultrasound: layers of tissue, a lesion or none, speckle, shadow. Brightness is reckoned in dB, as scanners compress it.

use crate::{
    Result,
    draw::Draw,
    noise,
    picture::{Canvas, PicturePhantom},
};

/// Label of a breast tumour.
const TUMOUR: u8 = 17;

/// Between 0 and 1 for `v` from `low` to `high`.
fn ramp(v: f32, low: f32, high: f32) -> f32 {
    noise::fade(((v - low) / (high - low)).clamp(0.0, 1.0))
}

/// A bright line where a field is zero.
fn ridge(field: f32, width: f32) -> f32 {
    (-(field / width).powi(2)).exp()
}

/// A turned ellipse; lengths as shares of the picture's side.
struct Oval {
    centre: [f32; 2],
    radii: [f32; 2],
    turn: f32,
}

impl Oval {
    /// Position in units of the radii.
    fn inside(&self, x: f32, y: f32) -> [f32; 2] {
        let (s, c) = self.turn.sin_cos();
        let (dx, dy) = (x - self.centre[0], y - self.centre[1]);
        [(c * dx + s * dy) / self.radii[0], (c * dy - s * dx) / self.radii[1]]
    }
}

/// A lesion.
struct Lesion {
    oval: Oval,
    /// Height of lobes and of spicules on its outline.
    outline: [f32; 2],
    /// Width of its edge as a share of the radius.
    soft: f32,
    /// Of the inside, dB beside the gland's; its unevenness; of the rim.
    echo: f32,
    bed: f32,
    rim: f32,
    /// Below it, dB: negative = shadow, positive = enhancement.
    beyond: f32,
    /// Share of the inside that is fluid, and brightness of septa, dB.
    fluid: f32,
    septa: f32,
    seed: u32,
}

impl Lesion {
    fn draw(draw: &mut Draw) -> Self {
        let malignant = draw.chance(0.45);
        let cyst = !malignant && draw.chance(0.35);
        let r = 0.045 + 0.23 * draw.unit().powf(1.2);
        let ratio = if malignant { draw.range(0.6, 1.25) } else { draw.range(0.42, 0.85) };
        Self {
            oval: Oval {
                centre: [draw.range(0.15, 0.85), draw.range(0.18, 0.6)],
                radii: [r, r * ratio],
                turn: draw.normal(0.0, 0.25),
            },
            outline: if malignant {
                [draw.range(0.1, 0.5), draw.range(0.02, 0.25)]
            } else {
                [draw.range(0.02, 0.16), draw.range(0.0, 0.02)]
            },
            soft: if malignant { draw.range(0.1, 0.55) } else { draw.range(0.04, 0.2) },
            echo: if cyst { draw.range(-45.0, -24.0) } else { draw.range(-24.0, -8.0) },
            bed: if cyst { draw.range(0.0, 3.0) } else { draw.range(2.0, 12.0) },
            rim: draw.range(-1.0, 6.0),
            beyond: match (malignant, cyst) {
                (true, _) => draw.range(-20.0, 2.0),
                (_, true) => draw.range(2.0, 12.0),
                _ => draw.range(-5.0, 7.0),
            },
            fluid: if !cyst && draw.chance(0.2) { draw.range(0.2, 0.7) } else { 0.0 },
            septa: if draw.chance(0.2) { draw.range(6.0, 18.0) } else { 0.0 },
            seed: draw.seed(),
        }
    }

    /// Elliptic radius (1 = outline).
    fn radius(&self, x: f32, y: f32) -> f32 {
        let [u, v] = self.oval.inside(x, y);
        let r = u.hypot(v);
        let (a, b) = if r > 1e-6 { (u / r, v / r) } else { (1.0, 0.0) };
        let lobes = noise::value([a * 1.6, b * 1.6, 0.5], self.seed);
        let spikes = noise::value([a * 5.0, b * 5.0, r], self.seed ^ 3);
        r / (1.0 + self.outline[0] * lobes + self.outline[1] * spikes)
    }

    /// Brightness of the inside, dB, for a gland of `gland` dB.
    fn echo(&self, x: f32, y: f32, gland: f32) -> f32 {
        let field = |size: f32, salt: u32| noise::value([x * size, y * size, 7.0], self.seed ^ salt);
        let bed = self.bed * (0.6 * field(9.0, 8) + 0.4 * field(24.0, 9) + 0.3 * field(50.0, 10));
        let fluid = -14.0 * ramp(field(6.0, 11), 1.0 - 2.0 * self.fluid, 1.15 - 2.0 * self.fluid);
        gland + self.echo + bed + fluid + self.septa * ridge(field(5.0, 12), 0.05)
    }
}

/// The breast around it.
struct Breast {
    /// Depths at which gland, muscle and the chest wall begin.
    depths: [f32; 3],
    /// Brightness of fat, gland and muscle, dB.
    levels: [f32; 3],
    /// Strength of bright septa and of the gland's stripes, dB, and how fine these are.
    septa: f32,
    stripes: f32,
    fine: f32,
    patches: f32,
    texture: f32,
    /// How steeply layers run, and how much they waver.
    slope: f32,
    waver: f32,
    /// Lobules of fat, and ducts and vessels, in the gland.
    lobules: Vec<Oval>,
    ducts: Vec<Oval>,
    /// Where ribs lie on the wall, and how wide they are.
    ribs: Vec<[f32; 2]>,
    seed: u32,
}

impl Breast {
    fn draw(draw: &mut Draw) -> Self {
        let glands = draw.range(0.08, 0.34);
        let muscle = draw.range(0.55, 1.0);
        let oval = |draw: &mut Draw, low: f32, high: f32, flat: f32| {
            let r = draw.range(low, high);
            Oval {
                centre: [draw.unit(), draw.range(glands, muscle)],
                radii: [r, r * draw.range(flat, 2.0 * flat)],
                turn: draw.normal(0.0, 0.3),
            }
        };
        let (lobules, ducts) = (draw.whole(0, 5), draw.whole(0, 3));
        Self {
            depths: [glands, muscle, muscle + draw.range(0.08, 0.25)],
            levels: [draw.range(-30.0, -13.0), draw.range(-22.0, -7.0), draw.range(-32.0, -15.0)],
            septa: draw.range(5.0, 16.0),
            stripes: draw.range(2.0, 9.0),
            fine: draw.range(0.7, 1.5),
            patches: draw.range(1.0, 7.0),
            texture: draw.range(1.0, 4.5),
            slope: draw.normal(0.0, 0.12),
            waver: draw.range(0.02, 0.12),
            lobules: (0..lobules).map(|_| oval(draw, 0.03, 0.14, 0.18)).collect(),
            ducts: (0..ducts).map(|_| oval(draw, 0.006, 0.022, 0.35)).collect(),
            ribs: if draw.chance(0.4) {
                let (first, apart) = (draw.range(-0.1, 0.5), draw.range(0.45, 0.8));
                (0..3).map(|i| [first + apart * i as f32, draw.range(0.08, 0.16)]).collect()
            } else {
                Vec::new()
            },
            seed: draw.seed(),
        }
    }

    /// Brightness at a place, dB.
    fn echo(&self, x: f32, y: f32) -> f32 {
        let field = |p: [f32; 3], salt: u32| noise::value(p, self.seed ^ salt);
        let [fat, gland, muscle] = self.levels;
        let wave = self.waver * (field([x * 2.2, y * 1.5, 1.0], 1) + 0.4 * field([x * 6.0, y * 4.0, 1.0], 2));
        // Depth along the layers.
        let v = y + wave + self.slope * (x - 0.5);
        let f = self.fine;
        let texture =
            self.texture * (field([x * 11.0, v * 40.0, 9.0], 13) + 0.8 * field([x * 24.0, v * 80.0, 9.0], 14));
        // Septa are seen where they lie across the beam: in pieces.
        let lit = |size: f32, salt: u32| ramp(field([x * size, v * 1.6 * size, 10.0], salt), -0.15, 0.45);
        let septum = ridge(field([x * 3.5 * f, v * 12.0 * f, 2.0], 3), 0.08) * lit(4.5, 15)
            + 0.8 * ridge(field([x * 7.0 * f, v * 30.0 * f, 2.0], 11), 0.12) * lit(9.0, 16);
        let in_fat = fat + self.septa * septum;
        let band = field([x * 2.5, v * 16.0 * f, 3.0], 4) + 0.7 * field([x * 5.0, v * 38.0 * f, 3.0], 10);
        let patch = field([x * 4.0, y * 5.0, 4.0], 5) + 0.5 * field([x * 11.0, y * 14.0, 4.0], 6);
        let mut in_gland = gland
            + self.stripes * band
            + self.patches * patch
            + 0.7 * self.septa * ridge(field([x * 3.0, v * 20.0 * f, 5.0], 7), 0.08) * lit(6.0, 17)
            + 0.7 * self.septa * ridge(field([x * 6.0 * f, v * 44.0 * f, 5.0], 18), 0.14) * lit(10.0, 19);
        for lobule in &self.lobules {
            let [a, b] = lobule.inside(x, y + 0.6 * wave);
            let r = a.hypot(b) + 0.35 * patch;
            in_gland += 0.7 * (fat - gland) * (1.0 - ramp(r, 0.6, 1.3)) + 0.3 * self.septa * ridge(r - 1.2, 0.1);
        }
        for duct in &self.ducts {
            let [a, b] = duct.inside(x, y);
            in_gland -= 25.0 * (1.0 - ramp(a.hypot(b), 0.8, 1.2));
        }
        let in_muscle = muscle + self.septa * 0.9 * ridge(field([x * 1.6, v * 30.0, 6.0], 8), 0.12);
        let [glands, deep, wall] = self.depths;
        let mut e = in_fat + (in_gland - in_fat) * ramp(v, glands - 0.02, glands + 0.02);
        e += (in_muscle - e) * ramp(v, deep - 0.012, deep + 0.012);
        e += self.septa * ridge(v - deep, 0.008);
        // Behind the wall's bright line there is only reverberation.
        e += (-34.0 + 4.0 * field([x * 2.0, v * 24.0, 8.0], 9) - e) * ramp(v, wall, wall + 0.02);
        e += 22.0 * ridge(v - wall, 0.009);
        for [at, wide] in &self.ribs {
            let across = (x - at) / wide;
            let top = wall - 0.07 * (1.0 - across * across).max(0.0).sqrt();
            if across.abs() < 1.0 && v > top - 0.02 {
                e += (-45.0 - e) * ramp(v, top, top + 0.02) + 18.0 * ridge(v - top, 0.008);
            }
        }
        // Skin.
        e + texture + (4.0 - e).max(0.0) * ridge(y - 0.012, 0.014)
    }
}

/// Sound lost or kept on the way down, dB.
struct Beam {
    fade: f32,
    focus: f32,
    /// Shadows: place, half-width, loss, and the depth at which they begin.
    shadows: Vec<[f32; 4]>,
}

impl Beam {
    fn draw(draw: &mut Draw) -> Self {
        let shadows = draw.whole(0, 3);
        Self {
            fade: draw.range(2.0, 34.0),
            focus: draw.range(0.25, 0.6),
            shadows: (0..shadows)
                .map(|_| {
                    // Where the probe has no contact, at a side, from the skin on.
                    let edge = draw.chance(0.35);
                    let at = if edge { f32::from(u8::from(draw.chance(0.5))) } else { draw.unit() };
                    let begins = if edge { -0.1 } else { draw.range(0.1, 0.6) };
                    [at, draw.range(0.03, 0.16), draw.range(4.0, 22.0), begins]
                })
                .collect(),
        }
    }

    fn at(&self, x: f32, y: f32, lesion: Option<&Lesion>) -> f32 {
        let mut b = -self.fade * (y - self.focus).max(0.0) - 4.0 * (-y / 0.05).exp();
        if let Some(l) = lesion {
            let across = (x - l.oval.centre[0]) / l.oval.radii[0];
            let under = ((y - l.oval.centre[1]) / l.oval.radii[1]).clamp(0.0, 1.6) / 1.6;
            b += l.beyond * under * (1.0 - ramp(across.abs(), 0.5, 1.15));
        }
        for [at, wide, loss, begins] in &self.shadows {
            b -= loss * ridge(x - at, *wide) * ramp(y, *begins, begins + 0.2);
        }
        b
    }
}

/// Speckle of mean 1: amplitudes of many echoes with random phase, smeared by the pulse and more by the beam's width, averaged over
/// `looks` directions (spatial compounding).
fn speckle(size: usize, looks: usize, [width, pulse]: [f32; 2], seed: u32) -> Result<Canvas> {
    let mut mean = Canvas::new(size)?;
    let mut parts = [Canvas::new(size)?, Canvas::new(size)?];
    for look in 0..looks {
        for (i, part) in parts.iter_mut().enumerate() {
            part.fill(|col, row| noise::gaussian(col as i32, row as i32, (2 * look + i) as i32, seed));
            part.blur([width, pulse]);
        }
        for ((m, a), b) in mean.data.iter_mut().zip(&parts[0].data).zip(&parts[1].data) {
            *m += a.hypot(*b);
        }
    }
    let total: f64 = mean.data.iter().map(|v| f64::from(*v)).sum();
    let scale = mean.data.len() as f32 / (total as f32).max(1e-6);
    mean.data.iter_mut().for_each(|v| *v *= scale);
    Ok(mean)
}

/// Draws a breast ultrasound of `size` × `size` pixels; label 17 marks the lesion. One picture in six has none.
///
/// # Errors
/// [`crate::Error::Picture`] if the size is out of range.
pub fn breast_ultrasound(seed: u64, size: usize) -> Result<PicturePhantom> {
    let draw = &mut Draw::new(seed, 12);
    let lesion = if draw.chance(1.0 / 6.0) { None } else { Some(Lesion::draw(draw)) };
    let (breast, beam) = (Breast::draw(draw), Beam::draw(draw));
    let n = size as f32;
    let cell = [draw.range(0.0035, 0.008) * n, draw.range(0.0018, 0.0035) * n];
    let mut canvas = speckle(size, draw.whole(1, 9), cell, draw.seed())?;
    let (range_db, bright, gamma) = (draw.range(42.0, 62.0), draw.range(0.8, 1.15), draw.range(1.0, 1.8));
    // A curved probe leaves the upper corners black.
    let corner = if draw.chance(0.12) { draw.range(0.05, 0.2) } else { 0.0 };
    let seen = |x: f32, y: f32| x.min(1.0 - x) >= corner * (1.0 - y / 0.45);
    let at = |i: usize| [((i % size) as f32 + 0.5) / n, ((i / size) as f32 + 0.5) / n];
    for (i, v) in canvas.data.iter_mut().enumerate() {
        let [x, y] = at(i);
        let mut e = breast.echo(x, y);
        if let Some(l) = &lesion {
            let r = l.radius(x, y);
            e += l.rim * (1.0 - ramp(r, 1.0, 1.25));
            e += (l.echo(x, y, breast.levels[1]) - e) * (1.0 - ramp(r, 1.0 - l.soft, 1.0 + 0.5 * l.soft));
        }
        let db = e + beam.at(x, y, lesion.as_ref()) + 20.0 * v.max(1e-3).log10();
        *v = if seen(x, y) { 255.0 * bright * (1.0 + db / range_db).clamp(0.0, 1.0).powf(gamma) } else { 0.0 };
    }
    let smooth = draw.range(0.2, 0.9) * n / 256.0;
    canvas.blur([smooth, smooth]);
    let mut labels = vec![0u8; size * size];
    if let Some(l) = &lesion {
        for (i, label) in labels.iter_mut().enumerate() {
            let [x, y] = at(i);
            if l.radius(x, y) < 1.0 && seen(x, y) {
                *label = TUMOUR;
            }
        }
        if draw.chance(0.25) {
            calipers(&mut canvas, &l.oval, draw.chance(0.5));
        }
    }
    if draw.chance(0.2) {
        letters(&mut canvas, draw);
    }
    canvas.finish(labels, 40.0 / f64::from(n))
}

/// The crosses that an examiner sets, with dots between them or not.
fn calipers(canvas: &mut Canvas, oval: &Oval, dotted: bool) {
    let n = canvas.size as f32;
    let arm = 0.012 * n;
    let (s, c) = oval.turn.sin_cos();
    let at = |u: f32, v: f32| {
        let (a, b) = (u * oval.radii[0], v * oval.radii[1]);
        [(oval.centre[0] + c * a - s * b) * n, (oval.centre[1] + s * a + c * b) * n]
    };
    for (u, v) in [(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)] {
        let [x, y] = at(u, v);
        for line in [[[x - arm, y], [x + arm, y]], [[x, y - arm], [x, y + arm]]] {
            canvas.stroke(&line, 0.6, |_, _| 220.0);
        }
    }
    if dotted {
        for i in -9..10 {
            let t = i as f32 / 10.0;
            for [x, y] in [at(t, 0.0), at(0.0, t)] {
                canvas.stroke(&[[x, y], [x + 0.3, y]], 0.6, |_, _| 120.0);
            }
        }
    }
}

/// A word, as strokes that read as one from afar.
fn letters(canvas: &mut Canvas, draw: &mut Draw) {
    let n = canvas.size as f32;
    let high = draw.range(0.02, 0.035) * n;
    let (mut x, y) = (draw.range(0.02, 0.6) * n, draw.range(0.05, 0.9) * n);
    for _ in 0..draw.whole(3, 10) {
        let corner =
            |draw: &mut Draw| [x + 0.6 * high * draw.whole(0, 1) as f32, y + high * draw.whole(0, 2) as f32 * 0.5];
        let line: Vec<[f32; 2]> = (0..4).map(|_| corner(draw)).collect();
        canvas.stroke(&line, 0.7, |_, _| 200.0);
        x += 0.95 * high;
    }
}
