//! Labels written as DICOM objects and read again; other programs check the same files in `scripts/oracles/dicom_objects.py`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../tests/shared/dicom_file.rs"]
mod dicom_file;

use dicom_file::{PLAIN, edited, element, file, usual};
use std::path::Path;
use volseg_geometry::{LabelMap, OrganId};
use volseg_io::{
    DicomOptions, Image, LabelName, ReadOptions, SegForm, read, write_dicom_seg, write_labels, write_rtstruct,
};

const SIZE: [usize; 3] = [5, 3, 4];

/// A series of 4 slices of 5 x 3, 2.5 mm apart, with its name in every element that may hold one.
fn series(folder: &Path, orientation: &str) -> Image {
    let o: Vec<f64> = orientation.split('\\').map(|v| v.parse().unwrap()).collect();
    let normal = [o[1] * o[5] - o[2] * o[4], o[2] * o[3] - o[0] * o[5], o[0] * o[4] - o[1] * o[3]];
    for k in 0..4u8 {
        let place = [0, 1, 2].map(|n| format!("{:.8}", -40.0 + normal[n] * 2.5 * f64::from(k))).join("\\");
        let bytes = edited(&[
            (0x0008_0005, b"CS", b"ISO_IR 100"),
            (0x0008_0016, b"UI", b"1.2.840.10008.5.1.4.1.1.2"),
            (0x0008_0018, b"UI", format!("1.2.3.4.{k}").as_bytes()),
            (0x0008_0020, b"DA", b"20240102"),
            (0x0008_0050, b"SH", b"MARKACC"),
            (0x0008_0080, b"LO", b"MARKINSTITUTION"),
            (0x0008_0090, b"PN", b"MARKDOCTOR"),
            (0x0008_103e, b"LO", b"MARKSERIES"),
            (0x0008_1070, b"PN", b"MARKOPERATOR"),
            (0x0010_0010, b"PN", b"MARKNAME^M\xfcller"),
            (0x0010_0020, b"LO", b"MARKID"),
            (0x0010_0040, b"CS", b"F"),
            (0x0010_1000, b"LO", b"MARKOTHERID"),
            (0x0010_4000, b"LT", b"MARKCOMMENT"),
            (0x0020_000d, b"UI", b"1.2.3.5"),
            (0x0020_000e, b"UI", b"1.2.3.6"),
            (0x0020_0032, b"DS", place.as_bytes()),
            (0x0020_0037, b"DS", orientation.as_bytes()),
            (0x0020_0052, b"UI", b"1.2.3.7"),
            (0x0020_4000, b"LT", b"MARKIMAGE"),
            (0x0028_0010, b"US", &[3, 0]),
            (0x0028_0011, b"US", &[5, 0]),
            (0x7fe0_0010, b"OW", &[k, 0].repeat(15)),
        ]);
        std::fs::write(folder.join(format!("{k}.dcm")), bytes).unwrap();
    }
    open(folder)
}

