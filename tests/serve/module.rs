//! The module of 3D Slicer as a process: what Slicer's engine looks at.
use crate::client::{files, volume};
use std::{fs, path::Path, process::Command, thread::sleep, time::Duration};

struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

fn command(temporary: &Path, options: &[&str], input: &Path, output: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_volseg-tested"));
    command
        .arg("slicer-cli")
        .args(options)
        .arg(input)
        .arg(output)
        .env("TMPDIR", temporary)
        .env("VOLSEG_WEIGHTS", temporary);
    command
}

fn run(temporary: &Path, options: &[&str], input: &Path, output: &Path) -> Run {
    let done = command(temporary, options, input, output).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: done.status.code(), out: text(done.stdout), err: text(done.stderr) }
}

#[test]
fn a_run_as_slicer_makes_it() {
    let folder = tempfile::tempdir().unwrap();
    let (temporary, input) = (folder.path().join("ö tmp"), folder.path().join("a b.nrrd"));
    fs::create_dir(&temporary).unwrap();
    fs::write(&input, volume()).unwrap();
    let (output, returns) = (folder.path().join("out.seg.nrrd"), folder.path().join("r.params"));
    let line =
        ["--returnparameterfile", returns.to_str().unwrap(), "--model", "auto", "--modality", "", "--organs", "liver"];
    // The ball stands at voxel 30, 18, 3.
    let prompts =
        ["--foreground", "-170,-88,-15", "--box", "-170,-88,-15,42,42,10", "--threads", "0", "--later_option", "7"];
    let done = run(&temporary, &[&line[..], &prompts].concat(), &input, &output);
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{}", done.out);
    let parts: Vec<f64> = done
        .out
        .lines()
        .filter_map(|l| l.strip_prefix("<filter-progress>")?.strip_suffix("</filter-progress>")?.parse().ok())
        .collect();
    assert!(parts.len() >= 3 && parts.windows(2).all(|p| p[0] <= p[1]) && parts.last() == Some(&1.0), "{parts:?}");
    assert!(done.out.contains("later_option is not known") && done.out.contains("</filter-end>"));
    let bytes = fs::read(&output).unwrap();
    let header = String::from_utf8_lossy(&bytes[..bytes.len().min(3000)]).into_owned();
    for part in
        ["Segment0_ID:=liver", "Segment0_Color:=", "TerminologyEntry:", "space directions: (-6,0,0) (0,-6,0) (0,0,5)"]
    {
        assert!(header.contains(part), "{part}: {header}");
    }
    assert!(fs::read_to_string(&returns).unwrap().contains("segmentCount="));
    assert!(files(&temporary).is_empty());
}

#[test]
fn what_cannot_be_done_is_one_sentence_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let (good, bad, rgb) =
        (folder.path().join("good.nrrd"), folder.path().join("bad.nrrd"), folder.path().join("rgb.nrrd"));
    fs::write(&good, volume()).unwrap();
    fs::write(&bad, &volume()[..9000]).unwrap();
    let head = "NRRD0004\ntype: uchar\ndimension: 4\nspace: left-posterior-superior\nsizes: 3 4 4 4\n\
        space directions: none (1,0,0) (0,1,0) (0,0,1)\nkinds: vector domain domain domain\nencoding: raw\nspace origin: (0,0,0)\n\n";
    fs::write(&rgb, [head.as_bytes(), &[9; 192]].concat()).unwrap();
    let output = folder.path().join("out.seg.nrrd");
    for (options, input, part) in [
        (&["--foreground", "9000,0,0"][..], &good, "(LPS) lies outside the volume"),
        (&["--foreground", "1,2"], &good, "three numbers"),
        (&["--box", "9000,0,0,1,1,1"], &good, "lies outside the volume"),
        (&["--background", "-170,-88,-15"], &good, "inside point"),
        (&["--model", "sam-med2d"], &good, "not installed"),
        (&["--organs", "soul"], &good, "soul"),
        (&["--device", "cuda"], &good, "CPU"),
        (&[], &bad, "NRRD"),
        (&[], &rgb, "more than one value a voxel"),
        (&[], &folder.path().join("missing.nrrd"), "missing.nrrd"),
    ] {
        let done = run(&temporary, options, input, &output);
        assert!(done.code.is_some_and(|c| c != 0), "{options:?}");
        assert!(done.err.contains(part) && !done.err.contains("panicked"), "{options:?}: {}", done.err);
        assert!(!output.exists() && files(&temporary).is_empty(), "{options:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_killed_run_is_swept_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let (input, output) = (folder.path().join("a.nrrd"), folder.path().join("out.seg.nrrd"));
    fs::write(&input, volume()).unwrap();
    let mut child = command(&temporary, &[], &input, &output).stdout(std::process::Stdio::null()).spawn().unwrap();
    let scratch = temporary.join("volseg-slicer").join(child.id().to_string());
    while !scratch.exists() && child.try_wait().unwrap().is_none() {
        sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What a killed run may have left.
    fs::create_dir_all(&scratch).unwrap();
    fs::write(scratch.join("mask.seg.nrrd"), b"half").unwrap();
    assert!(!output.exists(), "a killed run shows nothing");
    assert_eq!(run(&temporary, &["--organs", "liver"], &input, &output).code, Some(0));
    assert!(output.exists() && files(&temporary).is_empty());
}

#[test]
fn the_description_is_printed_and_installed() {
    let folder = tempfile::tempdir().unwrap();
    let volseg =
        |arguments: &[&str]| Command::new(env!("CARGO_BIN_EXE_volseg-tested")).args(arguments).output().unwrap();
    let told = volseg(&["slicer-cli", "--xml"]);
    assert!(told.status.success() && told.stdout.starts_with(b"<?xml ") && told.stderr.is_empty());
    assert!(volseg(&["slicer-cli", "--logo"]).stdout.is_empty());
    let plain = volseg(&["--xml"]);
    assert!(!plain.status.success() && plain.stdout.is_empty() && !plain.stderr.is_empty());
    let place = folder.path().join("modules");
    for _ in 0..2 {
        assert!(volseg(&["slicer", "install", "--quiet", "--dir", place.to_str().unwrap()]).status.success());
    }
    assert_eq!(fs::read(place.join("VolsegSegment.xml")).unwrap(), told.stdout);
    let mut names: Vec<String> =
        fs::read_dir(&place).unwrap().flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    assert_eq!(names, [&format!("VolsegSegment{}", std::env::consts::EXE_SUFFIX), "VolsegSegment.xml", "scripted"]);
    assert!(
        place.join("scripted/VolsegLib/client.py").exists() && place.join("scripted/VolsegSlicer/runs.py").exists()
    );
    let module = Command::new(place.join(&names[0])).arg("--xml").output().unwrap();
    assert_eq!(module.stdout, told.stdout, "the file's name makes the module");
}
