//! Stage 2 with a tiny network on drawn ellipses: what it promises whatever the data.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Lines, tiny, ultrasounds};
use image::{GrayImage, Luma};
use std::path::{Path, PathBuf};
use volseg_engine::{Judgement, ShownMask};
use volseg_geometry::encode_run_length;
use volseg_io::sha256_file;
use volseg_model::embedded::Weights;
use volseg_train::{
    AlignConfig, Alignment, CandidateSource, Objective, PictureSet, SplitRule, TrainConfig, Trained, train_align,
    train_prompt,
};

const SIZE: [u32; 2] = [40, 48];

fn inside(n: u32, x: u32, y: u32, scale: f32) -> bool {
    let (cx, cy) = (14.0 + (n * 5 % 12) as f32, 16.0 + (n * 7 % 16) as f32);
    let (rx, ry) = (scale * (6.0 + (n % 4) as f32), scale * (7.0 + (n % 3) as f32));
    ((x as f32 - cx) / rx).powi(2) + ((y as f32 - cy) / ry).powi(2) < 1.0
}

/// Twenty-four pictures of a bright ellipse in noise.
fn pictures(folder: &Path) {
    for part in ["images", "masks"] {
        std::fs::create_dir_all(folder.join(part)).unwrap();
    }
    for n in 0..24u32 {
        let name = format!("p{n:02}.png");
        let noise = |x: u32, y: u32| (x * 37 + y * 101 + n * 13) % 60;
        let grey = |x, y| Luma([(60 + noise(x, y) + if inside(n, x, y, 1.0) { 70 } else { 0 }) as u8]);
        GrayImage::from_fn(SIZE[0], SIZE[1], grey).save(folder.join("images").join(&name)).unwrap();
        let mask = |x, y| Luma([if inside(n, x, y, 1.0) { 255 } else { 0 }]);
        GrayImage::from_fn(SIZE[0], SIZE[1], mask).save(folder.join("masks").join(&name)).unwrap();
    }
}

fn set(folder: &Path) -> PictureSet {
    PictureSet {
        split: Some(SplitRule { seed: 3, validation: 0.2, ..SplitRule::default() }),
        labelled: 0.4,
        unannotated: 0.6,
        ..ultrasounds(folder)
    }
}

fn stage1(folder: &Path) -> PathBuf {
    let config = TrainConfig {
        steps: 30,
        warmup: 5,
        save_every: 30,
        validate_every: 30,
        model: tiny(),
        pictures: vec![set(folder)],
        ..TrainConfig::default()
    };
    train_prompt(&config, &folder.join("stage1"), false, &candle_core::Device::Cpu, &mut Lines::default()).unwrap();
    folder.join("stage1/model.safetensors")
}

fn config(folder: &Path, model: PathBuf) -> AlignConfig {
    AlignConfig {
        model: Some(model),
        epochs: 3,
        batch: 4,
        learning_rate: Some(1e-3),
        patience: 0,
        pictures: vec![set(folder)],
        ..AlignConfig::default()
    }
}

fn run(config: &AlignConfig, out: &Path, resume: bool) -> Alignment {
    train_align(config, out, resume, &mut Lines::default()).unwrap()
}

fn records(out: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[test]
fn a_run_that_was_cut_off_ends_with_the_same_weights() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path());
    let whole = AlignConfig { noise: 0.5, tiles: 2, ..config(folder.path(), stage1(folder.path())) };
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let straight = run(&whole, &a, false);
    run(&AlignConfig { epochs: 1, ..whole.clone() }, &b, false);
    // A line of an epoch that the checkpoint does not know, as a stop between the two leaves it.
    let log = std::fs::read_to_string(b.join("metrics.jsonl")).unwrap();
    std::fs::write(b.join("metrics.jsonl"), format!("{log}{{\"epoch\":2,\"loss\":9.0}}\n{{\"epoch\"")).unwrap();
    let resumed = run(&whole, &b, true);
    assert_eq!((straight.after, straight.best_epoch), (resumed.after, resumed.best_epoch));
    for file in ["model.safetensors", "checkpoint.safetensors", "metrics.jsonl", "curves.png"] {
        assert!(std::fs::read(a.join(file)).unwrap() == std::fs::read(b.join(file)).unwrap(), "{file} differs");
    }
    assert!(straight.after >= straight.before);
    assert_eq!(records(&a).len(), 4);
    let facts = straight.candidates.unwrap();
    assert!(facts.best_of_four >= facts.dice.iter().copied().fold(0.0, f64::max) && facts.band > 0.0);
}

