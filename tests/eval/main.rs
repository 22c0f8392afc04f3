//! `volseg eval` from outside: numbers of other libraries, every switch, every kind of input, refusals.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod golden;
mod grids;
mod inputs;
mod means;
mod nifti;
mod outputs;
mod refusals;
mod schema;
mod switches;

use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

fn volseg() -> assert_cmd::Command {
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_volseg-tested"));
    command.env_remove("NO_COLOR").env("LC_ALL", "C");
    command
}

/// Pairs in files, committed with the script that made them.
fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/metrics")
}

/// Runs `eval` in a folder and gives its JSON.
fn eval(folder: &Path, gt: &str, pred: &str, options: &[&str]) -> Value {
    let out = folder.join("eval-test.json");
    volseg()
        .current_dir(folder)
        .args(["-q", "eval", "--gt", gt, "--pred", pred, "--json"])
        .arg(&out)
        .args(options)
        .assert()
        .code(0);
    let json = serde_json::from_slice(&fs::read(&out).unwrap()).unwrap();
    fs::remove_file(out).unwrap();
    json
}

/// A metric of a label in a case; infinity for "inf", NaN for null.
fn metric(json: &Value, case: usize, label: &str, name: &str) -> f64 {
    let labels = json["cases"][case]["labels"].as_array().unwrap();
    let label = labels.iter().find(|l| text(&l["id"]) == label).unwrap_or_else(|| panic!("no label {label}"));
    number(label["metrics"].get(name).unwrap_or_else(|| panic!("no metric {name}")))
}

fn text(id: &Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), ToOwned::to_owned)
}

fn number(v: &Value) -> f64 {
    match v {
        Value::Null => f64::NAN,
        Value::String(s) => match s.as_str() {
            "inf" | "Infinity" => f64::INFINITY,
            "NaN" => f64::NAN,
            other => panic!("{other}"),
        },
        other => other.as_f64().unwrap(),
    }
}

fn same(found: f64, expected: f64, tolerance: f64) -> bool {
    found == expected
        || (found.is_nan() && expected.is_nan())
        || (found - expected).abs() <= tolerance * expected.abs().max(1e-9)
}
