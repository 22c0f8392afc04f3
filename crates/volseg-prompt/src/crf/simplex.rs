//! Where a point lies in the permutohedral lattice (Adams, Baek and Davis 2010; specs: densecrf.md section 3).

/// Most dimensions of a feature; the bilateral term has five.
pub(super) const MAX_DIMENSIONS: usize = 5;
const MAX_CORNERS: usize = MAX_DIMENSIONS + 1;

/// The simplex around a point of `D` dimensions.
pub(super) struct Simplex {
    remainder: [i32; MAX_CORNERS],
    rank: [i32; MAX_CORNERS],
    /// Weight of each of the `D + 1` corners; they sum to one.
    pub(super) barycentric: [f32; MAX_CORNERS],
}

impl Simplex {
    /// Same corners as another simplex (the weights may differ).
    pub(super) fn same_place(&self, other: &Self) -> bool {
        self.remainder == other.remainder && self.rank == other.rank
    }

    /// Key of corner `k`: the first `D` coordinates, the last follows from them.
    pub(super) fn key<const D: usize>(&self, k: usize) -> [i32; D] {
        let (whole, k) = (D as i32 + 1, k as i32);
        std::array::from_fn(|i| {
            let canonical = if self.rank[i] <= D as i32 - k { k } else { k - whole };
            self.remainder[i] + canonical
        })
    }
}

/// Maps points to simplices; holds the scale of every dimension.
pub(super) struct Embedding<const D: usize> {
    scale: [f32; D],
}

impl<const D: usize> Embedding<D> {
    pub(super) fn new() -> Self {
        let deviation = f64::from(((2.0f64 / 3.0).sqrt() * (D + 1) as f64) as f32);
        Self { scale: std::array::from_fn(|i| (deviation / (((i + 1) * (i + 2)) as f64).sqrt()) as f32) }
    }

    /// All sums are in `f32` and in this order, so that ties fall as they do in the reference.
    pub(super) fn simplex(&self, point: [f32; D]) -> Simplex {
        let whole = (D + 1) as f32;
        let part = 1.0 / whole;
        let mut elevated = [0f32; MAX_CORNERS];
        let mut sum = 0f32;
        for j in (1..=D).rev() {
            let c = point[j - 1] * self.scale[j - 1];
            elevated[j] = sum - j as f32 * c;
            sum += c;
        }
        elevated[0] = sum;

        let mut remainder = [0i32; MAX_CORNERS];
        let mut off_plane = 0;
        for i in 0..=D {
            let nearest = round_half_even(part * elevated[i]) as i32;
            remainder[i] = nearest * (D as i32 + 1);
            off_plane += nearest;
        }
        let mut rank = [0i32; MAX_CORNERS];
        let difference: [f32; MAX_CORNERS] = std::array::from_fn(|i| elevated[i] - remainder[i] as f32);
        for i in 0..D {
            for j in i + 1..=D {
                let less = i32::from(difference[i] < difference[j]);
                rank[i] += less;
                rank[j] += 1 - less;
            }
        }
        // Back onto the plane whose coordinates sum to zero.
        for i in 0..=D {
            rank[i] += off_plane;
            let wrap = if rank[i] < 0 {
                D as i32 + 1
            } else if rank[i] > D as i32 {
                -(D as i32 + 1)
            } else {
                0
            };
            rank[i] += wrap;
            remainder[i] += wrap;
        }
        let mut b = [0f32; MAX_CORNERS + 1];
        for i in 0..=D {
            let t = (elevated[i] - remainder[i] as f32) * part;
            // A rank is in 0..=D after the wrap; `min` says so to the compiler.
            let at = (rank[i] as usize).min(D);
            b[D - at] += t;
            b[D + 1 - at] -= t;
        }
        b[0] += 1.0 + b[D + 1];
        Simplex { remainder, rank, barycentric: std::array::from_fn(|k| b[k]) }
    }
}

/// Half to even, as the reference's SSE code rounds. Exact below 2^22, far above any coordinate that the smallest allowed
/// deviation gives.
fn round_half_even(v: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (v + SHIFT) - SHIFT
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The weights of the corners are a partition of one, and put the point where it is.
        #[test]
        fn corners_surround_the_point(point in prop::array::uniform5(-40f32..40.0)) {
            let simplex = Embedding::<5>::new().simplex(point);
            let sum: f32 = simplex.barycentric.iter().sum();
            prop_assert!((sum - 1.0).abs() < 1e-4);
            prop_assert!(simplex.barycentric.iter().all(|b| *b > -1e-4));
            let scale = Embedding::<5>::new().scale;
            let first: f32 = (0..5).map(|i| point[i] * scale[i]).sum();
            let found: f32 = (0..6).map(|k| simplex.barycentric[k] * simplex.key::<5>(k)[0] as f32).sum();
            prop_assert!((first - found).abs() < 1e-2, "{first} {found}");
        }
    }

    #[test]
    fn rounding_is_to_even() {
        for (v, r) in [(0.5, 0.0), (1.5, 2.0), (2.5, 2.0), (-0.5, 0.0), (-1.5, -2.0), (3.49, 3.0)] {
            assert_eq!(round_half_even(v), r);
        }
    }
}
