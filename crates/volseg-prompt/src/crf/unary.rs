/// Keeps the logarithms finite, as published.
const EPSILON: f32 = 1e-8;

/// Energies of background and target from a saliency value in 0..1 (MedCLIP-SAM; specs: densecrf.md section 4).
///
/// Both are divided by a sigmoid of their own probability, so they are no log-probabilities and must not be renormalised.
///
/// ```
/// let [background, target] = volseg_prompt::crf::saliency_energies(0.5, 1.05);
/// assert!((background - target).abs() < 1e-6);
/// ```
#[must_use]
pub fn saliency_energies(saliency: f32, tau: f32) -> [f32; 2] {
    let energy = |p: f32| {
        let sigmoid = 1.0 / (1.0 + (-p).exp());
        -(p + EPSILON).ln() / (tau * sigmoid)
    };
    [energy(1.0 - saliency), energy(saliency)]
}
