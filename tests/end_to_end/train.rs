//! Training from the command line: refusals, a kill in the middle, and a model that segments.
use crate::volseg;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

fn pictures(folder: &Path) {
    for part in ["images", "masks"] {
        std::fs::create_dir_all(folder.join(part)).unwrap();
    }
    for n in 0..20u32 {
        let inside = |x: u32, y: u32| {
            let (cx, cy) = (12.0 + (n % 9) as f32, 14.0 + (n * 5 % 11) as f32);
            ((x as f32 - cx) / 8.0).powi(2) + ((y as f32 - cy) / 6.0).powi(2) < 1.0
        };
        let grey =
            |x: u32, y: u32| image::Luma([(50 + (x * 31 + y * 17 + n) % 70 + if inside(x, y) { 80 } else { 0 }) as u8]);
        let mask = |x, y| image::Luma([if inside(x, y) { 255u8 } else { 0 }]);
        image::GrayImage::from_fn(36, 36, grey).save(folder.join(format!("images/p{n:02}.png"))).unwrap();
        image::GrayImage::from_fn(36, 36, mask).save(folder.join(format!("masks/p{n:02}.png"))).unwrap();
    }
}

/// A folder with pictures and the configurations that train on them.
fn ready() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path());
    write_configs(folder.path());
    folder
}

/// Configurations of both stages and of the image-text model, of trainings that take a second.
fn write_configs(folder: &Path) {
    let set = format!(
        "[[pictures]]\npath = {:?}\nmodality = \"ultrasound\"\norgan = \"breast_tumor\"\nbatch = 4\nlabelled = 0.5\n\
         unannotated = 0.5\nsplit = {{ seed = 1, test = 0.0, validation = 0.2 }}\n",
        folder.display().to_string()
    );
    let mut stage1 =
        String::from("steps = 20\nwarmup = 4\nsave_every = 20\nvalidate_every = 20\n\n[model]\nside = 32\n");
    for line in [
        "stages = [8,8,8,8,8,8]",
        "blocks = [0,0,0,0,0,0]",
        "dense = [8,8,8]",
        "width = 16",
        "heads = 2",
        "cross_width = 8",
        "mlp = 16",
    ] {
        writeln!(stage1, "{line}").unwrap();
    }
    std::fs::write(folder.join("prompt.toml"), format!("{stage1}\n{set}")).unwrap();
    let model = folder.join("stage1/model.safetensors").display().to_string();
    let stage2 = format!("model = {model:?}\nepochs = 20\npatience = 0\nbatch = 2\nlearning_rate = 0.001\n\n{set}");
    std::fs::write(folder.join("align.toml"), stage2).unwrap();
    std::fs::write(folder.join("clip.toml"), format!("steps = 2\n{set}")).unwrap();
}

#[test]
fn a_killed_alignment_goes_on_to_the_same_weights_and_its_model_segments() {
    let folder = ready();
    let at = |name: &str| folder.path().join(name);
    let train = |stage: &str, out: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_volseg-tested"));
        command
            .args(["train", stage, "--quiet", "--config"])
            .arg(at(&format!("{stage}.toml")))
            .arg("--out")
            .arg(at(out));
        command
    };
    assert!(train("prompt", "stage1").status().unwrap().success());
    assert!(at("stage1/curves.png").exists());
    assert!(train("align", "whole").status().unwrap().success());
    // SIGKILL once a few epochs are in the checkpoint; if the run was faster, nothing was cut off and all is still equal.
    let mut child = train("align", "cut").spawn().unwrap();
    let began = Instant::now();
    let epochs = || std::fs::read_to_string(at("cut/metrics.jsonl")).map_or(0, |t| t.lines().count());
    while epochs() < 4 && child.try_wait().unwrap().is_none() && began.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(2));
    }
    let _ = child.kill();
    child.wait().unwrap();
    assert!(train("align", "cut").arg("--resume").status().unwrap().success());
    for file in ["model.safetensors", "checkpoint.safetensors", "metrics.jsonl"] {
        let (a, b) = (at(&format!("whole/{file}")), at(&format!("cut/{file}")));
        assert!(std::fs::read(a).unwrap() == std::fs::read(b).unwrap(), "{file} differs");
    }
    volseg()
        .args(["segment", "--quiet", "--modality", "ultrasound", "--model"])
        .arg(at("cut/model.safetensors"))
        .arg(at("images/p03.png"))
        .arg("-o")
        .arg(at("mask.png"))
        .assert()
        .code(0);
    let mask = image::open(at("mask.png")).unwrap().to_luma8();
    assert_eq!(mask.dimensions(), (36, 36));
}

