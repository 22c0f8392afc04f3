//! What is odd about an input or a question is said, and what cannot be found is not found.

use super::volseg;
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

fn ct() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../volumes/ct-phantom.nii.gz")
}

/// Runs the command in a folder; its code and what it said on stderr and stdout.
fn run(folder: &Path, line: &str) -> (i32, String) {
    let out = volseg().current_dir(folder).args(line.split(' ')).output().unwrap();
    let text = [out.stderr, out.stdout].map(|s| String::from_utf8(s).unwrap()).concat();
    (out.status.code().unwrap(), text)
}

/// An ultrasound phantom in `folder/us`.
fn ultrasound(folder: &Path) {
    volseg()
        .current_dir(folder)
        .args(["phantom", "--modality", "ultrasound", "--seed", "1", "-o", "us"])
        .assert()
        .success();
}

#[test]
fn nothing_is_found_in_a_constant_image() {
    let folder = tempfile::tempdir().unwrap();
    let raw = |value: &[u8], kind: &str| {
        let header = format!(
            "NRRD0004\ntype: {kind}\ndimension: 3\nsizes: 40 40 6\nspace: left-posterior-superior\n\
            space directions: (1,0,0) (0,1,0) (0,0,3)\nspace origin: (0,0,0)\nendian: little\nencoding: raw\n\n"
        );
        [header.into_bytes(), value.repeat(40 * 40 * 6)].concat()
    };
    for (value, kind) in [((-1000i16).to_le_bytes().to_vec(), "short"), (f32::NAN.to_le_bytes().to_vec(), "float")] {
        fs::write(folder.path().join("air.nrrd"), raw(&value, kind)).unwrap();
        let (code, text) = run(folder.path(), "segment air.nrrd -o labels.nii --report report.json");
        assert!(code == 0 && text.contains("constant"), "{code}: {text}");
        let report: Value = serde_json::from_slice(&fs::read(folder.path().join("report.json")).unwrap()).unwrap();
        assert_eq!(report["not_found"].as_array().unwrap().len(), 15);
        let (code, text) =
            run(folder.path(), "prompt air.nrrd -o prompts.json --organs liver,spleen --no-join --no-cache");
        assert!(code == 0 && text.contains("constant"), "{code}: {text}");
        let prompts: Value = serde_json::from_slice(&fs::read(folder.path().join("prompts.json")).unwrap()).unwrap();
        assert_eq!(prompts["prompts"], json!([]));
    }
}

#[test]
fn slips_in_prompts_are_said() {
    let folder = tempfile::tempdir().unwrap();
    ultrasound(folder.path());
    let of_file = |entries: Value, organs: &str| {
        fs::write(folder.path().join("p.json"), json!({"version": 1, "prompts": entries}).to_string()).unwrap();
        run(folder.path(), &format!("segment us/image.png -o mask.png --prompts p.json{organs}"))
    };
    let tumour = json!({"organ": "breast_tumor", "box": [50, 60, 120, 130]});
    let mut slip = tumour.clone();
    slip["pionts"] = json!([[80, 90, 1]]);
    let kidney = json!({"organ": "kidney", "text": "a kidney"});
    for (entries, organs, said) in [
        (json!([]), "", vec!["nothing is looked for"]),
        (json!([slip]), "", vec!["entry 0: \"pionts\" is not read"]),
        (json!([tumour]), " --organs lungs,breast_tumor", vec!["no prompt for lungs", "breast_tumor"]),
        (json!([tumour, {"text": "Breast tumor in ultrasound"}]), "", vec!["breast_tumor"]),
    ] {
        let (code, text) = of_file(entries, organs);
        assert!(code == 0 && said.iter().all(|s| text.contains(s)) && !text.contains("not found"), "{code}: {text}");
    }
    let (code, text) = of_file(json!([{"text": "an odd thing", "box": [1, 2, 3, 4]}]), "");
    assert!(code == 2 && text.contains("entry 0: names no organ") && text.contains("--organs"), "{code}: {text}");
    let (code, text) = of_file(json!([kidney]), "");
    assert!(code == 0 && !text.contains("left out"), "the embedded model has a token for it: {text}");
    let (code, text) =
        run(folder.path(), "segment us/image.png -o mask.png --prompts boxes-from:us/labels.png,map=99:liver");
    assert!(code == 0 && text.contains("labels 99") && text.contains("labels there are 17"), "{code}: {text}");
}

