//! `volseg experiment` on CTs in AMOS22's layout: parts, 3D scores, tables.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Lines, tiny};
use serde_json::{Value, json};
use std::path::Path;
use volseg_engine::{Model, Observer, Request, Stage, segment};
use volseg_geometry::{Modality, OrganId};
use volseg_io::{Image, ReadOptions};
use volseg_model::embedded::Config;
use volseg_phantom::{Coverage, CtOptions, ct_abdomen};
use volseg_train::{CtSet, Experiment, ExperimentConfig, ExperimentData, SplitRule, plan, run_experiment};

struct Quiet;

impl Observer for Quiet {
    fn progress(&self, _: Stage, _: usize, _: usize) {}
}

const TEST: [u32; 2] = [11, 12];

/// Ten coarse abdomens, the last two to test with, and the names of two MR cases without files.
fn data(folder: &Path) {
    for sub in ["imagesTr", "labelsTr", "imagesVa", "labelsVa"] {
        std::fs::create_dir_all(folder.join(sub)).unwrap();
    }
    let entry = |n: u32, part: &str| json!({"image": format!("./images{part}/amos_{n:04}.nii.gz"), "label": format!("./labels{part}/amos_{n:04}.nii.gz")});
    let options = CtOptions {
        spacing_mm: Some([8.0, 8.0, 10.0]),
        coverage: Some(Coverage::UpperAbdomen),
        oversample: Some(1),
        ..CtOptions::default()
    };
    let organs: Vec<OrganId> = (1..16).filter_map(OrganId::new).collect();
    for n in (1..9).chain(TEST) {
        let part = if TEST.contains(&n) { "Va" } else { "Tr" };
        let phantom = ct_abdomen(u64::from(n), &options).unwrap();
        let image = Image::new(phantom.image.into());
        let name = format!("amos_{n:04}.nii.gz");
        volseg_io::write(&folder.join(format!("images{part}")).join(&name), &image).unwrap();
        volseg_io::write_labels(&folder.join(format!("labels{part}")).join(&name), &phantom.labels, &image, &organs)
            .unwrap();
    }
    let training: Vec<Value> = (1..9).chain([510]).map(|n| entry(n, "Tr")).collect();
    let validation: Vec<Value> = TEST.into_iter().chain([600]).map(|n| entry(n, "Va")).collect();
    let json = json!({"labels": {"0": "background", "1": "spleen", "6": "liver"}, "training": training, "validation": validation});
    std::fs::write(folder.join("dataset.json"), json.to_string()).unwrap();
}

fn config(folder: &Path) -> ExperimentConfig {
    ExperimentConfig {
        data: ExperimentData::Cts {
            cts: CtSet {
                path: folder.to_owned(),
                organs: Vec::new(),
                batch: 4,
                split: SplitRule::default(),
                labelled: 1.0,
                unannotated: 0.0,
                slices: 3,
            },
            tolerance_mm: 4.0,
        },
        seeds: vec![0],
        steps: 120,
        learning_rate: Some(0.01),
        epochs: 1,
        prompts: volseg_train::Asked::Organ,
        model: Config { stages: [8, 8, 16, 16, 16, 16], ..tiny() },
        full: false,
    }
}

/// Dice of an organ in a test case, by the program's own way from a CT to labels, counted here.
fn dice(folder: &Path, model: &Model, case: u32, organ: OrganId, organs: &[OrganId]) -> f64 {
    let read = |kind: &str| {
        volseg_io::read(&folder.join(format!("{kind}Va/amos_{case:04}.nii.gz")), &ReadOptions::default()).unwrap()
    };
    let request = Request { organs: Some(organs.to_vec()), modality: Some(Modality::Ct), ..Request::default() };
    let found = segment(&read("images"), model, &request, 1, &Quiet).unwrap().labels;
    let truth = read("labels").volume;
    let (mut both, mut sum) = (0u32, 0u32);
    for (l, f) in found.voxels().iter().enumerate() {
        let (a, b) = (*f == organ.get(), truth.value(l) == f64::from(organ.get()));
        both += u32::from(a && b);
        sum += u32::from(a) + u32::from(b);
    }
    2.0 * f64::from(both) / f64::from(sum)
}

#[test]
fn whole_cases_are_scored_and_the_tables_say_so() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    let config = config(folder.path());
    let out = folder.path().join("out");
    assert!(plan(Experiment::Table1, &config, &out).unwrap().iter().all(|p| !p.done && p.seconds > 0.0));
    let table = run_experiment(Experiment::Table1, &config, &out, &mut Lines::default()).unwrap();
    for part in
        ["2 CTs in each test part", "mDice", "surface Dice at 4 mm", "| liver |", "| spleen |", "| SAM-Med3D | not run"]
    {
        assert!(table.contains(part), "{part} is not in\n{table}");
    }
    assert!(plan(Experiment::Table1, &config, &out).unwrap().iter().all(|p| p.done));

    let run = out.join("runs/stage1-10-s0");
    let result: Value = serde_json::from_str(&std::fs::read_to_string(run.join("result.json")).unwrap()).unwrap();
    let model = Model::embedded(
        &std::fs::read(run.join("model.safetensors")).unwrap(),
        String::new(),
        &candle_core::Device::Cpu,
    );
    let (model, organs) = (model.unwrap(), [1, 6].map(|id| OrganId::new(id).unwrap()));
    let means =
        organs.map(|o| TEST.map(|case| dice(folder.path(), &model, case, o, &organs)).iter().sum::<f64>() / 2.0);
    assert!(means[1] > 0.3, "the liver was not learned: {means:?}");
    let close = |found: &Value, expected: f64| (found.as_f64().unwrap() - expected).abs() < 1e-12;
    assert!(close(&result["dice"], (means[0] + means[1]) / 2.0), "{result}, {means:?}");
    assert!(close(&result["organs"]["liver"][0], means[1]) && result["pictures"] == 2);

    let parts: Value = serde_json::from_str(&std::fs::read_to_string(run.join("split.json")).unwrap()).unwrap();
    let parts = parts["cts"].as_object().unwrap();
    let count = |part: &str| parts.values().filter(|p| *p == part).count();
    // Ten CTs and no MR; a tenth of seven training cases is one.
    assert_eq!((parts.len(), count("Test"), count("Validation"), count("Train")), (10, 2, 1, 1));
    let refused = run_experiment(Experiment::Figures, &config, &out, &mut Lines::default()).unwrap_err().to_string();
    assert!(refused.contains("pictures"), "{refused}");
}
