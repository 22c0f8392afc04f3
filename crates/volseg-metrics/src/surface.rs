use crate::bits::{Bits, bit};

/// What a mask's surface is (docs: reference/metrics).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// Corners between voxels whose neighbours differ, weighted by the area of their marching-cubes patch
    /// (Nikolov et al. 2018). mm².
    Surfel,
    /// Mask voxels with a face neighbour outside, each of weight 1 (MONAI, MedPy, MetricsReloaded).
    Voxel,
}

impl Surface {
    /// Name on the command line and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Surfel => "surfel",
            Self::Voxel => "voxel",
        }
    }
}

/// Weight of each kind of surface point.
pub(crate) type Weights = [f64; 256];

/// Representatives of the 14 classes of 2x2x2 neighbourhoods, and the area vectors of their patch in a unit cell.
const CLASSES: [(u8, &[[f64; 3]]); 14] = [
    (0, &[]),
    (1, &[[0.125, 0.125, 0.125]]),
    (3, &[[0.5, 0.5, 0.0]]),
    (6, &[[0.25, 0.25, 0.25]]),
    (7, &[[0.375, 0.375, 0.375], [0.5, 0.0, 0.0]]),
    (15, &[[1.0, 0.0, 0.0]]),
    (22, &[[0.375, 0.375, 0.375]]),
    (23, &[[0.75, 0.75, 0.75]]),
    (24, &[[0.25, 0.25, 0.25]]),
    (25, &[[0.0, 0.5, 0.5], [0.125, 0.125, 0.125]]),
    (27, &[[0.0, 0.25, 0.25], [0.5, 0.5, 0.5], [0.25, 0.0, 0.25]]),
    (30, &[[0.5, 0.5, 0.5], [0.5, 0.0, 0.0]]),
    (60, &[[1.0, 1.0, 0.0]]),
    (105, &[[0.5, 0.5, 0.5]]),
];

/// Area in mm² of the surfel of each neighbourhood code. Corner `(i, j, k)` of the 2x2x2 neighbourhood is bit
/// `128 >> (4i + 2j + k)`; the table is the same under all symmetries of the cube and under complement.
#[must_use]
pub fn surfel_areas(spacing: [f64; 3]) -> [f64; 256] {
    let [sx, sy, sz] = spacing;
    let face = [sy * sz, sx * sz, sx * sy];
    let mut table = [0.0; 256];
    for (code, vectors) in CLASSES {
        for p in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let area = vectors.iter().map(|v| (0..3).map(|a| (v[p[a]] * face[a]).powi(2)).sum::<f64>().sqrt()).sum();
            for flip in 0..8usize {
                let mut image = 0u8;
                for corner in 0..8usize {
                    if code & (128 >> corner) != 0 {
                        let offset = [corner >> 2 & 1, corner >> 1 & 1, corner & 1];
                        let o = [0, 1, 2].map(|a| offset[p[a]] ^ (flip >> a & 1));
                        image |= 128 >> (4 * o[0] + 2 * o[1] + o[2]);
                    }
                }
                table[usize::from(image)] = area;
                table[usize::from(!image)] = area;
            }
        }
    }
    table
}

/// Length of the contour piece of each 2x2 neighbourhood; corner `(i, j)` is bit `8 >> (2i + j)`.
#[must_use]
pub fn contour_lengths(spacing: [f64; 2]) -> [f64; 16] {
    let diagonal = 0.5 * (spacing[0] * spacing[0] + spacing[1] * spacing[1]).sqrt();
    let mut table = [0.0; 16];
    for (code, length) in table.iter_mut().enumerate() {
        *length = match code {
            0 | 15 => 0.0,
            // Both lower or both upper along axis 0: the contour runs along axis 1, and the other way round.
            0b0011 | 0b1100 => spacing[1],
            0b0101 | 0b1010 => spacing[0],
            0b1001 | 0b0110 => 2.0 * diagonal,
            _ => diagonal,
        };
    }
    table
}

/// The surface points of a mask: where they are and of which kind.
pub(crate) struct Points<'a> {
    pub(crate) bits: Bits,
    mask: &'a Bits,
    model: Surface,
    flat: bool,
}

impl<'a> Points<'a> {
    /// `flat`: the mask is a picture, without neighbours across its plane.
    pub(crate) fn new(mask: &'a Bits, model: Surface, flat: bool) -> Self {
        let bits = match model {
            Surface::Surfel => corners(mask, flat),
            Surface::Voxel => border(mask, flat),
        };
        Self { bits, mask, model, flat }
    }

