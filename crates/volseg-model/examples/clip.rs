//! Tokens and features of an image-text model for the scripts in scripts/parity; texts come on standard input as a JSON list.
//!
//! `clip tokens vocab.txt` and `clip tokens tokenizer.model` print a list of token ids for each text. `clip features
//! MODEL.safetensors expected.safetensors` reads `raw_rgb_u8` there, prepares it as the model's authors do, and prints the
//! prepared picture's and all features with the seconds that each took.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

use candle_core::{Device, Tensor, safetensors};
use std::path::Path;
use std::time::Instant;
use volseg_model::clip::{ClipModel, Fit, WordPieces, fit_picture};
use volseg_model::medvint::SentencePieces;
use volseg_model::picture::Picture;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let texts: Vec<String> = serde_json::from_reader(std::io::stdin()).unwrap();
    let out = match arguments[0].as_str() {
        "tokens" if arguments[1].ends_with(".txt") => {
            let pieces = WordPieces::new(&std::fs::read_to_string(&arguments[1]).unwrap()).unwrap();
            let ids: Vec<Vec<u32>> = texts.iter().map(|t| pieces.ids(t, 256).unwrap()).collect();
            serde_json::json!(ids)
        }
        "tokens" => {
            let pieces = SentencePieces::from_model(&std::fs::read(&arguments[1]).unwrap()).unwrap();
            serde_json::json!(texts.iter().map(|t| pieces.encode(t)).collect::<Vec<_>>())
        }
        _ => features(Path::new(&arguments[1]), Path::new(&arguments[2]), &texts),
    };
    println!("{out}");
}

fn features(model: &Path, pictures: &Path, texts: &[String]) -> serde_json::Value {
    let mut seconds = Vec::new();
    let mut start = Instant::now();
    let mut lap = || seconds.push(std::mem::replace(&mut start, Instant::now()).elapsed().as_secs_f64());
    let model = ClipModel::load(model).unwrap();
    lap();
    let raw = &safetensors::load(pictures, &Device::Cpu).unwrap()["raw_rgb_u8"];
    let (height, width, _) = raw.dims3().unwrap();
    let picture = Picture::rgb(width, height, raw.flatten_all().unwrap().to_vec1().unwrap()).unwrap();
    let input = fit_picture(&picture, &model.config, Fit::Crop);
    let side = model.config.image_size;
    let x = Tensor::from_slice(&input, (1, 3, side, side), &Device::Cpu).unwrap();
    lap();
    let image = model.encode_images(&x).unwrap();
    lap();
    let ids: Vec<Vec<u32>> = texts.iter().map(|t| model.ids(t).unwrap()).collect();
    let text = model.encode_texts(texts).unwrap();
    lap();
    serde_json::json!({
        "input": input, "image_features": image, "token_ids": ids, "text_features": text, "scale": model.scale,
        "seconds": {"weights": seconds[0], "preparation": seconds[1], "image": seconds[2], "texts": seconds[3]},
    })
}
