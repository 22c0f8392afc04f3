//! Kinds of files, and how files are paired.

use crate::{
    eval, metric,
    nifti::{self, File, Voxels},
    volseg,
};
use flate2::{Compression, write::GzEncoder};
use std::{fs, io::Write, path::Path};

const DIM: [i16; 3] = [12, 10, 8];
const SPACING: [f32; 3] = [0.75, 0.75, 3.0];

fn voxels(x: i16) -> Vec<u8> {
    nifti::boxes(DIM, &[(1, [x, 2, 2], [x + 5, 8, 6]), (2, [2, 8, 6], [6, 10, 8])])
}

fn gzip(path: &Path, bytes: &[u8]) {
    let mut e = GzEncoder::new(fs::File::create(path).unwrap(), Compression::default());
    e.write_all(bytes).unwrap();
    e.finish().unwrap();
}

#[test]
fn every_format_of_one_map_gives_the_same_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    nifti::write(&at("gt.nii"), DIM, SPACING, &voxels(2));
    nifti::write(&at("plain.nii"), DIM, SPACING, &voxels(3));
    let expected = eval(folder.path(), "gt.nii", "plain.nii", &[]);
    let file = File::new(DIM, SPACING);
    let wide: Vec<i16> = voxels(3).iter().map(|&v| i16::from(v)).collect();
    let whole: Vec<i32> = voxels(3).iter().map(|&v| i32::from(v)).collect();
    let float: Vec<f32> = voxels(3).iter().map(|&v| f32::from(v) - 4e-4).collect();
    let half: Vec<f32> = voxels(3).iter().map(|&v| f32::from(v) / 2.0).collect();
    file.write(&at("i16.nii"), &Voxels::I16(&wide));
    file.write(&at("i32.nii"), &Voxels::I32(&whole));
    file.write(&at("float.nii"), &Voxels::F32(&float));
    File { slope: 2.0, ..file.clone() }.write(&at("slope.nii"), &Voxels::F32(&half));
    let big = File { big_endian: true, ..file.clone() };
    big.write(&at("big.nii"), &Voxels::I16(&wide));
    big.write(&at("big32.nii"), &Voxels::F32(&float));
    gzip(&at("zipped.nii.gz"), &big.bytes(&Voxels::I16(&wide)));
    // Micrometres.
    let mut micro = File::new(DIM, SPACING.map(|s| s * 1000.0));
    micro.units = 3;
    micro.write(&at("micro.nii"), &Voxels::U8(&voxels(3)));
    let mut names =
        vec!["i16.nii", "i32.nii", "float.nii", "slope.nii", "big.nii", "big32.nii", "zipped.nii.gz", "micro.nii"];
    for name in ["out.nrrd", "out.seg.nrrd", "out.nhdr", "out.mha", "out.mhd", "out.hdr", "out.nii.gz"] {
        volseg().current_dir(folder.path()).args(["-q", "convert", "plain.nii", "-o", name]).assert().code(0);
        names.push(name);
    }
    for name in names {
        let json = eval(folder.path(), "gt.nii", name, &[]);
        assert_eq!(json["cases"][0]["labels"], expected["cases"][0]["labels"], "{name}");
        let json = eval(folder.path(), name, name, &[]);
        assert_eq!(metric(&json, 0, "1", "nsd@1"), 1.0, "{name}");
    }
}

/// A DICOM file of one slice, explicit little endian.
fn slice(path: &Path, z: usize, pixels: &[u8]) {
    let mut out = vec![0u8; 128];
    out.extend(b"DICM");
    let mut meta = Vec::new();
    let put = |out: &mut Vec<u8>, group: u16, element: u16, vr: &[u8; 2], value: &[u8]| {
        let mut value = value.to_vec();
        if value.len() % 2 == 1 {
            value.push(if vr == b"UI" { 0 } else { b' ' });
        }
        out.extend(group.to_le_bytes());
        out.extend(element.to_le_bytes());
        out.extend(vr);
        if [b"OB", b"OW"].contains(&vr) {
            out.extend([0, 0]);
            out.extend((value.len() as u32).to_le_bytes());
        } else {
            out.extend((value.len() as u16).to_le_bytes());
        }
        out.extend(value);
    };
    put(&mut meta, 2, 0x10, b"UI", b"1.2.840.10008.1.2.1");
    put(&mut out, 2, 0, b"UL", &(meta.len() as u32).to_le_bytes());
    out.extend(meta);
    let short = |v: u16| v.to_le_bytes();
    let mut add = |group: u16, element: u16, vr: &[u8; 2], value: &[u8]| put(&mut out, group, element, vr, value);
    add(8, 0x16, b"UI", b"1.2.840.10008.5.1.4.1.1.2");
    add(8, 0x18, b"UI", format!("1.2.3.{}", z + 1).as_bytes());
    add(8, 0x60, b"CS", b"CT");
    add(0x18, 0x50, b"DS", b"3");
    add(0x20, 0x0d, b"UI", b"1.2.9");
    add(0x20, 0x0e, b"UI", b"1.2.8");
    add(0x20, 0x13, b"IS", (z + 1).to_string().as_bytes());
    add(0x20, 0x32, b"DS", format!("0\\0\\{}", 3 * z).as_bytes());
    add(0x20, 0x37, b"DS", b"1\\0\\0\\0\\1\\0");
    add(0x28, 2, b"US", &short(1));
    add(0x28, 4, b"CS", b"MONOCHROME2");
    add(0x28, 0x10, b"US", &short(DIM[1] as u16));
    add(0x28, 0x11, b"US", &short(DIM[0] as u16));
    add(0x28, 0x30, b"DS", b"0.75\\0.75");
    for (element, value) in [(0x100, 8), (0x101, 8), (0x102, 7), (0x103, 0)] {
        add(0x28, element, b"US", &short(value));
    }
    add(0x7fe0, 0x10, b"OB", pixels);
    fs::write(path, out).unwrap();
}