    /// Weights for [`Points::kinds`].
    pub(crate) fn weights(model: Surface, flat: bool, spacing: [f64; 3]) -> Weights {
        match (model, flat) {
            (Surface::Voxel, _) => [1.0; 256],
            (Surface::Surfel, false) => surfel_areas(spacing),
            (Surface::Surfel, true) => {
                let mut table = [0.0; 256];
                table.iter_mut().zip(contour_lengths([spacing[0], spacing[1]])).for_each(|(t, l)| *t = l);
                table
            }
        }
    }

    /// Kind of the points of a row, by x.
    pub(crate) fn kinds(&self, y: usize, z: usize) -> impl Fn(usize) -> u8 + '_ {
        let (y, z) = (y as isize, z as isize);
        // In the order of the code's bits: (j, k) = (0, 0), (0, 1), (1, 0), (1, 1).
        let rows = if self.flat {
            [self.mask.row_or_none(y - 1, 0), self.mask.row_or_none(y, 0), &[], &[]]
        } else {
            [(-1, -1), (-1, 0), (0, -1), (0, 0)].map(|(j, k)| self.mask.row_or_none(y + j, z + k))
        };
        move |x| {
            if self.model == Surface::Voxel {
                return 0;
            }
            let side = |x: usize, n: usize| rows.iter().take(n).fold(0u8, |code, row| code << 1 | bit(row, x) as u8);
            let n = if self.flat { 2 } else { 4 };
            let low = x.checked_sub(1).map_or(0, |x| side(x, n));
            low << n | side(x, n)
        }
    }
}

/// Word `w` of a row, and the same shifted by one voxel up (bit x = voxel x - 1).
fn word_pair(row: &[u64], w: usize) -> (u64, u64) {
    let word = |w: usize| row.get(w).copied().unwrap_or(0);
    let before = w.checked_sub(1).map_or(0, |w| word(w) >> 63);
    (word(w), word(w) << 1 | before)
}

fn corners(mask: &Bits, flat: bool) -> Bits {
    let [nx, ny, nz] = mask.dim();
    let dim = [nx + 1, ny + 1, if flat { 1 } else { nz + 1 }];
    Bits::build(dim, |y, z, out| {
        let (y, z) = (y as isize, z as isize);
        let places: &[(isize, isize)] = if flat { &[(-1, 0), (0, 0)] } else { &[(-1, -1), (-1, 0), (0, -1), (0, 0)] };
        for (w, word) in out.iter_mut().enumerate() {
            let (mut any, mut all) = (0u64, u64::MAX);
            for &(j, k) in places {
                let (here, below) = word_pair(mask.row_or_none(y + j, z + k), w);
                any |= here | below;
                all &= here & below;
            }
            *word = any & !all;
        }
    })
}

fn border(mask: &Bits, flat: bool) -> Bits {
    Bits::build(mask.dim(), |y, z, out| {
        let row = mask.row(y, z);
        let (y, z) = (y as isize, z as isize);
        let around: &[(isize, isize)] = if flat { &[(-1, 0), (1, 0)] } else { &[(-1, 0), (1, 0), (0, -1), (0, 1)] };
        for (w, word) in out.iter_mut().enumerate() {
            let (here, below) = word_pair(row, w);
            let above = here >> 1 | row.get(w + 1).map_or(0, |next| next << 63);
            let mut inside = below & above;
            for &(j, k) in around {
                inside &= mask.row_or_none(y + j, z + k).get(w).copied().unwrap_or(0);
            }
            *word = here & !inside;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::approx_constant)]
    #[test]
    fn areas_at_one_millimetre_are_the_thirteen_published_values() {
        let mut seen: Vec<f64> = surfel_areas([1.0; 3]).to_vec();
        seen.sort_by(f64::total_cmp);
        seen.dedup_by(|a, b| (*a - *b).abs() < 1e-12);
        let expected = [
            0.0,
            0.2165,
            0.4330,
            0.6495,
            0.7071,
            0.8660,
            0.9236,
            1.0,
            1.1495,
            1.2990,
            1.3660,
            std::f64::consts::SQRT_2,
            1.5731,
        ];
        assert_eq!(seen.len(), expected.len());
        assert!(seen.iter().zip(expected).all(|(a, b)| (a - b).abs() < 6e-5), "{seen:?}");
    }

    #[test]
    fn only_empty_and_full_neighbourhoods_have_no_area() {
        let table = surfel_areas([0.37, 1.9, 4.3]);
        assert!((1..255).all(|c| table[c] > 0.0 && table[c] == table[255 - c]));
        assert_eq!((table[0], table[255]), (0.0, 0.0));
        // A flat patch across axis 0.
        assert!((table[15] - 1.9 * 4.3).abs() < 1e-12);
    }
}
