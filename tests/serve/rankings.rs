//! Rankings: candidates, saved judgements, what comes next.
use crate::client::{Server, volume};
use base64::Engine;
use serde_json::{Value, json};
use std::{fs, process::Command};

#[test]
fn a_judgement_is_saved_and_its_slice_is_not_asked_again() {
    let server = Server::start(&["--keep-judged"]);
    let phantom = server.path("phantom");
    let made = Command::new(env!("CARGO_BIN_EXE_volseg-tested"))
        .args(["phantom", "--modality", "ct", "--size", "small", "--seed", "5", "--quiet", "-o"])
        .arg(&phantom)
        .status()
        .unwrap();
    assert!(made.success());
    let image = fs::read(phantom.join("image.nii.gz")).unwrap();
    assert_eq!(server.send("PUT", "/volseg/images?image=Doe", &[("file", Some("Doe.nii.gz"), &image)]).status, 200);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let spot = server.get("/volseg/next?by=uncertainty&image=Doe").json();
        assert!(spot["uncertainty"].as_f64().unwrap() > 0.0);
        assert!(!seen.contains(&spot), "{spot}");
        let question = json!({ "image": "Doe", "plane": spot["plane"], "slice": spot["slice"], "organ": spot["organ"], "pictures": true });
        let mut judged = server.json("POST", "/volseg/candidates", &question).json();
        let sizes: Vec<(u32, u32)> = judged["pictures"].as_array().unwrap().iter().map(size_of).collect();
        assert!(sizes.len() == 4 && sizes.iter().all(|s| *s == sizes[0] && s.0 >= 48), "{sizes:?}");
        let thresholds: Vec<f64> =
            judged["candidates"].as_array().unwrap().iter().map(|c| c["threshold"].as_f64().unwrap()).collect();
        assert_eq!(thresholds, [0.3, 0.4, 0.5, 0.6]);
        judged["ranks"] = json!([2, 1, 3, 4]);
        for (key, odd) in [("slice", json!(100_000)), ("size", json!([1, 1]))] {
            let mut wrong = judged.clone();
            wrong[key] = odd;
            assert_eq!(server.json("POST", "/volseg/preferences", &wrong).status, 422, "{key}");
        }
        judged["rater"] = json!("r1");
        assert_eq!(server.json("POST", "/volseg/preferences", &judged).json(), json!({ "saved": 1 }));
        seen.push(spot);
    }
    let file = server.path("data/preferences.jsonl");
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert!(!text.contains("Doe") && !text.contains("png"));
    assert!(lines.iter().all(|l| l["ranks"] == json!([2, 1, 3, 4]) && l["time"].as_str().unwrap().ends_with('Z')));
    assert_eq!(lines[0]["case"].as_str().unwrap().len(), 64);
    assert_eq!(lines[0]["image_sha256"], lines[1]["image_sha256"]);
    let kept = server.path(&format!("data/judged/{}.nii.gz", lines[0]["image_sha256"].as_str().unwrap()));
    assert_eq!(fs::read(kept).unwrap(), image, "the judged image is there for a training");
    assert_eq!(server.get("/volseg/next?by=size").status, 422);
    assert_eq!(server.json("POST", "/volseg/preferences", &json!({ "version": 1 })).status, 422);
    assert_eq!(server.json("POST", "/volseg/preferences", &json!([])).status, 422);
    assert_eq!(fs::read_to_string(&file).unwrap(), text, "a refused judgement leaves nothing");
}

/// Width and height of a picture in its PNG header.
fn size_of(picture: &Value) -> (u32, u32) {
    let png = base64::prelude::BASE64_STANDARD.decode(picture["png"].as_str().unwrap()).unwrap();
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

#[test]
fn a_changed_model_file_is_served_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.safetensors");
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/volseg-model/weights/embedded.safetensors");
    fs::copy(shipped, &model).unwrap();
    let server = Server::start_in(folder, &["--model", model.to_str().unwrap()], None);
    assert_eq!(server.send("PUT", "/volseg/images?image=a", &[("file", Some("a.nrrd"), &volume())]).status, 200);
    let question = json!({ "image": "a", "slice": 3, "organ": "liver", "points": [[30, 18, 1]] });
    let ask =
        || server.json("POST", "/volseg/candidates", &question).json()["weights_sha256"].as_str().unwrap().to_owned();
    let first = ask();
    // Half a file: the old model stays.
    let mut bytes = fs::read(shipped).unwrap();
    fs::write(&model, &bytes[..bytes.len() / 2]).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert_eq!(ask(), first);
    // Other weights of the same kind.
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&model, &bytes).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert_ne!(ask(), first);
}