#[test]
fn every_objective_teaches_the_decoder_and_leaves_the_encoder() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path());
    let model = stage1(folder.path());
    let before = Weights::read(&model).unwrap();
    let base = AlignConfig { epochs: 1, ..config(folder.path(), model) };
    let numbers = |w: &Weights, name: &str| w.tensors[name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for (n, changed) in [
        AlignConfig { objective: Objective::Preference, replay: 0.0, ..base.clone() },
        AlignConfig { objective: Objective::BestPseudo, ..base.clone() },
        AlignConfig { objective: Objective::Pseudo, ..base.clone() },
        AlignConfig { objective: Objective::Masks, ..base.clone() },
        AlignConfig { objective: Objective::Replay, ..base.clone() },
        AlignConfig { candidates: Some(CandidateSource::Frozen), kl_weight: 10.0, replay: 0.0, ..base.clone() },
        AlignConfig { train: Trained::All, ..base.clone() },
    ]
    .into_iter()
    .enumerate()
    {
        let out = folder.path().join(format!("o{n}"));
        let r = run(&changed, &out, false);
        let state =
            candle_core::safetensors::load(out.join("checkpoint.safetensors"), &candle_core::Device::Cpu).unwrap();
        let moved = |name: &str| {
            let now = state.get(&format!("weight/{name}")).map(|t| t.flatten_all().unwrap().to_vec1::<f32>().unwrap());
            now.is_some_and(|now| now != numbers(&before, name))
        };
        assert!(moved("decoder.mix.weight") && moved("decoder.layers.0.mlp.lin1.weight"), "{n}");
        assert_eq!(moved("encoder.stages.0.down.weight"), changed.train == Trained::All, "{n}");
        assert_eq!(r.epochs, 1);
        // What comes out is a whole weights file.
        assert_eq!(Weights::read(&out.join("model.safetensors")).unwrap().tensors.len(), before.tensors.len());
    }
}

#[test]
fn a_retraining_teaches_the_whole_network_from_ranks() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path());
    let model = stage1(folder.path());
    let before = Weights::read(&model).unwrap();
    let config = AlignConfig {
        retrain: 6,
        tiles: 2,
        objective: Objective::BestPseudo,
        candidates: Some(CandidateSource::Places),
        ..config(folder.path(), model)
    };
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let first = run(&config, &a, false);
    let second = run(&config, &b, false);
    assert_eq!((first.epochs, first.before, first.after), (1, second.before, second.after));
    let weights = |out: &Path| std::fs::read(out.join("model.safetensors")).unwrap();
    assert!(weights(&a) == weights(&b));
    // Going on after the end changes nothing.
    run(&config, &b, true);
    assert!(weights(&a) == weights(&b));
    let after = Weights::read(&a.join("model.safetensors")).unwrap();
    let numbers = |w: &Weights, name: &str| w.tensors[name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for name in ["encoder.stages.0.down.weight", "encoder.organ_tokens", "decoder.mix.weight"] {
        assert_ne!(numbers(&before, name), numbers(&after, name), "{name}");
    }
    for file in ["config.toml", "split.json", "metrics.jsonl", "summary.json"] {
        assert!(a.join(file).exists(), "{file}");
    }
    let said = AlignConfig::parse(&std::fs::read_to_string(a.join("config.toml")).unwrap(), &[]).unwrap();
    assert_eq!((said.retrain, said.candidates), (6, Some(CandidateSource::Places)));
}