#[test]
fn a_dicom_folder_is_one_label_map() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("series")).unwrap();
    for (z, pixels) in voxels(3).chunks(120).enumerate() {
        slice(&folder.path().join(format!("series/{z}.dcm")), z, pixels);
    }
    // DICOM's axes run towards left and posterior; in RAS the first two steps are negative.
    let mut file = File::new(DIM, SPACING);
    file.affine[0][0] = -0.75;
    file.affine[1][1] = -0.75;
    file.write(&folder.path().join("gt.nii"), &Voxels::U8(&voxels(2)));
    file.write(&folder.path().join("pred.nii"), &Voxels::U8(&voxels(3)));
    let expected = eval(folder.path(), "gt.nii", "pred.nii", &[]);
    let json = eval(folder.path(), "gt.nii", "series", &[]);
    assert_eq!(json["cases"][0]["labels"], expected["cases"][0]["labels"]);
    let json = eval(folder.path(), "series", "series", &[]);
    assert_eq!((json["cases"][0]["case"].as_str(), metric(&json, 0, "1", "dice")), (Some("series"), 1.0));
}

fn cases(folder: &Path, names: &[&str]) {
    for name in names {
        let x = if name.contains("gt") { 2 } else { 3 };
        nifti::write(&folder.join(name), DIM, SPACING, &voxels(x));
    }
}

