use super::keys::KeyTable;
use super::simplex::{Embedding, Simplex};
use rayon::prelude::*;

/// Pixels of a band. Bands are what threads share out, and sums run within a band and then over bands in order, so that the
/// result has the same bits at any number of threads. Local vertex numbers of a band fit in 16 bits.
pub(super) const BAND: usize = 2048;

/// Rows below which an inner loop is not worth sharing out.
const ROWS_A_TASK: usize = 4096;

/// A Gaussian filter over points of a few dimensions, built once, used for any number of channels.
///
/// It holds the symmetric normalisation `D K D`, `D = 1 / sqrt(K 1)`, folded into the weights.
pub(super) struct Lattice {
    bands: Vec<Band>,
    vertices: usize,
    corners: usize,
    /// For each axis and vertex the two neighbours, counted from 1; 0 is no vertex.
    neighbours: Vec<[u32; 2]>,
}

/// The part of a lattice that one band of pixels touches.
struct Band {
    /// Vertices of this band, counted from 1 in the whole lattice.
    touched: Vec<u32>,
    /// For each pixel and corner, which of `touched`.
    corner: Vec<u16>,
    /// For each pixel and corner its weight.
    weight: Vec<f32>,
}

impl Lattice {
    /// A lattice over `pixels` points.
    pub(super) fn new<const D: usize>(pixels: usize, point: impl Fn(usize) -> [f32; D] + Sync) -> Self {
        let embedding = Embedding::<D>::new();
        let starts: Vec<usize> = (0..pixels).step_by(BAND).collect();
        let parts: Vec<(KeyTable<D>, Band)> =
            starts.par_iter().map(|&from| Band::new(&embedding, (from..pixels.min(from + BAND)).map(&point))).collect();
        let mut all = KeyTable::<D>::new();
        let mut bands = Vec::with_capacity(parts.len());
        for (keys, mut band) in parts {
            band.touched = keys.keys().iter().map(|k| all.number(*k) + 1).collect();
            bands.push(band);
        }
        let vertices = all.keys().len();
        let neighbours = (0..(D + 1) * vertices)
            .into_par_iter()
            .with_min_len(ROWS_A_TASK)
            .map(|n| {
                let (axis, key) = (n / vertices, all.keys()[n % vertices]);
                let at = |step: i32| {
                    let away: [i32; D] =
                        std::array::from_fn(|i| if i == axis { key[i] + step * D as i32 } else { key[i] - step });
                    all.get(&away).map_or(0, |v| v + 1)
                };
                [at(1), at(-1)]
            })
            .collect();
        let mut lattice = Self { bands, vertices, corners: D + 1, neighbours };
        lattice.normalise();
        lattice
    }

    /// Vertices of the lattice.
    pub(super) fn vertices(&self) -> usize {
        self.vertices
    }

    /// Leaves the row of each pixel of a band on the band's vertices.
    pub(super) fn splat<const W: usize>(&self, band: usize, rows: &[[f32; W]], sums: &mut Vec<[f32; W]>) {
        match self.corners {
            3 => self.bands[band].splat::<3, W>(rows, sums),
            _ => self.bands[band].splat::<6, W>(rows, sums),
        }
    }

    /// Adds the blurred values, times `factor`, to the row of each pixel of a band.
    pub(super) fn slice<const W: usize>(&self, band: usize, blurred: &[[f32; W]], factor: f32, rows: &mut [[f32; W]]) {
        match self.corners {
            3 => self.bands[band].slice::<3, W>(blurred, factor, rows),
            _ => self.bands[band].slice::<6, W>(blurred, factor, rows),
        }
    }

