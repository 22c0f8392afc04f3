//! What all DICOM objects that are written here have in common.

use super::origin::Origin;
use crate::{AtomicFile, Error, Image, LabelName, Result};
use dicom_core::{DataElement, PrimitiveValue, VR, value::DataSetSequence};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject, Tag};
use sha2::{Digest, Sha256};
use std::path::Path;
use volseg_geometry::{Code, LabelMap, Organ, OrganId};

/// Form of a DICOM segmentation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SegForm {
    /// One bit a pixel, one frame an organ and slice (`SegmentationType` BINARY): what every reader of SEG knows.
    #[default]
    Binary,
    /// One frame a slice whose pixels are the label values (LABELMAP, DICOM supplement 243): smaller, but new.
    Labelmap,
}

/// How DICOM objects are written by [`crate::write_dicom_seg`] and [`crate::write_rtstruct`].
///
/// The same labels, source series and options give the same bytes: UIDs are made of digests (`2.25.`, ISO/IEC 9834-8), dates
/// are those of the source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DicomOptions {
    /// Form of a segmentation; without effect on contours.
    pub form: SegForm,
    /// Name of the model that found the organs, at most 64 ASCII characters; empty if labels were converted.
    pub model: String,
    /// Settings of the model, such as the digest of its weights; at most 10240 characters.
    pub parameters: String,
    /// A secret: patient and study values are left out and every UID is replaced by a keyed digest of it, the same for the
    /// same UID and key. `None` keeps them, as a PACS needs them.
    pub deidentify: Option<[u8; 32]>,
}

impl DicomOptions {
    /// The UID under which a UID of the source goes out.
    pub(super) fn uid(&self, source: &str) -> String {
        match &self.deidentify {
            Some(key) => uid_of(&[key, source.as_bytes()]),
            None => source.to_owned(),
        }
    }
}

/// A UID made of a digest.
pub(super) fn uid_of(parts: &[&[u8]]) -> String {
    let mut all = Sha256::new();
    for part in parts {
        all.update((part.len() as u64).to_le_bytes());
        all.update(part);
    }
    let mut bytes: [u8; 16] = [0; 16];
    bytes.iter_mut().zip(all.finalize()).for_each(|(b, d)| *b = d);
    // A UUID of version 8 (made by rules of its own) and the usual variant.
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    format!("2.25.{}", u128::from_be_bytes(bytes))
}

/// Of the program, in the header of every file: made once.
const IMPLEMENTATION: &str = "2.25.250331046613087302463092513390475229612";

/// A data set in the making.
pub(super) type Object = InMemDicomObject;

/// Short forms for elements.
pub(super) trait Put {
    fn value(&mut self, tag: Tag, vr: VR, value: PrimitiveValue);
    fn text(&mut self, tag: Tag, vr: VR, text: &str);
    fn shorts(&mut self, tag: Tag, values: &[u16]);
    fn items(&mut self, tag: Tag, items: Vec<Object>);
    /// A sequence of one item that holds one code.
    fn code(&mut self, tag: Tag, value: &str, scheme: &str, meaning: &str);
}

impl Put for Object {
    fn value(&mut self, tag: Tag, vr: VR, value: PrimitiveValue) {
        self.put(DataElement::new(tag, vr, value));
    }
    fn text(&mut self, tag: Tag, vr: VR, text: &str) {
        let value = if text.is_empty() { PrimitiveValue::Empty } else { PrimitiveValue::from(text) };
        self.value(tag, vr, value);
    }
    fn shorts(&mut self, tag: Tag, values: &[u16]) {
        self.value(tag, VR::US, PrimitiveValue::U16(values.iter().copied().collect()));
    }
    fn items(&mut self, tag: Tag, items: Vec<Object>) {
        self.put(DataElement::new(tag, VR::SQ, DataSetSequence::from(items)));
    }
    fn code(&mut self, tag: Tag, value: &str, scheme: &str, meaning: &str) {
        self.items(
            tag,
            vec![object(|o| {
                o.text(tags::CODE_VALUE, VR::SH, value);
                o.text(tags::CODING_SCHEME_DESIGNATOR, VR::SH, scheme);
                o.text(tags::CODE_MEANING, VR::LO, meaning);
            })],
        );
    }
}

