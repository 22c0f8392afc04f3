//! What is said of weights: those inside, those in the folder, those that a training wrote, and broken ones.
use crate::volseg;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/volseg-model/weights/embedded.safetensors")
}

fn json(folder: &Path, args: &[&str]) -> Value {
    let assert = volseg().env("VOLSEG_WEIGHTS", folder).arg("weights").args(args).arg("--json").assert().success();
    serde_json::from_slice(&assert.get_output().stdout).unwrap()
}

#[test]
fn the_model_inside_is_listed_and_looked_into() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(shipped(), folder.path().join("mine.safetensors")).unwrap();
    let list = json(folder.path(), &["list"]);
    let says = |n: usize, key: &str| list["models"][n][key].as_str().unwrap_or("-").to_owned();
    let row = |n| ["name", "option", "arch", "licence"].map(|k| says(n, k));
    assert_eq!(row(0), ["embedded", "--model", "volseg-embedded", "WEIGHTS-LICENSE.md"]);
    assert_eq!(row(1), ["embedded", "--source", "biomedclip", "WEIGHTS-LICENSE.md"]);
    assert_eq!(row(2), ["embedded-ct", "--model", "volseg-embedded", "WEIGHTS-LICENSE.md"]);
    assert_eq!(row(3), ["mine", "--model", "volseg-embedded", "-"]);
    let bytes = std::fs::metadata(shipped()).unwrap().len();
    assert!(list["models"][0]["bytes"] == bytes && list["models"][3]["bytes"] == bytes);

    let inside = json(folder.path(), &["inspect", "embedded"]);
    let named = json(folder.path(), &["inspect", "mine"]);
    assert_eq!(inside["licence"], "WEIGHTS-LICENSE.md");
    assert!(inside["missing"].as_array().unwrap().is_empty() && inside["config"]["side"] == 128);
    for key in ["arch", "sha256", "tensors", "bytes", "missing", "steps"] {
        assert_eq!(inside[key], named[key], "{key}");
    }
    assert_eq!(inside["sha256"], list["models"][0]["sha256"]);
    let unknown = volseg().env("VOLSEG_WEIGHTS", folder.path()).args(["weights", "inspect", "other"]).assert().code(2);
    let said = String::from_utf8_lossy(&unknown.get_output().stderr).into_owned();
    assert!(said.contains("embedded, embedded-ct, mine"), "{said}");
}

/// CTs have weights of their own, and a report names the file that answered.
#[test]
fn a_report_names_the_weights_that_were_used() {
    let folder = tempfile::tempdir().unwrap();
    let list = json(folder.path(), &["list"]);
    let volumes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../volumes");
    for (name, organ, output, n) in
        [("xray-phantom.png", "lungs", "o.png", 0), ("ct-phantom.nii.gz", "liver", "o.nii", 2)]
    {
        let report = folder.path().join("r.json");
        let mut segment = volseg();
        segment.arg("segment").arg(volumes.join(name)).args(["--organs", organ, "-q", "-o"]);
        segment.arg(folder.path().join(output)).arg("--report").arg(&report).assert().success();
        let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
        assert_eq!(report["weights_sha256"], list["models"][n]["sha256"], "{name}");
    }
}

/// A training states what it knows; a changed tensor no longer has the digest that is stated.
#[test]
fn a_trained_model_states_its_digest() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let config = "steps = 1\n[model]\nside = 32\nstages = [8,8,8,8,8,8]\nblocks = [0,0,0,0,0,0]\ndense = [8,8,8]\nwidth = 16\n\
                  heads = 2\ncross_width = 8\nmlp = 16\n[phantoms]\nvolumes = 1\nfirst_seed = 200\nbatch = 1\n";
    std::fs::write(folder.path().join("c.toml"), config).unwrap();
    let mut train = volseg();
    train.args(["train", "prompt", "--config"]).arg(folder.path().join("c.toml")).arg("--out").arg(&out);
    train.assert().success();
    let model = out.join("model.safetensors");
    let found = json(folder.path(), &["inspect", model.to_str().unwrap()]);
    assert!(found["licence"].as_str().unwrap().contains("depends on the data"), "{found}");
    assert!(found["tensors_sha256_matches"] == true && found["steps"] == "1", "{found}");
    let whole = std::fs::read(&model).unwrap();
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 1;
    for bytes in [&changed[..], &whole[..whole.len() / 2], b"short"] {
        std::fs::write(&model, bytes).unwrap();
        volseg().args(["weights", "inspect"]).arg(&model).assert().code(4);
    }
}

#[test]
fn sizes_that_cannot_be_read_are_code_4() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("x.safetensors");
    for config in ["no-such-file.json", "broken.json"] {
        std::fs::write(folder.path().join("broken.json"), b"{").unwrap();
        let mut import = volseg();
        import.args(["weights", "import", "--arch", "sam"]).arg(shipped()).arg("-o").arg(&target);
        let assert = import.arg("--config").arg(folder.path().join(config)).assert().code(4);
        assert!(String::from_utf8_lossy(&assert.get_output().stderr).contains(config) && !target.exists());
    }
}