    fn normalise(&mut self) {
        let corners = self.corners;
        let ones: Vec<[f32; 1]> = vec![[1.0]; BAND];
        let pixels = |band: &Band| band.weight.len() / corners;
        let sums: Vec<Vec<[f32; 1]>> = (0..self.bands.len())
            .into_par_iter()
            .map(|b| {
                let mut sums = Vec::new();
                self.splat(b, &ones[..pixels(&self.bands[b])], &mut sums);
                sums
            })
            .collect();
        let blurred = self.gather(sums.iter().map(Vec::as_slice));
        let norms: Vec<Vec<[f32; 1]>> = (0..self.bands.len())
            .into_par_iter()
            .map(|b| {
                let mut norm = vec![[0f32; 1]; pixels(&self.bands[b])];
                self.slice(b, &blurred, 1.0, &mut norm);
                norm
            })
            .collect();
        for (band, norm) in self.bands.iter_mut().zip(norms) {
            for (weights, [norm]) in band.weight.chunks_exact_mut(corners).zip(norm) {
                let d = 1.0 / (norm + 1e-20).sqrt();
                weights.iter_mut().for_each(|w| *w *= d);
            }
        }
    }

    /// Sums what the bands left on their vertices, in order of the bands, and blurs along every axis. Row 0 stays zero.
    pub(super) fn gather<'a, const W: usize>(&self, parts: impl Iterator<Item = &'a [[f32; W]]>) -> Vec<[f32; W]> {
        let mut value = vec![[0f32; W]; self.vertices + 1];
        for (band, part) in self.bands.iter().zip(parts) {
            for (&v, row) in band.touched.iter().zip(part) {
                add(&mut value[v as usize], row, 1.0);
            }
        }
        let mut blurred = vec![[0f32; W]; self.vertices + 1];
        for axis in self.neighbours.chunks_exact(self.vertices.max(1)) {
            blurred[1..].par_iter_mut().zip(axis).zip(&value[1..]).with_min_len(ROWS_A_TASK).for_each(
                |((out, &[one, other]), old)| {
                    let (a, b) = (&value[one as usize], &value[other as usize]);
                    for c in 0..W {
                        out[c] = old[c] + 0.5 * (a[c] + b[c]);
                    }
                },
            );
            std::mem::swap(&mut value, &mut blurred);
        }
        value
    }
}

impl Band {
    fn new<const D: usize>(embedding: &Embedding<D>, points: impl Iterator<Item = [f32; D]>) -> (KeyTable<D>, Self) {
        let mut keys = KeyTable::new();
        let mut band = Self { touched: Vec::new(), corner: Vec::new(), weight: Vec::new() };
        let mut last: Option<Simplex> = None;
        for point in points {
            let simplex = embedding.simplex(point);
            match last {
                // Neighbouring pixels mostly share their simplex.
                Some(ref old) if old.same_place(&simplex) => {
                    band.corner.extend_from_within(band.corner.len() - (D + 1)..);
                }
                _ => band.corner.extend((0..=D).map(|k| keys.number(simplex.key(k)) as u16)),
            }
            band.weight.extend_from_slice(&simplex.barycentric[..=D]);
            last = Some(simplex);
        }
        (keys, band)
    }

    fn splat<const K: usize, const W: usize>(&self, rows: &[[f32; W]], sums: &mut Vec<[f32; W]>) {
        sums.clear();
        sums.resize(self.touched.len(), [0.0; W]);
        for (row, (corner, weight)) in rows.iter().zip(self.pixels::<K>()) {
            for k in 0..K {
                add(&mut sums[usize::from(corner[k])], row, weight[k]);
            }
        }
    }

    fn slice<const K: usize, const W: usize>(&self, values: &[[f32; W]], factor: f32, rows: &mut [[f32; W]]) {
        let local: Vec<[f32; W]> = self.touched.iter().map(|&v| values[v as usize]).collect();
        for (row, (corner, weight)) in rows.iter_mut().zip(self.pixels::<K>()) {
            let mut sum = [0f32; W];
            for k in 0..K {
                add(&mut sum, &local[usize::from(corner[k])], weight[k]);
            }
            add(row, &sum, factor);
        }
    }

    /// Corners and weights of each pixel.
    fn pixels<const K: usize>(&self) -> impl Iterator<Item = (&[u16; K], &[f32; K])> {
        self.corner.as_chunks::<K>().0.iter().zip(self.weight.as_chunks::<K>().0)
    }
}

#[inline(always)]
fn add<const W: usize>(to: &mut [f32; W], row: &[f32; W], factor: f32) {
    for c in 0..W {
        to[c] += factor * row[c];
    }
}
