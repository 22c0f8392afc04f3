//! Random changes of a picture that leave its anatomy as it is.

use crate::Random;

/// Map from target pixels (0..side, continuous) to source pixels.
pub(crate) struct Warp {
    matrix: [f32; 4],
    offset: [f32; 2],
    /// Amplitude in target pixels, waves per pixel and phase of a bend along x, then along y.
    bend: [[f32; 3]; 2],
    side: usize,
}

/// How far a warp may go.
pub(crate) struct Reach {
    /// Degrees.
    pub(crate) rotation: f32,
    /// Natural logarithm of the scale.
    pub(crate) scale: f32,
    /// Natural logarithm of the aspect.
    pub(crate) aspect: f32,
    /// Fraction of the side.
    pub(crate) shift: f32,
    /// Largest amplitude of a smooth bend, fraction of the side.
    pub(crate) bend: f32,
    /// Whether left and right may change places.
    pub(crate) mirror: bool,
}

impl Reach {
    /// Nothing changes.
    pub(crate) const NONE: Self = Self { rotation: 0.0, scale: 0.0, aspect: 0.0, shift: 0.0, bend: 0.0, mirror: false };
}

impl Warp {
    /// The source rectangle stretched to `side * side`, changed at random.
    pub(crate) fn random(source: [f32; 4], side: usize, reach: &Reach, random: &mut Random) -> Self {
        let [x0, y0, x1, y1] = source;
        let angle = if random.chance(0.7) { random.uniform(-reach.rotation, reach.rotation).to_radians() } else { 0.0 };
        let scale = random.uniform(-reach.scale, reach.scale).exp();
        let aspect = random.uniform(-reach.aspect, reach.aspect).exp();
        let mirror = if reach.mirror && random.chance(0.5) { -1.0 } else { 1.0 };
        let (dx, dy) = (random.uniform(-reach.shift, reach.shift), random.uniform(-reach.shift, reach.shift));
        // Unit coordinates of the target, centred: rotated and scaled in units of the source rectangle.
        let (w, h) = (x1 - x0, y1 - y0);
        let (sin, cos) = angle.sin_cos();
        let (a, d) = (scale * aspect, scale / aspect);
        // The rotation is taken in source pixels, so that anatomy turns rigidly whatever the stretch.
        let matrix = [mirror * cos * w * a, -sin * h * d, mirror * sin * w * a, cos * h * d].map(|v| v / side as f32);
        let centre = [x0 + w * (0.5 + dx), y0 + h * (0.5 + dy)];
        let half = side as f32 / 2.0;
        let offset = [centre[0] - (matrix[0] + matrix[1]) * half, centre[1] - (matrix[2] + matrix[3]) * half];
        let mut wave = || {
            let waves = random.uniform(0.5, 2.0) * std::f32::consts::TAU / side as f32;
            [random.uniform(0.0, reach.bend) * side as f32, waves, random.uniform(0.0, std::f32::consts::TAU)]
        };
        let bend = if reach.bend > 0.0 { [wave(), wave()] } else { Default::default() };
        Self { matrix, offset, bend, side }
    }

    /// Calls `each(target pixel, four source pixels with weights)`; source pixels outside are `None`.
    pub(crate) fn for_each(&self, size: [usize; 2], mut each: impl FnMut(usize, [(Option<usize>, f32); 4])) {
        let [w, h] = size;
        let index = |x: isize, y: isize| {
            (x >= 0 && y >= 0 && x < w as isize && y < h as isize).then(|| y as usize * w + x as usize)
        };
        for y in 0..self.side {
            for x in 0..self.side {
                let (u, v) = (x as f32 + 0.5, y as f32 + 0.5);
                let [along_x, along_y] = self.bend;
                let (u, v) = (
                    u + along_x[0] * (along_x[1] * v + along_x[2]).sin(),
                    v + along_y[0] * (along_y[1] * u + along_y[2]).sin(),
                );
                let sx = self.matrix[0] * u + self.matrix[1] * v + self.offset[0] - 0.5;
                let sy = self.matrix[2] * u + self.matrix[3] * v + self.offset[1] - 0.5;
                let (fx, fy) = (sx.floor(), sy.floor());
                let (a, b) = (sx - fx, sy - fy);
                let (ix, iy) = (fx as isize, fy as isize);
                each(
                    y * self.side + x,
                    [
                        (index(ix, iy), (1.0 - a) * (1.0 - b)),
                        (index(ix + 1, iy), a * (1.0 - b)),
                        (index(ix, iy + 1), (1.0 - a) * b),
                        (index(ix + 1, iy + 1), a * b),
                    ],
                );
            }
        }
    }
}

