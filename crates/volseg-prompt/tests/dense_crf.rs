//! The dense CRF against pydensecrf2 (fixture of scripts/parity/make_crf_fixture.py), against the sum over all pairs, and its laws.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use proptest::prelude::*;
use safetensors::SafeTensors;
use std::path::Path;
use volseg_prompt::Error;
use volseg_prompt::crf::{CrfSettings, DenseCrf, Guide, saliency_energies};

struct Case {
    name: String,
    width: usize,
    height: usize,
    labels: usize,
    settings: CrfSettings,
    image: Vec<u8>,
    saliency: Option<Vec<f32>>,
    unary: Vec<f32>,
    expected: Vec<(usize, Vec<f32>)>,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/crf");
    let list: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("cases.json")).unwrap()).unwrap();
    list["cases"].as_array().unwrap().iter().map(|case| read(&folder, case)).collect()
}

fn read(folder: &Path, case: &serde_json::Value) -> Case {
    let bytes = std::fs::read(folder.join(case["file"].as_str().unwrap())).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |name: &str| -> Option<Vec<f32>> {
        Some(file.tensor(name).ok()?.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    };
    let mut settings = CrfSettings::preset("medclip-sam-v1").unwrap();
    (settings.smooth_compat, settings.compat) = (0.0, 0.0);
    for term in case["terms"].as_array().unwrap() {
        let of = |name: &str| term[name].as_f64().unwrap() as f32;
        if term["type"] == "gaussian" {
            (settings.smooth_sxy, settings.smooth_compat) = (of("sxy"), of("compat"));
        } else {
            (settings.sxy, settings.srgb, settings.compat) = (of("sxy"), of("srgb"), of("compat"));
        }
    }
    let size = |name: &str| case[name].as_u64().unwrap() as usize;
    let iterations = case["iterations"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize);
    Case {
        name: case["name"].as_str().unwrap().into(),
        width: size("width"),
        height: size("height"),
        labels: size("labels"),
        settings,
        image: file.tensor("image").unwrap().data().to_vec(),
        saliency: floats("saliency"),
        unary: floats("unary").unwrap(),
        expected: iterations.map(|n| (n, floats(&format!("pydensecrf.iter{n}")).unwrap())).collect(),
    }
}

impl Case {
    fn crf(&self, iterations: usize) -> DenseCrf {
        let mut settings = self.settings.clone();
        settings.iterations = iterations;
        DenseCrf::new(self.width, self.height, Guide::Rgb(&self.image), &settings).unwrap()
    }
}

fn differences(a: &[f32], b: &[f32]) -> (f64, f64) {
    assert_eq!(a.len(), b.len());
    let off = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs()));
    (off.clone().fold(0.0, f64::max), off.sum::<f64>() / a.len() as f64)
}

#[test]
fn marginals_are_those_of_the_reference() {
    for case in cases() {
        for (iterations, expected) in &case.expected {
            let found = case.crf(*iterations).marginals(&case.unary, case.labels).unwrap();
            let (max, mean) = differences(&found, expected);
            assert!(max < 2e-5 && mean < 1e-6, "{} {iterations}: max {max:.1e}, mean {mean:.1e}", case.name);
        }
    }
}

#[test]
fn saliency_gives_the_energies_of_the_reference_and_its_marginals() {
    for case in cases() {
        let Some(saliency) = &case.saliency else { continue };
        let pixels = saliency.len();
        let energies: Vec<[f32; 2]> = saliency.iter().map(|&a| saliency_energies(a, 1.05)).collect();
        let flat: Vec<f32> = [0, 1].iter().flat_map(|&l| energies.iter().map(move |e| e[l])).collect();
        assert!(differences(&flat, &case.unary).0 < 1e-4, "{}", case.name);
        let (iterations, expected) = case.expected.last().unwrap();
        let target = case.crf(*iterations).refine(&[saliency]).unwrap().remove(0);
        assert!(differences(&target, &expected[pixels..]).0 < 2e-5, "{}", case.name);
    }
}

/// The lattice is an approximation: near the exact sum over all pairs, not at it.
#[test]
fn the_lattice_is_near_the_sum_over_all_pairs() {
    let case = cases().into_iter().find(|c| c.name == "colour").unwrap();
    let (pixels, s) = (case.width * case.height, &case.settings);
    let feature = |n: usize| {
        let colour = |c: usize| f64::from(case.image[3 * n + c]) / f64::from(s.srgb);
        let place = |v: usize| v as f64 / f64::from(s.sxy);
        [place(n % case.width), place(n / case.width), colour(0), colour(1), colour(2)]
    };
    let features: Vec<[f64; 5]> = (0..pixels).map(feature).collect();
    let kernel = |a: &[f64; 5], b: &[f64; 5]| (-0.5 * (0..5).map(|c| (a[c] - b[c]).powi(2)).sum::<f64>()).exp();
    let norm: Vec<f64> = features.iter().map(|f| features.iter().map(|g| kernel(f, g)).sum::<f64>()).collect();
    let gain: Vec<f64> = (0..pixels).map(|n| f64::from(case.unary[n] - case.unary[pixels + n])).collect();
    let exact: Vec<f32> = (0..pixels)
        .map(|n| {
            let pull =
                |m: usize| kernel(&features[n], &features[m]) / (norm[n] * norm[m]).sqrt() * (gain[m] / 2.0).tanh();
            let message: f64 = (0..pixels).map(pull).sum();
            (1.0 / (1.0 + (-gain[n] - f64::from(s.compat) * message).exp())) as f32
        })
        .collect();
    let found = case.crf(1).marginals(&case.unary, 2).unwrap();
    let (max, mean) = differences(&found[pixels..], &exact);
    assert!(max < 0.6 && mean < 0.02, "max {max}, mean {mean}");
}

