//! What holds for every command: version, exit codes, option names, pipes.
use crate::volseg;
use std::process::{Command, Stdio};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn version_names_commit_features_and_model() {
    let output = volseg().arg("--version").assert().code(0).get_output().clone();
    let lines = text(&output.stdout);
    assert!(lines.starts_with(&format!("volseg {}\n", env!("CARGO_PKG_VERSION"))), "{lines}");
    for fact in ["commit: ", "features: cpu", "embedded model: "] {
        assert!(lines.contains(fact), "{lines}");
    }
}

/// Of a command and of all below it.
fn shows_examples(words: &[&str]) {
    let output = volseg().args(words).arg("--help").assert().code(0).get_output().clone();
    let help = text(&output.stdout);
    assert!(help.contains("Examples:\n  volseg") && output.stderr.is_empty(), "{words:?}: {help}");
    let listed = help.split("Commands:\n").nth(1).unwrap_or_default().lines().take_while(|l| l.starts_with("  "));
    // What goes on in the next line stands further to the right.
    let names = listed.filter(|l| !l.starts_with("   ")).filter_map(|l| l.split_whitespace().next());
    for command in names {
        shows_examples(&[words, &[command]].concat());
    }
}

#[test]
fn every_command_shows_examples() {
    let help = text(&volseg().arg("--help").assert().code(0).get_output().stdout);
    assert!(help.contains("Commands:\n") && help.contains("\n  organs"), "{help}");
    shows_examples(&[]);
}

#[test]
fn wrong_use_is_code_2_and_says_what_is_allowed() {
    for (args, hint) in [
        (&["organs", "--nonsense"][..], "--nonsense"),
        (&["no-such-command"], "no-such-command"),
        (&["organs", "--threads", "0"], "expected 1 to"),
        (&["organs", "--threads", "1000000000"], "expected 1 to"),
        (&["organs", "--device", "tpu"], "expected auto, cpu, cuda"),
        (&["organs", "--device", "cuda"], "CPU alone"),
        (&["organs", "--memory", "lots"], "expected K, M, G or T"),
        (&[], "Usage"),
    ] {
        let output = volseg().args(args).assert().code(2).get_output().clone();
        assert!(text(&output.stderr).contains(hint), "{args:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn underscores_and_dashes_name_the_same_option() {
    for option in ["--log-format=json", "--log_format=json"] {
        let output = volseg().args(["organs", option, "--threads", "0"]).assert().code(2).get_output().clone();
        let line: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!(line["level"], "error");
        assert!(line["message"].as_str().unwrap().contains("--threads"));
    }
}

#[test]
fn organs_are_listed_for_people_and_programs() {
    let table = text(&volseg().arg("organs").assert().code(0).get_output().stdout);
    assert!(table.lines().any(|l| l.starts_with(" 2  right_kidney") && l.contains("64033007")), "{table}");
    assert!(!table.contains('\u{1b}'), "colour on a pipe");
    let json = volseg().args(["organs", "--json", "--quiet"]).assert().code(0).get_output().stdout.clone();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let organs = json["organs"].as_array().unwrap();
    assert_eq!(organs.len(), 20);
    assert_eq!(organs[5]["name"], "liver");
    assert_eq!(organs[1]["laterality"]["meaning"], "Right");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_volseg-tested"))
        .args(["organs", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
}
