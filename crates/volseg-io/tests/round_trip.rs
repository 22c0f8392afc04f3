//! Written and read again: every orientation, every format, every voxel type.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use std::path::Path;
use tempfile::tempdir;
use volseg_geometry::{Affine, AnyVolume, OrganId, Orientation, Volume};
use volseg_io::{Image, ReadOptions, read, write, write_f32, write_labels};

const NAMES: [&str; 6] = ["a.nii", "a.nii.gz", "a.nrrd", "a.nhdr", "a.mha", "a.mhd"];

/// An affine of an orientation, with spacing, a place, and a slight turn about the third world axis.
fn affine(orientation: Orientation, spacing: [f64; 3], place: [f64; 3], turn: f64) -> Affine {
    let (s, c) = turn.sin_cos();
    let column = |axis: usize| {
        let side = orientation.sides()[axis];
        let mut v = [0.0; 3];
        v[side.world_axis()] = if side.is_positive() { spacing[axis] } else { -spacing[axis] };
        [c * v[0] - s * v[1], s * v[0] + c * v[1], v[2]]
    };
    Affine::from_columns([column(0), column(1), column(2)], place)
}

fn open(path: &Path) -> Image {
    read(path, &ReadOptions::default()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn assert_same(before: &Image, after: &Image, exact: bool, what: &str) {
    assert_eq!(before.volume.kind(), after.volume.kind(), "{what}");
    assert_eq!(before.volume.bytes(), after.volume.bytes(), "{what}");
    if exact {
        assert_eq!(before.volume.affine(), after.volume.affine(), "{what}");
    }
    let shift = before.volume.affine().largest_corner_shift_mm(after.volume.affine(), before.volume.dim());
    assert!(shift <= 1e-4, "{what}: {shift} mm");
}

#[test]
fn all_48_orientations_survive_all_formats() {
    let folder = tempdir().unwrap();
    let voxels: Vec<i16> = (0..60).map(|v| v * 531 - 15000).collect();
    for (n, orientation) in Orientation::all().enumerate() {
        for turn in [0.0, 0.31] {
            let affine = affine(orientation, [0.7, 0.8125, 2.5], [-123.4, 55.25, -900.1], turn);
            let image = Image::from_volume(Volume::from_vec(voxels.clone(), [3, 4, 5], affine).unwrap().into());
            for name in NAMES {
                let path = folder.path().join(name);
                write(&path, &image).unwrap();
                let once = open(&path);
                assert_same(&image, &once, false, &format!("{name} {orientation}"));
                assert_eq!(once.volume.affine().orientation(), image.volume.affine().orientation(), "{n}");
                // Within a format: bit by bit.
                let again = folder.path().join(format!("again_{name}"));
                write(&again, &once).unwrap();
                assert_same(&once, &open(&again), true, &format!("again {name} {orientation}"));
                // Labels lie on the image's own grid, bit by bit.
                let labels = Volume::from_vec(vec![6u8; 60], [3, 4, 5], *once.volume.affine()).unwrap();
                let path = folder.path().join(format!("labels_{name}"));
                write_labels(&path, &labels, &once, &[OrganId::new(6).unwrap()]).unwrap();
                assert_eq!(open(&path).volume.affine(), once.volume.affine(), "labels {name}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_grid_is_held_to_a_ten_thousandth_of_a_millimetre(
        which in 0usize..48, turn in -3.0f64..3.0, name in prop::sample::select(&NAMES[..]),
        spacing in prop::array::uniform3(0.05f64..20.0), place in prop::array::uniform3(-3000.0f64..3000.0),
        values in prop::collection::vec(any::<f32>(), 24),
    ) {
        let folder = tempdir().unwrap();
        let orientation = Orientation::all().nth(which).unwrap();
        let volume = Volume::from_vec(values, [2, 3, 4], affine(orientation, spacing, place, turn)).unwrap();
        let image = Image::from_volume(volume.into());
        let path = folder.path().join(name);
        write(&path, &image).unwrap();
        assert_same(&image, &open(&path), false, name);
    }
}

#[test]
fn every_voxel_type_is_kept() {
    macro_rules! check {
        ($($t:ty),*) => { $(
            let values: Vec<$t> = vec![<$t>::MIN, <$t>::MAX, 0 as $t, 1 as $t, 7 as $t, 100 as $t];
            let volume = Volume::from_vec(values, [3, 2, 1], Affine::from_spacing_mm([1.0, 2.0, 3.0])).unwrap();
            let image = Image::from_volume(AnyVolume::from(volume));
            let folder = tempdir().unwrap();
            for name in NAMES {
                let path = folder.path().join(name);
                write(&path, &image).unwrap();
                assert_same(&image, &open(&path), true, name);
            }
        )* };
    }
    check!(u8, i8, u16, i16, u32, i32, u64, i64, f32, f64);
}

#[test]
fn slope_is_kept_by_nifti_and_applied_exactly_elsewhere() {
    let folder = tempdir().unwrap();
    let volume = Volume::from_vec(vec![0u16, 1000, 4095], [3, 1, 1], Affine::from_spacing_mm([1.0; 3])).unwrap();
    let mut image = Image::from_volume(volume.into());
    (image.slope, image.intercept) = (1.0, -1024.0);
    for name in NAMES {
        let path = folder.path().join(name);
        write(&path, &image).unwrap();
        let read = open(&path);
        let values: Vec<f64> = (0..3).map(|n| read.volume.value(n) * read.slope + read.intercept).collect();
        assert_eq!(values, [-1024.0, -24.0, 3071.0], "{name}");
        if name.contains("nii") {
            assert_eq!(read.volume.bytes(), image.volume.bytes());
        }
    }
}

#[test]
fn segmentations_carry_names_colours_and_terminology() {
    let folder = tempdir().unwrap();
    let affine = affine(Orientation::LPS, [1.5, 1.5, 3.0], [20.0, 15.0, -30.0], 0.0);
    let mut voxels = vec![0u8; 120];
    voxels[7] = 3;
    voxels[118] = 3;
    let labels = Volume::from_vec(voxels, [6, 5, 4], affine).unwrap();
    let image = Image::from_volume(Volume::from_vec(vec![0i16; 120], [6, 5, 4], affine).unwrap().into());
    let organs = [2, 3].map(|id| OrganId::new(id).unwrap());
    let path = folder.path().join("a.seg.nrrd");
    write_labels(&path, &labels, &image, &organs).unwrap();
    let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
    for line in [
        "space: left-posterior-superior",
        "kinds: domain domain domain",
        "Segmentation_MasterRepresentation:=Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset:=0 0 0",
        "Segment0_ID:=right_kidney",
        "Segment0_Extent:=0 -1 0 -1 0 -1",
        "Segment1_Name:=left kidney",
        "Segment1_LabelValue:=3",
        "Segment1_Extent:=1 4 1 4 0 3",
        "Segment1_Tags:=TerminologyEntry:Segmentation category and type - 3D Slicer General Anatomy list~\
         SCT^123037004^Anatomical Structure~SCT^64033007^Kidney~SCT^7771000^Left~Anatomic codes - DICOM master list~^^~^^|",
    ] {
        assert!(text.lines().any(|l| l == line), "{line:?} is missing");
    }
    let read = open(&path);
    assert_eq!(read.to_label_map().unwrap().voxels(), labels.voxels());
    assert_eq!(read.labels[1].name, "left kidney");
    // A label table in NIfTI.
    let path = folder.path().join("a.nii.gz");
    write_labels(&path, &labels, &image, &organs).unwrap();
    assert_eq!(open(&path).labels.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(), ["right_kidney", "left_kidney"]);
}

#[test]
fn several_maps_need_a_choice() {
    let folder = tempdir().unwrap();
    let image = Image::from_volume(
        Volume::from_vec(vec![0u8; 6], [3, 2, 1], Affine::from_spacing_mm([1.0; 3])).unwrap().into(),
    );
    let values: Vec<f32> = (0..12u8).map(f32::from).collect();
    for name in NAMES {
        let path = folder.path().join(name);
        write_f32(&path, &values, 2, &image).unwrap();
        assert_eq!(read(&path, &ReadOptions::default()).unwrap_err().kind(), "unsupported", "{name}");
        let options = ReadOptions { frame: Some(1), ..ReadOptions::default() };
        let second = read(&path, &options).unwrap();
        assert_eq!((second.frames, second.volume.value(0)), (2, 6.0), "{name}");
    }
}

#[test]
fn a_failed_write_leaves_nothing() {
    let folder = tempdir().unwrap();
    let image = Image::from_volume(
        Volume::from_vec(vec![0f32; 6], [3, 2, 1], Affine::from_spacing_mm([1.0; 3])).unwrap().into(),
    );
    assert_eq!(write(&folder.path().join("a.png"), &image).unwrap_err().kind(), "cannot_hold");
    assert_eq!(write(&folder.path().join("a.xyz"), &image).unwrap_err().kind(), "invalid_argument");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn uncompressed_nifti_is_not_copied() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("a.nii");
    let image = Image::from_volume(
        Volume::from_vec(vec![5i16; 1000], [10; 3], Affine::from_spacing_mm([1.0; 3])).unwrap().into(),
    );
    write(&path, &image).unwrap();
    let shared = open(&path);
    // A clone of shared voxels points to the same bytes; so does the file's map.
    let clone = shared.volume.clone();
    assert_eq!(clone.bytes().as_ptr(), shared.volume.bytes().as_ptr());
    // The map starts at a page and the voxels stand 352 bytes behind it.
    assert_eq!(shared.volume.bytes().as_ptr() as usize % 4096, 352);
}
