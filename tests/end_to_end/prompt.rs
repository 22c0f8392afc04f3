//! Prompts without an expert, from outside: maps of a model that another program made, words, and the chain in `segment`.
use super::volseg;
use serde_json::Value;
use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

fn crates(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates").join(path)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A tensor of a safetensors file: its shape and bytes.
fn tensor(file: &[u8], name: &str) -> (Vec<usize>, Vec<u8>) {
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&file[8..8 + length]).unwrap();
    let number = |v: &Value| v.as_u64().unwrap() as usize;
    let at = header[name]["data_offsets"].as_array().unwrap();
    let shape = header[name]["shape"].as_array().unwrap().iter().map(number).collect();
    (shape, file[8 + length..][number(&at[0])..number(&at[1])].to_vec())
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// An X-ray phantom in `folder`.
fn xray(folder: &Path) -> PathBuf {
    volseg().args(["phantom", "--modality", "xray", "--seed", "5", "-o"]).arg(folder.join("x")).assert().success();
    folder.join("x/image.png")
}

#[test]
fn an_imported_model_gives_the_maps_of_the_reference_through_files() {
    let fixture = crates("volseg-prompt/tests/fixtures/clip_tiny");
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    volseg()
        .args(["weights", "import", "--arch", "biomedclip"])
        .arg(fixture.join("model.bin"))
        .arg("-o")
        .arg(at("clip.safetensors"))
        .arg("--config")
        .arg(fixture.join("config.json"))
        .arg("--vocab")
        .arg(fixture.join("vocab.txt"))
        .assert()
        .success();
    let expected = fs::read(fixture.join("expected.safetensors")).unwrap();
    let (shape, bytes) = tensor(&expected, "resized_crop_u8");
    let picture = image::RgbImage::from_raw(shape[1] as u32, shape[0] as u32, bytes).unwrap();
    picture.save(at("crop.png")).unwrap();
    for cam in json(&fixture.join("config.json"))["cams"].as_array().unwrap() {
        let layer = match cam["layer"].as_str().unwrap() {
            "last_norm1" => "norm1_patch",
            "last_norm2" => "norm2_cls",
            _ => "block_patch",
        };
        volseg()
            .args(["prompt", "--no-cache", "--modality", "xray", "--layer", layer, "--top-k"])
            .arg(cam["k"].to_string())
            .arg("--text")
            .arg(cam["prompt"].as_str().unwrap())
            .arg(at("crop.png"))
            .arg("--source")
            .arg(at("clip.safetensors"))
            .arg("--save-saliency")
            .arg(at("map.nii"))
            .arg("-o")
            .arg(at("prompts.json"))
            .assert()
            .success();
        let map = fs::read(at("map.nii")).unwrap();
        let key = cam["key"].as_str().unwrap();
        let theirs = floats(&tensor(&expected, &format!("{key}.cam")).1);
        let ours = floats(&map[map.len() - 4 * theirs.len()..]);
        let off = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off < 5e-3, "{key}: {off}");
        let score = floats(&tensor(&expected, &format!("{key}.score")).1)[0];
        let found = json(&at("prompts.json"))["prompts"][0]["trace"]["similarity"].as_f64().unwrap() as f32;
        assert!((found - score).abs() < 1e-2, "{key}: {found} {score}");
    }
}

