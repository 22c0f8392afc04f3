//! Broken, odd and hostile files: each gives the error or the warning that stands beside it. Nothing here panics, hangs, or
//! takes memory beyond the limits (which are small here, so that a reader that allocates first would fail).
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod archives;
mod dicom;
#[path = "../shared/dicom_file.rs"]
mod dicom_file;
mod nifti;
mod pictures;
mod series;
mod texts;

use std::{fs, path::Path};
use volseg_io::{Limits, ReadOptions, read};

/// A file and what reading it must give.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) gives: Gives,
}

/// Outcome of reading.
pub(crate) enum Gives {
    /// An error of this kind whose text holds this.
    Error(&'static str, &'static str),
    /// An image; with a warning that holds this, unless empty.
    Image(&'static str),
}

/// A folder and what reading it must give.
pub(crate) struct Folder {
    pub(crate) name: String,
    pub(crate) files: Vec<(String, Vec<u8>)>,
    pub(crate) gives: Gives,
}

pub(crate) fn error(name: &str, bytes: Vec<u8>, kind: &'static str, text: &'static str) -> Case {
    Case { name: name.into(), bytes, gives: Gives::Error(kind, text) }
}

pub(crate) fn image(name: &str, bytes: Vec<u8>, warning: &'static str) -> Case {
    Case { name: name.into(), bytes, gives: Gives::Image(warning) }
}

fn check(path: &Path, name: &str, gives: &Gives) -> Option<String> {
    let limits = Limits { max_voxels: 1 << 22, max_file_bytes: 1 << 26, max_inflated_bytes: 1 << 24 };
    let options = ReadOptions { limits, ..ReadOptions::default() };
    let found = std::panic::catch_unwind(|| read(path, &options));
    let told = match (gives, found) {
        (_, Err(_)) => "it panicked".to_owned(),
        (Gives::Error(kind, text), Ok(Err(e))) if e.kind() == *kind && e.to_string().contains(text) => return None,
        (Gives::Image(w), Ok(Ok(i))) if w.is_empty() || i.warnings.iter().any(|x| x.contains(w)) => return None,
        (_, Ok(Ok(i))) => format!("an image {:?} with warnings {:?}", i.volume.dim(), i.warnings),
        (_, Ok(Err(e))) => format!("{}: {e}", e.kind()),
    };
    let wanted = match gives {
        Gives::Error(kind, text) => format!("{kind}: ...{text}..."),
        Gives::Image(w) => format!("an image with warning {w:?}"),
    };
    Some(format!("{}: found {told}; expected {wanted}", name))
}

#[test]
fn every_bad_file_gives_its_error() {
    let cases: Vec<Case> = [nifti::cases(), texts::cases(), pictures::cases(), dicom::cases(), archives::cases()]
        .into_iter()
        .flatten()
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for (n, case) in cases.iter().enumerate() {
        // A folder each, so that no file serves as another's neighbour.
        let own = folder.path().join(n.to_string());
        fs::create_dir(&own).unwrap();
        let path = own.join(&case.name);
        fs::write(&path, &case.bytes).unwrap();
        wrong.extend(check(&path, &case.name, &case.gives));
    }
    let folders = series::cases();
    for case in &folders {
        let own = folder.path().join(&case.name);
        fs::create_dir(&own).unwrap();
        case.files.iter().for_each(|(name, bytes)| fs::write(own.join(name), bytes).unwrap());
        wrong.extend(check(&own, &case.name, &case.gives));
        // The same files in a zip, and in folders of a folder.
        if !case.files.is_empty() {
            let files: Vec<(String, &[u8])> = case.files.iter().map(|(n, b)| (format!("in/{n}"), &b[..])).collect();
            let files: Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (n.as_str(), *b)).collect();
            let path = folder.path().join(format!("{}.zip", case.name));
            fs::write(&path, archives::stored(&files)).unwrap();
            wrong.extend(check(&path, &format!("{} (zip)", case.name), &case.gives));
        }
    }
    assert!(cases.len() > 180 && folders.len() > 25, "only {} cases and {} folders", cases.len(), folders.len());
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len() + folders.len(), wrong.join("\n"));
}

#[test]
fn every_prefix_of_a_good_file_ends_in_an_error_or_an_image() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in [
        ("a.nii", nifti::good()),
        ("a.nii.gz", nifti::gzip(&nifti::good())),
        ("a.nrrd", texts::good_nrrd()),
        ("a.mha", texts::good_mha()),
        ("a.dcm", dicom::good()),
        ("a.zip", archives::stored(&[("a.dcm", &dicom::good())])),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, &bytes).unwrap();
        assert!(
            read(&path, &ReadOptions::default()).is_ok(),
            "{name}: {:?}",
            read(&path, &ReadOptions::default()).err()
        );
        for end in (0..bytes.len()).step_by(1 + bytes.len() / 200) {
            fs::write(&path, &bytes[..end]).unwrap();
            let _ = read(&path, &ReadOptions::default());
        }
    }
}