/// An item of a sequence.
pub(super) fn object(fill: impl FnOnce(&mut Object)) -> Object {
    let mut object = Object::new_empty();
    fill(&mut object);
    object
}

/// Numbers as decimal strings of at most 16 characters: as short as they are exact, else rounded.
pub(super) fn decimals(values: &[f64]) -> String {
    let one = |v: f64| {
        let v = if v == 0.0 { 0.0 } else { v };
        let exact = v.to_string();
        if exact.len() <= 16 {
            return exact;
        }
        (0..=14).rev().map(|n| format!("{v:.n$}")).find(|t| t.len() <= 16).unwrap_or_else(|| format!("{v:.8e}"))
    };
    values.iter().map(|&v| one(v)).collect::<Vec<_>>().join("\\")
}

/// A label that stands in the map or was asked for.
pub(super) struct Segment {
    pub(super) value: u8,
    pub(super) name: String,
    pub(super) rgb: [u8; 3],
    pub(super) organ: Option<&'static Organ>,
}

impl Segment {
    /// Category and type of what is segmented; tissue where the name tells nothing.
    pub(super) fn codes(&self) -> (Code, Code) {
        const TISSUE: Code = Code { value: "85756007", meaning: "Tissue" };
        self.organ.map_or((TISSUE, TISSUE), |o| (o.category, o.code))
    }
}

/// The labels that stand in the map, in the order of their values; where none does, the first name, so that the object can be.
/// Values without a name are organ ids if nothing has a name.
pub(super) fn segments(labels: &LabelMap, names: &[LabelName]) -> Vec<Segment> {
    let mut present = [false; 256];
    labels.voxels().iter().for_each(|&v| present[usize::from(v)] = true);
    present[0] = false;
    if !present.contains(&true) {
        let first = names.iter().find_map(|n| u8::try_from(n.value).ok().filter(|&v| v > 0)).unwrap_or(1);
        present[usize::from(first)] = true;
    }
    (1..=255u8)
        .filter(|&v| present[usize::from(v)])
        .map(|value| {
            let named = names.iter().find(|n| n.value == u32::from(value));
            let organ = match named {
                Some(n) => n.name.parse::<OrganId>().ok(),
                None if names.is_empty() => OrganId::new(value),
                None => None,
            }
            .map(OrganId::organ);
            let name = organ.map(|o| o.prompt.to_owned()).or_else(|| named.map(|n| plain(&n.name, 64)));
            Segment {
                value,
                name: name.filter(|n| !n.is_empty()).unwrap_or_else(|| format!("Segment {value}")),
                rgb: named
                    .and_then(|n| n.rgb)
                    .or(organ.map(|o| o.rgb))
                    .unwrap_or_else(|| crate::nrrd::colour(value.into())),
                organ,
            }
        })
        .collect()
}

/// ASCII without control characters and backslashes, which every character set holds.
pub(super) fn plain(text: &str, most: usize) -> String {
    text.chars()
        .map(|c| if c.is_ascii_graphic() && c != '\\' { c } else { ' ' })
        .take(most)
        .collect::<String>()
        .trim()
        .to_owned()
}

/// The source of `reference`, if `labels` lie on it slice by slice.
pub(super) fn source<'a>(format: &'static str, labels: &LabelMap, reference: &'a Image) -> Result<&'a Origin> {
    let dim = reference.volume.dim();
    if labels.dim() != dim {
        return Err(Error::InvalidArgument {
            what: "label map",
            found: format!("{:?} voxels", labels.dim()),
            expected: format!("{dim:?}, as the image has"),
        });
    }
    reference.origin.as_deref().ok_or_else(|| Error::CannotHold {
        format,
        what: "labels of an image that is no DICOM series: it refers to the slices of one".into(),
    })
}

