//! RT structure sets (PS3.3 A.19): contours of organs for radiotherapy.

use super::{
    contour,
    objects::{
        Common, DicomOptions, IMPLICIT, Object, Put, algorithm, decimals, frame_of_reference, identity, moment, object,
        reference_to, segments, source, write,
    },
    origin::Origin,
};
use crate::{Error, Image, LabelName, Result};
use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use std::path::Path;
use volseg_geometry::LabelMap;

const FORMAT: &str = "DICOM RTSTRUCT";
/// Of studies, in references to them (retired, but the only one there is).
const STUDY_CLASS: &str = "1.2.840.10008.3.1.2.3.1";

/// Writes labels as an RT structure set that refers to the series of `reference`: closed planar contours for each label and
/// slice, a hundredth of a pixel inside the edges of its pixels.
///
/// A hole is cut out by a channel without width ("keyhole"), so that readers get back every voxel whatever their rule of
/// filling. Arguments and options as for [`crate::write_dicom_seg`].
///
/// # Errors
/// As [`crate::write_dicom_seg`], and for slices without a place in the patient.
pub fn write_rtstruct(
    path: &Path,
    labels: &LabelMap,
    reference: &Image,
    names: &[LabelName],
    options: &DicomOptions,
) -> Result<()> {
    let origin = source(FORMAT, labels, reference)?;
    let Some(orientation) = origin.orientation.filter(|_| origin.slices.iter().all(|s| s.position.is_some())) else {
        return Err(Error::CannotHold {
            format: FORMAT,
            what: "labels of pictures without a place in the patient".into(),
        });
    };
    let identity = identity("RTSTRUCT", labels, names, origin, options);
    let class = uids::RT_STRUCTURE_SET_STORAGE;
    let common = Common {
        class,
        modality: "RTSTRUCT",
        series_number: "9002",
        description: "volseg contours",
        identity: &identity,
    };
    let segments = segments(labels, names);
    let mut o = Object::new_empty();
    common.put(&mut o, origin, options);
    head(&mut o, origin, options);
    let rois = segments.iter().zip(1..);
    o.items(
        tags::STRUCTURE_SET_ROI_SEQUENCE,
        rois.clone()
            .map(|(s, n)| {
                object(|o| {
                    o.text(tags::ROI_NUMBER, VR::IS, &n.to_string());
                    o.text(tags::REFERENCED_FRAME_OF_REFERENCE_UID, VR::UI, &frame_of_reference(origin, options));
                    o.text(tags::ROI_NAME, VR::LO, &s.name);
                    o.text(tags::ROI_GENERATION_ALGORITHM, VR::CS, "AUTOMATIC");
                    o.text(tags::ROI_GENERATION_DESCRIPTION, VR::LO, &algorithm(options));
                })
            })
            .collect(),
    );
    o.items(
        tags::ROI_CONTOUR_SEQUENCE,
        rois.clone()
            .map(|(s, n)| {
                let contours = contours(labels, s.value, origin, &orientation, options);
                object(|o| {
                    o.text(tags::ROI_DISPLAY_COLOR, VR::IS, &s.rgb.map(|v| v.to_string()).join("\\"));
                    if !contours.is_empty() {
                        o.items(tags::CONTOUR_SEQUENCE, contours);
                    }
                    o.text(tags::REFERENCED_ROI_NUMBER, VR::IS, &n.to_string());
                })
            })
            .collect(),
    );
    o.items(
        tags::RTROI_OBSERVATIONS_SEQUENCE,
        rois.map(|(s, n)| {
            object(|o| {
                o.text(tags::OBSERVATION_NUMBER, VR::IS, &n.to_string());
                o.text(tags::REFERENCED_ROI_NUMBER, VR::IS, &n.to_string());
                let (_, kind) = s.codes();
                o.code(tags::RTROI_IDENTIFICATION_CODE_SEQUENCE, kind.value, "SCT", kind.meaning);
                o.text(tags::RTROI_INTERPRETED_TYPE, VR::CS, "ORGAN");
                o.text(tags::ROI_INTERPRETER, VR::PN, "");
            })
        })
        .collect(),
    );
    write(path, FORMAT, o, IMPLICIT)
}