/// One run writes into a folder at a time; a signal ends it with the way on.
#[test]
fn a_running_training_keeps_its_folder_and_an_interrupted_one_says_how_to_go_on() {
    let folder = ready();
    let at = |name: &str| folder.path().join(name);
    let train = |options: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_volseg-tested"));
        command.args(["train", "prompt", "--set", "steps=1000000", "--config"]).arg(at("prompt.toml"));
        command.arg("--out").arg(at("run")).args(options).stderr(std::process::Stdio::piped());
        command.spawn().unwrap()
    };
    let said = |child: std::process::Child| {
        let out = child.wait_with_output().unwrap();
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    let first = train(&[]);
    let began = Instant::now();
    while !at("run/config.toml").exists() && began.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let (code, text) = said(train(&["--resume"]));
    assert!(code == Some(1) && text.contains("another run writes into"), "{code:?}: {text}");
    assert!(Command::new("kill").args(["-INT", &first.id().to_string()]).status().unwrap().success());
    let (code, text) = said(first);
    assert_eq!(code, Some(75), "{text}");
    assert!(text.contains("interrupted; the same command with --resume"), "{text}");
    // The folder is free again.
    let out = at("run").display().to_string();
    let config = at("prompt.toml").display().to_string();
    let again = ["train", "prompt", "--resume", "--set", "steps=20", "--config", &config, "--out", &out];
    volseg().args(again).assert().success();
}

#[test]
fn what_ruins_a_model_is_wrong_use() {
    let folder = tempfile::tempdir().unwrap();
    write_configs(folder.path());
    let config = folder.path().join("align.toml");
    for (options, hint) in [
        (&["--candidates", "frozen", "--replay", "0"][..], "--replay"),
        (&["--objective", "guess"], "guess"),
        (&["--tiles", "0"], "tiles"),
        (&["--set", "no_such_key=1"], "no_such_key"),
        (&["--preferences", "j.jsonl"], "images"),
    ] {
        let out = folder.path().join("out");
        let assert =
            volseg().args(["train", "align", "--config"]).arg(&config).arg("--out").arg(&out).args(options).assert();
        let output = assert.code(2).get_output().clone();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(hint), "{options:?}: {text}");
        assert!(!out.exists());
    }
}

/// A run is never written over by accident; `--resume` says so where there is nothing to go on with.
#[test]
fn a_run_is_gone_on_with_or_left_alone() {
    let folder = ready();
    let at = |name: &str| folder.path().join(name);
    let run = |stage: &str, out: &str, options: &[&str]| {
        let mut command = volseg();
        command.args(["train", stage, "--config"]).arg(at("prompt.toml")).arg("--out").arg(at(out)).args(options);
        command.assert()
    };
    let refused = |stage: &str, out: &str, options: &[&str]| {
        String::from_utf8(run(stage, out, options).code(2).get_output().stderr.clone()).unwrap()
    };
    let began = run("prompt", "run", &["--resume", "--set", "steps=2"]).success().get_output().clone();
    assert!(String::from_utf8(began.stderr).unwrap().contains("no checkpoint, so the run starts from its beginning"));
    assert!(String::from_utf8(began.stdout).unwrap().trim_end().ends_with("model.safetensors written"));
    let held = || ["model", "checkpoint"].map(|f| std::fs::read(at(&format!("run/{f}.safetensors"))).unwrap());
    let before = held();
    for stage in ["prompt", "align", "clip"] {
        assert!(refused(stage, "run", &[]).contains("--resume"), "{stage}");
    }
    assert!(before == held());
    let longer = run("prompt", "run", &["--resume", "--set", "steps=3"]).success().get_output().clone();
    assert!(String::from_utf8(longer.stderr).unwrap().contains("steps was 2, is 3"));
    assert!(before != held());
    let before = held();
    let other = run("prompt", "run", &["--resume", "--set", "steps=3", "--set", "seed=9"]).failure();
    let said = String::from_utf8(other.get_output().stderr.clone()).unwrap();
    assert!(said.contains("seed was") && said.contains("is 9") && !said.contains("steps was"), "{said}");
    assert!(before == held());
    assert!(refused("prompt", "prompt.toml", &[]).contains("expected a folder"));
}

/// What `train STAGE` says on stderr when it ends with a code; it leaves no folder.
fn refusal(folder: &Path, stage: &str, config: &str, options: &[&str], code: i32) -> String {
    let out = folder.join("out");
    let mut command = volseg();
    command.args(["train", stage, "--config"]).arg(folder.join(config)).arg("--out").arg(&out).args(options);
    let text = String::from_utf8(command.assert().code(code).get_output().stderr.clone()).unwrap();
    assert!(!out.exists(), "{stage} {options:?} left a folder: {text}");
    text
}