#[test]
fn people_s_rankings_pull_the_masks_their_way() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path());
    let model = stage1(folder.path());
    let mut lines = String::new();
    for n in 0..24u32 {
        let image = folder.path().join(format!("images/p{n:02}.png"));
        // The third mask is the true one; the others are too large or too small.
        let candidates = [1.6, 1.3, 1.0, 0.6].map(|scale| {
            let pixels = (0..SIZE[0] * SIZE[1]).map(|i| u8::from(inside(n, i % SIZE[0], i / SIZE[0], scale)));
            let mask: Vec<u8> = pixels.collect();
            ShownMask { threshold: 0.5, rle: encode_run_length(&mask, SIZE[0] as usize) }
        });
        let judgement = Judgement {
            version: 1,
            case: format!("c{n}"),
            image_sha256: sha256_file(&image).unwrap(),
            weights_sha256: String::new(),
            plane: None,
            slice: None,
            organ: "breast_tumor".into(),
            prompt: None,
            tile: (n % 2 == 1).then_some([0.0, 0.0, 40.0, 30.0]),
            candidates: candidates.to_vec(),
            ranks: if n == 0 { Vec::new() } else { vec![4, 2, 1, 3] },
            skipped: n == 0,
            rater: "r1".into(),
            time: "2026-01-01T00:00:00Z".into(),
        };
        if n == 1 {
            // An earlier opinion of the same rater, which the line after it replaces.
            let earlier = Judgement { ranks: vec![1, 3, 4, 2], ..judgement.clone() };
            lines += &(earlier.to_line().unwrap() + "\n");
        }
        if n == 2 {
            // A line that was spoilt costs its own answer, no more.
            let mut spoilt = Judgement { slice: Some(0), ..judgement.clone() };
            spoilt.candidates[3].rle = "1".into();
            lines += &(spoilt.to_line().unwrap() + "\n");
        }
        lines += &judgement.to_line().unwrap();
        lines.push('\n');
    }
    let file = folder.path().join("judgements.jsonl");
    std::fs::write(&file, &lines).unwrap();
    let base = config(folder.path(), model);
    let people = AlignConfig { preferences: Some(file), images: vec![folder.path().join("images")], ..base };
    let out = folder.path().join("people");
    let mut said = Lines::default();
    train_align(&people, &out, false, &mut said).unwrap();
    assert!(said.0.iter().any(|l| l.contains("24 judgements of 24 answers (1 skipped")), "{:?}", said.0);
    let left: Vec<&String> = said.0.iter().filter(|l| l.starts_with("an answer is left out")).collect();
    assert!(left.len() == 1 && left[0].contains("run-length"), "{:?}", said.0);
    let all = records(&out);
    let loss = |n: usize| all[n]["loss"].as_f64().unwrap();
    assert!(loss(1) < std::f64::consts::LN_2 && loss(3) < loss(1), "{all:?}");
    assert!(all[3]["margin"].as_f64().unwrap() > 0.0);
    // The whole network learns from what they like best.
    let retrain = AlignConfig { retrain: 4, objective: Objective::BestPseudo, ..people.clone() };
    let out = folder.path().join("retrain");
    train_align(&retrain, &out, false, &mut said).unwrap();
    assert!(out.join("model.safetensors").exists() && out.join("summary.json").exists());
    let few = AlignConfig { objective: Objective::Masks, ..retrain };
    assert!(few.check().is_err());
    // Images that are nowhere to be found are an error, not an empty training.
    let lost = AlignConfig { images: vec![folder.path().join("stage1")], ..people };
    let error = train_align(&lost, &folder.path().join("lost"), false, &mut said).unwrap_err().to_string();
    assert!(error.contains("images"), "{error}");
}