/// A digest of all that an object is made of.
pub(super) fn identity(
    what: &str,
    labels: &LabelMap,
    names: &[LabelName],
    origin: &Origin,
    options: &DicomOptions,
) -> [u8; 32] {
    let mut all = Sha256::new();
    let mut add = |bytes: &[u8]| {
        all.update((bytes.len() as u64).to_le_bytes());
        all.update(bytes);
    };
    add(format!("{what} {} {:?} {options:?} {names:?}", env!("CARGO_PKG_VERSION"), labels.dim()).as_bytes());
    add(labels.voxels());
    add(origin.series.as_bytes());
    for slice in &origin.slices {
        add(origin.instances.get(slice.instance).map_or(&[], |i| i.uid.as_bytes()));
        add(&(slice.frame as u64).to_le_bytes());
    }
    all.finalize().into()
}

/// Modules of patient, study, series, equipment and SOP.
pub(super) struct Common<'a> {
    pub(super) class: &'a str,
    pub(super) modality: &'a str,
    pub(super) series_number: &'a str,
    pub(super) description: &'a str,
    /// From [`identity`].
    pub(super) identity: &'a [u8],
}

impl Common<'_> {
    pub(super) fn put(&self, o: &mut Object, origin: &Origin, options: &DicomOptions) {
        o.text(tags::SOP_CLASS_UID, VR::UI, self.class);
        o.text(tags::SOP_INSTANCE_UID, VR::UI, &uid_of(&[b"instance", self.identity]));
        o.text(tags::SERIES_INSTANCE_UID, VR::UI, &uid_of(&[b"series", self.identity]));
        o.text(tags::STUDY_INSTANCE_UID, VR::UI, &options.uid(&origin.study));
        for (tag, vr) in [
            (tags::PATIENT_NAME, VR::PN),
            (tags::PATIENT_ID, VR::LO),
            (tags::PATIENT_BIRTH_DATE, VR::DA),
            (tags::PATIENT_SEX, VR::CS),
            (tags::STUDY_DATE, VR::DA),
            (tags::STUDY_TIME, VR::TM),
            (tags::ACCESSION_NUMBER, VR::SH),
            (tags::REFERRING_PHYSICIAN_NAME, VR::PN),
            (tags::STUDY_ID, VR::SH),
        ] {
            // These may be empty, but must be there.
            self.keep(o, origin, options, tag, vr);
        }
        for (tag, vr) in [
            (tags::SPECIFIC_CHARACTER_SET, VR::CS),
            (tags::ISSUER_OF_PATIENT_ID, VR::LO),
            (tags::STUDY_DESCRIPTION, VR::LO),
        ] {
            if options.deidentify.is_none() && !origin.text(tag).is_empty() {
                self.keep(o, origin, options, tag, vr);
            }
        }
        if options.deidentify.is_some() {
            o.text(tags::PATIENT_IDENTITY_REMOVED, VR::CS, "YES");
            o.text(tags::DEIDENTIFICATION_METHOD, VR::LO, "Patient and study values left out, UIDs replaced");
            o.text(tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED, VR::CS, "REMOVED");
        }
        o.text(tags::MODALITY, VR::CS, self.modality);
        o.text(tags::SERIES_NUMBER, VR::IS, self.series_number);
        o.text(tags::SERIES_DESCRIPTION, VR::LO, self.description);
        o.text(tags::INSTANCE_NUMBER, VR::IS, "1");
        o.text(tags::MANUFACTURER, VR::LO, "volseg");
        o.text(tags::MANUFACTURER_MODEL_NAME, VR::LO, "volseg");
        o.text(tags::DEVICE_SERIAL_NUMBER, VR::LO, "0");
        o.text(tags::SOFTWARE_VERSIONS, VR::LO, env!("CARGO_PKG_VERSION"));
        o.text(tags::FRAME_OF_REFERENCE_UID, VR::UI, &frame_of_reference(origin, options));
        o.text(tags::POSITION_REFERENCE_INDICATOR, VR::LO, "");
    }

    /// An element as it stands in the source; empty where nothing may be told.
    fn keep(&self, o: &mut Object, origin: &Origin, options: &DicomOptions, tag: Tag, vr: VR) {
        let raw = if options.deidentify.is_some() { &[] } else { origin.raw(tag) };
        // As bytes, so that no text is decoded and written otherwise; an odd length is the source's mistake.
        let mut raw = raw.to_vec();
        if raw.len() % 2 == 1 {
            raw.push(b' ');
        }
        o.value(
            tag,
            vr,
            if raw.is_empty() { PrimitiveValue::Empty } else { PrimitiveValue::U8(raw.into_iter().collect()) },
        );
    }
}

