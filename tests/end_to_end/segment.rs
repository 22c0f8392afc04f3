//! The main job from outside.

use crate::volseg;
use std::path::Path;

/// Threads and slices read together are a matter of speed alone.
#[test]
fn labels_depend_neither_on_threads_nor_on_batches() {
    let folder = tempfile::tempdir().unwrap();
    let ct = Path::new(env!("CARGO_MANIFEST_DIR")).join("../volumes/ct-phantom.nii.gz");
    let truth = ct.with_file_name("ct-phantom-labels.nii.gz");
    let boxes = format!("boxes-from:{}", truth.display());
    let run = |prompts: &str, threads: &str, batch: &str| {
        let out = folder.path().join("labels.nii");
        volseg()
            .arg("segment")
            .arg(&ct)
            .args([
                "--organs",
                "liver,spleen,aorta",
                "--prompts",
                prompts,
                "--threads",
                threads,
                "--batch",
                batch,
                "-q",
                "-o",
            ])
            .arg(&out)
            .assert()
            .success();
        std::fs::read(out).unwrap()
    };
    for prompts in ["organ", &boxes] {
        let one = run(prompts, "1", "1");
        assert!(one == run(prompts, "3", "5"), "{prompts}");
    }
    volseg().args(["segment", "x.nii", "-o", "y.nii", "--batch", "0"]).assert().code(2);
}

/// Each plane of a prompt file gives what it gives alone; a voxel of both goes to the likelier.
#[test]
fn prompts_in_several_planes_are_joined() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let ct = Path::new(env!("CARGO_MANIFEST_DIR")).join("../volumes/ct-phantom.nii.gz");
    let boxes = |plane: &str, slice: usize, organ: &str, bounds: [f64; 4]| serde_json::json!({"organ": organ, "plane": plane, "slice": slice, "box": bounds});
    let axial = boxes("axial", 132, "liver", [65.0, 42.0, 118.0, 101.0]);
    let coronal = boxes("coronal", 46, "spleen", [31.0, 115.0, 66.0, 143.0]);
    let run = |name: &str, prompts: &[&serde_json::Value]| {
        let file = serde_json::json!({"version": 1, "prompts": prompts});
        std::fs::write(at("p.json"), file.to_string()).unwrap();
        let segment = volseg()
            .arg("segment")
            .arg(&ct)
            .arg("-o")
            .arg(at(name))
            .arg("--prompts")
            .arg(at("p.json"))
            .arg("-q")
            .arg("--report")
            .arg(at("r.json"))
            .ok();
        assert!(segment.is_ok());
        let bytes = std::fs::read(at(name)).unwrap();
        let voxels = f32::from_le_bytes(bytes[108..112].try_into().unwrap()) as usize;
        bytes[voxels..].to_vec()
    };
    let [one, other] = [run("a.nii", &[&axial]), run("c.nii", &[&coronal])];
    let both = run("b.nii", &[&axial, &coronal]);
    assert!(one.contains(&6) && other.contains(&1) && one.len() == both.len());
    for ((a, c), b) in one.iter().zip(&other).zip(&both) {
        let fits = match (a, c) {
            (0, v) | (v, 0) => b == v,
            _ => [a, c].contains(&b),
        };
        assert!(fits, "{a} {c} {b}");
    }
    let report =
        serde_json::json!({"organ": "spleen", "plane": "coronal", "slice": 46, "box": [31.0, 115.0, 66.0, 143.0]});
    let written: serde_json::Value = serde_json::from_slice(&std::fs::read(at("r.json")).unwrap()).unwrap();
    assert_eq!(written["given"][1], report);
}
