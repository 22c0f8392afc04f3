//! Grids that agree, that agree after an exact turn, and that do not.

use crate::{
    eval, metric,
    nifti::{self, File, Voxels},
    volseg,
};
use std::{fs, path::Path};

const DIM: [i16; 3] = [14, 11, 9];
const SPACING: [f32; 3] = [1.0, 1.5, 2.5];

fn voxels(shift: i16) -> Vec<u8> {
    nifti::boxes(DIM, &[(1, [2 + shift, 2, 2], [9 + shift, 8, 6]), (5, [3, 8, 6], [6, 10, 8])])
}

fn error(folder: &Path, options: &[&str]) -> String {
    let out = folder.join("none.json");
    let done = volseg()
        .current_dir(folder)
        .args(["eval", "--gt", "gt.nii", "--pred", "pred.nii", "--json", "none.json", "--report", "none"])
        .args(options)
        .assert()
        .code(1)
        .get_output()
        .clone();
    assert!(!out.exists() && !folder.join("none").exists() && done.stdout.is_empty());
    String::from_utf8(done.stderr).unwrap()
}

/// Stores the same anatomy with its axes in another order and direction.
fn turned(voxels: &[u8], order: [usize; 3], flip: [bool; 3]) -> (File, Vec<u8>) {
    let dim = order.map(|a| DIM[a]);
    let mut file = File::new(dim, SPACING);
    for row in 0..3 {
        file.affine[row] = [0.0; 4];
    }
    for (a, &from) in order.iter().enumerate() {
        file.affine[from][a] = if flip[a] { -SPACING[from] } else { SPACING[from] };
        if flip[a] {
            file.affine[from][3] = f32::from(DIM[from] - 1) * SPACING[from];
        }
    }
    let mut out = Vec::new();
    for k in 0..dim[2] {
        for j in 0..dim[1] {
            for i in 0..dim[0] {
                let mut p = [0i16; 3];
                for (a, v) in [i, j, k].into_iter().enumerate() {
                    p[order[a]] = if flip[a] { dim[a] - 1 - v } else { v };
                }
                out.push(voxels[p[0] as usize + DIM[0] as usize * (p[1] as usize + DIM[1] as usize * p[2] as usize)]);
            }
        }
    }
    (file, out)
}

#[test]
fn all_48_ways_to_store_a_prediction_give_the_same_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    nifti::write(&at("gt.nii"), DIM, SPACING, &voxels(0));
    nifti::write(&at("same.nii"), DIM, SPACING, &voxels(1));
    let expected = eval(folder.path(), "gt.nii", "same.nii", &[]);
    assert_eq!(expected["cases"][0]["alignment"], "same");
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for bits in 0..8 {
            let flip = [bits & 1 == 1, bits & 2 == 2, bits & 4 == 4];
            let (file, stored) = turned(&voxels(1), order, flip);
            file.write(&at("pred.nii"), &Voxels::U8(&stored));
            let json = eval(folder.path(), "gt.nii", "pred.nii", &[]);
            assert_eq!(json["cases"][0]["labels"], expected["cases"][0]["labels"], "{order:?} {flip:?}");
            if order != [0, 1, 2] || bits != 0 {
                assert_eq!(json["cases"][0]["alignment"], "reoriented");
                assert!(error(folder.path(), &["--strict-grid"]).contains("flip or permutation"));
            }
        }
    }
}

