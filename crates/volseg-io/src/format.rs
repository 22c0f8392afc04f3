//! Which format a file is, by its content.

use crate::{Error, Image, ReadOptions, Result, dicom, digest::sha256, metaimage, nifti, nrrd, picture, source};
use std::path::Path;

/// A format by a file name's ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum Format {
    Nifti,
    NiftiGz,
    NiftiPair,
    Nrrd,
    SegNrrd,
    NrrdDetached,
    Mha,
    Mhd,
    Png,
    /// DICOM segmentation; only for labels on a DICOM series.
    DicomSeg,
}

impl Format {
    /// The format to write for a name.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an ending that none of the writers has.
    pub fn of_output(path: &Path) -> Result<Self> {
        let name = path.file_name().map(|n| n.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let endings = [
            (".nii", Self::Nifti),
            (".nii.gz", Self::NiftiGz),
            (".hdr", Self::NiftiPair),
            (".img", Self::NiftiPair),
            (".seg.nrrd", Self::SegNrrd),
            (".nrrd", Self::Nrrd),
            (".nhdr", Self::NrrdDetached),
            (".mha", Self::Mha),
            (".mhd", Self::Mhd),
            (".png", Self::Png),
            (".dcm", Self::DicomSeg),
        ];
        endings.iter().find(|(e, _)| name.ends_with(e)).map(|&(_, f)| f).ok_or_else(|| Error::InvalidArgument {
            what: "output name",
            found: path.display().to_string(),
            expected: "an ending of .nii, .nii.gz, .nrrd, .seg.nrrd, .mha, .mhd, .png or .dcm".into(),
        })
    }
}

/// Reads an image: NIfTI, NRRD, MetaImage, a picture, or DICOM (file, folder, zip). What it is, is seen from its content.
///
/// # Errors
/// See [`Error`]; nothing beyond [`crate::Limits`] is allocated.
pub fn read(path: &Path, options: &ReadOptions) -> Result<Image> {
    if path.is_dir() {
        return dicom::read_folder(path, options);
    }
    let bytes = source::open(path, &options.limits)?;
    let held: &[u8] = (*bytes).as_ref();
    if held.is_empty() {
        return Err(Error::malformed("file", "it is empty"));
    }
    let name = path.file_name().map(|n| n.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let mut image = if dicom::is_archive(held) {
        dicom::read_archive(held, options)?
    } else if dicom::has_mark(held) {
        dicom::read_file(&bytes, options)?
    } else if held.starts_with(b"NRRD") {
        nrrd::read(path, &bytes, options)?
    } else if source::is_gzip(held) || nifti::is_header(held) || name.ends_with(".img") {
        nifti::read(path, &bytes, options)?
    } else if metaimage::is_header(held) {
        metaimage::read(path, &bytes, options)?
    } else if picture::is_picture(held) {
        picture::read(held, options)?
    } else if [".nii", ".hdr"].iter().any(|e| name.ends_with(e)) {
        return Err(Error::malformed("NIfTI", format!("no header found in {} bytes", held.len())));
    } else if dicom::is_bare(held) {
        dicom::read_file(&bytes, options)?
    } else {
        return Err(Error::unsupported("file", "this content"));
    };
    if options.digest && image.sha256.is_empty() {
        image.sha256 = sha256(held);
    }
    Ok(image)
}
