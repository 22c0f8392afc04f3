//! Masks as answers: files in memory, and the two-part form that MONAI Label's clients read.

use crate::{names, refusal::Refusal};
use axum::{
    Json,
    body::Body,
    http::header,
    response::{IntoResponse, Response},
};
use serde_json::Value;
use volseg_geometry::{AnyVolume, LabelMap, Volume};
use volseg_io::{Image, LabelName};

/// Form of a mask file.
pub(crate) struct MaskForm {
    /// Ending with the dot.
    pub(crate) ending: &'static str,
    /// 16 bits a voxel instead of 8.
    pub(crate) wide: bool,
    /// Compressed, where the format leaves a choice.
    pub(crate) compressed: bool,
}

/// What the client wants back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// Parameters and mask in two parts.
    All,
    /// The mask's file alone.
    Image,
    /// The parameters alone.
    Json,
}

impl Output {
    /// # Errors
    /// 422 for an unknown kind, 406 for one that is off.
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, Refusal> {
        match text.unwrap_or("") {
            "" | "all" => Ok(Self::All),
            "image" => Ok(Self::Image),
            "json" => Ok(Self::Json),
            "dicom_seg" => Err(Refusal::off("DICOM SEG answers are not offered; ask for .seg.nrrd or .nrrd")),
            _ => Err(Refusal::field("output is not one of all, image, json")),
        }
    }
}

/// The bytes of a mask's file.
///
/// # Errors
/// 422 if the format cannot hold the mask; 500.
pub(crate) fn encode(
    labels: LabelMap,
    reference: &Image,
    label_names: &[(String, u8)],
    form: &MaskForm,
) -> Result<Vec<u8>, Refusal> {
    let volume: AnyVolume = if form.wide {
        let wide: Vec<u16> = labels.voxels().iter().map(|&v| v.into()).collect();
        Volume::from_vec(wide, labels.dim(), *labels.affine()).map_err(volseg_io::Error::from)?.into()
    } else {
        labels.into()
    };
    if form.ending == ".nrrd" && !form.compressed {
        return Ok(volseg_io::nrrd_bytes(&volume, reference)?);
    }
    let mut image = Image::from_volume(volume);
    image.header = reference.header.clone();
    image.labels =
        label_names.iter().map(|(n, v)| LabelName { value: (*v).into(), name: n.clone(), rgb: None }).collect();
    let folder = tempfile::Builder::new().prefix("volseg-answer-").tempdir()?;
    let path = folder.path().join(format!("mask{}", form.ending));
    volseg_io::write(&path, &image).map_err(|e| match e {
        volseg_io::Error::CannotHold { .. } => Refusal::field(e.to_string()),
        other => other.into(),
    })?;
    Ok(std::fs::read(path)?)
}

/// The answer of an inference. Every answer states its length and is sent in one piece.
///
/// # Errors
/// 500.
pub(crate) fn inference(output: Output, params: &Value, file: Vec<u8>, ending: &str) -> Result<Response, Refusal> {
    let name = format!("volseg-{}{ending}", names::random()?);
    Ok(match output {
        Output::Json => Json(params).into_response(),
        Output::Image => download(Body::from(file), &name),
        Output::All => {
            let boundary = names::random()?;
            let mut body = format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"params\"\r\nContent-Type: application/json\r\n\r\n{params}\r\n\
                 --{boundary}\r\nContent-Disposition: form-data; name=\"image\"; filename=\"{name}\"\r\nContent-Type: application/octet-stream\r\n\r\n"
            )
            .into_bytes();
            body.reserve_exact(file.len() + 64);
            body.extend_from_slice(&file);
            body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
            let kind = format!("multipart/form-data; boundary={boundary}");
            ([(header::CONTENT_TYPE, kind)], body).into_response()
        }
    })
}

/// A file to save under `name`, which must be plain.
pub(crate) fn download(body: Body, name: &str) -> Response {
    let kind = (header::CONTENT_TYPE, "application/octet-stream".to_owned());
    let place = (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\""));
    ([kind, place], body).into_response()
}
