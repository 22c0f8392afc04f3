//! Table 1 on pictures: boxes by the saliency chain, texts in place of organ tokens.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Lines, tiny, ultrasounds};
use std::collections::BTreeMap;
use std::path::Path;
use volseg_geometry::OrganId;
use volseg_io::Image;
use volseg_model::embedded::Weights;
use volseg_phantom::breast_ultrasound;
use volseg_train::{
    Asked, Experiment, ExperimentConfig, ExperimentData, Part, PictureSet, part_of, plan, run_experiment,
};

const SIDE: usize = 64;

/// Ultrasounds with a lesion, enough for every part of the split that hangs on names.
fn pictures(folder: &Path) -> Vec<String> {
    for part in ["images", "masks"] {
        std::fs::create_dir_all(folder.join(part)).unwrap();
    }
    let tumour = OrganId::new(17).unwrap();
    let mut names = Vec::new();
    for seed in 0..80u64 {
        let name = format!("p{seed}");
        let phantom = breast_ultrasound(seed, SIDE).unwrap();
        let wanted = match part_of(&name) {
            Part::Train => 16,
            _ => 3,
        };
        let have = names.iter().filter(|n: &&String| part_of(n) == part_of(&name)).count();
        if have == wanted || !phantom.labels.voxels().contains(&17) {
            continue;
        }
        let image = Image::new(phantom.image.into());
        volseg_io::write(&folder.join("images").join(format!("{name}.png")), &image).unwrap();
        let mask = folder.join("masks").join(format!("{name}.png"));
        volseg_io::write_labels(&mask, &phantom.labels, &image, &[tumour]).unwrap();
        names.push(name);
    }
    names
}

fn settings(set: PictureSet, steps: usize) -> ExperimentConfig {
    ExperimentConfig {
        data: ExperimentData::Pictures(set),
        seeds: vec![4],
        steps,
        learning_rate: None,
        epochs: 1,
        prompts: Asked::Organ,
        model: tiny(),
        full: false,
    }
}

#[test]
fn every_kind_of_prompt_is_trained_and_tested() {
    let folder = tempfile::tempdir().unwrap();
    let names = pictures(folder.path());
    let config = settings(ultrasounds(folder.path()), 6);
    let out = folder.path().join("out");
    // A plan measures and writes nothing.
    let planned = plan(Experiment::Table1, &config, &out).unwrap();
    assert!(planned.iter().all(|p| !p.done && p.seconds > 0.0) && !out.exists());
    let table = run_experiment(Experiment::Table1, &config, &out, &mut Lines::default()).unwrap();
    for row in
        ["| full method", "| without alignment", "| without the saliency box", "| without text", "| - VQA | not run"]
    {
        assert!(table.contains(row), "{row} is not in\n{table}");
    }
    let boxes: BTreeMap<String, [f32; 4]> =
        serde_json::from_str(&std::fs::read_to_string(out.join("boxes.json")).unwrap()).unwrap();
    assert_eq!(boxes.keys().collect::<Vec<_>>(), {
        let mut sorted: Vec<&String> = names.iter().collect();
        sorted.sort();
        sorted
    });
    let side = SIDE as f32;
    assert!(boxes.values().all(|[x0, y0, x1, y1]| 0.0 <= *x0 && x0 < x1 && *x1 <= side && *y0 < *y1 && *y1 <= side));

    let reads = |run: &str| {
        let weights = Weights::read(&out.join("runs").join(run).join("model.safetensors")).unwrap();
        (weights.config.text.is_some(), weights.tensors.contains_key("decoder.text_proj.weight"))
    };
    assert_eq!((reads("full-aligned-s4"), reads("nobox-stage1-s4")), ((true, true), (true, true)));
    assert_eq!(reads("notext-aligned-s4"), (false, false));
    // A second call trains nothing and says the same.
    assert!(plan(Experiment::Table1, &config, &out).unwrap().iter().all(|p| p.done));
    let mut lines = Lines::default();
    assert_eq!(run_experiment(Experiment::Table1, &config, &out, &mut lines).unwrap(), table);
    assert!(lines.0.iter().all(|l| l.contains("test Dice")), "{:?}", lines.0);
}

/// With answers the rows without them and without the description are trained; an answer must be there for every picture.
#[test]
fn answers_give_the_rows_that_need_them() {
    let folder = tempfile::tempdir().unwrap();
    let names = pictures(folder.path());
    let answers = folder.path().join("answers.jsonl");
    let line =
        |n: &String| format!("{{\"image\":\"{n}.png\",\"organ\":\"breast tumor\",\"answer\":\"Dark, number {n}.\"}}\n");
    std::fs::write(&answers, names.iter().map(line).collect::<String>()).unwrap();
    let set = PictureSet { answers: Some(answers.clone()), ..ultrasounds(folder.path()) };
    let config = settings(set, 2);
    let out = folder.path().join("out");
    let table = run_experiment(Experiment::Table1, &config, &out, &mut Lines::default()).unwrap();
    for row in ["| - VQA | 0.", "| - GPT-4 | 0.", "| SAM-Med3D | not run"] {
        assert!(table.contains(row), "{row} is not in\n{table}");
    }
    std::fs::write(&answers, line(&names[0])).unwrap();
    let other = folder.path().join("other");
    let error = run_experiment(Experiment::Table1, &config, &other, &mut Lines::default()).unwrap_err().to_string();
    assert!(error.contains("answers say nothing about"), "{error}");
    // What cannot be used leaves no settings that stand in the way of better ones.
    assert!(!other.exists());
    let set = PictureSet { group_column: Some("nope".into()), ..ultrasounds(folder.path()) };
    assert!(plan(Experiment::Fig3, &settings(set.clone(), 2), &other).is_err());
    assert!(run_experiment(Experiment::Fig3, &settings(set, 2), &other, &mut Lines::default()).is_err());
    assert!(!other.exists());
}