fn head(o: &mut Object, origin: &Origin, options: &DicomOptions) {
    let (date, time) = moment(origin, options);
    o.text(tags::OPERATORS_NAME, VR::PN, "");
    o.text(tags::STRUCTURE_SET_LABEL, VR::SH, "volseg");
    o.text(tags::STRUCTURE_SET_DATE, VR::DA, &date);
    o.text(tags::STRUCTURE_SET_TIME, VR::TM, &time);
    o.text(tags::APPROVAL_STATUS, VR::CS, "UNAPPROVED");
    let images = (0..origin.slices.len()).filter_map(|k| image(origin, k, options)).collect();
    let series = object(|o| {
        o.text(tags::SERIES_INSTANCE_UID, VR::UI, &options.uid(&origin.series));
        o.items(tags::CONTOUR_IMAGE_SEQUENCE, images);
    });
    let study = object(|o| {
        o.text(tags::REFERENCED_SOP_CLASS_UID, VR::UI, STUDY_CLASS);
        o.text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, &options.uid(&origin.study));
        o.items(tags::RT_REFERENCED_SERIES_SEQUENCE, vec![series]);
    });
    o.items(
        tags::REFERENCED_FRAME_OF_REFERENCE_SEQUENCE,
        vec![object(|o| {
            o.text(tags::FRAME_OF_REFERENCE_UID, VR::UI, &frame_of_reference(origin, options));
            o.items(tags::RT_REFERENCED_STUDY_SEQUENCE, vec![study]);
        })],
    );
}

/// The reference to a slice.
fn image(origin: &Origin, slice: usize, options: &DicomOptions) -> Option<Object> {
    let s = origin.slices.get(slice)?;
    Some(reference_to(origin, s.instance, Some(s.frame), options))
}

/// All contours of one label.
fn contours(
    labels: &LabelMap,
    value: u8,
    origin: &Origin,
    orientation: &[f64; 6],
    options: &DicomOptions,
) -> Vec<Object> {
    let [columns, rows, _] = labels.dim();
    let mut out = Vec::new();
    for (k, slice) in labels.voxels().chunks((columns * rows).max(1)).enumerate() {
        let Some(position) = origin.slices.get(k).and_then(|s| s.position) else { continue };
        let Some(first) = slice.iter().position(|&v| v == value) else { continue };
        let last = slice.iter().rposition(|&v| v == value).unwrap_or(first);
        // Only the rows that hold it.
        let (top, bottom) = (first / columns, last / columns + 1);
        let filled = |x: usize, y: usize| slice.get((top + y) * columns + x) == Some(&value);
        for outline in contour::contours(columns, bottom - top, filled) {
            let points: Vec<f64> = outline
                .iter()
                .flat_map(|&[x, y]| {
                    let (across, down) = (x * origin.spacing[1], (y + top as f64) * origin.spacing[0]);
                    [0, 1, 2].map(|n| position[n] + orientation[n] * across + orientation[3 + n] * down)
                })
                .collect();
            out.push(object(|o| {
                o.items(tags::CONTOUR_IMAGE_SEQUENCE, image(origin, k, options).into_iter().collect());
                o.text(tags::CONTOUR_GEOMETRIC_TYPE, VR::CS, "CLOSED_PLANAR");
                o.text(tags::NUMBER_OF_CONTOUR_POINTS, VR::IS, &outline.len().to_string());
                o.text(
                    tags::CONTOUR_DATA,
                    VR::DS,
                    &decimals(&points.iter().map(|v| (v * 1e6).round() / 1e6).collect::<Vec<_>>()),
                );
            }));
        }
    }
    out
}
