//! `volseg manifest build` and `volseg batch` from outside.
use crate::{
    nifti,
    scanner::{ROOT_UID, SECRET, ct, scan},
    volseg,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Output,
};

/// All files below a folder but those with times in them.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(root: &Path, folder: &Path, out: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, out);
            } else if path.file_name().unwrap() != "timings.json" {
                out.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(folder, folder, &mut out);
    out
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn call(folder: &Path, code: i32, args: &[&str]) -> Output {
    volseg().current_dir(folder).args(args).assert().code(code).get_output().clone()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// `volseg batch run` with two organs, so that it is quick.
fn run(folder: &Path, code: i32, out: &str, more: &[&str]) -> String {
    let args = ["batch", "run", "--manifest", "cases.jsonl", "--out", out, "--organs", "liver,spleen", "-v"];
    text(&call(folder, code, &[&args[..], more].concat()))
}

/// A folder, a zip with two series, a folder with two series, a volume, and `broken` files that cannot be read.
fn archive(folder: &Path, broken: bool) {
    let archive = folder.join(format!("archive/{SECRET}"));
    scan(&archive.join("one"), 1, 3);
    scan(&archive.join("shared"), 2, 2);
    for (name, bytes) in ct(3, 2) {
        fs::write(archive.join("shared").join(format!("b{name}")), bytes).unwrap();
    }
    let mut zip = zip::ZipWriter::new(fs::File::create(archive.join("study.zip")).unwrap());
    for series in [4, 5] {
        for (name, bytes) in ct(series, 2) {
            zip.start_file(format!("{SECRET}/{series}/{name}"), zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(&bytes).unwrap();
        }
    }
    zip.finish().unwrap();
    nifti::write_u8(&archive.join("volume.nii"), [24, 20, 2], &[7; 960]);
    fs::write(archive.join("notes.txt"), "nothing").unwrap();
    if broken {
        fs::write(archive.join("cut.nii.gz"), [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]).unwrap();
        let mut cut = ct(6, 1).remove(0).1;
        cut.truncate(900);
        fs::create_dir_all(archive.join("cut")).unwrap();
        fs::write(archive.join("cut/cut.dcm"), cut).unwrap();
    }
    call(folder, 0, &["manifest", "build", "archive", "-o", "cases.jsonl"]);
}

fn cases(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("cases.jsonl")).unwrap();
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[test]
fn manifests_list_series_in_folders_and_zips_under_keyed_ids() {
    let folder = tempfile::tempdir().unwrap();
    archive(folder.path(), true);
    let cases = cases(folder.path());
    let kinds: Vec<&str> = cases.iter().map(|c| c["locator"].as_str().unwrap().split(':').next().unwrap()).collect();
    let count = |kind| kinds.iter().filter(|k| **k == kind).count();
    // dir: one, two in the shared folder, the cut file; zip: two; file: the volume, the cut volume.
    assert_eq!((count("dir"), count("zip"), count("file")), (4, 2, 2), "{cases:?}");
    let ids: Vec<&str> = cases.iter().map(|c| c["case_id"].as_str().unwrap()).collect();
    assert!(ids.is_sorted() && ids.iter().all(|i| i.len() == 64));
    assert!(ids.iter().all(|i| !i.contains(SECRET)));
    let one = cases.iter().find(|c| c["locator"].as_str().unwrap().ends_with("/one")).unwrap();
    assert_eq!((&one["modality"], &one["slices"]), (&"ct".into(), &3.into()));
    assert_eq!(cases.iter().filter(|c| c["slices"] == 0).count(), 2);
    assert_eq!(cases.iter().filter(|c| !c["files"].is_null()).count(), 2);
    // The same key gives the same list; another key other ids.
    let key = fs::read(folder.path().join("site.key")).unwrap();
    assert_eq!(key.len(), 32);
    let first = fs::read(folder.path().join("cases.jsonl")).unwrap();
    call(folder.path(), 0, &["manifest", "build", "archive", "-o", "again.jsonl"]);
    assert_eq!(fs::read(folder.path().join("again.jsonl")).unwrap(), first);
    call(folder.path(), 0, &["manifest", "build", "archive", "-o", "other.jsonl", "--site-key", "other.key"]);
    let other = fs::read_to_string(folder.path().join("other.jsonl")).unwrap();
    assert!(ids.iter().all(|i| !other.contains(i)));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        for secret in ["site.key", "cases.jsonl"] {
            assert_eq!(fs::metadata(folder.path().join(secret)).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
    fs::create_dir(folder.path().join("empty")).unwrap();
    call(folder.path(), 4, &["manifest", "build", "empty", "-o", "x.jsonl"]);
    call(folder.path(), 4, &["manifest", "build", "no-such", "-o", "x.jsonl"]);
    fs::write(folder.path().join("short.key"), "short").unwrap();
    call(folder.path(), 1, &["manifest", "build", "archive", "-o", "x.jsonl", "--site-key", "short.key"]);
    assert!(!folder.path().join("x.jsonl").exists());
}

#[test]
fn shards_together_equal_one_run_and_no_output_byte_names_anybody() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    archive(at, true);
    let mut said = run(at, 3, "one", &["--per-organ"]);
    let mut codes = Vec::new();
    for shard in ["0/3", "1/3", "2/3"] {
        let args = ["batch", "run", "--manifest", "cases.jsonl", "--out", "three", "--organs", "liver,spleen"];
        let output = volseg()
            .current_dir(at)
            .args(args)
            .args(["--per-organ", "-vv", "--shard", shard, "--threads", "1"])
            .output()
            .unwrap();
        codes.push(output.status.code().unwrap());
        said += &text(&output);
    }
    assert!(codes.iter().all(|c| [0, 3].contains(c)) && codes.contains(&3), "{codes:?}");
    let (one, three) = (tree(&at.join("one")), tree(&at.join("three")));
    assert_eq!(one.keys().collect::<Vec<_>>(), three.keys().collect::<Vec<_>>());
    assert!(one == three, "the bytes depend on the number of shards");
    // Failures by kind, and what the contract says of a case folder.
    let mut failures = 0;
    for case in cases(at) {
        let id = case["case_id"].as_str().unwrap();
        let place = at.join("one").join(&id[..2]).join(id);
        if case["slices"] == 0 {
            let failure = json(&at.join(format!("one/failed/{id}.json")));
            assert_eq!((&failure["stage"], &failure["kind"]), (&"read".into(), &"corrupt".into()), "{failure}");
            assert_eq!((&failure["attempt"], &failure["limit"]), (&1.into(), &Value::Null));
            assert!(!place.exists());
            failures += 1;
            continue;
        }
        let result = json(&place.join("result.json"));
        assert_eq!(result["schema"], "volseg.case/1");
        assert_eq!(result["case_id"], id);
        assert_eq!(result["status"], "done");
        assert_eq!(result["key"]["input"], case["input"]);
        assert!(["input", "weights", "config", "schema"].iter().all(|k| result["key"][k].is_string()));
        assert!(["green", "yellow", "red"].contains(&result["qa"].as_str().unwrap()));
        let outputs = result["outputs"].as_object().unwrap();
        for name in
            ["labels.seg.nrrd", "stats.json", "preview.png", "qa.json", "organs/liver.nii.gz", "organs/spleen.nii.gz"]
        {
            assert_eq!(outputs[name], volseg_io::sha256(&fs::read(place.join(name)).unwrap()), "{name}");
        }
        assert!(place.join("timings.json").exists() && !outputs.contains_key("timings.json"));
        assert!(json(&place.join("stats.json")).as_array().unwrap().iter().all(|s| s["voxels"].is_u64()));
    }
    assert_eq!(failures, 2);
    said += &text(&call(at, 0, &["batch", "merge", "--out", "one", "--manifest", "cases.jsonl", "-vv"]));
    said += &text(&call(at, 0, &["batch", "status", "--out", "one", "--manifest", "cases.jsonl", "--shards", "3"]));
    let status: Value = serde_json::from_slice(
        &call(at, 0, &["batch", "status", "--out", "three", "--manifest", "cases.jsonl", "--shards", "3", "--json"])
            .stdout,
    )
    .unwrap();
    assert_eq!((&status["done"], &status["failed"], &status["missing"]), (&6.into(), &2.into(), &0.into()), "{status}");
    assert_eq!(status["shards"].as_array().unwrap().iter().map(|s| s["done"].as_u64().unwrap()).sum::<u64>(), 6);
    assert_eq!(status["failures"]["corrupt"], 2);
    let all = tree(&at.join("one"));
    let rows = String::from_utf8(all[Path::new("cases.csv")].clone()).unwrap();
    assert_eq!(rows.lines().count(), 9, "{rows}");
    assert_eq!(rows.lines().map(|l| l.matches(',').count()).collect::<std::collections::BTreeSet<_>>().len(), 1);
    assert!(String::from_utf8(all[Path::new("cohort.html")].clone()).unwrap().contains("<svg"));
    call(at, 3, &["batch", "merge", "--out", "one", "--manifest", "cases.jsonl", "--strict"]);
    // Not in a file, not in a name, not in what was said.
    for secret in [SECRET.as_bytes(), ROOT_UID.as_bytes(), b"19010203"] {
        for (name, bytes) in &all {
            assert!(!bytes.windows(secret.len()).any(|w| w == secret), "{}", name.display());
            assert!(!name.to_string_lossy().as_bytes().windows(secret.len()).any(|w| w == secret));
        }
        assert!(!said.as_bytes().windows(secret.len()).any(|w| w == secret), "{said}");
    }
}

#[test]
fn a_run_goes_on_where_it_stopped_and_replaces_what_is_stale() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    archive(at, false);
    run(at, 0, "whole", &[]);
    // One case a run: the first always starts.
    let mut rounds = 0;
    loop {
        let args = ["batch", "run", "--manifest", "cases.jsonl", "--out", "parts", "--organs", "liver,spleen"];
        let output = volseg().current_dir(at).args(args).args(["--stop-after", "0s"]).output().unwrap();
        rounds += 1;
        match output.status.code() {
            Some(75) => assert!(rounds < 7),
            other => {
                assert_eq!(other, Some(0), "{}", text(&output));
                break;
            }
        }
    }
    assert!(rounds > 1);
    assert!(tree(&at.join("whole")) == tree(&at.join("parts")));
    // What a killed worker leaves is cleared away, and a lost case is made again.
    let before = tree(&at.join("whole"));
    let id = cases(at)[0]["case_id"].as_str().unwrap().to_owned();
    let place = at.join("whole").join(&id[..2]).join(&id);
    let left = at.join(format!("whole/.partial/{id}.x7Kq2A"));
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("labels.seg.nrrd"), "half").unwrap();
    fs::remove_dir_all(&place).unwrap();
    assert!(run(at, 0, "whole", &[]).contains("1 done now, 5 before"));
    assert!(tree(&at.join("whole")) == before && !at.join("whole/.partial").exists());
    // A folder without its last file is no result.
    fs::remove_file(place.join("result.json")).unwrap();
    assert!(run(at, 0, "whole", &[]).contains("1 done now, 5 before"));
    assert!(tree(&at.join("whole")) == before);
    // Other settings: refused, kept, or made anew.
    run(at, 2, "whole", &["--stale", "fail", "--fast"]);
    assert!(run(at, 0, "whole", &["--stale", "keep", "--fast"]).contains("6 with other settings kept"));
    assert!(tree(&at.join("whole")) == before);
    assert!(run(at, 0, "whole", &["--per-organ"]).contains("6 done now, 0 before"));
    assert!(tree(&at.join("whole")).len() > before.len());
    assert!(!at.join("whole/.partial").exists());
    // The manifest grew: new cases only. An input that changed is said to have changed.
    scan(&at.join("archive/new"), 9, 2);
    call(at, 0, &["manifest", "build", "archive", "-o", "cases.jsonl"]);
    assert!(run(at, 0, "whole", &["--per-organ"]).contains("1 done now, 6 before"));
    scan(&at.join("archive/new"), 9, 3);
    fs::remove_dir_all(at.join("parts")).unwrap();
    run(at, 3, "parts", &[]);
    let failure = fs::read_dir(at.join("parts/failed")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(json(&failure)["kind"], "changed");
}

#[test]
fn two_workers_on_one_shard_lose_nothing_and_do_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    archive(at, false);
    run(at, 0, "alone", &[]);
    let start = || {
        std::process::Command::new(env!("CARGO_BIN_EXE_volseg-tested"))
            .current_dir(at)
            .args(["batch", "run", "--manifest", "cases.jsonl", "--out", "both", "--organs", "liver,spleen", "--quiet"])
            .spawn()
            .unwrap()
    };
    let mut workers = [start(), start()];
    for worker in &mut workers {
        assert_eq!(worker.wait().unwrap().code(), Some(0));
    }
    assert!(tree(&at.join("alone")) == tree(&at.join("both")));
    assert!(!at.join("both/.partial").exists());
}

#[cfg(unix)]
#[test]
fn a_terminated_worker_says_so_and_leaves_no_half_case() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    archive(at, false);
    run(at, 0, "whole", &[]);
    let mut worker = std::process::Command::new(env!("CARGO_BIN_EXE_volseg-tested"))
        .current_dir(at)
        .args(["batch", "run", "--manifest", "cases.jsonl", "--out", "cut", "--organs", "liver,spleen", "--quiet"])
        .spawn()
        .unwrap();
    // As soon as the first case is there. The worker makes and renames folders meanwhile, so that a walk could fail.
    let results: Vec<PathBuf> = tree(&at.join("whole")).into_keys().filter(|k| k.ends_with("result.json")).collect();
    while !results.iter().any(|result| at.join("cut").join(result).is_file()) {
        assert!(worker.try_wait().unwrap().is_none_or(|s| s.success()));
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let killed = std::process::Command::new("kill").arg(worker.id().to_string()).status().unwrap().success();
    let code = worker.wait().unwrap().code();
    // The last case may have been done before the signal came.
    assert!(
        code == Some(75) || (code == Some(0) && tree(&at.join("cut")) == tree(&at.join("whole"))) || !killed,
        "{code:?}"
    );
    assert!(!at.join("cut/.partial").exists());
    run(at, 0, "cut", &[]);
    assert!(tree(&at.join("cut")) == tree(&at.join("whole")));
}

#[test]
fn wrong_shards_and_manifests_are_refused_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let good = r#"{"case_id":"abcd","locator":"dir:/nowhere","modality":"ct","slices":3,"bytes":9,"input":""}"#;
    fs::write(at.join("cases.jsonl"), good).unwrap();
    fs::write(at.join("broken.jsonl"), format!("{good}\n{{}}\n")).unwrap();
    fs::write(at.join("empty.jsonl"), "\n").unwrap();
    let refused = |manifest: &str, code: i32, more: &[&str], hint: &str| {
        let args = ["batch", "run", "--manifest", manifest, "--out", "out"];
        let output = volseg()
            .current_dir(at)
            .env("SLURM_ARRAY_TASK_ID", "5")
            .env("SLURM_ARRAY_TASK_MIN", "3")
            .env("SLURM_ARRAY_TASK_MAX", "5")
            .env("SLURM_ARRAY_TASK_STEP", "1")
            .env("SLURM_ARRAY_TASK_COUNT", "2")
            .args(args)
            .args(more)
            .assert()
            .code(code)
            .get_output()
            .clone();
        assert!(text(&output).contains(hint), "{}", text(&output));
        assert!(!at.join("out").exists());
    };
    refused("cases.jsonl", 2, &["--shard", "7/7"], "expected 0 to 6");
    refused("cases.jsonl", 2, &["--shard", "env"], "COUNT 2, but MAX - MIN + 1 is 3");
    refused("cases.jsonl", 2, &["--shard", "env", "--shards", "4"], "expected 0 to 3");
    refused("cases.jsonl", 2, &["--stop-after", "soon"], "90s, 55m or 2h");
    refused("broken.jsonl", 4, &[], "line 2");
    refused("empty.jsonl", 4, &[], "no case");
    refused("missing.jsonl", 4, &[], "missing.jsonl");
    // A case that is gone fails alone, and may come back.
    run(at, 3, "out", &["--attempts", "1"]);
    let failure = json(&at.join("out/failed/abcd.json"));
    assert_eq!((&failure["kind"], &failure["attempt"]), (&"io".into(), &1.into()));
    run(at, 3, "out", &["--attempts", "1"]);
    assert_eq!(json(&at.join("out/failed/abcd.json"))["attempt"], 2);
    run(at, 3, "small", &["--memory", "1M"]);
}

#[test]
fn dicom_objects_name_the_patient_only_where_they_may() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    scan(&at.join("archive/one"), 1, 3);
    call(at, 0, &["manifest", "build", "archive", "-o", "cases.jsonl"]);
    run(at, 0, "pacs", &["--dicom-out"]);
    run(at, 0, "research", &["--dicom-out", "--deidentify"]);
    run(at, 0, "again", &["--dicom-out", "--deidentify"]);
    assert!(tree(&at.join("research")) == tree(&at.join("again")), "UIDs differ between runs");
    let holds = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
    for (out, named) in [("pacs", true), ("research", false)] {
        let all = tree(&at.join(out));
        let objects: Vec<&PathBuf> = all.keys().filter(|k| k.extension().is_some_and(|e| e == "dcm")).collect();
        assert_eq!(objects.len(), 2, "{objects:?}");
        for (name, bytes) in &all {
            let dicom = objects.contains(&name);
            assert_eq!(holds(bytes, SECRET), dicom && named, "{out}: {}", name.display());
            assert_eq!(holds(bytes, ROOT_UID), dicom && named, "{out}: {}", name.display());
            assert!(!dicom || bytes[..128] == [0; 128], "the preamble is not empty");
        }
    }
    // Without the key nothing can be de-identified.
    fs::remove_file(at.join("site.key")).unwrap();
    assert!(run(at, 2, "none", &["--dicom-out", "--deidentify"]).contains("site key"));
}

#[test]
fn an_archive_of_several_modalities_is_asked_for_all_its_organs_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("archive");
    fs::create_dir(&archive).unwrap();
    nifti::write_u8(&archive.join("volume.nii"), [24, 20, 2], &(0..960).map(|n| n as u8).collect::<Vec<_>>());
    let chest = image::GrayImage::from_fn(40, 40, |x, y| image::Luma([(x * y) as u8]));
    chest.save(archive.join("chest.png")).unwrap();
    call(folder.path(), 0, &["manifest", "build", "archive", "-o", "cases.jsonl"]);
    let organs = ["batch", "run", "--manifest", "cases.jsonl", "--out", "out", "--organs", "liver,lungs"];
    let told = text(&call(folder.path(), 0, &organs));
    assert!(told.contains("2 cases: 2 done now"), "{told}");
    // No case of these has one.
    let organs = ["batch", "run", "--manifest", "cases.jsonl", "--out", "none", "--organs", "hippocampus_anterior"];
    call(folder.path(), 3, &organs);
}