#[test]
fn folders_are_paired_by_name() {
    let folder = tempfile::tempdir().unwrap();
    cases(folder.path(), &["gt/a.nii", "gt/b.nii", "p/a.nii", "p/b.nii", "gt/.hidden.nii"]);
    fs::write(folder.path().join("gt/dataset.json"), "{}").unwrap();
    volseg().current_dir(folder.path()).args(["-q", "convert", "p/b.nii", "-o", "p/b.nrrd"]).assert().code(0);
    fs::remove_file(folder.path().join("p/b.nii")).unwrap();
    let json = eval(folder.path(), "gt", "p", &[]);
    let names: Vec<&str> = json["cases"].as_array().unwrap().iter().map(|c| c["case"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(json["cases"][0]["labels"], json["cases"][1]["labels"]);
}

#[test]
fn patterns_choose_files_and_name_cases() {
    let folder = tempfile::tempdir().unwrap();
    cases(
        folder.path(),
        &["all/a_gt.nii", "all/a_pred.nii", "all/b_gt.nii", "all/b_pred.nii", "gt/a.nii", "gt/c.nii", "p/a.nii"],
    );
    let names = |json: &serde_json::Value| -> Vec<String> {
        json["cases"].as_array().unwrap().iter().map(|c| c["case"].as_str().unwrap().to_owned()).collect()
    };
    for pattern in ["{case}_gt.nii:{case}_pred.nii", "*_gt.nii:*_pred.nii"] {
        let json = eval(folder.path(), "all", "all", &["--pattern", pattern]);
        assert_eq!(names(&json), ["a", "b"], "{pattern}");
        assert!(metric(&json, 1, "1", "dice") < 1.0);
    }
    let json = eval(folder.path(), "gt", "p", &["--pattern", "a*"]);
    assert_eq!(names(&json), ["a"]);
    let json = eval(folder.path(), "gt", "p", &["--pattern", "{case}.nii", "--missing", "zero"]);
    assert_eq!(names(&json), ["a", "c"]);
}

#[test]
fn no_case_is_left_out_silently() {
    let folder = tempfile::tempdir().unwrap();
    cases(folder.path(), &["gt/a.nii", "gt/b.nii", "p/a.nii", "more/a.nii", "more/b.nii", "more/z.nii"]);
    let refuse = |pred: &str, hint: &str| {
        let done = volseg()
            .current_dir(folder.path())
            .args(["eval", "--gt", "gt", "--pred", pred, "--json", "o.json"])
            .assert()
            .code(1)
            .get_output()
            .clone();
        let text = String::from_utf8(done.stderr).unwrap();
        assert!(text.contains(hint), "{text}");
        assert!(!folder.path().join("o.json").exists());
    };
    refuse("p", "lacks predictions of: b");
    refuse("more", "without ground truth: z");
    let json = eval(folder.path(), "gt", "p", &["--missing", "zero"]);
    assert_eq!(json["cases"][1]["prediction_missing"], true);
    assert_eq!((metric(&json, 1, "1", "dice"), metric(&json, 1, "1", "hd")), (0.0, f64::INFINITY));
    assert_eq!(json["summary"]["metrics"]["hd95"]["n_finite"], 2);
    assert_eq!(json["summary"]["metrics"]["hd95"]["n_expected"], 4);
}

#[test]
fn a_failed_case_fails_the_run_unless_allowed() {
    let folder = tempfile::tempdir().unwrap();
    cases(folder.path(), &["gt/a.nii", "gt/b.nii", "p/a.nii"]);
    fs::write(folder.path().join("p/b.nii"), &File::new(DIM, SPACING).bytes(&Voxels::U8(&voxels(3)))[..700]).unwrap();
    let run = |options: &[&str], code: i32| {
        let mut command = volseg();
        command
            .current_dir(folder.path())
            .args(["eval", "--gt", "gt", "--pred", "p", "--json", "o.json"])
            .args(options);
        String::from_utf8(command.assert().code(code).get_output().stderr.clone()).unwrap()
    };
    let text = run(&[], 1);
    for part in ["case b", "truncated", "1 of 2 cases failed"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!folder.path().join("o.json").exists());
    let text = run(&["--allow-failed"], 3);
    assert!(text.contains("case b"), "{text}");
    let json: serde_json::Value = serde_json::from_slice(&fs::read(folder.path().join("o.json")).unwrap()).unwrap();
    assert_eq!(json["cases"].as_array().unwrap().len(), 1);
    assert_eq!(json["failed_cases"][0]["case"], "b");
    let reason = json["failed_cases"][0]["error"].as_str().unwrap();
    assert!(reason.contains("truncated") && !reason.contains("p/b.nii"), "{reason}");
}

#[test]
fn pictures_are_scored_by_their_contours() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let pixel = |x0: u32, value: u8| {
        move |x: u32, y: u32| image::Luma([if (x0..x0 + 8).contains(&x) && (3..9).contains(&y) { value } else { 0 }])
    };
    image::GrayImage::from_fn(20, 14, pixel(4, 255)).save(at("gt.png")).unwrap();
    image::GrayImage::from_fn(20, 14, pixel(5, 1)).save(at("pred.png")).unwrap();
    let json = eval(folder.path(), "gt.png", "pred.png", &[]);
    assert_eq!((json["cases"][0]["unit"].as_str(), metric(&json, 0, "1", "dice")), (Some("px"), 7.0 / 8.0));
    // A contour of 8 x 6 pixels with its four corners cut: 2 (7 + 5) + 4 · sqrt(1/2).
    let length = metric(&json, 0, "1", "surface_area_gt_mm2");
    assert!((length - (24.0 + 8f64.sqrt())).abs() < 1e-12, "{length}");
    assert_eq!(metric(&json, 0, "1", "hd95"), 1.0);
    let mm = eval(folder.path(), "gt.png", "pred.png", &["--spacing", "0.5,2"]);
    assert_eq!((mm["cases"][0]["unit"].as_str(), metric(&mm, 0, "1", "hd95")), (Some("mm"), 0.5));
    // One slice of a volume is a volume unless --2d says otherwise.
    let flat: Vec<u8> = image::open(at("pred.png")).unwrap().to_luma8().into_raw();
    nifti::write(&at("slice.nii"), [20, 14, 1], [2.7, 2.7, 5.0], &flat);
    let volume = eval(folder.path(), "slice.nii", "slice.nii", &[]);
    assert!(volume["warnings"].to_string().contains("caps of the slab"));
    // Its pixels are the unit, as those of a picture, until a spacing is given.
    let picture = eval(folder.path(), "slice.nii", "slice.nii", &["--2d"]);
    assert_eq!(
        (picture["cases"][0]["unit"].as_str(), metric(&picture, 0, "1", "surface_area_gt_mm2")),
        (Some("px"), length)
    );
    let mm = eval(folder.path(), "slice.nii", "slice.nii", &["--2d", "--spacing", "2,2"]);
    assert_eq!(
        (mm["cases"][0]["unit"].as_str(), metric(&mm, 0, "1", "surface_area_gt_mm2")),
        (Some("mm"), 2.0 * length)
    );
    let mixed = eval(folder.path(), "gt.png", "slice.nii", &[]);
    assert_eq!(mixed["cases"][0]["labels"][0]["metrics"], json["cases"][0]["labels"][0]["metrics"]);
    // Colours are no labels.
    image::RgbImage::from_pixel(20, 14, image::Rgb([200, 10, 10])).save(at("red.png")).unwrap();
    let done = volseg()
        .current_dir(folder.path())
        .args(["eval", "--gt", "gt.png", "--pred", "red.png"])
        .assert()
        .code(1)
        .get_output()
        .clone();
    assert!(String::from_utf8(done.stderr).unwrap().contains("coloured picture"));
}
