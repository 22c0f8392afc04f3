//! Multipart bodies, streamed to disk behind limits.

use crate::refusal::Refusal;
use axum::{
    extract::{FromRequest, Multipart, Request, multipart::Field},
    http::{StatusCode, header},
};
use std::path::{Path, PathBuf};
use tokio::{fs::File, io::AsyncWriteExt};

/// Boundaries, headers and texts of a form beside its files are no longer.
const FRAME: u64 = 4 << 20;
/// JSON parts are small.
const MAX_TEXT: u64 = 1 << 20;
/// Files of one upload, such as the slices of a DICOM series.
const MAX_FILES: usize = 10_000;

/// Endings that are kept of an uploaded file's name. Everything else of the name is thrown away: it may be a patient's.
const ENDINGS: [&str; 14] = [
    ".nii.gz",
    ".seg.nrrd",
    ".nii",
    ".nrrd",
    ".mha",
    ".dcm",
    ".zip",
    ".png",
    ".jpg",
    ".jpeg",
    ".bmp",
    ".tif",
    ".tiff",
    ".bin",
];

/// The known ending of a file name, or nothing.
pub(crate) fn ending(name: &str) -> &'static str {
    let lower = name.to_ascii_lowercase();
    ENDINGS.into_iter().find(|e| lower.ends_with(e)).unwrap_or("")
}

/// A file of a form.
pub(crate) struct FormFile {
    /// Name of the part: `file`, `files`, `label`.
    pub(crate) part: String,
    /// Where it was written.
    pub(crate) path: PathBuf,
    /// Ending of its name, with the dot; may be empty.
    pub(crate) ending: &'static str,
}

/// A form that was read.
#[derive(Default)]
pub(crate) struct Form {
    /// The part `params`: an object, empty if there was none.
    pub(crate) params: serde_json::Map<String, serde_json::Value>,
    /// Files in the order of the form.
    pub(crate) files: Vec<FormFile>,
    /// Other short texts.
    pub(crate) texts: Vec<(String, String)>,
}

impl Form {
    /// Reads a form; parts with a file name, and those named `file`, `files` or `label`, go to numbered files in `folder`.
    ///
    /// # Errors
    /// 422 for another kind of body or `params` that are no JSON object, 413 beyond `limit`.
    pub(crate) async fn read(request: Request, folder: &Path, limit: u64) -> Result<Self, Refusal> {
        // What says that it is too large is answered before it is sent.
        let length = request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        if let Some(length) = length.filter(|l| *l > limit.saturating_add(FRAME)) {
            return Err(Refusal::large(format!("the body has {length} bytes, at most {limit} are taken")));
        }
        let mut parts = Multipart::from_request(request, &())
            .await
            .map_err(|_| Refusal::field("the body is no multipart form with a boundary"))?;
        let mut form = Self::default();
        let mut left = limit;
        while let Some(field) = parts.next_field().await.map_err(broken)? {
            let part = field.name().unwrap_or_default().to_owned();
            let file = field.file_name().map(ending);
            if file.is_some() || ["file", "files", "label"].contains(&part.as_str()) {
                if form.files.len() == MAX_FILES {
                    return Err(Refusal::large(format!("more than {MAX_FILES} files in one upload")));
                }
                let ending = file.unwrap_or("");
                let path = folder.join(format!("{:05}{ending}", form.files.len()));
                save(field, &path, &mut left, limit).await?;
                form.files.push(FormFile { part, path, ending });
            } else {
                let text = text(field).await?;
                if part == "params" {
                    form.params = match serde_json::from_str(if text.trim().is_empty() { "{}" } else { &text }) {
                        Ok(serde_json::Value::Object(map)) => map,
                        _ => return Err(Refusal::field("params is no JSON object")),
                    };
                } else {
                    form.texts.push((part, text));
                }
            }
        }
        Ok(form)
    }

    /// The first file of a part.
    pub(crate) fn file(&self, part: &str) -> Option<&FormFile> {
        self.files.iter().find(|f| f.part == part)
    }
}

fn broken(e: axum::extract::multipart::MultipartError) -> Refusal {
    if e.status() == StatusCode::PAYLOAD_TOO_LARGE {
        Refusal::large("the body is larger than the server takes")
    } else {
        Refusal::field("the multipart form breaks off or is malformed")
    }
}

async fn save(mut field: Field<'_>, path: &Path, left: &mut u64, limit: u64) -> Result<(), Refusal> {
    let mut file = File::create(path).await?;
    while let Some(bytes) = field.chunk().await.map_err(broken)? {
        *left = left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| Refusal::large(format!("the upload is larger than {} MiB", limit >> 20)))?;
        file.write_all(&bytes).await?;
    }
    Ok(file.flush().await?)
}

async fn text(mut field: Field<'_>) -> Result<String, Refusal> {
    let mut out = Vec::new();
    while let Some(bytes) = field.chunk().await.map_err(broken)? {
        if (out.len() + bytes.len()) as u64 > MAX_TEXT {
            return Err(Refusal::large("a text field is larger than 1 MiB"));
        }
        out.extend_from_slice(&bytes);
    }
    String::from_utf8(out).map_err(|_| Refusal::field("a text field is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::ending;

    #[test]
    fn only_the_ending_of_a_name_is_kept() {
        assert_eq!(ending("/home/x/DOE^JOHN.NII.GZ"), ".nii.gz");
        assert_eq!(ending("a.seg.nrrd"), ".seg.nrrd");
        assert_eq!(ending("a.nhdr"), "");
        assert_eq!(ending("../../etc/passwd"), "");
    }
}
