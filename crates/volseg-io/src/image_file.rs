//! What was read from a file.

use crate::{Error, MetaHeader, NiftiHeader, Result};
use std::fmt;
use volseg_geometry::{AnyVolume, LabelMap, Modality, OrganId, Volume};

/// An image with what its file says about it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Image {
    /// The voxels exactly as stored, on their grid (RAS+ mm). Colour pictures: their grey values.
    pub volume: AnyVolume,
    /// Intensity = stored value · `slope` + `intercept` (HU for CT).
    pub slope: f64,
    /// See `slope`.
    pub intercept: f64,
    /// From a DICOM header; `None` where the file does not say.
    pub modality: Option<Modality>,
    /// Geometry in the file's own terms, so that writing the same format keeps it bit by bit.
    pub header: Header,
    /// Names of label values, if the file holds them.
    pub labels: Vec<LabelName>,
    /// What a user should know: repaired or doubtful things, one sentence each.
    pub warnings: Vec<String>,
    /// Volumes in the file (a 4th axis); this is one of them.
    pub frames: usize,
    /// SHA-256 of the file; of several files, see [`crate::sha256_files`]. Empty for an image that was not read.
    pub sha256: String,
    /// What the file was; `None` for an image that was not read.
    pub format: Option<&'static str>,
    /// The file says which way its axes run in the patient; else left and right are a guess.
    pub(crate) sides_known: bool,
    pub(crate) picture: bool,
    pub(crate) origin: Option<std::sync::Arc<crate::dicom::Origin>>,
    pub(crate) rgb: Option<Vec<u8>>,
    pub(crate) lost: Option<&'static str>,
    pub(crate) indices: Option<Vec<u8>>,
}

impl Image {
    /// An image of voxels alone: slope 1, nothing known. One slice without depth is still a volume.
    #[must_use]
    pub fn from_volume(volume: AnyVolume) -> Self {
        Self {
            volume,
            slope: 1.0,
            intercept: 0.0,
            modality: None,
            header: Header::None,
            labels: Vec::new(),
            warnings: Vec::new(),
            frames: 1,
            sha256: String::new(),
            format: None,
            sides_known: true,
            picture: false,
            origin: None,
            rgb: None,
            lost: None,
            indices: None,
        }
    }

    /// As [`Image::from_volume`].
    #[must_use]
    pub fn new(volume: AnyVolume) -> Self {
        Self::from_volume(volume)
    }

    /// Whether it is a picture: one slice without a place in the patient.
    #[must_use]
    pub fn is_picture(&self) -> bool {
        self.picture
    }

    /// Whether left and right of the patient are known: not in a picture, nor in a file whose header has no orientation.
    #[must_use]
    pub fn sides_known(&self) -> bool {
        self.sides_known && !self.picture
    }

    /// Whether it was read from DICOM pictures, so that a DICOM object can refer to its slices.
    #[must_use]
    pub fn is_dicom_series(&self) -> bool {
        self.origin.is_some()
    }

    /// Red, green, blue of each pixel, row by row, if the picture has colours; [`Image::volume`] holds its grey values.
    #[must_use]
    pub fn rgb(&self) -> Option<&[u8]> {
        self.rgb.as_deref()
    }

    /// What of the file's pixels no output can hold, since it was not read: transparency, colours of more than 8 bits or of several
    /// slices.
    #[must_use]
    pub fn lost(&self) -> Option<&'static str> {
        self.lost
    }

    /// The label map that a coloured PNG with a palette is: its voxels become the numbers of the palette's colours, as Pascal VOC and
    /// its successors store masks. Any other image stays what it is.
    #[must_use]
    pub fn into_labels(mut self) -> Self {
        let (dim, affine) = (self.volume.dim(), *self.volume.affine());
        if let Some(Ok(volume)) = self.indices.take().map(|i| Volume::from_vec(i, dim, affine)) {
            (self.volume, self.rgb) = (volume.into(), None);
            self.warnings.retain(|w| w != crate::picture::GREYED);
        }
        self
    }

    /// Least and greatest finite intensity (after slope and intercept); `None` if there is none.
    #[must_use]
    pub fn value_range(&self) -> Option<(f64, f64)> {
        let range = crate::voxels::range(&self.volume)?;
        let (a, b) = (range.0 * self.slope + self.intercept, range.1 * self.slope + self.intercept);
        Some((a.min(b), a.max(b)))
    }

    /// The file's modality, or else a guess from the values: CT if they reach below -200 (air in HU).
    #[must_use]
    pub fn modality_guess(&self) -> Option<Modality> {
        let cold = || !self.picture && self.value_range().is_some_and(|(low, high)| low < -200.0 && high > 0.0);
        self.modality.or_else(|| cold().then_some(Modality::Ct))
    }

    /// The voxels as organ ids. In a picture with the values 0 and 255 alone, 255 reads as 1.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if an intensity is no whole number from 0 to 255.
    pub fn to_label_map(&self) -> Result<LabelMap> {
        let count = self.volume.dim().iter().product();
        let mut ids: Vec<u8> = Vec::new();
        ids.try_reserve_exact(count).map_err(|_| Error::Limit {
            what: "voxels in memory",
            found: count as u64,
            allowed: 0,
        })?;
        for n in 0..count {
            let value = self.volume.value(n) * self.slope + self.intercept;
            if !(0.0..=255.0).contains(&value) || value.fract() != 0.0 {
                return Err(Error::InvalidArgument {
                    what: "label map",
                    found: format!("a voxel of {value}"),
                    expected: "whole numbers from 0 to 255".into(),
                });
            }
            ids.push(value as u8);
        }
        if self.picture && ids.contains(&255) && ids.iter().all(|&v| v == 0 || v == 255) {
            ids.iter_mut().for_each(|v| *v = (*v).min(1));
        }
        Ok(Volume::from_vec(ids, self.volume.dim(), *self.volume.affine())?)
    }
}

/// Geometry in the terms of a format.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Header {
    /// The format states the affine itself (NRRD), or there is no file.
    #[default]
    None,
    /// NIfTI: pixdim, qform, sform.
    Nifti(Box<NiftiHeader>),
    /// MetaImage: spacing, directions, offset.
    Meta(MetaHeader),
}

/// The name of a label value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelName {
    /// Voxel value.
    pub value: u32,
    /// Name as in the file.
    pub name: String,
    /// Colour, if the file has one.
    pub rgb: Option<[u8; 3]>,
}

impl From<OrganId> for LabelName {
    fn from(id: OrganId) -> Self {
        Self { value: id.get().into(), name: id.organ().name.into(), rgb: Some(id.organ().rgb) }
    }
}

/// Which series of a DICOM folder or archive to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Series {
    /// Its place in the list of series, from 1.
    Number(usize),
    /// Its SeriesInstanceUID.
    Uid(String),
}

impl Series {
    /// A number, or else a UID.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        text.trim().parse().map_or_else(|_| Self::Uid(text.trim().to_owned()), Self::Number)
    }
}

/// A series in a DICOM folder or archive, without patient values.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SeriesInfo {
    /// SeriesInstanceUID.
    pub uid: String,
    /// Modality as the header has it, such as `CT`.
    pub modality: String,
    /// SeriesNumber.
    pub number: String,
    /// Slices (files or frames).
    pub slices: usize,
    /// Columns and rows.
    pub size: [usize; 2],
}

impl fmt::Display for SeriesInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uid, modality, number, slices, size: [x, y] } = self;
        write!(f, "{modality}, {slices} slices of {x} x {y}, series number {number}, {uid}")
    }
}