fn open(path: &Path) -> Image {
    read(path, &ReadOptions::default()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The first and the last slice are empty; 200 has no name.
fn labels(image: &Image) -> LabelMap {
    let values = (0..60).map(|n| if (15..45).contains(&n) { [0, 6, 2, 200][n * 7 / 3 % 4] } else { 0 }).collect();
    LabelMap::from_vec(values, SIZE, *image.volume.affine()).unwrap()
}

fn names() -> Vec<LabelName> {
    [2, 6, 9].map(|id| OrganId::new(id).unwrap().into()).to_vec()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|w| w == text.as_bytes())
}

#[test]
fn labels_come_back_on_every_orientation() {
    for orientation in [
        "1\\0\\0\\0\\1\\0",
        "1\\0\\0\\0\\-1\\0",
        "-1\\0\\0\\0\\1\\0",
        "-1\\0\\0\\0\\-1\\0",
        "0\\1\\0\\0\\0\\-1",
        "1\\0\\0\\0\\0\\-1",
        "0\\0\\-1\\1\\0\\0",
        "0.8\\0.6\\0\\-0.6\\0.8\\0",
        "0.6\\0\\-0.8\\0\\-1\\0",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let image = series(folder.path(), orientation);
        let labels = labels(&image);
        for form in [SegForm::Binary, SegForm::Labelmap] {
            let path = folder.path().join("seg.dcm");
            write_dicom_seg(&path, &labels, &image, &names(), &DicomOptions { form, ..Default::default() }).unwrap();
            let back = open(&path);
            assert_eq!(back.to_label_map().unwrap().voxels(), labels.voxels(), "{orientation} {form:?}");
            let shift = image.volume.affine().largest_corner_shift_mm(back.volume.affine(), SIZE);
            assert!(shift < 1e-4, "{orientation}: {shift} mm");
            let listed: Vec<(u32, &str)> = back.labels.iter().map(|l| (l.value, l.name.as_str())).collect();
            assert_eq!(listed, [(2, "right_kidney"), (6, "liver"), (200, "Segment 200")]);
            assert!(back.labels[1].rgb.unwrap().iter().zip([221u8, 130, 101]).all(|(a, b)| a.abs_diff(b) <= 1));
            assert!(back.warnings.is_empty(), "{:?}", back.warnings);
            std::fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn the_same_labels_give_the_same_bytes_and_other_labels_other_uids() {
    let folder = tempfile::tempdir().unwrap();
    let image = series(folder.path(), "1\\0\\0\\0\\1\\0");
    let write = |name: &str, labels: &LabelMap| {
        let path = folder.path().join(name);
        write_labels(&path, labels, &image, &[OrganId::new(6).unwrap()]).unwrap();
        std::fs::read(path).unwrap()
    };
    let first = labels(&image);
    let mut second = first.clone();
    second.voxels_mut()[20] = 6;
    let (a, b, c) = (write("a.dcm", &first), write("b.dcm", &first), write("c.dcm", &second));
    assert_eq!(a, b);
    let instance = |bytes: &[u8]| {
        let at = bytes.windows(4).position(|w| w == [8, 0, 0x18, 0]).unwrap();
        bytes[at + 8..at + 8 + usize::from(bytes[at + 6])].to_vec()
    };
    assert_eq!(instance(&a), instance(&b));
    assert_ne!(instance(&a), instance(&c));
}

#[test]
fn patient_values_stand_in_the_patient_and_study_modules_alone_or_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let image = series(folder.path(), "1\\0\\0\\0\\1\\0");
    let labels = labels(&image);
    let path = folder.path().join("out.dcm");
    let plain = DicomOptions::default();
    let secret = DicomOptions { deidentify: Some([7; 32]), ..Default::default() };
    let mut mapped = Vec::new();
    for (options, kept) in [(&plain, true), (&secret, false)] {
        for contours in [false, true] {
            let write = if contours { write_rtstruct } else { write_dicom_seg };
            write(&path, &labels, &image, &names(), options).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            for mark in ["MARKNAME", "MARKID", "MARKACC", "MARKDOCTOR", "20240102", "1.2.3.4.2", "1.2.3.5", "1.2.3.7"] {
                assert_eq!(holds(&bytes, mark), kept, "{mark}, contours {contours}");
            }
            // Text goes through as its bytes are.
            assert_eq!(bytes.windows(7).any(|w| w == b"M\xfcller "), kept);
            for mark in ["MARKINSTITUTION", "MARKSERIES", "MARKOPERATOR", "MARKOTHERID", "MARKCOMMENT", "MARKIMAGE"] {
                assert!(!holds(&bytes, mark), "{mark}, contours {contours}");
            }
            if !kept {
                let at = bytes.windows(4).position(|w| w == [0x20, 0, 0x0d, 0]).unwrap();
                mapped.push(bytes[at + 8..at + 48].to_vec());
            }
        }
    }
    assert_eq!(mapped[0], mapped[1], "the study's new UID is the same in all objects of a run");
}

#[test]
fn contours_are_one_for_each_region() {
    let folder = tempfile::tempdir().unwrap();
    let image = series(folder.path(), "1\\0\\0\\0\\1\\0");
    // A ring in slice 1, two pieces in slice 2.
    let mut map = LabelMap::zeros(SIZE, *image.volume.affine()).unwrap();
    for (n, v) in map.voxels_mut()[15..30].iter_mut().enumerate() {
        *v = u8::from(n % 5 < 3 && n != 6) * 6;
    }
    map.voxels_mut()[30] = 6;
    map.voxels_mut()[34] = 6;
    let path = folder.path().join("rt.dcm");
    write_rtstruct(&path, &map, &image, &names(), &DicomOptions::default()).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.windows(13).filter(|w| w == b"CLOSED_PLANAR").count(), 3);
    let error = read(&path, &ReadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("RTSTRUCT") && error.is_unreadable_input(), "{error}");
}

#[test]
fn nothing_found_is_still_an_object() {
    let folder = tempfile::tempdir().unwrap();
    let image = series(folder.path(), "1\\0\\0\\0\\1\\0");
    let empty = LabelMap::zeros(SIZE, *image.volume.affine()).unwrap();
    let path = folder.path().join("seg.dcm");
    write_dicom_seg(&path, &empty, &image, &names(), &DicomOptions::default()).unwrap();
    let back = open(&path);
    assert_eq!(back.volume.dim(), SIZE);
    assert!(back.to_label_map().unwrap().voxels().iter().all(|&v| v == 0));
}

#[test]
fn what_cannot_be_referred_to_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let image = series(folder.path(), "1\\0\\0\\0\\1\\0");
    let path = folder.path().join("out.dcm");
    let labels = labels(&image);
    let other = Image::from_volume(image.volume.clone());
    for error in [
        write_dicom_seg(&path, &labels, &other, &names(), &DicomOptions::default()).unwrap_err(),
        write_rtstruct(&path, &labels, &other, &names(), &DicomOptions::default()).unwrap_err(),
        write_labels(&path, &labels, &other, &[]).unwrap_err(),
        volseg_io::write(&path, &image).unwrap_err(),
    ] {
        assert_eq!(error.kind(), "cannot_hold", "{error}");
    }
    let small = LabelMap::zeros([5, 3, 3], *image.volume.affine()).unwrap();
    let error = write_dicom_seg(&path, &small, &image, &names(), &DicomOptions::default()).unwrap_err();
    assert!(error.to_string().contains("[5, 3, 3]"), "{error}");
    assert!(!path.exists());
}

/// An item without a length around elements.
fn item(elements: &[Vec<u8>]) -> Vec<u8> {
    let mut b = vec![0xfe, 0xff, 0x00, 0xe0, 255, 255, 255, 255];
    b.extend(elements.concat());
    b.extend([0xfe, 0xff, 0x0d, 0xe0, 0, 0, 0, 0]);
    b
}

/// A segmentation of 3 x 2 pixels that another program might write: frames of (segment, place), of one byte a pixel.
fn foreign(kind: &'static [u8], frames: &[(u8, f64)], pixels: &[u8]) -> Vec<u8> {
    let segment = |n: u8| {
        item(&[element(0x0062_0004, b"US", &[n, 0]), element(0x0062_0005, b"LO", format!("part {n}").as_bytes())])
    };
    let groups: Vec<u8> = frames
        .iter()
        .flat_map(|(segment, z)| {
            item(&[
                element(0x0020_9113, b"SQ", &item(&[element(0x0020_0032, b"DS", format!("0\\0\\{z}").as_bytes())])),
                element(0x0062_000a, b"SQ", &item(&[element(0x0062_000b, b"US", &[*segment, 0])])),
            ])
        })
        .collect();
    let mut all: std::collections::BTreeMap<u32, (&'static [u8; 2], Vec<u8>)> =
        usual().into_iter().map(|(t, vr, v)| (t, (vr, v))).collect();
    all.extend([
        (0x0008_0016, (b"UI", b"1.2.840.10008.5.1.4.1.1.66.4".to_vec())),
        (0x0018_0088, (b"DS", b"5".to_vec())),
        (0x0028_0008, (b"IS", frames.len().to_string().into_bytes())),
        (0x0028_0100, (b"US", vec![8, 0])),
        (0x0028_0101, (b"US", vec![8, 0])),
        (0x0028_0102, (b"US", vec![7, 0])),
        (0x0062_0001, (b"CS", kind.to_vec())),
        (0x0062_0002, (b"SQ", [segment(1), segment(2)].concat())),
        (0x0062_000e, (b"US", vec![200, 0])),
        (0x5200_9230, (b"SQ", groups)),
        (0x7fe0_0010, (b"OW", pixels.to_vec())),
    ]);
    file(PLAIN, &all.into_iter().map(|(t, (vr, v))| (t, vr, v)).collect())
}

#[test]
fn segmentations_of_other_programs_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seg.dcm");
    // Frames of empty slices are left out: the stated distance says how many there are.
    let pixels = [[1, 1, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 1]].concat();
    std::fs::write(&path, foreign(b"BINARY", &[(1, 0.0), (2, 0.0), (2, 15.0)], &pixels)).unwrap();
    let image = open(&path);
    assert_eq!((image.volume.dim(), image.volume.affine().spacing_mm()[2]), ([3, 2, 4], 5.0));
    let map = image.to_label_map().unwrap();
    assert_eq!(map.voxels()[..6], [1, 2, 2, 0, 0, 0]);
    assert_eq!(map.voxels()[6..18], [0; 12]);
    assert_eq!(map.voxels()[18..], [0, 0, 0, 0, 0, 2]);
    assert!(image.warnings.iter().any(|w| w.contains("overlap in 1 voxels")), "{:?}", image.warnings);
    assert_eq!(image.labels[1].name, "part 2");
    // Fractions: half of the greatest value and more.
    let pixels = [[0, 99, 100, 200, 0, 0], [0, 0, 0, 0, 0, 150]].concat();
    std::fs::write(&path, foreign(b"FRACTIONAL", &[(1, 0.0), (1, 5.0)], &pixels)).unwrap();
    let image = open(&path);
    assert_eq!(image.to_label_map().unwrap().voxels(), [0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert!(image.warnings.iter().any(|w| w.contains("FRACTIONAL")), "{:?}", image.warnings);
}