#[test]
fn the_prompts_of_a_file_stand_in_the_report_without_their_words() {
    let folder = tempfile::tempdir().unwrap();
    ultrasound(folder.path());
    let prompt =
        json!({"organ": "breast_tumor", "box": [50, 60, 120, 130], "text": "Jane Doe's", "points": [[80, 90, 1]]});
    fs::write(folder.path().join("p.json"), json!({"version": 1, "prompts": [prompt]}).to_string()).unwrap();
    let (code, text) = run(folder.path(), "segment us/image.png -o mask.png --prompts p.json --report r.json");
    assert_eq!(code, 0, "{text}");
    let report = fs::read_to_string(folder.path().join("r.json")).unwrap();
    assert!(!report.contains("Jane"));
    let report: Value = serde_json::from_str(&report).unwrap();
    let given = json!([{"organ": "breast_tumor", "slice": 0, "box": [50.0, 60.0, 120.0, 130.0], "points": [[80.0, 90.0, 1.0]]}]);
    assert_eq!(report["given"], given);
}

#[test]
fn prompts_of_a_free_text_can_be_used() {
    let folder = tempfile::tempdir().unwrap();
    ultrasound(folder.path());
    let (code, text) = run(folder.path(), "prompt us/image.png -o p.json --no-cache --text tumor --text oddity");
    assert!(code == 0 && text.contains("\"oddity\" names no organ"), "{code}: {text}");
    let (code, text) = run(folder.path(), "segment us/image.png -o mask.png --prompts p.json --organs breast_tumor");
    assert_eq!(code, 0, "{text}");
    volseg()
        .current_dir(folder.path())
        .args(["prompt", "us/image.png", "-o", "q.json", "--no-cache", "--text", "picture of a breast tumor"])
        .assert()
        .success();
    let (code, text) = run(folder.path(), "segment us/image.png -o mask.png --prompts q.json");
    assert_eq!(code, 0, "{text}");
}

#[test]
fn little_memory_takes_fewer_threads_and_too_little_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let segment = |memory: &str| {
        let line = format!("segment {} --organs liver --threads 3 -o {memory}.nii --memory {memory}", ct().display());
        run(folder.path(), &line)
    };
    let (code, text) = segment("8GiB");
    assert_eq!(code, 0, "{text}");
    let (code, text) = segment("300MiB");
    assert_eq!(code, 0, "{text}");
    let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
    assert!(read("8GiB.nii") == read("300MiB.nii"));
    let (code, text) = segment("100MiB");
    assert!(code == 1 && text.contains("--memory allows 100 MiB; allow more"), "{code}: {text}");
    assert!(!folder.path().join("100MiB.nii").exists());
}

#[cfg(unix)]
#[test]
fn a_stopped_command_leaves_nothing_half_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_volseg-tested"))
        .args(["phantom", "--dataset", "amos", "--cases", "2000", "-q", "-o", "many"])
        .current_dir(folder.path())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let names = || fs::read_dir(folder.path()).unwrap().count();
    let began = Instant::now();
    while names() == 0 && began.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(names(), 1, "it works beside the place of its output");
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(75));
    assert_eq!(names(), 0);
}

#[test]
fn one_volume_of_several_is_chosen_by_number() {
    let folder = tempfile::tempdir().unwrap();
    let header = "NRRD0004\ntype: short\ndimension: 4\nsizes: 24 24 4 2\nspace: left-posterior-superior\n\
        space directions: (3,0,0) (0,3,0) (0,0,3) none\nspace origin: (0,0,0)\nendian: little\nencoding: raw\n\n";
    let voxels: Vec<u8> = (0..2 * 24 * 24 * 4i32).flat_map(|n| ((n % 97) as i16 * 10 - 600).to_le_bytes()).collect();
    fs::write(folder.path().join("two.nrrd"), [header.as_bytes(), &voxels].concat()).unwrap();
    let line = "segment two.nrrd --organs liver -o out.nii";
    let (code, text) = run(folder.path(), line);
    assert!(code == 4 && text.contains("--frame"), "{code}: {text}");
    let (code, text) = run(folder.path(), &format!("{line} --frame 2"));
    assert!(code == 2 && text.contains("0 to 1"), "{code}: {text}");
    let (code, text) = run(folder.path(), &format!("{line} --frame 1"));
    assert_eq!(code, 0, "{text}");
}
