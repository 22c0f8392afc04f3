//! What objects made from an image (SEG, RTSTRUCT) must know of the DICOM files that it came from.

use super::{
    file::{File, Place},
    objects::uid_of,
};
use dicom_dictionary_std::{tags, uids};
use dicom_object::Tag;
use std::{collections::BTreeMap, fmt};

/// Elements of patient and study that every object of a study repeats, and those of lossy compression, which sticks to
/// whatever is made of a picture.
const KEPT: [Tag; 19] = [
    tags::SPECIFIC_CHARACTER_SET,
    tags::STUDY_DATE,
    tags::SERIES_DATE,
    tags::STUDY_TIME,
    tags::SERIES_TIME,
    tags::ACCESSION_NUMBER,
    tags::REFERRING_PHYSICIAN_NAME,
    tags::STUDY_DESCRIPTION,
    tags::PATIENT_NAME,
    tags::PATIENT_ID,
    tags::ISSUER_OF_PATIENT_ID,
    tags::PATIENT_BIRTH_DATE,
    tags::PATIENT_SEX,
    tags::STUDY_ID,
    tags::FRAME_OF_REFERENCE_UID,
    tags::POSITION_REFERENCE_INDICATOR,
    tags::LOSSY_IMAGE_COMPRESSION,
    tags::LOSSY_IMAGE_COMPRESSION_RATIO,
    tags::LOSSY_IMAGE_COMPRESSION_METHOD,
];

/// One file that slices came from.
#[derive(Clone, PartialEq)]
pub(super) struct Instance {
    pub(super) class: String,
    pub(super) uid: String,
    /// Whether a frame must be named to mean a slice.
    pub(super) several_frames: bool,
}

/// Where a slice of the volume came from.
#[derive(Clone)]
pub(super) struct SliceOrigin {
    /// Place in [`Origin::instances`].
    pub(super) instance: usize,
    /// From 0.
    pub(super) frame: usize,
    /// LPS mm.
    pub(super) position: Option<[f64; 3]>,
}

/// The series behind an image. Holds patient values, so it shows none.
pub(crate) struct Origin {
    kept: BTreeMap<Tag, Vec<u8>>,
    pub(super) study: String,
    pub(super) series: String,
    pub(super) instances: Vec<Instance>,
    /// One a slice of the volume, in its order.
    pub(super) slices: Vec<SliceOrigin>,
    /// Direction cosines along a row, then down a column (LPS); `None` for pictures without a place.
    pub(super) orientation: Option<[f64; 6]>,
    /// Between rows, between columns, mm.
    pub(super) spacing: [f64; 2],
    pub(super) thickness: Option<f64>,
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} slices of {} DICOM files", self.slices.len(), self.instances.len())
    }
}

impl Origin {
    /// `slices`: file, frame and place of each slice of the volume. `None` for no slices.
    pub(super) fn of<'a>(
        files: &[File],
        slices: impl Iterator<Item = (usize, usize, &'a Place)> + Clone,
    ) -> Option<Self> {
        let (first_file, _, first) = slices.clone().next()?;
        let file = files.get(first_file)?;
        let kept = KEPT
            .iter()
            .filter_map(|&tag| {
                let value = file.data.value(number(tag)).and_then(|v| file.held().get(v.range.clone()))?;
                Some((tag, value.to_vec()))
            })
            .collect();
        let mut instances: Vec<Instance> = Vec::new();
        let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
        let mut out = Vec::new();
        for (n, frame, place) in slices {
            let file = files.get(n)?;
            let instance = *seen.entry(n).or_insert_with(|| {
                let [class, uid] = &file.media;
                let held = || uid_of(&[b"instance", (*file.original).as_ref()]);
                instances.push(Instance {
                    class: first_of([&file.text(number(tags::SOP_CLASS_UID)), class], || class_of(&file.modality())),
                    uid: first_of([&file.text(number(tags::SOP_INSTANCE_UID)), uid], held),
                    several_frames: file.frames().is_ok_and(|n| n > 1),
                });
                instances.len() - 1
            });
            out.push(SliceOrigin { instance, frame, position: place.position });
        }
        let all: Vec<&[u8]> = instances.iter().map(|i| i.uid.as_bytes()).collect();
        let series = first_of([&file.text(number(tags::SERIES_INSTANCE_UID))], || uid_of(&all));
        Some(Self {
            kept,
            study: first_of([&file.text(number(tags::STUDY_INSTANCE_UID))], || uid_of(&[b"study", series.as_bytes()])),
            series,
            instances,
            slices: out,
            orientation: first.orientation,
            spacing: first.spacing.unwrap_or([1.0; 2]),
            thickness: first.thickness,
        })
    }

    /// The bytes of an element of the first file as they are, in its character set.
    pub(super) fn raw(&self, tag: Tag) -> &[u8] {
        self.kept.get(&tag).map_or(&[], Vec::as_slice)
    }

    /// As text, without padding; empty if absent.
    pub(super) fn text(&self, tag: Tag) -> String {
        String::from_utf8_lossy(self.raw(tag)).trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned()
    }
}

/// The first that is there, else a stand-in: files that were stripped of their UIDs still can be referred to.
fn first_of<const N: usize>(found: [&String; N], else_: impl FnOnce() -> String) -> String {
    found.into_iter().find(|t| !t.is_empty()).cloned().unwrap_or_else(else_)
}

/// The usual SOP class of a modality.
fn class_of(modality: &str) -> String {
    match modality {
        "CT" => uids::CT_IMAGE_STORAGE,
        "MR" => uids::MR_IMAGE_STORAGE,
        "US" => uids::ULTRASOUND_IMAGE_STORAGE,
        _ => uids::SECONDARY_CAPTURE_IMAGE_STORAGE,
    }
    .to_owned()
}

fn number(tag: Tag) -> u32 {
    u32::from(tag.0) << 16 | u32::from(tag.1)
}
