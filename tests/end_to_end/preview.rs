//! `volseg preview` from outside.
use crate::{nifti, volseg};
use std::{fs, path::Path};

const DIM: [i16; 3] = [24, 20, 10];

/// A grey block with "liver" in the patient's right half and "spleen" in the left.
fn scene(folder: &Path) {
    let voxel = |n: usize| (n % 24, n / 24 % 20);
    let inside = |n: usize| (2..22).contains(&voxel(n).0) && (4..16).contains(&voxel(n).1);
    let image: Vec<u8> = (0..4800).map(|n| if inside(n) { 120 } else { 10 }).collect();
    let labels: Vec<u8> = (0..4800)
        .map(|n| {
            if !inside(n) {
                0
            } else if voxel(n).0 < 12 {
                1
            } else {
                6
            }
        })
        .collect();
    nifti::write_u8(&folder.join("image.nii"), DIM, &image);
    nifti::write_u8(&folder.join("labels.nii"), DIM, &labels);
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn organs_are_drawn_in_their_colours_on_the_right_side() {
    let folder = tempfile::tempdir().unwrap();
    scene(folder.path());
    let draw = |name: &str, threads: &str| {
        let output = volseg()
            .current_dir(folder.path())
            .args(["preview", "image.nii", "labels.nii", "-o", name, "--slices", "1", "--threads", threads])
            .assert()
            .code(0)
            .get_output()
            .clone();
        assert!(String::from_utf8(output.stdout).unwrap().starts_with(name));
        assert!(output.stderr.is_empty());
        fs::read(folder.path().join(name)).unwrap()
    };
    let (one, two) = (draw("one.png", "1"), draw("two.png", "2"));
    assert!(one == two, "the bytes depend on the number of threads");
    let picture = image::load_from_memory(&one).unwrap().to_rgb8();
    let columns = |wanted: [u8; 3]| {
        let hits = picture.enumerate_pixels().filter(|(x, _, p)| *x < 268 && p.0 == wanted).map(|(x, ..)| x);
        (hits.clone().min().unwrap(), hits.max().unwrap())
    };
    // The patient's right is on the left of the picture.
    assert!(columns([221, 130, 101]).1 < columns([157, 108, 162]).0);
    assert_eq!(files(folder.path()), ["image.nii", "labels.nii", "one.png", "two.png"]);
}

#[test]
fn failures_name_the_reason_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    scene(folder.path());
    nifti::write_u8(&folder.path().join("small.nii"), [2, 2, 2], &[0; 8]);
    fs::write(folder.path().join("broken.nii"), b"\x5c\x01\0\0 nothing more").unwrap();
    image::RgbImage::from_pixel(24, 20, image::Rgb([200, 10, 10])).save(folder.path().join("red.png")).unwrap();
    let before = files(folder.path());
    for (args, code, hint) in [
        (&["missing.nii", "-o", "x.png"][..], 4, "missing.nii"),
        (&["broken.nii", "-o", "x.png"], 4, "NIfTI"),
        (&["image.nii", "small.nii", "-o", "x.png"], 2, "[24, 20, 10]"),
        (&["image.nii", "red.png", "-o", "x.png"], 2, "red.png is a coloured picture"),
        (&["image.nii", "-o", "x.jpg"], 2, ".png"),
        (&["image.nii", "-o", "broken.nii/x.png"], 1, "broken.nii is not a folder"),
        (&["image.nii", "-o", "x.png", "--window", "5,1"], 2, "two rising numbers"),
        (&["image.nii", "-o", "x.png", "--slices", "0"], 2, "1..=100"),
    ] {
        let output =
            volseg().current_dir(folder.path()).arg("preview").args(args).assert().code(code).get_output().clone();
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(hint), "{args:?}: {message}");
        assert!(output.stdout.is_empty());
        assert_eq!(files(folder.path()), before, "{args:?}");
    }
}
