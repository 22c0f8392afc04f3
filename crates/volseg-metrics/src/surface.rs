use crate::bits::Bits;

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

/// Surface points of one weight are of one class, whatever their neighbourhood.
#[derive(Clone, Debug)]
pub(crate) struct Classes {
    /// Class of each neighbourhood code.
    of: [u8; 256],
    /// Weight of each class.
    pub(crate) weights: Vec<f64>,
}

impl Classes {
    /// `flat`: of a picture, without neighbours across its plane.
    pub(crate) fn new(model: Surface, flat: bool, spacing: [f64; 3]) -> Self {
        let table = match (model, flat) {
            (Surface::Voxel, _) => [1.0; 256],
            (Surface::Surfel, false) => surfel_areas(spacing),
            (Surface::Surfel, true) => {
                let mut table = [0.0; 256];
                table.iter_mut().zip(contour_lengths([spacing[0], spacing[1]])).for_each(|(t, l)| *t = l);
                table
            }
        };
        let mut weights: Vec<f64> = Vec::new();
        let of = table.map(|w| {
            let known = weights.iter().position(|&v| v == w);
            known.unwrap_or_else(|| {
                weights.push(w);
                weights.len() - 1
            }) as u8
        });
        Self { of, weights }
    }
}

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
    /// `flat`: the mask is a picture, without neighbours across its plane. `margin`: of the points' grid, in rows and planes.
    pub(crate) fn new(mask: &'a Bits, model: Surface, flat: bool, margin: [usize; 2]) -> Self {
        let bits = match model {
            Surface::Surfel => corners(mask, flat, margin),
            Surface::Voxel => border(mask, flat, margin),
        };
        Self { bits, mask, model, flat }
    }

    /// Neighbourhoods of the points of a row, by word.
    pub(crate) fn codes(&self, y: usize, z: usize) -> impl Fn(usize) -> Codes + '_ {
        let rows = meeting(self.mask, y, z, self.flat);
        move |w| {
            let mut words = [0; 8];
            let n = match (self.model, self.flat) {
                (Surface::Voxel, _) => 0,
                (Surface::Surfel, true) => 2,
                (Surface::Surfel, false) => 4,
            };
            for (i, row) in rows.iter().take(n).enumerate() {
                let (here, below) = word_pair(row, w);
                (words[8 - 2 * n + i], words[8 - n + i]) = (below, here);
            }
            Codes { words }
        }
    }
}

/// Neighbourhoods of the 64 places of a word: a word for each bit of the code, the highest first.
pub(crate) struct Codes {
    words: [u64; 8],
}

impl Codes {
    /// Class of the point at bit `b`.
    pub(crate) fn class(&self, classes: &Classes, b: u32) -> u8 {
        let code = self.words.iter().fold(0u8, |code, word| code << 1 | (word >> b & 1) as u8);
        classes.of[usize::from(code)]
    }
}

/// The rows of voxels that meet at a row of corners, in the order of the code's bits: (j, k) = (-1, -1), (-1, 0), (0, -1),
/// (0, 0); in a picture -1 and 0 of its plane.
fn meeting(mask: &Bits, y: usize, z: usize, flat: bool) -> [&[u64]; 4] {
    let (y, z) = (y as isize, z as isize);
    if flat {
        [mask.row_or_none(y - 1, 0), mask.row_or_none(y, 0), &[], &[]]
    } else {
        [(-1, -1), (-1, 0), (0, -1), (0, 0)].map(|(j, k)| mask.row_or_none(y + j, z + k))
    }
}

/// Word `w` of a row, and the same shifted by one voxel up (bit x = voxel x - 1).
fn word_pair(row: &[u64], w: usize) -> (u64, u64) {
    let word = |w: usize| row.get(w).copied().unwrap_or(0);
    let before = w.checked_sub(1).map_or(0, |w| word(w) >> 63);
    (word(w), word(w) << 1 | before)
}

fn corners(mask: &Bits, flat: bool, margin: [usize; 2]) -> Bits {
    let [nx, ny, nz] = mask.dim();
    let dim = [nx + 1, ny + 1, if flat { 1 } else { nz + 1 }];
    Bits::build(dim, margin, |y, z, out| {
        let rows = meeting(mask, y, z, flat);
        let rows = if flat { &rows[..2] } else { &rows[..] };
        if rows.iter().all(|row| row.iter().all(|word| *word == 0)) {
            return;
        }
        let mut carry = [0; 4];
        for (w, word) in out.iter_mut().enumerate() {
            let (mut any, mut all) = (0u64, u64::MAX);
            for (row, carry) in rows.iter().zip(&mut carry) {
                let here = row.get(w).copied().unwrap_or(0);
                let below = here << 1 | *carry;
                *carry = here >> 63;
                any |= here | below;
                all &= here & below;
            }
            *word = any & !all;
        }
    })
}

fn border(mask: &Bits, flat: bool, margin: [usize; 2]) -> Bits {
    Bits::build(mask.dim(), margin, |y, z, out| {
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
