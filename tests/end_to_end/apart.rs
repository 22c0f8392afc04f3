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
    assert!(said.contains("--model") && said.contains("embedded, embedded-ct, mine"), "{said}");
}

/// What cannot be written is refused before the work, and nothing is left.
#[test]
fn outputs_that_cannot_be_are_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(at("file"), "1").unwrap();
    volseg().args(["phantom", "--modality", "xray", "-o", &at("x")]).assert().success();
    let picture = at("x/image.png");
    for (line, code, said) in [
        (vec!["segment", &picture, "-o", &at("m.png"), "--preview", &at("p.jpg")], 2, "ends in .png"),
        (
            vec!["segment", &picture, "-o", &at("m.png"), "--save-probabilities", &at("p.png")],
            2,
            "--save-probabilities",
        ),
        (
            vec!["segment", &picture, "-o", &at("m.png"), "--save-probabilities", &at("p.seg.nrrd")],
            2,
            "--save-probabilities",
        ),
        (vec!["segment", &picture, "-o", &at("file/m.png")], 1, "is not a folder"),
        (vec!["segment", &picture, "-o", &at("m.png"), "--per-organ", &at("file")], 1, "is not a folder"),
        (vec!["prompt", &picture, "-o", &at("p.json"), "--overlay", &at("file/o")], 1, "is not a folder"),
        (vec!["eval", "--gt", &picture, "--pred", &picture, "--json", &at("file/x.json")], 1, "is not a folder"),
    ] {
        let done = volseg().args(&line).assert().code(code).get_output().clone();
        let text = String::from_utf8(done.stderr).unwrap();
        assert!(text.contains(said), "{line:?}: {text}");
    }
    let mut left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["file", "x"]);
    // Folders that are missing are made.
    volseg().args(["convert", &picture, "-o", &at("a/b/c.nii")]).assert().success();
}

/// Colours and transparency are not lost without a word.
#[test]
fn convert_refuses_what_the_format_cannot_hold() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    image::RgbImage::from_pixel(4, 3, image::Rgb([200, 10, 10])).save(at("red.png")).unwrap();
    image::RgbaImage::from_pixel(4, 3, image::Rgba([9, 9, 9, 40])).save(at("clear.png")).unwrap();
    image::RgbaImage::from_pixel(4, 3, image::Rgba([9, 9, 9, 255])).save(at("opaque.png")).unwrap();
    for (from, to, what) in [
        ("red.png", "red.nii", "colours"),
        ("clear.png", "c.nii", "transparency"),
        ("clear.png", "c.png", "transparency"),
    ] {
        let done = volseg().args(["convert", &at(from), "-o", &at(to)]).assert().code(1).get_output().clone();
        let text = String::from_utf8(done.stderr).unwrap();
        assert!(text.contains(what) && text.contains("--grey"), "{text}");
        assert!(!Path::new(&at(to)).exists());
        volseg().args(["convert", &at(from), "-o", &at(to), "--grey"]).assert().success();
    }
    volseg().args(["convert", &at("red.png"), "-o", &at("red2.png")]).assert().success();
    volseg().args(["convert", &at("opaque.png"), "-o", &at("o.nii")]).assert().success();
}
