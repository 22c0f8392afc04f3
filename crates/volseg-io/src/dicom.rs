//! DICOM: a file, a folder, or a zip of one, to one volume. World axes are LPS.
//!
//! The data set is parsed here, lazily and without recursion, so that neither lengths nor nesting in a file decide over our
//! memory or stack; compressed pixels are decoded by the codecs of dicom-rs, after their sizes were compared with the header.

mod archive;
mod color;
mod contour;
mod dataset;
mod file;
mod geometry;
mod objects;
mod origin;
mod pixels;
mod rtstruct;
mod seg;
mod seg_read;
mod series;
mod survey;

pub(crate) use archive::{entries as archive_entries, is_archive, read_archive};
pub use objects::{DicomOptions, SegForm};
pub(crate) use origin::Origin;
pub use rtstruct::write_rtstruct;
pub use seg::write_dicom_seg;
pub(crate) use survey::{Contents, Group, of_archive as survey_archive, read as read_listed};

use crate::{Error, Image, ReadOptions, Result, source};
use file::File;
use rayon::prelude::*;
use std::path::{Path, PathBuf};

pub(crate) const FORMAT: &str = "DICOM";
const MOST_FILES: usize = 200_000;

/// Whether bytes carry the mark of a DICOM file.
pub(crate) fn has_mark(bytes: &[u8]) -> bool {
    bytes.get(128..132) == Some(b"DICM")
}

/// Whether bytes look like a data set without the mark: a first element of group 2 or 8.
pub(crate) fn is_bare(bytes: &[u8]) -> bool {
    matches!(bytes.first_chunk::<4>(), Some([2 | 8, 0, low, high]) if (*high == 0 && *low <= 0x20) || *low == 0)
}

pub(crate) fn read_file(bytes: &source::Shared, options: &ReadOptions) -> Result<Image> {
    let file = File::parse(bytes.clone(), &options.limits)?;
    if !file.is_image() {
        return Err(Error::unsupported(FORMAT, format!("an object of modality {:?} without pixels", file.modality())));
    }
    series::read(vec![file], options)
}

pub(crate) fn read_folder(folder: &Path, options: &ReadOptions) -> Result<Image> {
    let paths = files_below(folder)?;
    let found = paths.len();
    let mut files = paths
        .into_par_iter()
        .map(|path| {
            let bytes = source::open(&path, &options.limits).map_err(|e| e.below(folder))?;
            Ok(if has_mark((*bytes).as_ref()) || is_bare((*bytes).as_ref()) { Some((path, bytes)) } else { None })
        })
        .filter_map(|r: Result<_>| r.transpose())
        .collect::<Result<Vec<_>>>()?;
    files.sort_by(|a, b| a.0.cmp(&b.0));
    let total: u64 = files.iter().map(|(_, b)| (**b).as_ref().len() as u64).sum();
    options.limits.file(total)?;
    of_several(files.into_iter().map(|f| f.1).collect(), found, options)
}

/// One image of many files; those that are no images are left out.
fn of_several(files: Vec<source::Shared>, found: usize, options: &ReadOptions) -> Result<Image> {
    let parsed: Vec<_> = files.into_par_iter().map(|b| File::parse(b, &options.limits)).collect();
    let mut images = Vec::new();
    let (mut broken, mut others) = (Vec::new(), 0usize);
    for file in parsed {
        match file {
            Ok(file) if file.is_image() => images.push(file),
            Ok(_) => others += 1,
            Err(e @ Error::Limit { .. }) => return Err(e),
            Err(e) => broken.push(e),
        }
    }
    if images.is_empty() {
        let first = broken.first().map_or(String::new(), |e| format!(", the first broken one: {e}"));
        return Err(Error::NothingReadable {
            reason: format!(
                "{found} files, {} broken DICOM files, {others} DICOM files without pixels{first}",
                broken.len()
            ),
        });
    }
    // A segmentation of the same patient beside the pictures is not what is asked for.
    if images.iter().any(|f| !f.is_segmentation()) {
        images.retain(|f| !f.is_segmentation());
    }
    let mut image = series::read(images, options)?;
    if let Some(first) = broken.first() {
        image.warnings.push(format!("{} files could not be read and were left out ({first})", broken.len()));
    }
    Ok(image)
}

/// All regular files below a folder, sorted. Links to folders are not followed.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = vec![folder.to_owned()];
    let mut files = Vec::new();
    while let Some(next) = folders.pop() {
        // Folders below may bear the names of patients.
        let cannot = || Error::io("read", folder);
        for entry in std::fs::read_dir(&next).map_err(cannot())? {
            let entry = entry.map_err(cannot())?;
            let kind = entry.file_type().map_err(cannot())?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if (kind.is_file() || (kind.is_symlink() && entry.path().is_file()))
                && entry.file_name() != "DICOMDIR"
            {
                files.push(entry.path());
            }
        }
        if files.len() + folders.len() > MOST_FILES {
            return Err(Error::Limit {
                what: "files in a folder",
                found: (files.len() + folders.len()) as u64,
                allowed: MOST_FILES as u64,
            });
        }
    }
    files.sort();
    Ok(files)
}
