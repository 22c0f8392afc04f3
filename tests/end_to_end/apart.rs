//! Nothing that is read is written over, and no output over another.

use crate::volseg;
use std::path::Path;

#[test]
fn an_input_stays_what_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let volumes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../volumes");
    for (from, to) in [("ct-phantom.nii.gz", "ct.nii.gz"), ("ct-phantom-labels.nii.gz", "labels.nii.gz")] {
        std::fs::copy(volumes.join(from), at(to)).unwrap();
    }
    #[cfg(unix)]
    std::os::unix::fs::symlink(at("ct.nii.gz"), at("link.nii.gz")).unwrap();
    let (ct, labels) = (at("ct.nii.gz"), at("labels.nii.gz"));
    let around = format!("{}/./ct.nii.gz", folder.path().display());
    let oracle = format!("boxes-from:{labels},map=6:liver");
    let before: Vec<Vec<u8>> = [&ct, &labels].map(|f| std::fs::read(f).unwrap()).into();
    let (out, json) = (at("out.nii.gz"), at("out.json"));
    let runs: &[&[&str]] = &[
        &["segment", &ct, "-o", &ct],
        &["segment", &ct, "-o", &around],
        #[cfg(unix)]
        &["segment", &ct, "-o", &at("link.nii.gz")],
        &["segment", &ct, "-o", &out, "--save-probabilities", &ct],
        &["segment", &ct, "-o", &labels, "--prompts", &oracle],
        &["segment", &ct, "-o", &out, "--save-probabilities", &out],
        &["segment", &ct, "-o", &out, "--stats", &json, "--report", &json],
        &["eval", "--gt", &labels, "--pred", &labels, "--json", &labels],
        &["eval", "--gt", &labels, "--pred", &labels, "--json", &json, "--csv", &json],
        &["prompt", &ct, "-o", &ct],
        &["convert", &ct, "-o", &ct],
    ];
    for run in runs {
        let assert = volseg().args(*run).assert().code(2);
        let said = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
        assert!(said.contains("give it another name"), "{run:?}: {said}");
        assert!(!Path::new(&out).exists() && !Path::new(&json).exists(), "{run:?}");
    }
    assert!(before == [&ct, &labels].map(|f| std::fs::read(f).unwrap()));
}

/// `weights list` shows names: `--model` takes them.
#[test]
fn a_model_is_found_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/volseg-model/weights/embedded.safetensors");
    std::fs::copy(shipped, folder.path().join("mine.safetensors")).unwrap();
    let picture = folder.path().join("picture.png");
    image::GrayImage::from_fn(64, 64, |x, y| image::Luma([(x * y % 251) as u8])).save(&picture).unwrap();
    let run = |model: &str| {
        let mut command = volseg();
        command
            .env("VOLSEG_WEIGHTS", folder.path())
            .arg("segment")
            .arg(&picture)
            .arg("-o")
            .arg(folder.path().join("m.png"));
        command.args(["--modality", "xray", "--model", model]).assert()
    };
    run("mine").success();
    let assert = run("other").code(2);
    let said = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    assert!(said.contains("--model") && said.contains("embedded, mine"), "{said}");
}