#[test]
fn a_mistake_in_a_configuration_has_its_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    write_configs(folder.path());
    let text = std::fs::read_to_string(folder.path().join("prompt.toml")).unwrap();
    std::fs::write(folder.path().join("bad.toml"), text.replace("organ =", "organs =")).unwrap();
    std::fs::write(folder.path().join("empty.toml"), "").unwrap();
    let line = text.lines().position(|l| l.starts_with("organ =")).unwrap() + 1;
    let said = refusal(folder.path(), "prompt", "bad.toml", &[], 2);
    assert!(said.contains("bad.toml") && said.contains(&format!("line {line}: ")) && said.contains("organs"), "{said}");
    for stage in ["prompt", "align", "clip"] {
        let said = refusal(folder.path(), stage, "empty.toml", &[], 2);
        assert!(said.contains("empty.toml") && said.contains("[[pictures]]"), "{stage}: {said}");
        let said = refusal(folder.path(), stage, "missing.toml", &[], 4);
        assert!(said.contains("missing.toml"), "{stage}: {said}");
    }
}

/// Shards without a sample are left out, so one picture a step is enough.
#[test]
fn a_batch_of_one_trains() {
    let folder = ready();
    let at = |name: &str| folder.path().join(name);
    for stage in ["prompt", "clip"] {
        volseg()
            .args(["train", stage, "--set", "pictures.0.batch=1", "--set", "steps=2", "--config"])
            .arg(at(&format!("{stage}.toml")))
            .arg("--out")
            .arg(at(stage))
            .assert()
            .success();
        assert!(at(stage).join("model.safetensors").exists());
    }
}

#[test]
fn data_that_cannot_be_read_leaves_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    write_configs(folder.path());
    for stage in ["prompt", "clip"] {
        let said = refusal(folder.path(), stage, &format!("{stage}.toml"), &["--set", "pictures.0.path=none"], 4);
        assert!(said.contains("none"), "{said}");
    }
    std::fs::create_dir(folder.path().join("nothing")).unwrap();
    let nothing = format!("pictures.0.path={}", folder.path().join("nothing").display());
    let said = refusal(folder.path(), "prompt", "prompt.toml", &["--set", &nothing], 4);
    assert!(said.contains("expected images/"), "{said}");
    // Before any data is read, and with the way out.
    let said = refusal(folder.path(), "prompt", "prompt.toml", &["--memory", "50MiB"], 2);
    assert!(said.contains("--memory") && said.contains("batch"), "{said}");
    pictures(folder.path());
    let all_test = ["--set", "pictures.0.split.test=1.0", "--set", "pictures.0.split.validation=0.0"];
    let said = refusal(folder.path(), "prompt", "prompt.toml", &all_test, 1);
    assert!(said.contains("split"), "{said}");
    let said = refusal(folder.path(), "align", "align.toml", &["--set", "model=missing.safetensors"], 4);
    assert!(said.contains("missing.safetensors"), "{said}");
    std::fs::write(folder.path().join("broken.safetensors"), b"no weights at all").unwrap();
    let broken = format!("model={}", folder.path().join("broken.safetensors").display());
    let said = refusal(folder.path(), "align", "align.toml", &["--set", &broken], 4);
    assert!(said.contains("broken.safetensors"), "{said}");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/volseg-model/weights/embedded.safetensors");
    let model = format!("model={}", shipped.display());
    let people = ["--set", &model, "--preferences", "none.jsonl", "--set", "images=[\".\"]"];
    let said = refusal(folder.path(), "align", "align.toml", &people, 4);
    assert!(said.contains("none.jsonl"), "{said}");
    std::fs::write(folder.path().join("masks/p03.png"), b"not a picture").unwrap();
    let said = refusal(folder.path(), "prompt", "prompt.toml", &[], 4);
    assert!(said.contains("p03.png"), "{said}");
}

/// A plan reads the data as the runs would, and leaves nothing.
#[test]
fn a_plan_checks_and_measures() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path());
    let out = folder.path().join("out");
    let plan = |options: &[&str], code: i32| {
        let mut command = volseg();
        command.args(["experiment", "table1", "--modality", "ultrasound", "--size", "small", "--plan", "--data"]);
        command.arg(folder.path()).arg("--out").arg(&out).args(options);
        let output = command.assert().code(code).get_output().clone();
        assert!(!out.exists());
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let hours = |text: &str| -> f64 {
        let number = text.split("about ").nth(1).and_then(|t| t.split(' ').next());
        number.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
    };
    let (few, many) = (plan(&["--steps", "10"], 0), plan(&["--steps", "1000000"], 0));
    assert!(few.contains("to do") && hours(&many) > 10.0 && hours(&few) < 1.0, "{few}\n{many}");
    let missing = folder.path().join("none.jsonl").display().to_string();
    assert!(plan(&["--answers", &missing], 4).contains("none.jsonl"));
    std::fs::write(folder.path().join("images/p05.png"), b"no picture").unwrap();
    assert!(plan(&[], 4).contains("p05.png"));
}
