use crate::{VoxelBox, labels::View, pairs::Stretch};
use rayon::prelude::*;

/// A binary grid, one bit a voxel, rows of 64-bit words along the first axis; bits beyond a row's end are 0, and so is a margin
/// of one word before and after each row and of some rows and planes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bits {
    dim: [usize; 3],
    /// Rows and planes on each side.
    margin: [usize; 2],
    /// Words from a row to the next; one of them is the margin.
    stride: usize,
    words: Vec<u64>,
}

impl Bits {
    /// Empty, with a margin in rows and planes.
    pub(crate) fn new(dim: [usize; 3], margin: [usize; 2]) -> Self {
        let stride = dim[0].div_ceil(64).max(1) + 1;
        let words = vec![0; 1 + stride * (dim[1] + 2 * margin[0]) * (dim[2] + 2 * margin[1])];
        Self { dim, margin, stride, words }
    }

    /// From one call of `fill(y, z, row)` for each row.
    pub(crate) fn build(dim: [usize; 3], margin: [usize; 2], fill: impl Fn(usize, usize, &mut [u64]) + Sync) -> Self {
        let mut bits = Self::new(dim, margin);
        let (stride, first) = (bits.stride, bits.index(0, 0, 0));
        let plane = stride * (dim[1] + 2 * margin[0]);
        let inner = bits.words.get_mut(first..).unwrap_or_default();
        inner.par_chunks_mut(plane.max(1)).take(dim[2]).enumerate().with_min_len(4).for_each(|(z, plane)| {
            for (y, row) in plane.chunks_mut(stride).take(dim[1]).enumerate() {
                fill(y, z, row.get_mut(..stride - 1).unwrap_or_default());
            }
        });
        bits
    }

    pub(crate) fn dim(&self) -> [usize; 3] {
        self.dim
    }

    /// Where word `w` of a row is.
    pub(crate) fn index(&self, w: usize, y: usize, z: usize) -> usize {
        let rows = self.dim[1] + 2 * self.margin[0];
        1 + w + self.stride * (y + self.margin[0] + rows * (z + self.margin[1]))
    }

    /// Words from a row to one `j` rows and `k` planes further.
    pub(crate) fn words_to(&self, [j, k]: [isize; 2]) -> isize {
        (j + k * (self.dim[1] + 2 * self.margin[0]) as isize) * self.stride as isize
    }

    /// A word and its neighbours, by [`Bits::index`] and [`Bits::words_to`]; 0 beyond the margin.
    pub(crate) fn three_words(&self, index: usize, away: isize) -> [u64; 3] {
        let at = index.wrapping_add_signed(away);
        self.words
            .get(at.wrapping_sub(1)..at.wrapping_add(2))
            .and_then(|w| w.first_chunk())
            .copied()
            .unwrap_or_default()
    }

    pub(crate) fn row(&self, y: usize, z: usize) -> &[u64] {
        let start = self.index(0, y, z);
        self.words.get(start..start + self.stride - 1).unwrap_or(&[])
    }

    /// A row by signed place; no words outside the grid.
    pub(crate) fn row_or_none(&self, y: isize, z: isize) -> &[u64] {
        match (usize::try_from(y), usize::try_from(z)) {
            (Ok(y), Ok(z)) if y < self.dim[1] && z < self.dim[2] => self.row(y, z),
            _ => &[],
        }
    }

    /// A box with some stretches of voxels set; what lies outside its planes is left out.
    pub(crate) fn painted<'a>(bounds: &VoxelBox, stretches: impl Iterator<Item = &'a Stretch>) -> Self {
        let mut bits = Self::new(bounds.size(), [0; 2]);
        let [x0, y0, z0] = bounds.low;
        for s in stretches {
            let [x, end, y, z] = [s.x, s.end, s.y, s.z].map(|v| v as usize);
            if (z0..bounds.high[2]).contains(&z) {
                bits.set(x - x0, end - x0, y - y0, z - z0);
            }
        }
        bits
    }

    /// Sets the bits `from..to` of a row.
    fn set(&mut self, from: usize, to: usize, y: usize, z: usize) {
        let start = self.index(0, y, z);
        for w in from >> 6..to.div_ceil(64) {
            let low = u64::MAX << from.saturating_sub(w << 6);
            let high = u64::MAX >> ((w << 6) + 64).saturating_sub(to);
            if let Some(word) = self.words.get_mut(start + w) {
                *word |= low & high;
            }
        }
    }

    pub(crate) fn plane_is_empty(&self, z: usize) -> bool {
        (0..self.dim[1]).all(|y| self.row(y, z).iter().all(|&w| w == 0))
    }

    pub(crate) fn count(&self) -> u64 {
        self.words.par_chunks(1 << 16).map(|c| c.iter().map(|w| u64::from(w.count_ones())).sum::<u64>()).sum()
    }

    pub(crate) fn count_both(&self, other: &Self) -> u64 {
        self.words.iter().zip(&other.words).map(|(a, b)| u64::from((a & b).count_ones())).sum()
    }

    pub(crate) fn remove(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a &= !b);
    }
}

