//! The folder of a finished case: written under another name, renamed when it is whole.

use super::{Case, Key, Quality, qa::Light, resume};
use crate::{Error, Model, Request, RunReport, Segmentation, only_organ, preview_png, statistics};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};
use volseg_io::{AtomicFile, DicomOptions, Image, LabelName, SegForm};

/// Form of a case folder.
pub const CASE_SCHEMA: &str = "volseg.case/1";
/// Where cases are written before they are whole.
const PARTIAL: &str = ".partial";

/// What is written for each case besides the label map, statistics, preview and judgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputChoice {
    /// One file per organ.
    pub per_organ: bool,
    /// For DICOM inputs `seg.dcm` of this form and `rtstruct.dcm`. They carry patient and study, unless `deidentify`.
    pub dicom: Option<SegForm>,
    /// Leave patient and study out of DICOM outputs and make UIDs anew from this secret.
    pub deidentify: Option<[u8; 32]>,
}

impl OutputChoice {
    /// Digest of what decides over the bytes of a case folder, besides input and weights.
    #[must_use]
    pub fn config(&self, request: &Request) -> String {
        let secret = self.deidentify.map(|secret| volseg_io::sha256(&secret));
        let dicom = self.dicom.map(|form| json!({ "form": format!("{form:?}"), "deidentify": secret }));
        let settings = json!({ "request": request.settings(), "per_organ": self.per_organ, "dicom": dicom });
        volseg_io::sha256(settings.to_string().as_bytes())
    }
}

/// A case that is ready to be written.
pub(super) struct Finished<'a> {
    pub(super) case: &'a Case,
    pub(super) key: &'a Key,
    pub(super) image: &'a Image,
    pub(super) result: &'a Segmentation,
    pub(super) model: &'a Model,
    pub(super) request: &'a Request,
    pub(super) choice: OutputChoice,
    pub(super) threads: usize,
    pub(super) read_s: f64,
}

/// How writing ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Published {
    /// The case is in its place.
    Written(Light),
    /// Another worker was first.
    AlreadyThere,
}

fn cannot(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| volseg_io::Error::Io { action: "write", path, source }.into()
}

/// Leftovers of killed workers (or of live ones that are too late): folders in `.partial` by case.
pub(super) fn leftovers(tree: &Path) -> BTreeMap<String, Vec<PathBuf>> {
    let mut out: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for entry in fs::read_dir(tree.join(PARTIAL)).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some((case, _)) = name.rsplit_once('.') {
            out.entry(case.to_owned()).or_default().push(entry.path());
        }
    }
    out
}

/// Removes `.partial` if nothing is in it.
pub(super) fn tidy(tree: &Path) {
    let _ = fs::remove_dir(tree.join(PARTIAL));
}

/// Writes a case and puts it in its place.
pub(super) fn publish(tree: &Path, done: &Finished<'_>) -> Result<Published, Error> {
    let began = std::time::Instant::now();
    let partial = partial(tree, &done.case.case_id, "")?;
    let light = fill(partial.path(), done, began)?;
    sync(partial.path()).map_err(cannot(partial.path()))?;
    let place = resume::folder_of(tree, &done.case.case_id);
    let above = place.parent().unwrap_or(tree);
    fs::create_dir_all(above).map_err(cannot(above))?;
    for _ in 0..3 {
        match fs::rename(partial.path(), &place) {
            Ok(()) => {
                // Renamed: nothing is left to remove under the old name.
                let _ = partial.keep();
                // The name is safe only when the folder above is on disk; file systems that cannot are left alone.
                let _ = sync(above);
                let _ = sync(tree);
                return Ok(Published::Written(light));
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
                if resume::key_in(&place).as_ref() == Some(done.key) {
                    return Ok(Published::AlreadyThere);
                }
                // An older result with another key makes room.
                let aside = self::partial(tree, &done.case.case_id, "old-")?;
                match fs::rename(&place, aside.path().join("case")) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(cannot(&place)(e)),
                    _ => {}
                }
            }
            Err(e) => return Err(cannot(&place)(e)),
        }
    }
    Ok(Published::AlreadyThere)
}

