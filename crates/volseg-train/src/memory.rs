//! How much memory a training will need, told before it starts.

use crate::TrainConfig;
use volseg_model::embedded;

/// What the program, its data and a validation take beside the network.
const BESIDE: f64 = 300e6;
/// Copies of every weight: itself, two moments, an average, gradients of two shards and their sum, what a checkpoint writes.
const COPIES: f64 = 8.0;
/// Tensors of a layer's size that a layer leaves for its gradient.
const KEPT: f64 = 3.6;

/// About the bytes that `train prompt` needs on the CPU, without CTs that it keeps: within an eighth of what was measured for 8 to 32
/// pictures of 64 and 128 px (2026-11-28).
#[must_use]
pub fn planned_bytes(config: &TrainConfig) -> u64 {
    let pictures = config.pictures.iter().map(|p| p.batch).sum::<usize>() as f64;
    let slices = (config.phantoms.as_ref().map_or(0, |p| p.batch) + config.cts.as_ref().map_or(0, |c| c.batch)) as f64;
    let rows = pictures * config.rows_picture as f64 + slices * config.rows_ct as f64;
    let pixels = (config.model.side * config.model.side) as f64;
    let [image, row] = numbers_a_pixel(&config.model);
    let activations = pixels * KEPT * (image * (pictures + slices) + row * rows);
    (BESIDE + 4.0 * (activations + COPIES * weights(&config.model))) as u64
}

/// Numbers a pixel of the input that the layers of the encoder make of an image, and those of the decoder of a row.
fn numbers_a_pixel(m: &embedded::Config) -> [f64; 2] {
    let at = |channels: usize, stride: usize| channels as f64 / (stride * stride) as f64;
    let stages: f64 = m
        .stages
        .iter()
        .zip(m.blocks)
        .enumerate()
        .map(|(n, (&c, blocks))| at(c, 1 << n) * (1 + 2 * blocks) as f64)
        .sum();
    let [d2, d1, d0] = m.dense;
    let rises = 3.0 * (at(d0, 1) + at(d1, 2) + at(d2, 4) + at(m.width, 8) + at(m.width, 16));
    let row = 2.0 * at(m.fine, 1) + 2.0 * at(d1, 2) + 2.0 * at(d2, 4) + 6.0 * at(m.width, 8) + 16.0;
    [stages + rises + at(m.organs, 1), row]
}

/// Numbers of the larger tensors: convolutions of the encoder, and tokens' layers of the decoder.
fn weights(m: &embedded::Config) -> f64 {
    let mut before = m.channels;
    let mut sum = 0.0;
    for (&c, &blocks) in m.stages.iter().zip(&m.blocks) {
        sum += 9.0 * (before * c + 2 * blocks * c * c) as f64;
        before = c;
    }
    sum + (40 * m.width * m.width + 4 * m.width * m.mlp) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Peaks of resident memory of two steps on two cores, measured with the same settings.
    #[test]
    fn the_plan_is_near_what_was_measured() {
        let plan = |changes: &[&str]| {
            let text = "rows_picture = 2\n[[pictures]]\npath = \"p\"\nmodality = \"ultrasound\"\norgan = \"breast_tumor\"\nbatch = 8\n";
            let changes: Vec<String> = changes.iter().map(|c| (*c).to_owned()).collect();
            planned_bytes(&TrainConfig::parse(text, &changes).unwrap()) as f64 / f64::from(1 << 20)
        };
        for (changes, measured) in [
            (&["model.side=64"][..], 627.0),
            (&["model.side=64", "pictures.0.batch=32"], 1056.0),
            (&["model.side=128"], 929.0),
            (&["model.side=128", "pictures.0.batch=16"], 1501.0),
            (&["model.side=64", "rows_picture=16"], 1059.0),
        ] {
            let planned = plan(changes);
            assert!((planned / measured - 1.0).abs() < 0.125, "{changes:?}: {planned} MiB, measured {measured}");
        }
    }
}
