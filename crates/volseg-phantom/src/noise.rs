//! Continuous noise as a pure function of position, so that any voxel can be drawn alone and by any thread.

/// Mixes lattice coordinates and a seed into 32 well-spread bits.
#[inline]
pub(crate) fn hash(x: i32, y: i32, z: i32, seed: u32) -> u32 {
    let mut h = (x as u32).wrapping_mul(0x8da6_b343)
        ^ (y as u32).wrapping_mul(0xd816_3841)
        ^ (z as u32).wrapping_mul(0xcb1a_b31f)
        ^ seed.wrapping_mul(0x9e37_79b9);
    h ^= h >> 16;
    h = h.wrapping_mul(0x7feb_352d);
    h ^= h >> 15;
    h = h.wrapping_mul(0x846c_a68b);
    h ^ (h >> 16)
}

#[inline]
fn lattice(x: i32, y: i32, z: i32, seed: u32) -> f32 {
    (hash(x, y, z, seed) >> 8) as f32 / 8_388_608.0 - 1.0
}

/// Rises smoothly from 0 to 1.
#[inline]
pub(crate) fn fade(t: f32) -> f32 {
    t * t * (3.0 - 2.0 * t)
}

#[inline]
fn lerp(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// Smooth noise in `[-1, 1]` with features about one unit wide.
#[inline]
pub(crate) fn value(p: [f32; 3], seed: u32) -> f32 {
    let [x, y, z] = p.map(|v| {
        let i = v as i32;
        i - i32::from((i as f32) > v)
    });
    let f = [x as f32, y as f32, z as f32];
    let [u, v, w] = [fade(p[0] - f[0]), fade(p[1] - f[1]), fade(p[2] - f[2])];
    let line = |y, z| lerp(lattice(x, y, z, seed), lattice(x + 1, y, z, seed), u);
    let plane = |z| lerp(line(y, z), line(y + 1, z), v);
    lerp(plane(z), plane(z + 1), w)
}

/// [`value`] with features `scale` mm wide.
#[inline]
pub(crate) fn at(p: [f32; 3], scale: f32, seed: u32) -> f32 {
    let s = 1.0 / scale;
    value([p[0] * s, p[1] * s, p[2] * s], seed)
}

/// One standard normal number (sum of four uniforms) from lattice coordinates.
#[inline]
pub(crate) fn gaussian(x: i32, y: i32, z: i32, seed: u32) -> f32 {
    let a = hash(x, y, z, seed);
    let b = a.wrapping_mul(0x9e37_79b9) ^ (a >> 13);
    let sum = (a & 0xffff) + (a >> 16) + (b & 0xffff) + (b >> 16);
    (sum as f32 / 65_536.0 - 2.0) * 1.732_050_8
}

/// A smooth random displacement field, tabulated on a lattice.
pub(crate) struct Warp {
    origin: [f32; 3],
    step: f32,
    dim: [usize; 3],
    nodes: Vec<[f32; 3]>,
    /// Largest displacement along each axis, mm.
    pub(crate) most: [f32; 3],
}

impl Warp {
    /// Covers `low..high` (mm) and holds `f(position)` at its nodes.
    pub(crate) fn tabulate(low: [f32; 3], high: [f32; 3], step: f32, f: impl Fn([f32; 3]) -> [f32; 3]) -> Self {
        let dim = [0, 1, 2].map(|a| ((high[a] - low[a]) / step).ceil() as usize + 2);
        let mut nodes = Vec::with_capacity(dim.iter().product());
        let mut most = [0f32; 3];
        for k in 0..dim[2] {
            for j in 0..dim[1] {
                for i in 0..dim[0] {
                    let d = f([low[0] + i as f32 * step, low[1] + j as f32 * step, low[2] + k as f32 * step]);
                    for a in 0..3 {
                        most[a] = most[a].max(d[a].abs());
                    }
                    nodes.push(d);
                }
            }
        }
        Self { origin: low, step, dim, nodes, most }
    }

    /// Least and greatest displacement along each axis inside a box: exact, as nodes hold the extremes.
    pub(crate) fn range(&self, low: [f32; 3], high: [f32; 3]) -> [[f32; 3]; 2] {
        let node = |p: f32, a: usize| ((p - self.origin[a]) / self.step).clamp(0.0, (self.dim[a] - 1) as f32);
        let from = [0, 1, 2].map(|a| node(low[a], a).floor() as usize);
        let to = [0, 1, 2].map(|a| node(high[a], a).ceil() as usize);
        let (mut least, mut greatest) = ([f32::MAX; 3], [f32::MIN; 3]);
        for k in from[2]..=to[2] {
            for j in from[1]..=to[1] {
                for i in from[0]..=to[0] {
                    let d = self.nodes[i + self.dim[0] * (j + self.dim[1] * k)];
                    for a in 0..3 {
                        least[a] = least[a].min(d[a]);
                        greatest[a] = greatest[a].max(d[a]);
                    }
                }
            }
        }
        [least, greatest]
    }

    /// The displacement at a position; positions outside take the border's.
    #[inline]
    pub(crate) fn sample(&self, p: [f32; 3]) -> [f32; 3] {
        let mut base = [0usize; 3];
        let mut t = [0f32; 3];
        for a in 0..3 {
            let x = ((p[a] - self.origin[a]) / self.step).clamp(0.0, (self.dim[a] - 2) as f32 + 0.999);
            base[a] = x as usize;
            t[a] = x - base[a] as f32;
        }
        let row = self.dim[0];
        let first = base[0] + row * (base[1] + self.dim[1] * base[2]);
        let mut out = [0f32; 3];
        for (dz, wz) in [(0, 1.0 - t[2]), (row * self.dim[1], t[2])] {
            for (dy, wy) in [(0, 1.0 - t[1]), (row, t[1])] {
                let (a, b) = (&self.nodes[first + dz + dy], &self.nodes[first + dz + dy + 1]);
                let w = wz * wy;
                for c in 0..3 {
                    out[c] += w * (a[c] + (b[c] - a[c]) * t[0]);
                }
            }
        }
        out
    }
}