#[test]
fn answers_come_first_and_a_dead_service_costs_only_them() {
    let dir = TempDir::new().unwrap();
    let image = xray(dir.path());
    let out = dir.path().join("p.json");
    let answers = dir.path().join("a.jsonl");
    fs::write(&answers, r#"{"image": "image.png", "organ": "lungs", "answer": "Clear on both sides."}"#).unwrap();
    let run = || {
        let mut command = volseg();
        command.args(["prompt", "--method", "gradcam", "--no-cache"]).arg(&image).arg("-o").arg(&out);
        command
    };
    let text = |file: &Path| json(file)["prompts"][0]["text"].as_str().unwrap().to_owned();
    run().assert().success();
    assert!(text(&out).starts_with("The lungs are"));
    run().arg("--answers").arg(&answers).assert().success();
    assert!(text(&out).starts_with("Clear on both sides. The lungs are"));
    assert_eq!(json(&out)["prompts"][0]["trace"]["answer"], "Clear on both sides.");
    // A port on which nobody listens.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    run().args(["--vqa", "http", "--vqa-url"]).arg(format!("http://127.0.0.1:{port}")).assert().success();
    let file = json(&out);
    assert!(text(&out).starts_with("The lungs are"));
    assert!(file["warnings"].to_string().contains("connection to the service failed"), "{}", file["warnings"]);
    for (wrong, code) in [
        (vec!["--vqa", "http"], 2),
        (vec!["--vqa", "http", "--vqa-url", "http://10.1.2.3"], 2),
        (vec!["--vqa", "medvint:nowhere.safetensors"], 2),
        (vec!["--vqa", "oracle"], 2),
    ] {
        run().args(&wrong).assert().code(code);
    }
}

#[test]
fn medvint_answers_in_this_process() {
    let fixture = crates("volseg-model/tests/fixtures/medvint_tiny");
    let dir = TempDir::new().unwrap();
    let weights = dir.path().join("medvint.safetensors");
    volseg()
        .args(["weights", "import", "--arch", "medvint"])
        .arg(fixture.join("pytorch_model.bin"))
        .arg("-o")
        .arg(&weights)
        .arg("--config")
        .arg(fixture.join("config.json"))
        .arg("--vocab")
        .arg(fixture.join("tokenizer.model"))
        .assert()
        .success();
    let out = dir.path().join("p.json");
    volseg()
        .args(["prompt", "--method", "gradcam", "--no-cache", "--vqa"])
        .arg(format!("medvint:{}", weights.display()))
        .arg(xray(dir.path()))
        .arg("-o")
        .arg(&out)
        .assert()
        .success();
    let prompt = &json(&out)["prompts"][0];
    assert!(prompt["trace"]["answer_source"].as_str().unwrap().starts_with("medvint "), "{prompt}");
    assert!(prompt["text"].as_str().unwrap().starts_with(prompt["trace"]["answer"].as_str().unwrap()));
}

#[test]
fn the_chain_runs_in_segment_and_its_file_can_be_used_again() {
    let dir = TempDir::new().unwrap();
    let image = xray(dir.path());
    let at = |name: &str| dir.path().join(name);
    volseg()
        .args(["segment", "--prompts", "chain"])
        .env("XDG_CACHE_HOME", dir.path())
        .arg(&image)
        .arg("-o")
        .arg(at("chain.png"))
        .arg("--report")
        .arg(at("report.json"))
        .assert()
        .success();
    let report = json(&at("report.json")).to_string();
    assert!(
        report.contains("\"chain\"") && report.contains("\"similarity\"") && report.contains("\"fallback\""),
        "{report}"
    );
    volseg()
        .args(["prompt", "--check-sensitivity", "--overlay"])
        .arg(at("pictures"))
        .env("XDG_CACHE_HOME", dir.path())
        .arg(&image)
        .arg("-o")
        .arg(at("p.json"))
        .assert()
        .success();
    assert!(json(&at("p.json"))["sensitivity"][0]["sensitivity"].as_f64().is_some());
    assert_eq!(fs::read_dir(at("pictures")).unwrap().count(), 1);
    volseg()
        .arg("segment")
        .arg(&image)
        .arg("-o")
        .arg(at("again.png"))
        .arg("--prompts")
        .arg(at("p.json"))
        .assert()
        .success();
    assert_eq!(fs::read(at("chain.png")).unwrap(), fs::read(at("again.png")).unwrap());
}

#[test]
fn metadata_that_cannot_be_read_is_an_error_and_calibrations_are_of_their_own_modality() {
    let dir = tempfile::tempdir().unwrap();
    let (input, weights, out) = (xray(dir.path()), dir.path().join("w.safetensors"), dir.path().join("p.json"));
    let shipped = fs::read(crates("volseg-model/weights/clip.safetensors")).unwrap();
    let split = 8 + u64::from_le_bytes(shipped[..8].try_into().unwrap()) as usize;
    let run = |name: &str, text: &str, code: i32| {
        let mut header: Value = serde_json::from_slice(&shipped[8..split]).unwrap();
        header["__metadata__"][name] = text.into();
        let mut header = header.to_string();
        header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
        let parts = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &shipped[split..]];
        fs::write(&weights, parts.concat()).unwrap();
        let args = ["--organs", "lungs", "--modality", "xray", "--no-cache", "--method", "gradcam"];
        let output =
            volseg().arg("prompt").arg(&input).arg("-o").arg(&out).arg("--source").arg(&weights).args(args).assert();
        (String::from_utf8_lossy(&output.code(code).get_output().stderr).into_owned(), out.exists())
    };
    for (name, text) in
        [("boxes", "{"), ("boxes", r#"{"xray":{"lungs":[[1,0]]}}"#), ("presence", "7"), ("saliency", "[")]
    {
        let (message, written) = run(name, text, 1);
        assert!(message.contains(&format!("metadata `{name}`")) && !written, "{message}");
    }
    let lines = r#"{"lungs":[[1,0.1],[1,0],[1,0],[1,0]]}"#;
    for (modality, calibrated) in [("ct", false), ("xray", true)] {
        run("boxes", &format!(r#"{{"{modality}":{lines}}}"#), 0);
        assert_eq!(json(&out)["prompts"][0]["trace"]["box_calibrated"], calibrated);
    }
}
