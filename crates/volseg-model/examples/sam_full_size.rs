//! Parity and speed of a full-size model.
//!
//! `sam_full_size compare WEIGHTS EXPECTED.safetensors` against `scripts/parity/full_size.py`;
//! `sam_full_size bench WEIGHTS [REPEATS]` prints JSON lines (see `scripts/peers/torch_vitb.py`, which calls it);
//! `sam_full_size decode WEIGHTS` times the decoder alone, 15 boxes, at 1 and 2 threads;
//! `sam_full_size gpu WEIGHTS` compares GPU 0 with the CPU and prints a JSON line a precision (see `scripts/cuda/check.sh`).
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use candle_core::{Device, Tensor};
use std::path::Path;
use std::time::{Duration, Instant};
use volseg_geometry::PixelBox;
use volseg_model::picture::Picture;
use volseg_model::sam::{PromptSet, SamModel};

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[1..] {
        ["compare", weights, expected] => compare(Path::new(weights), Path::new(expected)),
        ["bench", weights] => bench(Path::new(weights), 3),
        ["bench", weights, repeats] => bench(Path::new(weights), repeats.parse()?),
        ["decode", weights] => decode(Path::new(weights)),
        ["gpu", weights] => gpu(Path::new(weights)),
        _ => {
            Err("usage: sam_full_size compare WEIGHTS EXPECTED.safetensors | bench WEIGHTS [REPEATS] | decode WEIGHTS | gpu WEIGHTS"
                .into())
        }
    }
}

fn boxed(b: &[f32]) -> Result<PromptSet, Failure> {
    let [x0, y0, x1, y1] = *b else { return Err("a box has four numbers".into()) };
    Ok(PromptSet { bounds: Some(PixelBox::new(x0, y0, x1, y1)?), ..PromptSet::default() })
}

fn apart(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(if a.len() == b.len() { 0.0 } else { f32::NAN }, f32::max)
}

fn compare(weights: &Path, expected: &Path) -> Result<(), Failure> {
    let start = Instant::now();
    let model = SamModel::load(weights)?;
    println!("loaded and verified in {:.1} s", start.elapsed().as_secs_f64());
    let e = candle_core::safetensors::load(expected, &Device::Cpu)?;
    let flat = |t: &Tensor| t.flatten_all()?.to_vec1::<f32>();
    let get = |name: &str| e.get(name).ok_or_else(|| format!("no {name} in the expected file"));
    let (h, w, _) = get("picture")?.dims3()?;
    let picture = Picture::rgb(w, h, get("picture")?.flatten_all()?.to_vec1()?)?;
    let embedding = model.embed(&picture)?;
    let ours = flat(&embedding.features.transpose(1, 2)?.contiguous()?)?;
    println!("image embedding: off by {:.1e}", apart(&ours, &flat(get("image_embedding")?)?));
    let prompts = flat(get("boxes")?)?.chunks(4).map(boxed).collect::<Result<Vec<_>, _>>()?;
    let decoded = model.decode(&embedding, &prompts)?;
    let best: Vec<i64> = get("best")?.to_vec1()?;
    assert!(decoded.iter().zip(&best).all(|(d, &b)| d.mask as i64 == b), "chosen masks differ");
    let low: Vec<f32> = decoded.iter().flat_map(|d| d.low_res.clone()).collect();
    println!("low-resolution masks: off by {:.1e}", apart(&low, &flat(get("low_res")?)?));
    let probabilities: Vec<f32> = decoded.iter().flat_map(|d| model.postprocess(&embedding, d)).collect();
    let off = apart(&probabilities, &flat(get("probabilities")?)?);
    println!("probabilities: off by {off:.1e}");
    if off <= 1e-4 { Ok(()) } else { Err("probabilities differ by more than 1e-4".into()) }
}

/// Least time of some repeats: other jobs can only add.
fn best(repeats: usize, mut f: impl FnMut() -> Result<(), Failure>) -> Result<f64, Failure> {
    let mut least = Duration::MAX;
    for _ in 0..repeats {
        let start = Instant::now();
        f()?;
        least = least.min(start.elapsed());
    }
    Ok(least.as_secs_f64())
}