#[test]
fn a_shifted_grid_is_refused_with_its_shift() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    nifti::write(&at("gt.nii"), DIM, SPACING, &voxels(0));
    let mut file = File::new(DIM, SPACING);
    // A tenth of the default tolerance.
    file.affine[1][3] = 0.001;
    file.write(&at("pred.nii"), &Voxels::U8(&voxels(0)));
    assert_eq!(metric(&eval(folder.path(), "gt.nii", "pred.nii", &[]), 0, "1", "dice"), 1.0);
    file.affine[1][3] = 3.0;
    file.affine[2][3] = 4.0;
    file.write(&at("pred.nii"), &Voxels::U8(&voxels(0)));
    let text = error(folder.path(), &[]);
    assert!(text.contains("5.000000 mm") && text.contains("expected at most 0.01 mm"), "{text}");
    let json = eval(folder.path(), "gt.nii", "pred.nii", &["--affine-tol", "5.1"]);
    assert_eq!(metric(&json, 0, "1", "dice"), 1.0);
    let json = eval(folder.path(), "gt.nii", "pred.nii", &["--ignore-affine"]);
    assert_eq!(metric(&json, 0, "1", "dice"), 1.0);
    assert_eq!(json["cases"][0]["alignment"], "ignored");
    assert!(json["warnings"].to_string().contains("--ignore-affine"));
    // Another thickness of the only slice moves no centre, but is another grid.
    let flat = [DIM[0], DIM[1], 1];
    nifti::write(&at("gt.nii"), flat, SPACING, &voxels(0)[2 * 154..3 * 154]);
    nifti::write(&at("pred.nii"), flat, [1.0, 1.5, 3.0], &voxels(0)[2 * 154..3 * 154]);
    assert!(error(folder.path(), &[]).contains("0.500000 mm"));
}

#[test]
fn other_shapes_are_refused_or_resampled() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    nifti::write(&at("gt.nii"), DIM, SPACING, &voxels(0));
    // Twice as fine along x, on the same place: voxel centres at -0.25, 0.25, 0.75, ...
    let fine: Vec<u8> = voxels(0).iter().flat_map(|&v| [v, v]).collect();
    let mut file = File::new([28, DIM[1], DIM[2]], [0.5, 1.5, 2.5]);
    file.affine[0][3] = -0.25;
    file.write(&at("pred.nii"), &Voxels::U8(&fine));
    let text = error(folder.path(), &[]);
    for part in ["[14, 11, 9]", "[28, 11, 9]", "[1.0, 1.5, 2.5]", "[0.5, 1.5, 2.5]", "--resample pred"] {
        assert!(text.contains(part), "{text}");
    }
    let json = eval(folder.path(), "gt.nii", "pred.nii", &["--resample", "pred"]);
    assert_eq!(json["cases"][0]["alignment"], "resampled");
    assert_eq!((metric(&json, 0, "1", "dice"), metric(&json, 0, "5", "hd")), (1.0, 0.0));
    assert!(error(folder.path(), &["--ignore-affine"]).contains("shapes differ"));
}

#[test]
fn oblique_grids_are_measured_and_sheared_ones_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (name, shift) in [("straight_gt.nii", 0), ("straight.nii", 1)] {
        nifti::write(&at(name), DIM, SPACING, &voxels(shift));
    }
    let expected = eval(folder.path(), "straight_gt.nii", "straight.nii", &[]);
    let mut file = File::new(DIM, SPACING);
    let (s, c) = 0.35f32.sin_cos();
    file.affine = [[c, -s * 1.5, 0.0, 7.0], [s, c * 1.5, 0.0, -3.0], [0.0, 0.0, 2.5, 1.0]];
    file.write(&at("gt.nii"), &Voxels::U8(&voxels(0)));
    file.write(&at("pred.nii"), &Voxels::U8(&voxels(1)));
    let json = eval(folder.path(), "gt.nii", "pred.nii", &[]);
    for name in ["dice", "nsd@1", "hd95", "assd"] {
        let (a, b) = (metric(&json, 0, "1", name), metric(&expected, 0, "1", name));
        assert!((a - b).abs() < 1e-6 * b.max(1.0), "{name}: {a} {b}");
    }
    file.affine[0][1] += 0.2;
    for name in ["gt.nii", "pred.nii"] {
        file.write(&at(name), &Voxels::U8(&voxels(0)));
    }
    let text = error(folder.path(), &[]);
    assert!(text.contains("sheared") && text.contains("expected at most 0.001"), "{text}");
    fs::remove_file(at("pred.nii")).unwrap();
}
