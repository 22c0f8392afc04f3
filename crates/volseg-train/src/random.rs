use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Random numbers of one use of one sample, seeded by where it stands in the training, so that a resumed run draws the same.
pub struct Random(ChaCha8Rng);

impl Random {
    /// Numbers that depend on all of `place` (such as seed, step, slot) and nothing else.
    #[must_use]
    pub fn at(place: &[u64]) -> Self {
        let mut state = 0xcbf2_9ce4_8422_2325u64;
        for &p in place {
            state = (state ^ p).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            state ^= state >> 29;
        }
        Self(ChaCha8Rng::seed_from_u64(state))
    }

    /// The next number, as a seed for others.
    pub(crate) fn next(&mut self) -> u64 {
        self.0.random()
    }

    /// Uniform in `low..high`.
    pub fn uniform(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.0.random::<f32>()
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f32) -> bool {
        self.0.random::<f32>() < p
    }

    /// Uniform in `0..n`; 0 for `n = 0`.
    pub fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { self.0.random_range(0..n) }
    }

    /// Standard normal.
    pub fn normal(&mut self) -> f32 {
        let u = self.0.random::<f32>().max(1e-12);
        let v = self.0.random::<f32>();
        (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
    }
}
