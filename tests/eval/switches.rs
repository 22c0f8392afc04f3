//! Every switch that changes a number.

use crate::{eval, metric, nifti, same, volseg};
use std::{fs, path::Path};

const DIM: [i16; 3] = [16, 14, 12];

/// Labels 1 and 2 in both, 3 missed, 4 invented, 9 an ignored corner of the ground truth.
fn pair(folder: &Path) {
    let gt = [
        (1, [2, 2, 2], [8, 8, 6]),
        (2, [8, 2, 2], [12, 8, 6]),
        (3, [2, 10, 2], [6, 13, 6]),
        (9, [2, 2, 8], [6, 6, 11]),
    ];
    let pred = [
        (1, [2, 2, 2], [7, 8, 6]),
        (2, [7, 2, 2], [12, 8, 6]),
        (4, [10, 10, 8], [14, 13, 11]),
        (1, [3, 3, 9], [5, 5, 11]),
    ];
    for (name, boxes) in [("gt.nii", &gt), ("pred.nii", &pred)] {
        nifti::write(&folder.join(name), DIM, [1.0, 1.0, 2.0], &nifti::boxes(DIM, boxes));
    }
}

fn run(options: &[&str]) -> serde_json::Value {
    let folder = tempfile::tempdir().unwrap();
    pair(folder.path());
    eval(folder.path(), "gt.nii", "pred.nii", options)
}

/// Dice of voxel counts.
fn dice(tp: f64, fp: f64, missed: f64) -> f64 {
    2.0 * tp / (2.0 * tp + fp + missed)
}

