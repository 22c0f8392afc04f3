//! DICOM segmentation objects (PS3.3 A.51 and, for label maps, supplement 243) on the slices that an image came from.

use super::{
    color,
    objects::{
        Common, DicomOptions, EXPLICIT, Object, Put, SegForm, Segment, algorithm, decimals, identity, moment, object,
        plain, reference_to, segments, source, uid_of, write,
    },
    origin::Origin,
};
use crate::{Error, Image, LabelName, Result};
use dicom_core::{PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use std::path::Path;
use volseg_geometry::LabelMap;

const FORMAT: &str = "DICOM SEG";
/// Starts the tracking id of our segments, before the label value: segment numbers must be 1, 2, 3, ... whatever the labels.
pub(super) const TRACKING: &str = "volseg label ";

/// A frame to be: the slice, and the segment's place in the list unless it holds all of them.
struct Frame {
    slice: usize,
    segment: Option<usize>,
}

/// Writes labels as a DICOM segmentation that refers to the series of `reference`, slice by slice.
///
/// `reference` must have been read from DICOM and `labels` lie on its grid. `names` gives names, and by them codes and
/// colours, to label values; values without a name are organ ids if `names` is empty. Every slice of the series has a frame,
/// so that a reader gets back the whole grid; labels that stand nowhere are left out.
///
/// # Errors
/// [`Error::CannotHold`] if `reference` is no DICOM series; [`Error::InvalidArgument`] if the grids differ;
/// [`Error::Io`]. Nothing is left behind then.
pub fn write_dicom_seg(
    path: &Path,
    labels: &LabelMap,
    reference: &Image,
    names: &[LabelName],
    options: &DicomOptions,
) -> Result<()> {
    let origin = source(FORMAT, labels, reference)?;
    let identity = identity("SEG", labels, names, origin, options);
    let class = match options.form {
        SegForm::Binary => uids::SEGMENTATION_STORAGE,
        SegForm::Labelmap => uids::LABEL_MAP_SEGMENTATION_STORAGE,
    };
    let common = Common {
        class,
        modality: "SEG",
        series_number: "9001",
        description: "volseg segmentation",
        identity: &identity,
    };
    let segments = segments(labels, names);
    let frames = frames(labels, &segments, options.form);
    let mut o = Object::new_empty();
    common.put(&mut o, origin, options);
    head(&mut o, origin, options);
    pixels(&mut o, labels, &segments, &frames, options.form)?;
    o.items(
        tags::SEGMENT_SEQUENCE,
        segments.iter().enumerate().map(|(n, s)| segment(n, s, &identity, options)).collect(),
    );
    groups(&mut o, reference, origin, &frames, &identity, options);
    write(path, FORMAT, o, EXPLICIT)
}

/// What needs no look at the labels.
fn head(o: &mut Object, origin: &Origin, options: &DicomOptions) {
    let (date, time) = moment(origin, options);
    o.text(tags::IMAGE_TYPE, VR::CS, "DERIVED\\PRIMARY");
    o.text(tags::CONTENT_DATE, VR::DA, &date);
    o.text(tags::CONTENT_TIME, VR::TM, &time);
    o.text(tags::CONTENT_LABEL, VR::CS, "SEGMENTATION");
    o.text(tags::CONTENT_DESCRIPTION, VR::LO, "Organs found by volseg; research use only");
    o.text(tags::CONTENT_CREATOR_NAME, VR::PN, "");
    let lossy = origin.text(tags::LOSSY_IMAGE_COMPRESSION) == "01";
    o.text(tags::LOSSY_IMAGE_COMPRESSION, VR::CS, if lossy { "01" } else { "00" });
    for (tag, vr) in [(tags::LOSSY_IMAGE_COMPRESSION_RATIO, VR::DS), (tags::LOSSY_IMAGE_COMPRESSION_METHOD, VR::CS)] {
        let value = origin.text(tag);
        if lossy && !value.is_empty() {
            o.text(tag, vr, &value);
        }
    }
    o.items(
        tags::REFERENCED_SERIES_SEQUENCE,
        vec![object(|o| {
            o.text(tags::SERIES_INSTANCE_UID, VR::UI, &options.uid(&origin.series));
            let all = (0..origin.instances.len()).map(|n| reference_to(origin, n, None, options)).collect();
            o.items(tags::REFERENCED_INSTANCE_SEQUENCE, all);
        })],
    );
}

/// The frames, by segment and then by slice. Slices without any label get an empty frame of the first segment.
fn frames(labels: &LabelMap, segments: &[Segment], form: SegForm) -> Vec<Frame> {
    let [columns, rows, slices] = labels.dim();
    if form == SegForm::Labelmap {
        return (0..slices).map(|slice| Frame { slice, segment: None }).collect();
    }
    let present: Vec<[bool; 256]> = labels
        .voxels()
        .chunks(columns * rows)
        .map(|slice| {
            let mut present = [false; 256];
            slice.iter().for_each(|&v| present[usize::from(v)] = true);
            present[0] = false;
            present
        })
        .collect();
    let mut out = Vec::new();
    for (n, s) in segments.iter().enumerate() {
        for (slice, present) in present.iter().enumerate() {
            if present[usize::from(s.value)] || n == 0 && !present.contains(&true) {
                out.push(Frame { slice, segment: Some(n) });
            }
        }
    }
    out
}

fn pixels(o: &mut Object, labels: &LabelMap, segments: &[Segment], frames: &[Frame], form: SegForm) -> Result<()> {
    let [columns, rows, _] = labels.dim();
    let cannot = |what: String| Error::CannotHold { format: FORMAT, what };
    let side = |n: usize| u16::try_from(n).map_err(|_| cannot(format!("{columns} x {rows} pixels")));
    let count = columns * rows;
    let bits: u16 = if form == SegForm::Binary { 1 } else { 8 };
    let bytes = (count as u64 * frames.len() as u64 * u64::from(bits)).div_ceil(8);
    if bytes > u64::from(u32::MAX) - 2 {
        return Err(cannot(format!("{} frames of {columns} x {rows}", frames.len())));
    }
    o.shorts(tags::SAMPLES_PER_PIXEL, &[1]);
    o.text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2");
    o.shorts(tags::ROWS, &[side(rows)?]);
    o.shorts(tags::COLUMNS, &[side(columns)?]);
    o.shorts(tags::BITS_ALLOCATED, &[bits]);
    o.shorts(tags::BITS_STORED, &[bits]);
    o.shorts(tags::HIGH_BIT, &[bits - 1]);
    o.shorts(tags::PIXEL_REPRESENTATION, &[0]);
    o.text(tags::NUMBER_OF_FRAMES, VR::IS, &frames.len().to_string());
    o.text(tags::SEGMENTATION_TYPE, VR::CS, if form == SegForm::Binary { "BINARY" } else { "LABELMAP" });
    if form == SegForm::Binary {
        o.text(tags::SEGMENTS_OVERLAP, VR::CS, "NO");
    } else {
        o.shorts(tags::PIXEL_PADDING_VALUE, &[0]);
    }
    let mut packed = vec![0u8; bytes as usize];
    for (n, frame) in frames.iter().enumerate() {
        let voxels = labels.voxels().get(frame.slice * count..(frame.slice + 1) * count).unwrap_or(&[]);
        match frame.segment.and_then(|s| segments.get(s)) {
            None => packed[n * count..(n + 1) * count].copy_from_slice(voxels),
            // Frames follow each other bit by bit, the first pixel in the lowest bit (PS3.5 8.1.1).
            Some(segment) => {
                for (i, _) in voxels.iter().enumerate().filter(|(_, v)| **v == segment.value) {
                    let bit = n * count + i;
                    packed[bit / 8] |= 1 << (bit % 8);
                }
            }
        }
    }
    o.value(tags::PIXEL_DATA, VR::OB, PrimitiveValue::U8(packed.into()));
    Ok(())
}

fn segment(n: usize, s: &Segment, identity: &[u8], options: &DicomOptions) -> Object {
    object(|o| {
        let number = if options.form == SegForm::Binary { n as u16 + 1 } else { s.value.into() };
        let (category, kind) = s.codes();
        o.shorts(tags::SEGMENT_NUMBER, &[number]);
        o.text(tags::SEGMENT_LABEL, VR::LO, &s.name);
        let converted = options.model.is_empty();
        o.text(tags::SEGMENT_ALGORITHM_TYPE, VR::CS, "AUTOMATIC");
        o.text(tags::SEGMENT_ALGORITHM_NAME, VR::LO, &algorithm(options));
        o.code(tags::SEGMENTED_PROPERTY_CATEGORY_CODE_SEQUENCE, category.value, "SCT", category.meaning);
        o.items(
            tags::SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE,
            vec![object(|o| {
                o.text(tags::CODE_VALUE, VR::SH, kind.value);
                o.text(tags::CODING_SCHEME_DESIGNATOR, VR::SH, "SCT");
                o.text(tags::CODE_MEANING, VR::LO, kind.meaning);
                if let Some(side) = s.organ.and_then(|o| o.laterality) {
                    o.code(tags::SEGMENTED_PROPERTY_TYPE_MODIFIER_CODE_SEQUENCE, side.value, "SCT", side.meaning);
                }
            })],
        );
        if !converted {
            o.items(
                tags::SEGMENTATION_ALGORITHM_IDENTIFICATION_SEQUENCE,
                vec![object(|o| {
                    o.code(tags::ALGORITHM_FAMILY_CODE_SEQUENCE, "123109", "DCM", "Artificial Intelligence");
                    o.text(tags::ALGORITHM_NAME, VR::LO, &algorithm(options));
                    o.text(tags::ALGORITHM_VERSION, VR::LO, env!("CARGO_PKG_VERSION"));
                    o.text(tags::ALGORITHM_SOURCE, VR::LO, "volseg");
                    let parameters = plain(&options.parameters, 10_240);
                    if !parameters.is_empty() {
                        o.text(tags::ALGORITHM_PARAMETERS, VR::LT, &parameters);
                    }
                })],
            );
        }
        o.shorts(tags::RECOMMENDED_DISPLAY_CIE_LAB_VALUE, &color::to_cielab(s.rgb));
        o.text(tags::TRACKING_ID, VR::UT, &format!("{TRACKING}{}", s.value));
        o.text(tags::TRACKING_UID, VR::UI, &uid_of(&[b"segment", identity, &[s.value]]));
    })
}

/// Dimensions and functional groups: where each frame lies and what it was made of.
fn groups(o: &mut Object, image: &Image, origin: &Origin, frames: &[Frame], identity: &[u8], options: &DicomOptions) {
    let organization = uid_of(&[b"dimensions", identity]);
    let placed = origin.orientation.is_some() && origin.slices.iter().all(|s| s.position.is_some());
    let binary = options.form == SegForm::Binary;
    o.items(
        tags::DIMENSION_ORGANIZATION_SEQUENCE,
        vec![object(|o| o.text(tags::DIMENSION_ORGANIZATION_UID, VR::UI, &organization))],
    );
    let index = |pointer, group, label: &str| {
        object(|o| {
            o.text(tags::DIMENSION_ORGANIZATION_UID, VR::UI, &organization);
            o.value(tags::DIMENSION_INDEX_POINTER, VR::AT, PrimitiveValue::from(pointer));
            o.value(tags::FUNCTIONAL_GROUP_POINTER, VR::AT, PrimitiveValue::from(group));
            o.text(tags::DIMENSION_DESCRIPTION_LABEL, VR::LO, label);
        })
    };
    let mut indices = Vec::new();
    if binary {
        indices.push(index(tags::REFERENCED_SEGMENT_NUMBER, tags::SEGMENT_IDENTIFICATION_SEQUENCE, "Segment Number"));
    }
    if placed {
        indices.push(index(tags::IMAGE_POSITION_PATIENT, tags::PLANE_POSITION_SEQUENCE, "Image Position Patient"));
    }
    o.items(tags::DIMENSION_INDEX_SEQUENCE, indices);
    o.items(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, vec![object(|o| shared(o, image, origin))]);
    let each = frames.iter().map(|f| object(|o| frame_groups(o, origin, f, placed, options))).collect();
    o.items(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, each);
}

fn shared(o: &mut Object, image: &Image, origin: &Origin) {
    let step = image.volume.affine().spacing_mm()[2];
    o.items(
        tags::PIXEL_MEASURES_SEQUENCE,
        vec![object(|o| {
            o.text(tags::PIXEL_SPACING, VR::DS, &decimals(&origin.spacing));
            o.text(tags::SLICE_THICKNESS, VR::DS, &decimals(&[origin.thickness.unwrap_or(step)]));
            o.text(tags::SPACING_BETWEEN_SLICES, VR::DS, &decimals(&[step]));
        })],
    );
    if let Some(orientation) = origin.orientation {
        o.items(
            tags::PLANE_ORIENTATION_SEQUENCE,
            vec![object(|o| o.text(tags::IMAGE_ORIENTATION_PATIENT, VR::DS, &decimals(&orientation)))],
        );
    }
}

fn frame_groups(o: &mut Object, origin: &Origin, frame: &Frame, placed: bool, options: &DicomOptions) {
    let number = frame.segment.map(|s| s as u16 + 1);
    if let Some(slice) = origin.slices.get(frame.slice) {
        let mut source = reference_to(origin, slice.instance, Some(slice.frame), options);
        source.text(tags::SPATIAL_LOCATIONS_PRESERVED, VR::CS, "YES");
        source.code(
            tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE,
            "121322",
            "DCM",
            "Source image for image processing operation",
        );
        o.items(
            tags::DERIVATION_IMAGE_SEQUENCE,
            vec![object(|o| {
                o.code(tags::DERIVATION_CODE_SEQUENCE, "113076", "DCM", "Segmentation");
                o.items(tags::SOURCE_IMAGE_SEQUENCE, vec![source]);
            })],
        );
        if let Some(position) = slice.position.filter(|_| placed) {
            o.items(
                tags::PLANE_POSITION_SEQUENCE,
                vec![object(|o| o.text(tags::IMAGE_POSITION_PATIENT, VR::DS, &decimals(&position)))],
            );
        }
    }
    let place = placed.then_some(frame.slice as u32 + 1);
    let values: Vec<u32> = number.map(u32::from).into_iter().chain(place).collect();
    o.items(
        tags::FRAME_CONTENT_SEQUENCE,
        vec![object(|o| o.value(tags::DIMENSION_INDEX_VALUES, VR::UL, PrimitiveValue::U32(values.into())))],
    );
    if let Some(number) = number {
        o.items(
            tags::SEGMENT_IDENTIFICATION_SEQUENCE,
            vec![object(|o| o.shorts(tags::REFERENCED_SEGMENT_NUMBER, &[number]))],
        );
    }
}
