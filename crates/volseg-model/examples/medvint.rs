//! MedVInT against what torch said: `medvint FOLDER`, with FOLDER as scripts/parity/medvint.py leaves it and model.safetensors
//! imported there; `medvint FOLDER WEIGHTS [8|4]` takes other weights and asks the questions only, with times.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

use candle_core::{Device, safetensors};
use std::path::Path;
use std::time::Instant;
use volseg_model::medvint::{MedVint, Precision};
use volseg_model::picture::Picture;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = Path::new(&arguments[0]);
    let weights = arguments.get(1).map_or_else(|| folder.join("model.safetensors"), Into::into);
    let precision = match arguments.get(2).map(String::as_str) {
        Some("8") => Precision::Eight,
        Some("4") => Precision::Four,
        _ => Precision::Full,
    };
    let start = Instant::now();
    let model = MedVint::load(&weights, precision).unwrap();
    println!("ready in {:.1} s", start.elapsed().as_secs_f64());
    let expected = safetensors::load(folder.join("expected.safetensors"), &Device::Cpu).unwrap();
    let image = &expected["image_u8"];
    let (height, width, _) = image.dims3().unwrap();
    let picture = Picture::rgb(width, height, image.flatten_all().unwrap().to_vec1().unwrap()).unwrap();
    let start = Instant::now();
    let seen = model.see(&picture).unwrap();
    println!("picture seen in {:.2} s", start.elapsed().as_secs_f64());
    let questions: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("questions.json")).unwrap()).unwrap();
    for (n, q) in questions.as_array().unwrap().iter().enumerate() {
        if arguments.len() > 1 {
            let start = Instant::now();
            let answer = model.answer(&picture, q["question"].as_str().unwrap()).unwrap();
            println!("{answer:?} in {:.1} s", start.elapsed().as_secs_f64());
            continue;
        }
        let numbers =
            |key: &str| -> Vec<u32> { q[key].as_array().unwrap().iter().map(|t| t.as_u64().unwrap() as u32).collect() };
        let answer = model.generate(&seen, &numbers("prompt")).unwrap();
        let logits = expected[&format!("logits.{n}")].to_vec2::<f32>().unwrap();
        let off = answer.logits.iter().flatten().zip(logits.iter().flatten()).map(|(a, b)| (a - b).abs());
        let same = answer.tokens == numbers("tokens");
        println!(
            "question {n}: {} tokens, the same: {same}; logits differ by {:.1e} at most",
            answer.tokens.len(),
            off.fold(0.0, f32::max)
        );
        assert!(same);
    }
}
