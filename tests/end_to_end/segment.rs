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
