//! Numbers of surface-distance, MONAI and MedPy (fixtures/metrics/make.py), through files and the command.

use crate::{eval, fixtures, metric, number, same, text};
use serde_json::Value;
use std::fs;

#[test]
fn numbers_of_other_libraries_are_met() {
    let golden: Value = serde_json::from_slice(&fs::read(fixtures().join("expected.json")).unwrap()).unwrap();
    let taus: Vec<String> = golden["tolerances_mm"].as_array().unwrap().iter().map(ToString::to_string).collect();
    let folder = tempfile::tempdir().unwrap();
    let (mut checked, mut wrong) = (0, Vec::new());
    for case in golden["cases"].as_array().unwrap() {
        let file = |k: &str| fixtures().join(case[k].as_str().unwrap()).to_str().unwrap().to_owned();
        for (source, tolerance, surface) in [
            ("counts", 0.0, &["--surface", "surfel"][..]),
            ("surfel", 1e-6, &["--surface", "surfel"]),
            ("voxel", 1e-5, &["--surface", "voxel"]),
            ("pooled", 1e-6, &["--surface", "voxel", "--hd95", "pooled"]),
        ] {
            let more: Vec<&str> = case["options"].as_array().unwrap().iter().map(|o| o.as_str().unwrap()).collect();
            let tolerances = taus.join(",");
            let options = [surface, &more, &["--tolerance", &tolerances]].concat();
            let json = eval(folder.path(), &file("gt"), &file("pred"), &options);
            for (label, sources) in case["labels"].as_object().unwrap() {
                for (name, expected) in sources[source].as_object().into_iter().flatten() {
                    let found = if source == "counts" {
                        let labels = json["cases"][0]["labels"].as_array().unwrap();
                        let this = labels.iter().find(|l| text(&l["id"]) == **label).unwrap();
                        number(&this["counts"][name])
                    } else {
                        metric(&json, 0, label, name)
                    };
                    checked += 1;
                    if !same(found, number(expected), tolerance) {
                        wrong.push(format!("{} {label} {source} {name}: {found}, not {expected}", case["name"]));
                    }
                }
            }
        }
    }
    assert!(checked > 500, "only {checked} numbers");
    assert!(wrong.is_empty(), "{} of {checked}:\n{}", wrong.len(), wrong.join("\n"));
}