#[test]
fn ids_seen_in_either_map_are_scored_by_default() {
    let json = run(&[]);
    let ids: Vec<i64> = json["labels"].as_array().unwrap().iter().map(|l| l["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, [1, 2, 3, 4, 9]);
    assert!(json["labels"].as_array().unwrap().iter().all(|l| l["why"] == "seen in the data"));
    let status: Vec<&str> =
        json["cases"][0]["labels"].as_array().unwrap().iter().map(|l| l["status"].as_str().unwrap()).collect();
    assert_eq!(status, ["ok", "ok", "missed", "invented", "missed"]);
    assert!(json["warnings"].to_string().contains("ids that no ground truth has: 4"));
    // 6 x 6 x 4 against 5 x 6 x 4 and a speck of 8 voxels.
    assert!(same(metric(&json, 0, "1", "dice"), dice(120.0, 8.0, 24.0), 1e-15));
    assert_eq!(metric(&json, 0, "3", "hd95"), f64::INFINITY);
    assert_eq!(metric(&json, 0, "4", "nsd@1"), 0.0);
    assert!(metric(&json, 0, "4", "recall").is_nan());
    assert_eq!(metric(&json, 0, "4", "precision"), 0.0);
    assert_eq!(metric(&json, 0, "2", "volume_gt_mm3"), 192.0);
    assert_eq!(metric(&json, 0, "2", "volume_diff_mm3"), 48.0);
    assert_eq!(metric(&json, 0, "2", "volume_rel_diff"), 0.25);
}

#[test]
fn regions_are_unions_of_ids() {
    let json = run(&["--regions", "both=1+2,all=1+2+3+4"]);
    assert!(same(metric(&json, 0, "1+2", "dice"), dice(240.0, 8.0, 0.0), 1e-15));
    assert_eq!(json["cases"][0]["labels"][0]["name"], "both");
    let json = run(&["--labels", "1+2,3"]);
    assert!(same(metric(&json, 0, "1+2", "dice"), dice(240.0, 8.0, 0.0), 1e-15));
    assert_eq!(metric(&json, 0, "3", "dice"), 0.0);
}

#[test]
fn maps_renumber_before_anything_else() {
    let json = run(&["--pred-map", "4:3,2:1", "--gt-map", "2:1"]);
    assert!(same(metric(&json, 0, "1", "dice"), dice(240.0, 8.0, 0.0), 1e-15));
    assert_eq!(json["cases"][0]["labels"][1]["id"], 3);
    assert_eq!(json["cases"][0]["labels"][1]["status"], "ok");
    assert_eq!(json["settings"]["pred_map"]["4"], 3);
    // Ids without an entry are kept, unless the map is strict.
    let strict = run(&["--pred-map", "1:1", "--map-strict"]);
    assert_eq!(strict["cases"][0]["labels"][1]["status"], "missed");
    let dropped = run(&["--pred-map", "4:0"]);
    assert!(dropped["labels"].as_array().unwrap().iter().all(|l| l["id"] != 4));
}

#[test]
fn ignored_voxels_count_nowhere() {
    let json = run(&["--ignore-label", "9"]);
    // The speck of label 1 lies in the ignored corner.
    assert!(same(metric(&json, 0, "1", "dice"), dice(120.0, 0.0, 24.0), 1e-15));
    assert!(json["labels"].as_array().unwrap().iter().all(|l| l["id"] != 9));
    let counts = &json["cases"][0]["labels"][0]["counts"];
    let all: i64 = ["tp", "fp", "fn", "tn"].iter().map(|k| counts[k].as_i64().unwrap()).sum();
    assert_eq!(all, 16 * 14 * 12 - 48);
    assert!(json["warnings"].to_string().contains("artificial surface"));
}

#[test]
fn spacing_replaces_that_of_the_file() {
    let (own, given) = (run(&[]), run(&["--spacing", "2,2,4", "--tolerance", "1,2"]));
    assert_eq!(metric(&given, 0, "2", "hd"), 2.0 * metric(&own, 0, "2", "hd"));
    assert_eq!(metric(&given, 0, "2", "nsd@2"), metric(&own, 0, "2", "nsd@1"));
    assert_eq!(metric(&given, 0, "2", "volume_gt_mm3"), 8.0 * metric(&own, 0, "2", "volume_gt_mm3"));
    assert_eq!(given["cases"][0]["spacing_mm"], serde_json::json!([2.0, 2.0, 4.0]));
}

#[test]
fn empty_masks_follow_the_switches() {
    let listed = ["--labels", "1,3,4,7"];
    let json = run(&listed);
    assert_eq!(json["cases"][0]["labels"][3]["status"], "both_empty");
    assert!(metric(&json, 0, "7", "dice").is_nan() && metric(&json, 0, "7", "hd95").is_nan());
    let one = run(&[&listed[..], &["--empty", "one"]].concat());
    assert_eq!(
        (metric(&one, 0, "7", "dice"), metric(&one, 0, "7", "nsd@1"), metric(&one, 0, "7", "hd95")),
        (1.0, 1.0, 0.0)
    );
    let skip = run(&[&listed[..], &["--gt-absent", "skip"]].concat());
    assert!(metric(&skip, 0, "4", "dice").is_nan() && metric(&skip, 0, "4", "hd").is_nan());
    assert_eq!(metric(&skip, 0, "3", "dice"), 0.0);
    let diagonal = run(&[&listed[..], &["--penalty", "diagonal"]].concat());
    let length = (16f64.powi(2) + 14f64.powi(2) + 24f64.powi(2)).sqrt();
    assert_eq!((metric(&diagonal, 0, "3", "hd95"), metric(&diagonal, 0, "4", "assd")), (length, length));
    let fixed = run(&[&listed[..], &["--penalty", "373.13"]].concat());
    assert_eq!(metric(&fixed, 0, "3", "hd95"), 373.13);
    assert_eq!(fixed["settings"]["penalty"], 373.13);
}

#[test]
fn percentiles_and_tolerances_are_free() {
    let json = run(&["--hd-percentile", "50,95,99,100", "--tolerance", "0,0.5,2.5"]);
    let at = |name: &str| metric(&json, 0, "1", name);
    assert!(at("hd50") <= at("hd95") && at("hd95") <= at("hd99") && at("hd99") <= at("hd"));
    assert_eq!(at("hd100"), at("hd"));
    let median = run(&["--hd-percentile", "50"]);
    assert_eq!(metric(&median, 0, "1", "hd95"), at("hd95"));
    assert!(at("nsd@0") <= at("nsd@0.5") && at("nsd@0.5") <= at("nsd@2.5"));
    assert!(json["warnings"].to_string().contains("NSD@0, 0.5 mostly measures the spacing"));
}

#[test]
fn labels_have_tolerances_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    pair(folder.path());
    let at = |name: &str, content: &str| fs::write(folder.path().join(name), content).unwrap();
    at(
        "labels.json",
        r#"{"1": {"name": "liver", "tolerance": 2, "group": "large"}, "2": {"name": "spleen"}, "1+2": "both"}"#,
    );
    at("tolerances.csv", "name,mm\nspleen,1\nboth,3\n");
    at("tolerances.json", r#"{"liver": 3, "2": 1}"#);
    let run = |options: &[&str]| {
        let own = !options.contains(&"--labels");
        let labels: &[&str] = if own { &["--labels", "labels.json"] } else { &[] };
        let all = [labels, &["--tolerance", "1,2,3"], options].concat();
        eval(folder.path(), "gt.nii", "pred.nii", &all)
    };
    let json = run(&[]);
    assert_eq!(metric(&json, 0, "1", "nsd"), metric(&json, 0, "1", "nsd@2"));
    assert_eq!(json["cases"][0]["labels"][0]["tolerance_mm"], 2.0);
    assert!(json["cases"][0]["labels"][1]["metrics"].get("nsd").is_none());
    assert_eq!(json["labels"][0]["group"], "large");
    assert_eq!(json["summary"]["groups"]["large"]["mdice"], metric(&json, 0, "1", "dice"));
    let json = run(&["--tolerance-table", "tolerances.csv"]);
    assert_eq!(metric(&json, 0, "1", "nsd"), metric(&json, 0, "1", "nsd@2"));
    assert_eq!(metric(&json, 0, "2", "nsd"), metric(&json, 0, "2", "nsd@1"));
    assert_eq!(metric(&json, 0, "1+2", "nsd"), metric(&json, 0, "1+2", "nsd@3"));
    let json = run(&["--tolerance-table", "tolerances.json"]);
    assert_eq!(metric(&json, 0, "1", "nsd"), metric(&json, 0, "1", "nsd@3"));
    // FLARE's table goes by names where there are names: AMOS numbers the organs in another way.
    at("amos.json", r#"{"1": "spleen", "2": "Right kidney", "3": "postcava", "4": "gizzard"}"#);
    let json = run(&["--tolerance-table", "flare", "--labels", "amos.json"]);
    assert_eq!(json["settings"]["tolerance_table_mm"], serde_json::json!({"1": 3.0, "2": 3.0, "3": 2.0}));
    let json = eval(folder.path(), "gt.nii", "pred.nii", &["--tolerance-table", "flare"]);
    assert_eq!(json["settings"]["tolerance_table_mm"]["12"], 7.0);
    assert_eq!(json["cases"][0]["labels"][0]["tolerance_mm"], 5.0);
}

#[test]
fn label_tables_come_in_many_forms() {
    let folder = tempfile::tempdir().unwrap();
    pair(folder.path());
    for (name, content) in [
        ("a.json", r#"{"1": "liver", "2": "spleen"}"#),
        ("b.json", r#"{"liver": 1, "spleen": 2}"#),
        ("c.json", r#"[{"id": 1, "name": "liver"}, {"id": 2, "name": "spleen"}]"#),
        (
            "d.json",
            r#"{"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "spleen": 2}, "numTraining": 3}"#,
        ),
        ("a.csv", "id,name\n1,liver\n2,spleen\n"),
        ("b.csv", "1,liver\n2,spleen\n"),
        ("c.csv", "\u{feff}name;id;tolerance\r\n\"liver\";1;2.5\r\nspleen;2;\r\n"),
        ("d.csv", "label,value\nliver,1\nspleen,2\n"),
        ("e.tsv", "label\tname\n1\tliver\n2\tspleen\n"),
    ] {
        fs::write(folder.path().join(name), content).unwrap();
        let json = eval(folder.path(), "gt.nii", "pred.nii", &["--labels", name]);
        let labels: Vec<(i64, &str)> = json["labels"]
            .as_array()
            .unwrap()
            .iter()
            .map(|l| (l["id"].as_i64().unwrap(), l["name"].as_str().unwrap()))
            .collect();
        assert_eq!(labels, [(1, "liver"), (2, "spleen")], "{name}");
        assert!(json["labels"].as_array().unwrap().iter().all(|l| l["why"] == "listed"), "{name}");
    }
    // nnU-Net's ignore label is no organ.
    fs::write(
        folder.path().join("ignore.json"),
        r#"{"labels": {"background": 0, "liver": 1, "core": [1, 2], "ignore": 9}}"#,
    )
    .unwrap();
    let json = eval(folder.path(), "gt.nii", "pred.nii", &["--labels", "ignore.json"]);
    assert_eq!(json["settings"]["ignore_label"], 9);
    assert!(same(metric(&json, 0, "1", "dice"), dice(120.0, 0.0, 24.0), 1e-15));
    assert_eq!(metric(&json, 0, "1+2", "dice"), 1.0);
}

#[test]
fn presets_name_themselves_and_set_their_rules() {
    for (preset, surface, hd95, rule) in [
        ("flare22", "surfel", "surfel-max", "label_then_mean"),
        ("flare21", "surfel", "surfel-max", "label_then_mean"),
        ("totalsegmentator", "surfel", "surfel-max", "label_then_mean"),
        ("nnunet", "none", "surfel-max", "label_then_mean"),
        ("sam-med3d", "surfel", "surfel-max", "pooled"),
        ("monai", "voxel", "voxel-max", "case_then_mean"),
        ("medpy", "voxel", "pooled", "label_then_mean"),
        ("deepmind", "surfel", "surfel-max", "label_then_mean"),
    ] {
        let json = run(&["--preset", preset]);
        let s = &json["settings"];
        assert_eq!((s["preset"].as_str(), s["surface"].as_str()), (Some(preset), Some(surface)), "{preset}");
        assert_eq!((s["hd95"].as_str(), s["mean_rule"].as_str()), (Some(hd95), Some(rule)), "{preset}");
    }
    // An option says more than the preset.
    assert_eq!(run(&["--preset", "medpy", "--hd95", "voxel-max"])["settings"]["hd95"], "voxel-max");
    // FLARE's rule of slices: label 6 on the ground truth's slices 2..6 without the last.
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, high: i16| {
        let voxels = nifti::boxes(DIM, &[(6, [2, 2, 2], [8, 8, high])]);
        nifti::write(&folder.path().join(name), DIM, [1.0; 3], &voxels);
    };
    write("gt.nii", 6);
    write("pred.nii", 10);
    let json = eval(folder.path(), "gt.nii", "pred.nii", &["--preset", "flare22"]);
    assert_eq!((metric(&json, 0, "6", "dice"), metric(&json, 0, "6", "nsd")), (1.0, 1.0));
    // With names, the rules are those of the organs: here 6 is the liver, which is scored whole, with 5 mm.
    let json = eval(folder.path(), "gt.nii", "pred.nii", &["--preset", "flare22", "--labels", "liver"]);
    assert!(metric(&json, 0, "6", "dice") < 0.8 && json["cases"][0]["labels"][0]["tolerance_mm"] == 5.0);
    // Names that are no organs leave FLARE's ids.
    fs::write(folder.path().join("names.json"), r#"{"6": "IVC of the left scan"}"#).unwrap();
    let json = eval(folder.path(), "gt.nii", "pred.nii", &["--preset", "flare22", "--labels", "names.json"]);
    assert!(metric(&json, 0, "6", "dice") == 1.0 && json["cases"][0]["labels"][0]["tolerance_mm"] == 2.0);
    // A preset without surfaces has them when they are asked for.
    assert!(run(&["--preset", "nnunet", "--tolerance", "2"])["summary"]["mnsd@2"].is_number());
}

#[test]
fn the_summary_of_nnunet_has_its_layout() {
    let folder = tempfile::tempdir().unwrap();
    pair(folder.path());
    volseg()
        .current_dir(folder.path())
        .args(["-q", "eval", "--gt", "gt.nii", "--pred", "pred.nii", "--preset", "nnunet", "--labels", "1,2,1+2,7"])
        .args(["--nnunet-summary", "summary.json", "--json", "own.json"])
        .assert()
        .code(0);
    let read = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(folder.path().join(name)).unwrap()).unwrap()
    };
    let (summary, own) = (read("summary.json"), read("own.json"));
    let keys: Vec<&String> = summary.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["foreground_mean", "mean", "metric_per_case"]);
    let one = &summary["metric_per_case"][0];
    assert_eq!((one["prediction_file"].as_str(), one["reference_file"].as_str()), (Some("pred.nii"), Some("gt.nii")));
    let names: Vec<&String> = one["metrics"]["1"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["Dice", "FN", "FP", "IoU", "TN", "TP", "n_pred", "n_ref"]);
    assert_eq!(one["metrics"]["1"]["TP"], 120.0);
    assert_eq!(one["metrics"]["(1, 2)"]["FP"], 8.0);
    assert!(one["metrics"]["7"]["Dice"].is_null());
    // The mean leaves out what is undefined.
    let dice = |k: &str| summary["mean"][k]["Dice"].as_f64().unwrap();
    let mean = (dice("1") + dice("2") + dice("(1, 2)")) / 3.0;
    assert!((summary["foreground_mean"]["Dice"].as_f64().unwrap() - mean).abs() < 1e-12);
    // The own JSON holds the same keys under this preset.
    assert_eq!(own["foreground_mean"], summary["foreground_mean"]);
    assert_eq!(own["schema"], "volseg-eval/1");
}

#[test]
fn labels_have_the_names_of_their_files_and_organs_their_ids() {
    let folder = tempfile::tempdir().unwrap();
    pair(folder.path());
    let nrrd = |name: &str, label: &str| {
        let header = format!(
            "NRRD0004\ntype: unsigned char\ndimension: 3\nsizes: 4 4 2\nspace: left-posterior-superior\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n\
             space origin: (0,0,0)\nencoding: raw\nSegment0_ID:=Segment_1\nSegment0_Name:={label}\nSegment0_LabelValue:=6\nSegment0_Layer:=0\n\n"
        );
        let voxels: Vec<u8> = (0..32).map(|n| if n % 4 < 2 { 6 } else { 0 }).collect();
        std::fs::write(folder.path().join(name), [header.into_bytes(), voxels].concat()).unwrap();
    };
    nrrd("liver.seg.nrrd", "Liver");
    nrrd("spleen.seg.nrrd", "spleen");
    let named = |json: &serde_json::Value| json["cases"][0]["labels"][0]["name"].as_str().map(ToOwned::to_owned);
    let same = eval(folder.path(), "liver.seg.nrrd", "liver.seg.nrrd", &[]);
    assert_eq!(named(&same).as_deref(), Some("Liver"));
    let other = eval(folder.path(), "liver.seg.nrrd", "spleen.seg.nrrd", &[]);
    assert_eq!(named(&other).as_deref(), Some("Liver"));
    assert!(
        other["warnings"]
            .to_string()
            .contains("label 6 is Liver in the ground truth's file and spleen in the prediction's")
    );
    // Renumbered ids are not those of the file.
    let mapped = eval(folder.path(), "liver.seg.nrrd", "liver.seg.nrrd", &["--gt-map", "6:1", "--pred-map", "6:1"]);
    assert_eq!(named(&mapped).as_deref(), Some("1"));
    let asked = eval(folder.path(), "liver.seg.nrrd", "spleen.seg.nrrd", &["--labels", "liver"]);
    assert_eq!(
        (named(&asked).as_deref(), &asked["cases"][0]["labels"][0]["id"]),
        (Some("liver"), &serde_json::json!(6))
    );
}
