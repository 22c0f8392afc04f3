//! Random draws for anatomy: a seeded stream with the few distributions that are needed.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// A stream of draws; the same seed and name give the same draws on every machine.
pub(crate) struct Draw(ChaCha8Rng);

impl Draw {
    /// `stream` separates anatomy from acquisition, so that the grid does not change the patient.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self(rng)
    }

    /// Uniform in `[0, 1)`.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 / 16_777_216.0
    }

    /// Uniform in `[low, high)`.
    pub(crate) fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Bell-shaped (sum of four uniforms), cut at 3.46 deviations by construction.
    pub(crate) fn normal(&mut self, mean: f32, deviation: f32) -> f32 {
        let sum = self.unit() + self.unit() + self.unit() + self.unit() - 2.0;
        mean + deviation * sum * 1.732_050_8
    }

    /// A factor around 1: `exp(normal(0, spread))`.
    pub(crate) fn factor(&mut self, spread: f32) -> f32 {
        self.normal(0.0, spread).exp()
    }

    /// `true` with the given probability.
    pub(crate) fn chance(&mut self, probability: f32) -> bool {
        self.unit() < probability
    }

    /// Whole number in `low..=high`.
    pub(crate) fn whole(&mut self, low: usize, high: usize) -> usize {
        low + ((high - low + 1) as f32 * self.unit()) as usize
    }

    /// A point of a box centred at 0.
    pub(crate) fn jitter(&mut self, size: f32) -> [f32; 3] {
        [self.normal(0.0, size), self.normal(0.0, size), self.normal(0.0, size)]
    }

    /// Seed of a noise field.
    pub(crate) fn seed(&mut self) -> u32 {
        self.0.next_u32()
    }
}
