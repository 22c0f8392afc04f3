//! Labels as DICOM objects, for every command that writes label maps.

use crate::exit::usage_error;
use anyhow::Context;
use std::path::Path;
use volseg_geometry::LabelMap;
use volseg_io::{DicomOptions, Image, LabelName, SegForm, write_dicom_seg, write_rtstruct};

/// `--dicom-form`: which object a `.dcm` output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DicomForm {
    /// Segmentation with one bit a pixel and organ: every reader knows it
    Seg,
    /// Segmentation whose pixels are label values: smaller, for new readers
    Labelmap,
    /// RT structure set: contours
    Rtstruct,
}

/// Whether a name asks for DICOM.
pub(crate) fn is_asked(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("dcm"))
}

/// Refuses an image that no DICOM object can refer to.
pub(crate) fn check(path: &Path, image: &Image) -> anyhow::Result<()> {
    if image.is_dicom_series() {
        return Ok(());
    }
    Err(usage_error(format!(
        "{}: a .dcm output refers to the slices of a DICOM series, and the input ({}) is none; write .seg.nrrd or .nii.gz",
        path.display(),
        image.format.unwrap_or("of an unknown format")
    )))
}

/// Writes labels on the slices of `image`. `model` and its `parameters` name what found them.
pub(crate) fn write(
    path: &Path,
    form: DicomForm,
    labels: &LabelMap,
    image: &Image,
    names: &[LabelName],
    (model, parameters): (&str, &str),
) -> anyhow::Result<()> {
    let seg = if form == DicomForm::Labelmap { SegForm::Labelmap } else { SegForm::Binary };
    let options =
        DicomOptions { form: seg, model: model.into(), parameters: parameters.into(), ..DicomOptions::default() };
    match form {
        DicomForm::Rtstruct => write_rtstruct(path, labels, image, names, &options),
        DicomForm::Seg | DicomForm::Labelmap => write_dicom_seg(path, labels, image, names, &options),
    }
    .with_context(|| format!("could not write {}", path.display()))
}
