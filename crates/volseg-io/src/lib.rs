//! Files to volumes and back: NIfTI, NRRD, MetaImage, DICOM and pictures, behind limits.
//!
//! [`read`] finds out what a path is (by content, not by name) and gives an [`Image`]: the voxels exactly as stored, with the
//! slope and intercept that make intensities of them, and an affine to RAS+ mm. Uncompressed files are mapped, not copied.
//! [`write()`] and [`write_labels`] choose the format by the name's ending. Files appear whole or not at all ([`AtomicFile`]).
//!
//! Labels of an image that was read from DICOM go back to it with [`write_dicom_seg`] (segmentation object) and
//! [`write_rtstruct`] (contours): both take the label map, the [`Image`] it belongs to, `names` (`organs.iter().map(|&id|
//! id.into())` gives them) and [`DicomOptions`]. [`read`] gives a segmentation object back as a label map.
//!
//! ```
//! use volseg_geometry::{Affine, Volume};
//! use volseg_io::{Image, ReadOptions, read, write};
//! let folder = tempfile::tempdir().unwrap();
//! let path = folder.path().join("ct.nii.gz");
//! let volume = Volume::from_vec((0..24i16).collect(), [2, 3, 4], Affine::from_spacing_mm([0.75, 0.75, 5.0])).unwrap();
//! write(&path, &Image::from_volume(volume.into())).unwrap();
//! let image = read(&path, &ReadOptions::default()).unwrap();
//! assert_eq!(image.volume.affine().spacing_mm(), [0.75, 0.75, 5.0]);
//! assert_eq!(image.volume.value(23), 23.0);
//! ```

mod atomic;
mod dicom;
mod digest;
mod error;
mod format;
mod image_file;
mod limits;
mod locator;
mod metaimage;
mod mmap;
mod nifti;
mod nrrd;
mod number_text;
mod output;
mod picture;
mod side_file;
mod source;
mod survey;
mod voxels;

pub use atomic::{AtomicFile, ScratchFolder, abandon_outputs};
pub use dicom::{DicomOptions, SegForm, write_dicom_seg, write_rtstruct};
pub use digest::{sha256, sha256_file, sha256_files};
pub use error::{Error, Result};
pub use format::{Format, read};
pub use image_file::{Header, Image, LabelName, Series, SeriesInfo};
pub use limits::{Limits, ReadOptions};
pub use locator::Locator;
pub use metaimage::MetaHeader;
pub use nifti::NiftiHeader;
pub use output::{nrrd_bytes, write, write_f32, write_labels};
pub use survey::{CLOSED, Found, Survey, read_found, survey};