/// Distance in voxels from `x` to the nearest set bit of a row, if it is at most `most`.
pub(crate) fn nearest(row: &[u64], x: usize, most: usize) -> Option<usize> {
    let (here, b) = (x >> 6, x & 63);
    let word = *row.get(here)?;
    let mut best = usize::MAX;
    let right = word >> b;
    if right != 0 {
        best = right.trailing_zeros() as usize;
    } else {
        let mut w = here + 1;
        while let Some(&word) = row.get(w) {
            let low = (w << 6) - x;
            if low > most {
                break;
            }
            if word != 0 {
                best = low + word.trailing_zeros() as usize;
                break;
            }
            w += 1;
        }
    }
    let left = word << (63 - b);
    if left != 0 {
        best = best.min(left.leading_zeros() as usize);
    } else {
        let mut w = here;
        while w > 0 {
            w -= 1;
            let low = x - ((w << 6) + 63);
            if low > most || low >= best {
                break;
            }
            let Some(&word) = row.get(w) else { break };
            if word != 0 {
                best = best.min(low + word.leading_zeros() as usize);
                break;
            }
        }
    }
    (best <= most).then_some(best)
}

/// The voxels of a box whose id is one of `ids`.
pub(crate) fn crop(view: View<'_>, dim: [usize; 3], bounds: &VoxelBox, ids: &[u16]) -> Bits {
    let start = |y: usize, z: usize| bounds.low[0] + dim[0] * (bounds.low[1] + y + dim[1] * (bounds.low[2] + z));
    let size = bounds.size();
    Bits::build(size, [0; 2], |y, z, row| {
        let from = start(y, z);
        for &id in ids {
            match view {
                View::U8(v) => {
                    if let (Ok(id), Some(v)) = (u8::try_from(id), v.get(from..from + size[0])) {
                        mark_u8(v, id, row);
                    }
                }
                View::U16(v) => {
                    if let Some(v) = v.get(from..from + size[0]) {
                        mark_u16(v, id, row);
                    }
                }
            }
        }
    })
}

fn mark_u8(values: &[u8], id: u8, row: &mut [u64]) {
    const LOW7: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let pattern = u64::from_ne_bytes([id; 8]);
    for (block, word) in values.chunks(64).zip(row) {
        let (eights, rest) = block.as_chunks::<8>();
        for (n, eight) in eights.iter().enumerate() {
            let t = u64::from_le_bytes(*eight) ^ pattern;
            // The top bit of each byte that equals the id, exactly (no carry between bytes).
            let hit = !(((t & LOW7) + LOW7) | t | LOW7);
            *word |= ((hit >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * n);
        }
        for (n, &v) in rest.iter().enumerate() {
            *word |= u64::from(v == id) << (8 * eights.len() + n);
        }
    }
}

fn mark_u16(values: &[u16], id: u16, row: &mut [u64]) {
    for (block, word) in values.chunks(64).zip(row) {
        let (eights, rest) = block.as_chunks::<8>();
        for (n, eight) in eights.iter().enumerate() {
            // Vector comparison to bytes first, then the same gathering as for bytes.
            let hit = u64::from_le_bytes(eight.map(|v| u8::from(v == id)));
            *word |= (hit.wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * n);
        }
        for (n, &v) in rest.iter().enumerate() {
            *word |= u64::from(v == id) << (8 * eights.len() + n);
        }
    }
}

/// From the places of its voxels.
#[cfg(test)]
pub(crate) fn bits_of(dim: [usize; 3], margin: [usize; 2], set: &[[usize; 3]]) -> Bits {
    let mut bits = Bits::new(dim, margin);
    set.iter().for_each(|&[x, y, z]| bits.set(x, x + 1, y, z));
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bit(row: &[u64], x: usize) -> u64 {
        row[x >> 6] >> (x & 63) & 1
    }

    #[test]
    fn cropped_bits_are_the_voxels_of_the_label() {
        let v8: Vec<u8> = (0..200 * 3 * 2).map(|n| ((n * 7919) % 11 + (n % 3) * 100) as u8).collect();
        let v16: Vec<u16> = v8.iter().map(|&v| u16::from(v) * 200).collect();
        let bounds = VoxelBox { low: [3, 1, 0], high: [190, 3, 2] };
        for id in [0u16, 1, 7, 105, 210] {
            let (a, b) = (
                crop(View::U8(&v8), [200, 3, 2], &bounds, &[id]),
                crop(View::U16(&v16), [200, 3, 2], &bounds, &[id * 200]),
            );
            assert_eq!(a, b);
            for z in 0..2 {
                for y in 0..2 {
                    for x in 0..187 {
                        let expected = u16::from(v8[x + 3 + 200 * (y + 1 + 3 * z)]) == id;
                        assert_eq!(bit(a.row(y, z), x) == 1, expected);
                    }
                    assert_eq!(a.row(y, z)[187 >> 6] >> (187 & 63), 0);
                }
            }
        }
    }

    #[test]
    fn the_nearest_bit_is_found_on_both_sides() {
        let mut row = vec![0u64; 5];
        let set = [3usize, 70, 200, 319];
        set.iter().for_each(|&x| row[x >> 6] |= 1 << (x & 63));
        for x in 0..320 {
            let truth = set.iter().map(|&s| s.abs_diff(x)).min().unwrap();
            for most in [0, 1, 10, 60, 1000] {
                assert_eq!(nearest(&row, x, most), (truth <= most).then_some(truth), "{x} {most}");
            }
        }
    }
}
