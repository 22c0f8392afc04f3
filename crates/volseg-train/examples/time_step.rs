//! CPU seconds of a training step of an image encoder, for `scripts/peers/torch_step.py`: `time_step small|vit-b all|frozen|recompute [STEPS]`.
//! One thread; forward, backward and AdamW; `frozen` keeps the weights of the blocks' linear maps, `recompute` trains all and keeps only the
//! blocks' inputs. One JSON line.
#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use std::collections::BTreeMap;
use std::time::Instant;
use volseg_model::config::SamConfig;
use volseg_model::vit::ImageEncoder;
use volseg_model::weights::Weights;
use volseg_model::{Error, Init, Params};
use volseg_train::AdamW;

/// Variables, except the matrices of the blocks if these are frozen.
struct Source<'a> {
    params: &'a Params,
    frozen: bool,
}

impl Weights for Source<'_> {
    fn tensor(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor, Error> {
        let linear = ["qkv.weight", "attn.proj.weight", "lin1.weight", "lin2.weight"].iter().any(|e| name.ends_with(e));
        if self.frozen && linear { self.params.constant(name, shape, init) } else { self.params.get(name, shape, init) }
    }
}

/// Seconds of work of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11..13].iter().map(|t| t.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let steps: usize = args.get(3).map_or(5, |n| n.parse().unwrap());
    let (config, batch) = match args[1].as_str() {
        "small" => (
            SamConfig {
                encoder_embed_dim: 192,
                encoder_depth: 6,
                encoder_num_heads: 3,
                global_attn_indexes: vec![2, 5],
                encoder_adapter: false,
                ..SamConfig::sam_med2d()
            },
            4,
        ),
        _ => (SamConfig { encoder_adapter: false, ..SamConfig::sam_med2d() }, 1),
    };
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().unwrap();
    let params = Params::trainable(1, Default::default());
    let encoder = ImageEncoder::new(&config, &Source { params: &params, frozen: args[2] == "frozen" }).unwrap();
    let variables = params.variables();
    let mut adam = AdamW::new(&variables).unwrap();
    let side = config.image_size;
    let x = Tensor::randn(0f32, 1.0, (batch, 3, side, side), &Device::Cpu).unwrap();
    let mut step = || {
        let mut found: BTreeMap<&str, Vec<f32>> = BTreeMap::new();
        let mut take = |store: &GradStore| {
            for (name, g) in variables.iter().filter_map(|(name, v)| Some((name.as_str(), store.get(v)?))) {
                found.insert(name, g.flatten_all().unwrap().to_vec1().unwrap());
            }
        };
        let loss = |embedding: &Tensor| embedding.sqr().unwrap().mean_all().unwrap();
        if args[2] == "recompute" {
            let (embedding, kept) = encoder.forward_keeping(&x).unwrap();
            let leaf = Var::from_tensor(&embedding).unwrap();
            let gradient = loss(&leaf).backward().unwrap().get(&leaf).unwrap().detach();
            let mut each = |store: &GradStore| -> Result<(), Error> {
                take(store);
                Ok(())
            };
            encoder.backward(&kept, &gradient, &mut each).unwrap();
        } else {
            take(&loss(&encoder.forward(&x).unwrap()).backward().unwrap());
        }
        let gradients: Vec<Vec<f32>> = variables.keys().map(|name| found[name.as_str()].clone()).collect();
        adam.update(&variables, &gradients, 1e-4, 0.05, 0.999).unwrap();
    };
    step();
    let (began, before) = (Instant::now(), cpu_seconds());
    (0..steps).for_each(|_| step());
    let (wall, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - before);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak: u64 =
        status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok()).unwrap();
    let numbers: usize = variables.values().map(|v| v.elem_count()).sum();
    println!(
        "{{\"tool\": \"volseg\", \"cpu_s\": {:.3}, \"wall_s\": {:.3}, \"peak_mib\": {}, \"trained\": {numbers}}}",
        cpu / steps as f64,
        wall / steps as f64,
        peak >> 10
    );
}
