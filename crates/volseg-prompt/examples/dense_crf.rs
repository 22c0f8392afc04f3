//! The dense CRF on tensors from a file, for comparison with other programs.
//!
//! `dense_crf compare FOLDER`: FOLDER holds `cases.json` (name, file, height, width, labels, terms, iterations) and for each case a
//! safetensors file with `image`, `unary` and `pydensecrf.iterN`; prints the differences and fails beyond 1e-3 at most, 1e-5 on average.
//!
//! `dense_crf time FILE REPEATS [THREADS]`: least time in milliseconds of building and of five updates on `image` and `unary` of FILE.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

use safetensors::SafeTensors;
use std::time::Instant;
use volseg_prompt::crf::{CrfSettings, DenseCrf, Guide, saliency_energies};

fn floats(file: &SafeTensors<'_>, name: &str) -> Option<Vec<f32>> {
    let bytes = file.tensor(name).ok()?.data();
    Some(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

fn settings(terms: &serde_json::Value) -> CrfSettings {
    let mut settings = CrfSettings::preset("medclip-sam-v1").unwrap();
    (settings.smooth_compat, settings.compat) = (0.0, 0.0);
    for term in terms.as_array().unwrap() {
        let of = |name: &str| term[name].as_f64().unwrap() as f32;
        if term["type"] == "gaussian" {
            (settings.smooth_sxy, settings.smooth_compat) = (of("sxy"), of("compat"));
        } else {
            (settings.sxy, settings.srgb, settings.compat) = (of("sxy"), of("srgb"), of("compat"));
        }
    }
    settings
}

fn compare(folder: &std::path::Path) -> bool {
    let cases: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("cases.json")).unwrap()).unwrap();
    let mut good = true;
    for case in cases["cases"].as_array().unwrap() {
        let bytes = std::fs::read(folder.join(case["file"].as_str().unwrap())).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let size = |name: &str| case[name].as_u64().unwrap() as usize;
        let (width, height, labels) = (size("width"), size("height"), size("labels"));
        let unary = floats(&file, "unary").unwrap();
        if let Some(saliency) = floats(&file, "saliency") {
            let pixels = width * height;
            let off = (0..pixels).flat_map(|n| {
                let e = saliency_energies(saliency[n], 1.05);
                [(e[0] - unary[n]).abs(), (e[1] - unary[pixels + n]).abs()]
            });
            println!("{} unary from saliency: largest difference {:.1e}", case["name"], off.fold(0.0, f32::max));
        }
        for iterations in case["iterations"].as_array().unwrap() {
            let mut settings = settings(&case["terms"]);
            settings.iterations = iterations.as_u64().unwrap() as usize;
            let crf =
                DenseCrf::new(width, height, Guide::Rgb(file.tensor("image").unwrap().data()), &settings).unwrap();
            let found = crf.marginals(&unary, labels).unwrap();
            let expected = floats(&file, &format!("pydensecrf.iter{iterations}")).unwrap();
            let off = found.iter().zip(&expected).map(|(a, b)| f64::from((a - b).abs()));
            let (mean, max) = (off.clone().sum::<f64>() / found.len() as f64, off.fold(0.0, f64::max));
            println!(
                "{} {iterations:>2} updates, vertices {:?}: max {max:.1e}, mean {mean:.1e}",
                case["name"],
                crf.vertices()
            );
            good &= max <= 1e-3 && mean <= 1e-5;
        }
    }
    good
}

fn time(file: &str, repeats: usize) {
    let bytes = std::fs::read(file).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let image = file.tensor("image").unwrap();
    let [height, width] = [image.shape()[0], image.shape()[1]];
    let unary = floats(&file, "unary").unwrap();
    let mut settings = CrfSettings::preset("medclip-sam-v1").unwrap();
    settings.iterations = 5;
    let mut least = [f64::INFINITY; 2];
    for _ in 0..repeats {
        let start = Instant::now();
        let crf = DenseCrf::new(width, height, Guide::Rgb(image.data()), &settings).unwrap();
        least[0] = least[0].min(start.elapsed().as_secs_f64());
        let built = Instant::now();
        let marginals = crf.marginals(&unary, 2).unwrap();
        least[1] = least[1].min(built.elapsed().as_secs_f64());
        std::hint::black_box(marginals);
    }
    let [build, infer] = least.map(|s| 1e3 * s);
    println!("{{\"threads\": {}, \"build_ms\": {build:.2}, \"infer_ms\": {infer:.2}}}", rayon::current_num_threads());
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["compare", folder] => assert!(compare(std::path::Path::new(folder)), "beyond the tolerance"),
        ["time", file, repeats, rest @ ..] => {
            let threads = rest.first().map_or(0, |t| t.parse().unwrap());
            rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().unwrap();
            time(file, repeats.parse().unwrap());
        }
        _ => panic!("dense_crf compare FOLDER | time FILE REPEATS [THREADS]"),
    }
}