/// Noise with a grain of one to about three pixels, deviation `sigma`.
pub(crate) fn add_noise(pixels: &mut [f32], side: usize, sigma: f32, random: &mut Random) {
    if sigma <= 0.0 {
        return;
    }
    let coarse = random.uniform(0.0, 1.0);
    let noise: Vec<f32> = pixels.iter().map(|_| random.normal()).collect();
    for y in 0..side {
        for x in 0..side {
            let i = y * side + x;
            let right = noise[y * side + (x + 1) % side];
            let below = noise[(y + 1) % side * side + x];
            let grain = noise[i] * (1.0 - coarse) + coarse * 0.6 * (noise[i] + right + below);
            pixels[i] += sigma * grain;
        }
    }
}

/// What happens between a probe and a picture: gain that changes with depth, a shadow below something dense, coarser or finer
/// speckle. `pixels` are not negative.
pub(crate) fn vary_ultrasound(pixels: &mut [f32], side: usize, random: &mut Random) {
    let slope = random.uniform(-0.7, 0.7);
    let speckle = random.uniform(0.0, 0.25);
    let shadow = random.chance(0.2).then(|| {
        let (x, width, top) = (random.uniform(0.0, 1.0), random.uniform(0.05, 0.2), random.uniform(0.2, 0.8));
        (x, width, top, random.uniform(0.2, 0.7))
    });
    for (i, p) in pixels.iter_mut().enumerate() {
        let (x, y) = ((i % side) as f32 / side as f32, (i / side) as f32 / side as f32);
        *p *= (slope * (y - 0.5)).exp() * (1.0 + speckle * random.normal()).max(0.0);
        if let Some((at, width, top, factor)) = shadow
            && y > top
            && (x - at).abs() < width
        {
            *p *= factor;
        }
    }
    if random.chance(0.3) {
        smooth(pixels, side);
    }
}

/// Contrast of soft tissue as of another phase of a CT. Fat, below -60 HU, stays; what is between stretches so that 50 HU become
/// `50 + shift`; differences above are `slope` times as large, up to 300 HU.
pub(crate) fn vary_contrast(hu: &mut [f32], shift: f32, slope: f32) {
    for h in hu {
        *h = match *h {
            fat if fat < -60.0 => fat,
            water if water < 50.0 => -60.0 + (water + 60.0) * (110.0 + shift) / 110.0,
            dense => 50.0 + shift + (dense.min(300.0) - 50.0) * slope + (dense - 300.0).max(0.0),
        };
    }
}

/// Moves a share of the way to the mean of the pixels around; away from it if the share is negative, which sharpens.
pub(crate) fn vary_sharpness(pixels: &mut [f32], side: usize, share: f32) {
    let mut soft = pixels.to_vec();
    smooth(&mut soft, side);
    pixels.iter_mut().zip(&soft).for_each(|(p, s)| *p += share * (*s - *p));
}

/// Mean over three pixels along each axis.
fn smooth(pixels: &mut [f32], side: usize) {
    for step in [1, side] {
        let before = pixels.to_vec();
        for i in step..pixels.len().saturating_sub(step) {
            pixels[i] = (before[i - step] + before[i] + before[i + step]) / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contrast_keeps_the_order_of_tissues_and_fat() {
        for (shift, slope) in [(-15.0, 0.35), (0.0, 1.0), (15.0, 1.25)] {
            let before: Vec<f32> = (-120..150).map(|n| 10.0 * n as f32).collect();
            let mut after = before.clone();
            vary_contrast(&mut after, shift, slope);
            assert!(after.windows(2).all(|w| w[0] < w[1]), "{shift} {slope}");
            assert_eq!(before[..114], after[..114], "fat");
            assert!((after[125] - (50.0 + shift)).abs() < 1e-4 && (slope != 1.0 || before == after));
        }
    }

    #[test]
    fn sharpness_moves_edges_and_leaves_flat_parts() {
        let step: Vec<f32> = (0..64).map(|i| if i % 8 < 4 { 0.0 } else { 1.0 }).collect();
        for share in [-0.5, 0.8] {
            let mut p = step.clone();
            vary_sharpness(&mut p, 8, share);
            let (dark, bright) = (p[3 * 8 + 3], p[3 * 8 + 4]);
            assert!((bright - dark - 1.0).abs() > 0.2 && (bright - dark > 1.0) == (share < 0.0));
            assert!((p[3 * 8 + 1].abs() + (p[3 * 8 + 6] - 1.0).abs()) < 1e-5);
        }
    }
}
