//! Means, intervals and the comparison of two predictions.

use crate::{eval, metric, nifti, number};
use serde_json::Value;
use std::path::Path;

const DIM: [i16; 3] = [14, 10, 8];

/// Three cases; label 2 is in the first only, and the second lacks label 3 in the prediction.
fn data(folder: &Path, pred: &str, worse: i16) {
    for (n, name) in ["a", "b", "c"].iter().enumerate() {
        let n = n as i16;
        let mut gt = vec![(1, [2, 2, 2], [8, 8, 6]), (3, [9, 2, 2], [13, 6, 6])];
        let mut out = vec![(1, [2 + worse, 2, 2], [8, 8, 6 - n]), (3, [9, 2, 2], [13, 6, 5])];
        if n == 0 {
            gt.push((2, [2, 8, 2], [6, 10, 6]));
            out.push((2, [2, 8, 2], [5, 10, 6]));
        }
        if n == 1 {
            out.remove(1);
        }
        nifti::write(&folder.join(format!("gt/{name}.nii")), DIM, [1.0; 3], &nifti::boxes(DIM, &gt));
        nifti::write(&folder.join(format!("{pred}/{name}.nii")), DIM, [1.0; 3], &nifti::boxes(DIM, &out));
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn the_three_rules_differ_where_labels_are_missing() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path(), "p", 0);
    let json = eval(folder.path(), "gt", "p", &[]);
    let dice = |case: usize, label: &str| metric(&json, case, label, "dice");
    let one: Vec<f64> = (0..3).map(|c| dice(c, "1")).collect();
    let three: Vec<f64> = (0..3).map(|c| dice(c, "3")).collect();
    let two = dice(0, "2");
    assert_eq!(three[1], 0.0);
    assert!(dice(1, "2").is_nan());
    let expected = [
        ("label_then_mean", mean(&[mean(&one), two, mean(&three)])),
        ("case_then_mean", mean(&[mean(&[one[0], two, three[0]]), mean(&[one[1], 0.0]), mean(&[one[2], three[2]])])),
        ("pooled", mean(&[&one[..], &[two], &three].concat())),
    ];
    let detail = &json["summary"]["metrics"]["dice"];
    for (rule, value) in expected {
        assert!((number(&detail["mean"][rule]) - value).abs() < 1e-12, "{rule}");
        let chosen = eval(folder.path(), "gt", "p", &["--mean", rule]);
        assert!((number(&chosen["summary"]["mdice"]) - value).abs() < 1e-12, "{rule}");
        assert_eq!(chosen["summary"]["mean_rule"], rule);
    }
    assert_eq!((detail["n_finite"].as_u64(), detail["n_expected"].as_u64()), (Some(7), Some(7)));
    // A missed organ leaves the mean of distances, but not its count, nor the median.
    let hd = &json["summary"]["metrics"]["hd95"];
    assert_eq!((hd["n_finite"].as_u64(), hd["n_expected"].as_u64()), (Some(6), Some(7)));
    assert_eq!(json["labels"][2]["metrics"]["hd95"]["q3"], "inf");
    assert_eq!(json["summary"]["mnsd@2"], json["summary"]["msdc@2"]);
}

#[test]
fn who_counts_in_means_is_chosen() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path(), "p", 0);
    let n = |options: &[&str]| {
        let json = eval(folder.path(), "gt", "p", options);
        json["summary"]["metrics"]["dice"]["n_expected"].as_u64().unwrap()
    };
    assert_eq!(n(&[]), 7);
    assert_eq!(n(&["--mean-over", "all"]), 9);
    // Predictions and ground truth change places: label 3 of case b is invented.
    let json = eval(folder.path(), "p", "gt", &["--mean-over", "gt"]);
    assert_eq!(json["summary"]["metrics"]["dice"]["n_expected"], 6);
    let all = eval(folder.path(), "gt", "p", &["--mean-over", "all"]);
    assert_eq!(all["labels"][1]["metrics"]["dice"]["median"], 1.0);
}

fn interval(v: &Value) -> (f64, f64) {
    (number(&v["ci95"][0]), number(&v["ci95"][1]))
}

#[test]
fn intervals_hold_the_mean_and_depend_on_the_seed_alone() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path(), "p", 0);
    let run = |options: &[&str]| eval(folder.path(), "gt", "p", options);
    let json = run(&[]);
    let dice = &json["summary"]["metrics"]["dice"];
    let (low, high) = interval(dice);
    let middle = number(&json["summary"]["mdice"]);
    assert!(low < middle && middle < high && high <= 1.0, "{low} {middle} {high}");
    assert_eq!(run(&[]), json);
    assert_eq!(json["settings"]["bootstrap"]["resamples"], 2000);
    assert!(json["warnings"].to_string().contains("3 cases are few"));
    let other = run(&["--seed", "7", "--bootstrap", "3"]);
    assert_eq!(other["settings"]["bootstrap"]["seed"], 7);
    assert_ne!(interval(&other["summary"]["metrics"]["assd"]), interval(&json["summary"]["metrics"]["assd"]));
    assert!(interval(&run(&["--bootstrap", "0"])["summary"]["metrics"]["dice"]).0.is_nan());
}

#[test]
fn two_predictions_are_compared_case_by_case() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path(), "p", 0);
    data(folder.path(), "q", 2);
    let json = eval(folder.path(), "gt", "p", &["--compare", "q"]);
    let dice = &json["comparison"]["dice"];
    assert_eq!(dice["first"], json["summary"]["mdice"]);
    let difference = number(&dice["second"]) - number(&dice["first"]);
    assert!(difference < 0.0 && (number(&dice["difference"]) - difference).abs() < 1e-15);
    let (low, high) = interval(dice);
    assert!(low <= difference && difference <= high && high < 0.0);
    // All three cases are worse: the smallest two-sided probability of three signs is 2 / 2³.
    assert_eq!((dice["wilcoxon"]["n"].as_u64(), dice["wilcoxon"]["p"].as_f64()), (Some(3), Some(0.25)));
    assert_eq!(json["cases"][0]["labels_compared"].as_array().unwrap().len(), 3);
    let same = eval(folder.path(), "gt", "p", &["--compare", "p"]);
    assert_eq!(
        (number(&same["comparison"]["dice"]["difference"]), number(&same["comparison"]["dice"]["wilcoxon"]["p"])),
        (0.0, 1.0)
    );
    // Who misses labels is compared on those that both found.
    data(folder.path(), "r", 0);
    let empty = std::fs::read(folder.path().join("r/a.nii")).unwrap();
    let blank: Vec<u8> = empty.iter().enumerate().map(|(n, v)| if n < 352 { *v } else { 0 }).collect();
    std::fs::write(folder.path().join("r/a.nii"), blank).unwrap();
    let hd = &eval(folder.path(), "gt", "p", &["--compare", "r"])["comparison"]["hd"];
    let finite = hd["n_finite"].as_array().unwrap();
    assert!(finite[0].as_u64() > finite[1].as_u64() && number(&hd["difference"]) == 0.0, "{hd}");
    let files = eval(folder.path(), "gt/a.nii", "p/a.nii", &["--compare", "q/a.nii"]);
    assert!(number(&files["comparison"]["dice"]["difference"]) < 0.0);
}
