//! Bad input: a clear error with what was found and expected, the right exit code, and nothing written.

use crate::{
    eval, metric,
    nifti::{self, File, Voxels},
    volseg,
};
use std::fs;

const DIM: [i16; 3] = [6, 5, 4];

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut e, bytes).unwrap();
    e.finish().unwrap()
}

#[test]
fn bad_files_are_named_with_what_was_found() {
    let folder = tempfile::tempdir().unwrap();
    let labels: Vec<u8> = (0..120).map(|n| n % 3).collect();
    let file = File::new(DIM, [1.0; 3]);
    let good = file.bytes(&Voxels::U8(&labels));
    let float = |at: usize, v: f32| {
        let mut all: Vec<f32> = labels.iter().map(|&v| f32::from(v)).collect();
        all[at] = v;
        file.bytes(&Voxels::F32(&all))
    };
    let whole = |v: i32| {
        let mut all: Vec<i32> = labels.iter().map(|&v| i32::from(v)).collect();
        all[37] = v;
        file.bytes(&Voxels::I32(&all))
    };
    let negative: Vec<i16> = labels.iter().map(|&v| i16::from(v) - 1).collect();
    let pixdim = |v: f32| File { pixdim: Some([1.0, v, 1.0]), ..file.clone() }.bytes(&Voxels::U8(&labels));
    let column = |v: f32| {
        let mut file = file.clone();
        file.affine[1][1] = v;
        file.bytes(&Voxels::U8(&labels))
    };
    let mut sheared = file.clone();
    sheared.affine[0][1] = 0.3;
    let mut damaged = gzip(&good);
    let middle = damaged.len() / 2;
    damaged[middle..middle + 8].fill(0xaa);
    let zipped = gzip(&float(0, 1.0));
    let four = {
        let mut b = good.clone();
        b[40..42].copy_from_slice(&4i16.to_le_bytes());
        b[48..50].copy_from_slice(&2i16.to_le_bytes());
        b.extend(&labels);
        b
    };
    const INTEGER: &str = "expected an integer from 0 to 65535";
    let cases: Vec<(&str, Vec<u8>, i32, &[&str])> = vec![
        ("fraction.nii", float(37, 1.5), 1, &["1.5", "[1, 1, 1]", INTEGER]),
        ("almost.nii", float(37, 0.99), 1, &["0.99", INTEGER]),
        ("nan.nii", float(0, f32::NAN), 1, &["NaN", "[0, 0, 0]", INTEGER]),
        ("infinite.nii", float(119, f32::INFINITY), 1, &["inf", "[5, 4, 3]", INTEGER]),
        ("huge.nii", whole(65536), 1, &["65536", "[1, 1, 1]", INTEGER]),
        ("negative.nii", file.bytes(&Voxels::I16(&negative)), 1, &["-1", "[0, 0, 0]", INTEGER]),
        ("pixdim0.nii", pixdim(0.0), 1, &["spacing of axis 1 is 0 mm", "expected a positive number"]),
        ("pixdim_negative.nii", pixdim(-2.0), 1, &["spacing of axis 1 is -2 mm", "--spacing"]),
        ("pixdim_nan.nii", pixdim(f32::NAN), 1, &["spacing of axis 1 is NaN mm"]),
        ("column0.nii", column(0.0), 4, &["spacing of axis 1 is 0 mm"]),
        ("column_nan.nii", column(f32::NAN), 4, &["NaN"]),
        ("sheared.nii", sheared.bytes(&Voxels::U8(&labels)), 1, &["sheared", "cosine 0.28", "expected at most 0.001"]),
        ("cut.nii", good[..400].to_vec(), 4, &["truncated", "48", "120"]),
        ("cut.nii.gz", zipped[..zipped.len() - 14].to_vec(), 4, &["truncated", "expected 480"]),
        ("damaged.nii.gz", damaged, 4, &["NIfTI"]),
        ("header.nii", good[..100].to_vec(), 4, &["truncated", "100", "348"]),
        ("text.nii", b"not a volume".to_vec(), 4, &["no header"]),
        ("empty.nii", Vec::new(), 4, &["empty"]),
        ("four_axes.nii", four, 4, &["2 volumes"]),
        ("unknown.xyz", b"something".to_vec(), 4, &["not supported"]),
    ];
    fs::write(folder.path().join("good.nii"), &good).unwrap();
    for (name, bytes, code, parts) in &cases {
        fs::write(folder.path().join(name), bytes).unwrap();
        for (gt, pred) in [("good.nii", *name), (*name, "good.nii")] {
            let done = volseg()
                .current_dir(folder.path())
                .args(["eval", "--gt", gt, "--pred", pred, "--json", "o.json", "--csv", "o.csv", "--report", "r"])
                .assert()
                .code(*code)
                .get_output()
                .clone();
            let text = String::from_utf8(done.stderr).unwrap();
            let which = if gt == *name { "the ground truth" } else { "the prediction" };
            // A sheared grid is also compared with a straight one.
            for part in parts.iter().chain(&[which]) {
                assert!(text.contains(part), "{name}: no {part:?} in {text}");
            }
            assert!(done.stdout.is_empty() && !text.contains("panicked"));
            for out in ["o.json", "o.csv", "r"] {
                assert!(!folder.path().join(out).exists(), "{name} left {out}");
            }
        }
    }
    // A spacing of one's own stands in for a bad one.
    for name in ["pixdim0.nii", "pixdim_negative.nii", "column0.nii", "column_nan.nii"] {
        let json = eval(folder.path(), name, name, &["--spacing", "1,1,1"]);
        assert_eq!(metric(&json, 0, "1", "dice"), 1.0, "{name}");
    }
}