/// A new folder `.partial/<case_id>.<random>` with the usual mode.
fn partial(tree: &Path, case_id: &str, kind: &str) -> Result<tempfile::TempDir, Error> {
    let above = tree.join(PARTIAL);
    let prefix = format!("{case_id}.{kind}");
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    builder.prefix(&prefix);
    let mut last = None;
    // Another worker may remove the empty folder between the two steps.
    for _ in 0..10 {
        fs::create_dir_all(&above).map_err(cannot(&above))?;
        match builder.tempdir_in(&above) {
            Ok(folder) => return Ok(folder),
            Err(e) => last = Some(e),
        }
    }
    Err(cannot(&above)(last.unwrap_or_else(|| io::ErrorKind::Other.into())))
}

fn sync(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

fn fill(folder: &Path, done: &Finished<'_>, began: std::time::Instant) -> Result<Light, Error> {
    let Finished { case, key, image, result, model, request, choice, threads, read_s } = *done;
    let measured = statistics(&result.labels, &image.volume, image.slope, image.intercept, &result.organs);
    let mut names = vec!["labels.seg.nrrd".to_owned(), "stats.json".into(), "preview.png".into(), "qa.json".into()];
    volseg_io::write_labels(&folder.join("labels.seg.nrrd"), &result.labels, image, &result.organs)?;
    write_json(&folder.join("stats.json"), &json!(measured))?;
    AtomicFile::write(&folder.join("preview.png"), &preview_png(image, result)?)?;
    let quality = Quality::of(&case.case_id, image, result, &measured);
    write_json(&folder.join("qa.json"), &json!(quality))?;
    if choice.per_organ {
        let organs = folder.join("organs");
        fs::create_dir(&organs).map_err(cannot(&organs))?;
        for organ in &result.organs {
            let name = format!("organs/{organ}.nii.gz");
            let only = only_organ(&result.labels, *organ)?;
            volseg_io::write_labels(&folder.join(&name), &only, image, &[*organ])?;
            names.push(name);
        }
        sync(&organs).map_err(cannot(&organs))?;
    }
    if let (Some(form), true) = (choice.dicom, image.is_dicom_series()) {
        let organs: Vec<LabelName> = result.organs.iter().map(|&id| id.into()).collect();
        let options = DicomOptions {
            form,
            model: model.name().into(),
            parameters: format!("weights SHA-256 {}", model.weights_sha256(result.modality)),
            deidentify: choice.deidentify,
        };
        volseg_io::write_dicom_seg(&folder.join("seg.dcm"), &result.labels, image, &organs, &options)?;
        volseg_io::write_rtstruct(&folder.join("rtstruct.dcm"), &result.labels, image, &organs, &options)?;
        names.extend(["seg.dcm".into(), "rtstruct.dcm".into()]);
    }
    let mut record = json!(RunReport::new(image, model, request, result, &measured, threads));
    let mut timings = record["timings"].clone();
    timings["read_s"] = json!(read_s);
    timings["write_s"] = json!(began.elapsed().as_secs_f64());
    timings["slices"] = json!(case.slices);
    timings["voxels"] = json!(case.voxels);
    timings["organs"] = json!(result.organs.len());
    timings["threads"] = json!(threads);
    timings["device"] = record["device"].clone();
    write_json(&folder.join("timings.json"), &timings)?;
    let outputs = names
        .into_iter()
        .map(|name| Ok((name.clone(), volseg_io::sha256_file(&folder.join(name))?.into())))
        .collect::<Result<serde_json::Map<String, Value>, Error>>()?;
    // The run record without what changes from run to run, and without what stands elsewhere.
    if let Some(fields) = record.as_object_mut() {
        for name in
            ["timings", "threads", "device", "statistics", "input_sha256", "weights_sha256", "config_sha256", "schema"]
        {
            fields.remove(name);
        }
        fields.insert("schema".into(), CASE_SCHEMA.into());
        fields.insert("case_id".into(), case.case_id.as_str().into());
        fields.insert("key".into(), json!(key));
        fields.insert("outputs".into(), outputs.into());
        fields.insert("status".into(), "done".into());
        fields.insert("qa".into(), quality.light.name().into());
    }
    write_json(&folder.join("result.json"), &record)?;
    Ok(quality.light)
}

fn write_json(path: &Path, value: &Value) -> Result<(), Error> {
    let text =
        serde_json::to_string_pretty(value).map_err(|e| Error::Record { what: "result", reason: e.to_string() })?;
    Ok(AtomicFile::write(path, (text + "\n").as_bytes())?)
}