/// The frame of reference of the slices; where the source names none, one of its own.
pub(super) fn frame_of_reference(origin: &Origin, options: &DicomOptions) -> String {
    let own = origin.text(tags::FRAME_OF_REFERENCE_UID);
    options.uid(&if own.is_empty() { uid_of(&[b"frame of reference", origin.series.as_bytes()]) } else { own })
}

/// Day and time of the source; the first day of DICOM's count where it has none or none may be told.
pub(super) fn moment(origin: &Origin, options: &DicomOptions) -> (String, String) {
    let first = |among: [Tag; 2], digits: usize, absent: &str| {
        let found = among.map(|t| origin.text(t)).into_iter().find(|t| {
            options.deidentify.is_none() && t.get(..digits).is_some_and(|d| d.bytes().all(|b| b.is_ascii_digit()))
        });
        found.unwrap_or_else(|| absent.into())
    };
    (
        first([tags::SERIES_DATE, tags::STUDY_DATE], 8, "19000101"),
        first([tags::SERIES_TIME, tags::STUDY_TIME], 2, "000000"),
    )
}

/// A reference to the file of a slice; names its frame if `frame` is given.
pub(super) fn reference_to(origin: &Origin, instance: usize, frame: Option<usize>, options: &DicomOptions) -> Object {
    object(|o| {
        if let Some(i) = origin.instances.get(instance) {
            o.text(tags::REFERENCED_SOP_CLASS_UID, VR::UI, &i.class);
            o.text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, &options.uid(&i.uid));
            if let Some(frame) = frame.filter(|_| i.several_frames) {
                o.text(tags::REFERENCED_FRAME_NUMBER, VR::IS, &(frame + 1).to_string());
            }
        }
    })
}

/// What made the labels, in at most 64 characters.
pub(super) fn algorithm(options: &DicomOptions) -> String {
    let model = plain(&options.model, 57);
    if model.is_empty() { "volseg".into() } else { format!("volseg {model}") }
}

/// Writes a data set as a file.
pub(super) fn write(path: &Path, format: &'static str, object: Object, syntax: &str) -> Result<()> {
    let cannot = |e: &dyn std::fmt::Display| Error::CannotHold { format, what: format!("these labels ({e})") };
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(syntax)
        .implementation_class_uid(IMPLEMENTATION)
        .implementation_version_name(concat!("VOLSEG_", env!("CARGO_PKG_VERSION")));
    let mut bytes = Vec::new();
    object.with_meta(meta).map_err(|e| cannot(&e))?.write_all(&mut bytes).map_err(|e| cannot(&e))?;
    AtomicFile::write(path, &bytes)
}

/// Transfer syntaxes in use here.
pub(super) const EXPLICIT: &str = uids::EXPLICIT_VR_LITTLE_ENDIAN;
pub(super) const IMPLICIT: &str = uids::IMPLICIT_VR_LITTLE_ENDIAN;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_fit_sixteen_characters() {
        for (value, text) in [
            (0.1, "0.1"),
            (-0.0, "0"),
            (-123.456_789_012_345_67, "-123.45678901235"),
            (1.0 / 3.0, "0.33333333333333"),
            (1e-20, "0.00000000000000"),
            (-1_234_567.890_123_456, "-1234567.8901235"),
            (97.65625, "97.65625"),
        ] {
            assert_eq!(decimals(&[value]), text);
        }
        assert_eq!(decimals(&[1.5, -2.0]), "1.5\\-2");
    }

    #[test]
    fn uids_are_short_and_follow_their_parts() {
        let uid = uid_of(&[b"a", b"b"]);
        assert!(uid.starts_with("2.25.") && uid.len() <= 64, "{uid}");
        assert_ne!(uid, uid_of(&[b"ab", b""]));
        assert_eq!(uid, uid_of(&[b"a", b"b"]));
    }
}
