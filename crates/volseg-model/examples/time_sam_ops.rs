//! Least time of the operations of a ViT-B slice, one thread.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use candle_core::{DType, Device, Result, Tensor};
use std::time::{Duration, Instant};
use volseg_model::grad_ops::{gelu, layer_norm};
use volseg_model::ops::{Grid, Linear, Window, fold, relative_attention, unfold};

fn least(name: &str, times: usize, multiply_adds: f64, mut f: impl FnMut() -> Result<Tensor>) -> Result<f64> {
    let mut least = Duration::MAX;
    for _ in 0..30 {
        let start = Instant::now();
        f()?;
        least = least.min(start.elapsed());
    }
    let ms = least.as_secs_f64() * 1e3;
    let rate = 2e-6 * multiply_adds / ms;
    println!("{name:<28} {ms:>8.2} ms x {times:>2} = {:>7.1} ms {rate:>7.1} GFLOP/s", ms * times as f64);
    Ok(ms * times as f64)
}

fn main() -> Result<()> {
    let random = |shape: &[usize]| Tensor::randn(0f32, 1.0, shape, &Device::Cpu);
    let mut sum = 0.0;
    for (name, n, k, times) in
        [("qkv", 2304, 768, 12), ("proj", 768, 768, 12), ("lin1", 3072, 768, 12), ("lin2", 768, 3072, 12)]
    {
        let (x, w) = (random(&[1, 256, k])?, Linear::new(random(&[n, k])?, Some(random(&[n])?))?);
        sum += least(name, times, (256 * n * k) as f64, || w.forward(&x))?;
    }
    let (x, w) = (random(&[1, 8, 8, 6912])?, Linear::new(random(&[768, 6912])?, None)?);
    sum += least("adapter down", 12, 64.0 * 768.0 * 6912.0, || w.forward(&x))?;
    let (x, w) = (random(&[1, 8, 8, 768])?, Linear::new(random(&[12288, 768])?, None)?);
    sum += least("adapter up", 12, 64.0 * 768.0 * 12288.0, || w.forward(&x))?;
    let x = random(&[1, 16, 16, 768])?;
    sum += least("unfold", 12, 0.0, || unfold(&x, Window { size: 3, stride: 2, pad: 1 }))?;
    let x = random(&[1, 8, 8, 12288])?;
    sum += least("fold", 12, 0.0, || fold(&x, Window { size: 4, stride: 2, pad: 1 }, 16, 16))?;
    let (qkv, bias) = (random(&[1, 256, 2304])?, random(&[2304])?);
    for (name, window, times) in [("window attention", 14, 8), ("global attention", 16, 4)] {
        let tables = random(&[2, 2 * window - 1, 64])?;
        let n = 12.0 * 256.0 * (window * window) as f64 * 128.0;
        sum +=
            least(name, times, n, || relative_attention(&qkv, &tables, &bias, Grid { side: 16, window, heads: 12 }))?;
    }
    let x = random(&[1, 256, 3072])?;
    sum += least("gelu", 12, 0.0, || gelu(&x))?;
    let (x, s) = (random(&[1, 256, 768])?, Tensor::ones(768, DType::F32, &Device::Cpu)?);
    sum += least("layer norm", 36, 0.0, || layer_norm(&x, &s, &s, 1e-6))?;
    sum += least("add", 36, 0.0, || &x + &x)?;
    sum += least("relu", 24, 0.0, || x.relu())?;
    println!("sum {sum:.0} ms");
    Ok(())
}
