//! Folders of DICOM files.

use crate::{
    Folder, Gives, dicom,
    dicom_file::{PLAIN, edited, file},
};
use volseg_io::{ReadOptions, read};

/// Slice `k` of a series, at `z` mm, with other changes. Its pixels are all `k`.
fn slice(k: u8, z: f64, changes: &[(u32, &'static [u8; 2], &[u8])]) -> Vec<u8> {
    let (position, pixels) = (format!("0\\0\\{z}"), [k, 0].repeat(6));
    let number = format!("{}", k + 1);
    let mut all: Vec<(u32, &'static [u8; 2], &[u8])> = vec![
        (0x0020_0013, b"IS", number.as_bytes()),
        (0x0020_0032, b"DS", position.as_bytes()),
        (dicom::PIXELS, b"OW", &pixels),
    ];
    all.extend(changes);
    edited(&all)
}

fn named(files: Vec<Vec<u8>>) -> Vec<(String, Vec<u8>)> {
    files.into_iter().enumerate().map(|(n, f)| (format!("{n:04}.dcm"), f)).collect()
}

/// Slices at places, all with the same changes.
fn stack(places: &[f64], changes: &[(u32, &'static [u8; 2], &[u8])]) -> Vec<Vec<u8>> {
    (0..).zip(places).map(|(k, &z)| slice(k, z, changes)).collect()
}

/// Slices along the normal of an orientation.
fn turned(orientation: &'static str) -> Vec<Vec<u8>> {
    let o: Vec<f64> = orientation.split('\\').map(|v| v.parse().unwrap()).collect();
    let normal = [o[1] * o[5] - o[2] * o[4], o[2] * o[3] - o[0] * o[5], o[0] * o[4] - o[1] * o[3]];
    (0..4u8)
        .map(|k| {
            let place = normal.map(|n| format!("{}", n * 5.0 * f64::from(k))).join("\\");
            slice(k, 0.0, &[(0x0020_0032, b"DS", place.as_bytes()), (0x0020_0037, b"DS", orientation.as_bytes())])
        })
        .collect()
}

fn folder(name: &str, files: Vec<Vec<u8>>, gives: Gives) -> Folder {
    Folder { name: name.into(), files: named(files), gives }
}

const EVEN: [f64; 4] = [0.0, 5.0, 10.0, 15.0];

pub(crate) fn cases() -> Vec<Folder> {
    use Gives::{Error, Image};
    let good = || stack(&EVEN, &[]);
    let with = |more: Vec<Vec<u8>>| [good(), more].concat();
    let other_object = |modality: &'static [u8]| {
        file(PLAIN, &vec![(0x0008_0060, b"CS", modality.to_vec()), (0x0020_000e, b"UI", b"1.2.9".to_vec())])
    };
    let tilted = (0..4u8)
        .map(|k| {
            let place = format!("0\\{}\\{}", 2.0 * f64::from(k), 5.0 * f64::from(k));
            slice(k, 0.0, &[(0x0020_0032, b"DS", place.as_bytes())])
        })
        .collect();
    let slopes = (0..4u8)
        .map(|k| slice(k, EVEN[usize::from(k)], &[(0x0028_1053, b"DS", format!("{}", k + 1).as_bytes())]))
        .collect();
    let large: Vec<f64> = (0..2000).map(|k| f64::from(k) * 0.5).collect();
    let many = large.iter().map(|&z| slice(1, z, &[])).collect();
    let without_place = (0..3u8).map(dicom::without_place).collect();
    vec![
        folder("good", good(), Image("")),
        folder("one slice", stack(&[3.0], &[]), Image("")),
        folder("missing slice", stack(&[0.0, 5.0, 15.0, 20.0], &[]), Image("slices are missing: 1 after slice 2")),
        folder(
            "half of a series missing",
            stack(&[0.0, 5.0, 10.0, 40.0, 45.0], &[]),
            Error("malformed", "slices would lie up to 12.5 mm from their places"),
        ),
        folder("the same slice twice", with(vec![slice(1, 5.0, &[])]), Image("1 slices were there twice")),
        folder(
            "two series",
            with(stack(&EVEN, &[(0x0020_000e, b"UI", b"1.2.4")])),
            Error("several_series", "2 series"),
        ),
        folder(
            "two acquisitions",
            with(stack(&EVEN, &[(0x0020_0012, b"IS", b"2"), (dicom::PIXELS, b"OW", &[9; 12])])),
            Error("unsupported", "more than one volume"),
        ),
        folder("half of another acquisition", with(vec![slice(9, 5.0, &[])]), Error("malformed", "mixes acquisitions")),
        folder(
            "heart beats",
            [
                good(),
                stack(&EVEN, &[(dicom::PIXELS, b"OW", &[8; 12])]),
                stack(&EVEN, &[(dicom::PIXELS, b"OW", &[9; 12])]),
            ]
            .concat(),
            Error("unsupported", "more than one volume in a series (3"),
        ),
        folder("decreasing", stack(&[15.0, 10.0, 5.0, 0.0], &[]), Image("")),
        folder("tilted gantry", tilted, Image("gantry tilt")),
        folder("uneven", stack(&[0.0, 5.0, 11.0, 15.0], &[]), Image("unevenly spaced: 4.000 to 6.000 mm")),
        folder("oblique", turned("0.8\\0.6\\0\\-0.6\\0.8\\0"), Image("")),
        folder("sagittal", turned("0\\1\\0\\0\\0\\-1"), Image("")),
        folder("coronal", turned("1\\0\\0\\0\\0\\-1"), Image("")),
        folder("feet first", turned("-1\\0\\0\\0\\1\\0"), Image("")),
        folder("prone", turned("-1\\0\\0\\0\\-1\\0"), Image("")),
        folder("columns upwards", turned("1\\0\\0\\0\\-1\\0"), Image("")),
        folder(
            "localizer",
            with(vec![slice(9, 0.0, &[(0x0020_0037, b"DS", b"0\\1\\0\\0\\0\\-1")])]),
            Image("2 stacks of other size or orientation"),
        ),
        folder(
            "other rows",
            with(vec![slice(9, 20.0, &[(0x0028_0010, b"US", &[1, 0])])]),
            Image("2 stacks of other size or orientation"),
        ),
        folder("no places", without_place, Error("unsupported", "pictures without position")),
        folder("thickness and distance differ", stack(&EVEN, &[(0x0018_0050, b"DS", b"1.25")]), Image("")),
        folder("slopes differ", slopes, Image("differ between slices")),
        folder(
            "types differ",
            with(vec![slice(9, 20.0, &[(0x0028_0103, b"US", &[1, 0])])]),
            Error("unsupported", "different voxel types"),
        ),
        folder("one slice cut", with(vec![slice(9, 20.0, &[])[..303].to_vec()]), Image("1 files could not be read")),
        folder("2000 slices", many, Image("")),
        folder(
            "reports beside",
            with(vec![other_object(b"SR"), other_object(b"DOC"), other_object(b"RTSTRUCT")]),
            Image(""),
        ),
        folder(
            "reports only",
            vec![other_object(b"SR"), other_object(b"DOC")],
            Error("nothing_readable", "2 DICOM files without pixels"),
        ),
        folder("nothing", vec![], Error("nothing_readable", "0 files")),
        folder("words", vec![b"no DICOM here, only words".to_vec()], Error("nothing_readable", "")),
        folder("enhanced", vec![dicom::enhanced(3, 3)], Image("")),
    ]
}

/// Slices lie in the order of their places, whatever their names and numbers say.
#[test]
fn slices_are_sorted_by_place() {
    for (name, places) in
        [("up", [0.0, 5.0, 10.0, 15.0]), ("down", [15.0, 10.0, 5.0, 0.0]), ("mixed", [10.0, 0.0, 15.0, 5.0])]
    {
        let folder = tempfile::tempdir().unwrap();
        for (file, bytes) in named(stack(&places, &[])) {
            std::fs::write(folder.path().join(file), bytes).unwrap();
        }
        let image = read(folder.path(), &ReadOptions::default()).unwrap();
        assert_eq!(image.volume.dim(), [3, 2, 4], "{name}");
        assert_eq!(image.volume.affine().rows[2], [0.0, 0.0, 5.0, 0.0], "{name}");
        for k in 0..4 {
            let place = places[image.volume.value(6 * k) as usize];
            assert_eq!(place, 5.0 * k as f64, "{name}");
        }
    }
}

/// DICOMDIR is an index, not a slice; links in circles end.
#[test]
fn an_index_and_a_circle_of_links_are_no_slices() {
    let folder = tempfile::tempdir().unwrap();
    for (file, bytes) in named(stack(&EVEN, &[])) {
        std::fs::write(folder.path().join(file), bytes).unwrap();
    }
    std::fs::write(folder.path().join("DICOMDIR"), dicom::good()).unwrap();
    #[cfg(unix)]
    for (name, target) in [("circle", "."), ("a", "b"), ("b", "a")] {
        std::os::unix::fs::symlink(target, folder.path().join(name)).unwrap();
    }
    let image = read(folder.path(), &ReadOptions::default()).unwrap();
    assert_eq!((image.volume.dim(), image.warnings.len()), ([3, 2, 4], 0));
}
