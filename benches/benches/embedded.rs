//! The embedded model: encoder, encoder with 15 organs, and a whole CT of 512 x 512 x 150.
//!
//! `cargo bench -p volseg-benches --bench embedded`
#![allow(missing_docs, clippy::expect_used)]

use candle_core::{Device, Tensor};
use divan::Bencher;
use volseg_engine::{Model, Observer, Request, Stage, segment};
use volseg_geometry::Modality;
use volseg_io::Image;
use volseg_model::Params;
use volseg_model::embedded::{Network, PromptRow, SHIPPED, Weights};
use volseg_phantom::{CtOptions, Size, ct_abdomen};

fn main() {
    divan::main();
}

fn network() -> Network {
    let weights = Weights::from_bytes(SHIPPED).expect("the shipped weights");
    Network::new(&weights.config, &Params::given(weights.tensors)).expect("the shipped weights")
}

/// Runs `work` for four slices on `threads` workers of one thread each.
fn on_workers(threads: usize, work: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for t in 0..threads {
            let work = &work;
            scope.spawn(move || {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
                pool.install(|| (0..4 / threads + usize::from(t < 4 % threads)).for_each(|_| work()));
            });
        }
    });
}

/// Four slices through the encoder.
#[divan::bench(args = [1, 2], sample_count = 10)]
fn encoder_4_slices(bencher: Bencher, threads: usize) {
    let net = network();
    let s = net.config.side;
    let x = Tensor::zeros((1, s, s, 3), candle_core::DType::F32, &Device::Cpu).expect("input");
    bencher.bench(|| on_workers(threads, || drop(net.encoder.forward(&x))));
}

/// Four slices through the encoder, 15 organs each through the decoder.
#[divan::bench(args = [1, 2], sample_count = 10)]
fn encoder_and_15_organs_4_slices(bencher: Bencher, threads: usize) {
    let net = network();
    let s = net.config.side;
    let x = Tensor::zeros((1, s, s, 3), candle_core::DType::F32, &Device::Cpu).expect("input");
    let rows: Vec<PromptRow> = (0..15)
        .map(|o| PromptRow { organ: Some(o), bounds: Some([20.0, 20.0, 80.0, 90.0]), ..PromptRow::default() })
        .collect();
    bencher.bench(|| {
        on_workers(threads, || {
            let features = net.encoder.forward(&x).expect("features");
            drop(net.decoder.forward(&features, &rows));
        });
    });
}

struct Silent;
impl Observer for Silent {
    fn progress(&self, _: Stage, _: usize, _: usize) {}
}

/// A whole CT, labels in memory to labels in memory.
#[divan::bench(args = [1, 2], sample_count = 1)]
fn ct_512_512_150_all_organs(bencher: Bencher, threads: usize) {
    let options = CtOptions { size: Size::Full, dim: Some([512, 512, 150]), ..CtOptions::default() };
    let phantom = ct_abdomen(900_001, &options).expect("a phantom");
    let image = Image::from_volume(phantom.image.into());
    let model = Model::shipped(&candle_core::Device::Cpu).expect("the shipped weights");
    let request = Request { modality: Some(Modality::Ct), ..Request::default() };
    bencher.bench_local(|| segment(&image, &model, &request, threads, &Silent).expect("labels"));
}