#[test]
fn every_number_of_threads_gives_the_same_bits() {
    let case = cases().into_iter().find(|c| c.name == "grey").unwrap();
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| case.crf(5).marginals(&case.unary, 2).unwrap())
    };
    let one = run(1);
    assert!([2, 3, 7].iter().all(|&n| run(n) == one));
}

#[test]
fn organs_share_lattices_without_seeing_each_other() {
    let case = cases().into_iter().find(|c| c.name == "grey").unwrap();
    let saliency = case.saliency.clone().unwrap();
    let maps: Vec<Vec<f32>> =
        (0..19).map(|n| saliency.iter().map(|a| (a * (0.5 + n as f32 / 20.0)).min(1.0)).collect()).collect();
    let maps: Vec<&[f32]> = maps.iter().map(Vec::as_slice).collect();
    let crf = case.crf(5);
    let together = crf.refine(&maps).unwrap();
    for (map, found) in maps.iter().zip(&together) {
        assert_eq!(&crf.refine(&[map]).unwrap()[0], found);
    }
    let again = crf.for_picture(Guide::Rgb(&case.image)).unwrap();
    assert_eq!(again.refine(&maps).unwrap(), together);
    assert!(crf.refine(&[]).unwrap().is_empty());
}

#[test]
fn wrong_sizes_and_values_are_refused() {
    let grey = [0u8; 12];
    let crf = |w, h| DenseCrf::new(w, h, Guide::Grey(&grey), &CrfSettings::default());
    assert!(matches!(crf(0, 12), Err(Error::Input(_))));
    assert!(matches!(crf(4, 4), Err(Error::Input(_))));
    assert!(matches!(crf(usize::MAX, 2), Err(Error::Input(_))));
    assert!(matches!(DenseCrf::new(3, 4, Guide::Rgb(&grey), &CrfSettings::default()), Err(Error::Input(_))));
    let crf = crf(3, 4).unwrap();
    assert!(crf.refine(&[&[0.5; 11]]).is_err());
    assert!(crf.refine(&[&[f32::NAN; 12]]).unwrap_err().to_string().contains("NaN"));
    assert!(crf.marginals(&[0.0; 12], 0).is_err() && crf.marginals(&[0.0; 24], 1).is_err());
    assert!(crf.for_picture(Guide::Grey(&grey[..9])).is_err());
    assert_eq!(crf.marginals(&[3.0; 12], 1).unwrap(), [1.0; 12]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Probabilities are probabilities, and no order of labels is special.
    #[test]
    fn labels_are_all_alike(
        size in (1usize..40, 1usize..40), labels in 2usize..7, iterations in 0usize..6, seed in any::<u64>(),
    ) {
        let (width, height) = size;
        let pixels = width * height;
        // A plain linear congruence is random enough here.
        let mut state = seed | 1;
        let mut next = || { state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1); (state >> 40) as u32 };
        let grey: Vec<u8> = (0..pixels).map(|_| next() as u8).collect();
        let energies: Vec<f32> = (0..labels * pixels).map(|_| next() as f32 / 3e6).collect();
        let mut settings = CrfSettings::preset("pydensecrf").unwrap();
        settings.iterations = iterations;
        let crf = DenseCrf::new(width, height, Guide::Grey(&grey), &settings).unwrap();
        let found = crf.marginals(&energies, labels).unwrap();
        for n in 0..pixels {
            let sum: f32 = (0..labels).map(|l| found[l * pixels + n]).sum();
            prop_assert!((sum - 1.0).abs() < 1e-5, "{}", sum);
        }
        prop_assert!(found.iter().all(|q| (0.0..=1.0).contains(q)));
        let turned: Vec<f32> = energies.chunks_exact(pixels).rev().flatten().copied().collect();
        let turned = crf.marginals(&turned, labels).unwrap();
        let back: Vec<f32> = turned.chunks_exact(pixels).rev().flatten().copied().collect();
        prop_assert!(differences(&back, &found).0 < 1e-4);
    }

    /// A flat map on any picture stays undecided; a certain one stays certain.
    #[test]
    fn flat_saliency_keeps_its_side(grey in prop::collection::vec(any::<u8>(), 60), level in 0f32..=1.0) {
        let crf = DenseCrf::new(10, 6, Guide::Grey(&grey), &CrfSettings::default()).unwrap();
        let target = crf.refine(&[&[level; 60]]).unwrap().remove(0);
        if (level - 0.5).abs() > 1e-3 {
            prop_assert!(target.iter().all(|q| (*q > 0.5) == (level > 0.5)));
        }
    }
}