/// A picture of noise and fifteen boxes on it.
fn question() -> Result<(Picture, Vec<PromptSet>), Failure> {
    let values: Vec<u8> = (0..256 * 256u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let boxes = (0..15).map(|n| boxed(&[10.0 + 5.0 * n as f32, 20.0, 120.0 + 8.0 * n as f32, 200.0]));
    Ok((Picture::grey(256, 256, &values)?, boxes.collect::<Result<_, _>>()?))
}

fn decode(weights: &Path) -> Result<(), Failure> {
    let model = SamModel::load(weights)?;
    let (picture, prompts) = question()?;
    let embedding = model.embed(&picture)?;
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        let time = pool.install(|| best(40, || model.decode(&embedding, &prompts).map(drop).map_err(Into::into)))?;
        println!("{threads} threads: {:.1} ms", time * 1e3);
    }
    Ok(())
}

fn gpu(weights: &Path) -> Result<(), Failure> {
    let (picture, prompts) = question()?;
    let answer = |model: &SamModel| -> Result<Vec<f32>, Failure> {
        let embedding = model.embed(&picture)?;
        let decoded = model.decode(&embedding, &prompts)?;
        Ok(decoded.iter().flat_map(|d| model.postprocess(&embedding, d)).collect())
    };
    let cpu = answer(&SamModel::load(weights)?)?;
    let device = volseg_model::gpu(0)?;
    let done = || device.synchronize();
    for name in ["f32", "bf16"] {
        let model = SamModel::load_on(weights, &device)?;
        let model = if name == "bf16" { model.with_bf16()? } else { model };
        let off = apart(&answer(&model)?, &cpu);
        let embedding = model.embed(&picture)?;
        let pictures = |n: usize| vec![picture.clone(); n];
        let timed = |n: usize| -> Result<f64, Failure> {
            let pictures = pictures(n);
            Ok(best(20, || {
                drop(model.embed_all(&pictures, n)?);
                Ok(done()?)
            })? / n as f64)
        };
        // The network alone, without the pictures' preparation.
        let bare = |n: usize| -> Result<f64, Failure> {
            let x = Tensor::randn(0f32, 1.0, (n, 3, 256, 256), &device)?;
            Ok(best(30, || {
                drop(model.network().encoder.forward(&x)?);
                Ok(done()?)
            })? / n as f64)
        };
        let decode = best(20, || model.decode(&embedding, &prompts).map(drop).map_err(Into::into))?;
        println!(
            "{{\"precision\": \"{name}\", \"probabilities_off\": {off:.1e}, \"encoder_1_ms\": {:.2}, \"encoder_8_ms\": {:.2}, \
             \"encoder_16_ms\": {:.2}, \"with_preparation_1_ms\": {:.2}, \"with_preparation_16_ms\": {:.2}, \"decoder_15_ms\": {:.2}}}",
            bare(1)? * 1e3,
            bare(8)? * 1e3,
            bare(16)? * 1e3,
            timed(1)? * 1e3,
            timed(16)? * 1e3,
            decode * 1e3
        );
    }
    Ok(())
}

fn bench(weights: &Path, repeats: usize) -> Result<(), Failure> {
    let model = SamModel::load(weights)?;
    let (picture, prompts) = question()?;
    let eight = vec![picture.clone(); 8];
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        let (one, many, decode) = pool.install(|| -> Result<_, Failure> {
            let embedding = model.embed(&picture)?;
            let pictures = &eight[..4 * threads];
            Ok((
                best(repeats, || model.embed(&picture).map(drop).map_err(Into::into))?,
                best(repeats, || model.embed_all(pictures, 1).map(drop).map_err(Into::into))? / pictures.len() as f64,
                best(3 * repeats, || model.decode(&embedding, &prompts).map(drop).map_err(Into::into))?,
            ))
        })?;
        println!(
            "{{\"threads\": {threads}, \"encoder_one_ms\": {:.1}, \"encoder_ms\": {:.1}, \"decoder_15_ms\": {:.1}}}",
            one * 1e3,
            many * 1e3,
            decode * 1e3
        );
    }
    Ok(())
}
