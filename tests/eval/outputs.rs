//! What is written and printed.

use crate::{nifti, schema, volseg};
use serde_json::Value;
use std::{fs, path::Path};

const DIM: [i16; 3] = [40, 30, 20];

fn data(folder: &Path) {
    for n in 0..3i16 {
        let gt = [(1, [4, 4, 3], [20, 20, 15]), (2, [20, 4, 3], [30, 20, 15]), (7, [5, 21, 4], [12, 28, 9])];
        let pred =
            [(1, [4 + n, 4, 3], [20, 20, 15]), (2, [19, 4, 3 + n], [30, 21, 15]), (9, [35, 25, 15], [38, 28, 18])];
        nifti::write(&folder.join(format!("gt/case{n}.nii")), DIM, [0.8, 0.8, 2.5], &nifti::boxes(DIM, &gt));
        nifti::write(&folder.join(format!("p/case{n}.nii")), DIM, [0.8, 0.8, 2.5], &nifti::boxes(DIM, &pred));
    }
}

#[test]
fn files_are_the_same_bytes_at_any_number_of_threads_and_fit_the_schema() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    fs::write(folder.path().join("labels.json"), r#"{"1": {"name": "liver", "group": "big", "tolerance": 3}, "2": "spleen, left", "9": "x", "1+2": "both", "50": "none"}"#).unwrap();
    let labels = ["--labels", "labels.json"];
    for (n, options) in [
        &[][..],
        &labels,
        &["--compare", "p", "--penalty", "diagonal"],
        &["--preset", "nnunet"],
        &["--preset", "flare22"],
        &["--preset", "monai", "--empty", "one"],
        &["--ignore-label", "7", "--spacing", "1,1,1", "--pred-map", "9:7"],
        &["--allow-failed", "--bootstrap", "0"],
    ]
    .iter()
    .enumerate()
    {
        let mut seen = Vec::new();
        for threads in ["1", "2", "5"] {
            let name = format!("o{n}-{threads}");
            volseg()
                .current_dir(folder.path())
                .args(["-q", "--threads", threads, "eval", "--gt", "gt", "--pred", "p"])
                .args(["--json", &format!("{name}.json"), "--csv", &format!("{name}.csv"), "--report", &name])
                .args(*options)
                .assert()
                .code(0)
                .stdout("");
            let read = |file: String| fs::read(folder.path().join(file)).unwrap();
            seen.push([read(format!("{name}.json")), read(format!("{name}.csv")), read(format!("{name}/index.html"))]);
        }
        assert!(seen[0] == seen[1] && seen[0] == seen[2], "{options:?}");
        let json: Value = serde_json::from_slice(&seen[0][0]).unwrap();
        schema::check(&json);
    }
}

#[test]
fn csv_has_a_row_per_case_and_label() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    fs::write(folder.path().join("labels.csv"), "id,name\n1,liver\n2,\"spleen, left\"\n50,none\n7,a\n").unwrap();
    volseg()
        .current_dir(folder.path())
        .args(["-q", "eval", "--gt", "gt", "--pred", "p", "--csv", "o.csv", "--labels", "labels.csv"])
        .assert()
        .code(0);
    let csv = fs::read_to_string(folder.path().join("o.csv")).unwrap();
    let rows: Vec<&str> = csv.lines().collect();
    assert_eq!(rows.len(), 1 + 3 * 4);
    assert!(rows[0].starts_with("case,id,name,status,tp,fp,fn,dice,iou,"));
    assert!(rows[1].starts_with("case0,1,liver,ok,2880,0,192,0.9677"), "{}", rows[1]);
    assert!(rows[2].contains(",\"spleen, left\","));
    assert!(rows[3].starts_with("case0,50,none,both_empty,0,0,0,,,"), "{}", rows[3]);
    assert!(rows[4].contains(",inf,"));
}

#[test]
fn the_table_shows_n_beside_means_and_units() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    let show = |options: &[&str]| {
        let mut command = volseg();
        command
            .current_dir(folder.path())
            .args(["eval", "--gt", "gt", "--pred", "p", "--tolerance", "2"])
            .args(options);
        let output = command.assert().code(0).get_output().clone();
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (table, log) = show(&[]);
    for part in [
        "3 cases, 4 labels",
        "NSD@2mm",
        "HD95 mm",
        "median",
        " 3/3",
        " 0/3",
        "mSDC (= NSD) @2 mm",
        "mDice",
        "worst cases by Dice: case2",
        "95 % interval",
        "surfel-max",
    ] {
        assert!(table.contains(part), "{part}:\n{table}");
    }
    assert!(log.contains("warning") && log.contains("9"), "{log}");
    let widths: Vec<usize> = table.lines().skip(2).take(6).map(|l| l.chars().count()).collect();
    assert!(widths.windows(2).all(|w| w[0] == w[1]), "{widths:?}\n{table}");
    let (table, _) = show(&["--compare", "p"]);
    assert!(table.contains("difference +0.0000") && table.contains("Wilcoxon p 1.0000"), "{table}");
    image::GrayImage::from_pixel(9, 9, image::Luma([3])).save(folder.path().join("a.png")).unwrap();
    let output = volseg()
        .current_dir(folder.path())
        .args(["eval", "--gt", "a.png", "--pred", "a.png"])
        .assert()
        .code(0)
        .get_output()
        .clone();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("lengths in px") && table.contains("NSD@1px") && !table.contains("mm"), "{table}");
}

#[test]
fn the_report_is_one_page_that_needs_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    fs::write(folder.path().join("labels.csv"), "1,<b>liver</b>\n2,spleen\n7,x\n9,y\n").unwrap();
    volseg()
        .current_dir(folder.path())
        .args([
            "-q",
            "eval",
            "--gt",
            "gt",
            "--pred",
            "p",
            "--compare",
            "p",
            "--report",
            "deep/report",
            "--labels",
            "labels.csv",
        ])
        .assert()
        .code(0);
    let names: Vec<_> =
        fs::read_dir(folder.path().join("deep/report")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["index.html"]);
    let page = fs::read_to_string(folder.path().join("deep/report/index.html")).unwrap();
    for part in [
        "&lt;b&gt;liver",
        "case2",
        "Wilcoxon",
        "bootstrap",
        "surfel-max",
        "Bland-Altman",
        "<svg",
        "@media print",
        "3/3",
    ] {
        assert!(page.contains(part), "{part}");
    }
    for part in ["<script", "http://", "https://", "<link", "<b>liver", "src=\"/", "url(", "NaN", "@import"] {
        let found = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!found.contains(part), "{part}");
    }
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
}

#[test]
fn a_place_that_cannot_be_written_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    let run = |options: &[&str]| {
        let mut command = volseg();
        command
            .current_dir(folder.path())
            .args(["-q", "eval", "--gt", "gt", "--pred", "p", "--csv", "o.csv"])
            .args(options);
        command.assert().code(1);
        assert!(!folder.path().join("o.csv").exists());
    };
    fs::write(folder.path().join("file"), "x").unwrap();
    run(&["--json", "file/o.json"]);
    run(&["--report", "file"]);
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
}