#[test]
fn wrong_use_is_code_2_and_names_the_option() {
    let folder = tempfile::tempdir().unwrap();
    nifti::write(&folder.path().join("a.nii"), DIM, [1.0; 3], &[1; 120]);
    let table = |name: &str, content: &str| fs::write(folder.path().join(name), content).unwrap();
    table("twice.json", r#"{"1": "liver", "2": "spleen", "1": "liver"}"#);
    table("names.json", r#"{"1": "liver", "2": "liver"}"#);
    table("twice.csv", "id,name\n1,liver\n2,spleen\n1,kidney\n");
    table("word.csv", "id,name\none,liver\n");
    table("tolerance.csv", "id,name,tolerance\n1,liver,wide\n");
    table("minus.json", r#"{"1": {"name": "liver", "tolerance": -1}}"#);
    table("empty.json", "{}");
    table("broken.json", "{\"1\": ");
    table("dup.csv", "1,2\n1,3\n");
    table("who.csv", "gizzard,3\nliver,2\n");
    table("colon.txt", "liver: 4\n");
    table("who.json", r#"{"1": "liver"}"#);
    table("other.json", r#"{"1": "gizzard"}"#);
    for (options, hint) in [
        (&["--labels", "1,2,1"][..], "found id 1 twice"),
        (&["--labels", "twice.json"], "found id 1 twice"),
        (&["--labels", "twice.csv"], "line 4"),
        (&["--labels", "names.json"], "found name \"liver\" twice"),
        (&["--labels", "word.csv"], "found label id \"one\", expected an integer"),
        (&["--labels", "tolerance.csv"], "found tolerance \"wide\""),
        (&["--labels", "minus.json"], "found -1, expected 0 mm or more"),
        (&["--labels", "empty.json"], "no label"),
        (&["--labels", "broken.json"], "--labels"),
        (&["--labels", "none.json"], "none.json\" cannot be read"),
        (&["--labels", "70000"], "found label id \"70000\""),
        (&["--labels", "0+1"], "background"),
        (&["--tolerance", "-1"], "found"),
        (&["--tolerance", "x"], "--tolerance"),
        (&["--tolerance-table", "dup.csv"], "twice"),
        (&["--tolerance-table", "who.csv"], "expected an id or a name"),
        (&["--tolerance-table", "colon.txt"], "found no tolerance"),
        (&["--tolerance-table", "flare", "--labels", "other.json"], "found no organ of FLARE"),
        (&["--ignore-label", "0"], "1..=65535"),
        (&["--labels", "liver,spline"], "expected ids (1,2,1+3), organs (liver,spleen) or a table"),
        (&["--labels", "0"], "0 is the background"),
        (&["--labels", "1,0"], "0 is the background"),
        (&["--labels", "liver,liver"], "found id 6 twice"),
        (&["--spacing", "-1,1,1"], "spacing of axis 0 is -1"),
        (&["--hd-percentile", "101"], "expected 0 to 100"),
        (&["--penalty", "much"], "expected inf, diagonal or a number"),
        (&["--spacing", "1"], "found 1 numbers"),
        (&["--spacing", "1,0,1"], "spacing of axis 1 is 0"),
        (&["--affine-tol", "nan"], "--affine-tol"),
        (&["--preset", "best"], "expected one of flare22"),
        (&["--surface", "mesh"], "expected surfel or voxel"),
        (&["--regions", "core"], "expected name=1+2"),
        (&["--pred-map", "1-2"], "expected stored:new"),
        (&["--pred-map", "1:2,1:3"], "twice"),
        (&["--gt-map", "0:2"], "background"),
        (&["--pattern", "a:b"], "--pattern"),
        (&["--empty", "two"], "--empty"),
        (&["--labels", "who.json", "--csv", "who.json"], "which is also --labels"),
    ] {
        let done = volseg()
            .current_dir(folder.path())
            .args(["eval", "--gt", "a.nii", "--pred", "a.nii", "--json", "o.json"])
            .args(options)
            .assert()
            .code(2)
            .get_output()
            .clone();
        let text = String::from_utf8(done.stderr).unwrap();
        assert!(text.contains(hint), "{options:?}: {text}");
        assert!(done.stdout.is_empty() && !folder.path().join("o.json").exists());
    }
}

#[test]
fn what_is_not_there_is_code_4() {
    let folder = tempfile::tempdir().unwrap();
    nifti::write(&folder.path().join("gt/a.nii"), DIM, [1.0; 3], &[1; 120]);
    fs::create_dir(folder.path().join("empty")).unwrap();
    for (gt, pred) in [("none.nii", "gt/a.nii"), ("gt/a.nii", "none.nii"), ("none", "gt"), ("empty", "gt")] {
        let done = volseg()
            .current_dir(folder.path())
            .args(["eval", "--gt", gt, "--pred", pred])
            .assert()
            .code(4)
            .get_output()
            .clone();
        assert!(String::from_utf8(done.stderr).unwrap().contains(if gt == "empty" { "empty" } else { "none" }));
    }
    volseg().current_dir(folder.path()).args(["eval", "--gt", "gt", "--pred", "gt/a.nii"]).assert().code(1);
    volseg().current_dir(folder.path()).args(["eval", "--gt", "gt/a.nii", "--pred", "gt"]).assert().code(1);
}
