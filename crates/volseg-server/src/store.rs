//! Images and labels: a folder of studies, uploads, saved labels with all their versions.

use crate::{audit::Audit, desk::lock, forms::FormFile, names, refusal::Refusal};
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Mutex,
    time::UNIX_EPOCH,
};
use volseg_io::AtomicFile;

/// Endings of images in a folder of studies.
const IMAGES: [&str; 12] =
    [".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".dcm", ".zip", ".png", ".jpg", ".jpeg", ".bmp", ".tif"];
/// Endings that a saved label may have.
const LABELS: [&str; 6] = [".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".mha", ".png"];

/// An image that can be opened.
#[derive(Clone, Debug)]
pub(crate) struct Picture {
    /// Id as clients say it.
    pub(crate) id: String,
    /// File or folder.
    pub(crate) path: PathBuf,
    /// Ending of its file, with the dot; empty for a folder.
    pub(crate) ending: String,
    /// What its files are called in `labels/`: the study's own name, or the id's hash for uploads.
    pub(crate) stem: String,
    /// Changes when the content does.
    pub(crate) version: String,
    /// When it came, seconds since 1970.
    pub(crate) ts: u64,
    /// Whether it was uploaded.
    pub(crate) uploaded: bool,
}

impl Picture {
    /// The image of files that were sent: one file, or a folder of them.
    pub(crate) fn sent(id: &str, stem: String, folder: &Path, files: &[FormFile]) -> Self {
        let (path, ending) = match files {
            [one] => (one.path.clone(), one.ending.to_owned()),
            _ => (folder.to_owned(), String::new()),
        };
        let version = folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        Self { id: id.into(), path, ending, stem, version, ts: names::now(), uploaded: true }
    }

    /// File name for a download; a series comes as one NIfTI file.
    pub(crate) fn name(&self) -> String {
        let ending = if self.ending.is_empty() { ".nii.gz" } else { &self.ending };
        format!("{}{ending}", self.stem)
    }
}

/// A saved label.
pub(crate) struct Label {
    pub(crate) path: PathBuf,
    pub(crate) ending: String,
    /// What was said when it was saved.
    pub(crate) info: Map<String, Value>,
}

/// Everything on disk.
pub(crate) struct Store {
    studies: Option<PathBuf>,
    /// `labels/`, the rankings and the audit log stand here.
    data: PathBuf,
    uploads: PathBuf,
    known: Mutex<BTreeMap<String, Picture>>,
    saving: Mutex<()>,
    /// Log of changes.
    pub(crate) audit: Audit,
}

impl Store {
    /// Opens the folders; `temporary` holds uploads where there are no studies.
    ///
    /// # Errors
    /// If a folder cannot be made or read.
    pub(crate) fn open(studies: Option<PathBuf>, data: PathBuf, temporary: &Path) -> io::Result<Self> {
        if let Some(folder) = &studies {
            fs::read_dir(folder)?;
        }
        let uploads = if studies.is_some() { data.join(".volseg/images") } else { temporary.join("images") };
        for folder in [&data, &uploads] {
            fs::create_dir_all(folder)?;
        }
        let audit = Audit::new(data.join("audit.jsonl"));
        let store = Self { studies, data, uploads, known: Mutex::default(), saving: Mutex::default(), audit };
        let kept: Vec<Picture> = sorted(&store.uploads)?.iter().filter_map(|f| upload(f)).collect();
        lock(&store.known).extend(kept.into_iter().map(|p| (p.id.clone(), p)));
        Ok(store)
    }

    /// The file that rankings are appended to.
    pub(crate) fn preferences(&self) -> PathBuf {
        self.data.join("preferences.jsonl")
    }

    /// Keeps a copy of an uploaded file under its digest. Files of studies stay where they are; folders are not kept.
    ///
    /// # Errors
    /// 500.
    pub(crate) fn keep_judged(&self, picture: &Picture, sha256: &str) -> Result<(), Refusal> {
        let place = self.data.join("judged").join(format!("{sha256}{}", picture.ending));
        if !picture.uploaded || !picture.path.is_file() || place.exists() {
            return Ok(());
        }
        fs::create_dir_all(self.data.join("judged"))?;
        copy(&picture.path, &place)
    }

    /// A file of the server's own in its data folder.
    pub(crate) fn own_file(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }

    /// All images, sorted by id.
    pub(crate) fn images(&self) -> Vec<Picture> {
        let mut all: BTreeMap<String, Picture> = BTreeMap::new();
        for path in self.studies.as_deref().and_then(|f| sorted(f).ok()).unwrap_or_default() {
            if let Some(p) = study(&path) {
                all.entry(p.id.clone()).or_insert(p);
            }
        }
        all.extend(lock(&self.known).iter().map(|(id, p)| (id.clone(), p.clone())));
        all.into_values().collect()
    }

    /// The image of an id.
    ///
    /// # Errors
    /// 422 for an id that cannot be one, 404 for one that is not there.
    pub(crate) fn image(&self, id: &str) -> Result<Picture, Refusal> {
        names::image_id(id)?;
        if let Some(p) = lock(&self.known).get(id) {
            return Ok(p.clone());
        }
        self.images().into_iter().find(|p| p.id == id).ok_or_else(|| Refusal::unknown("there is no such image"))
    }

    /// A fresh folder for files of an upload that may become an image.
    ///
    /// # Errors
    /// 500.
    pub(crate) fn upload_folder(&self, id: &str) -> Result<PathBuf, Refusal> {
        let folder = self.uploads.join(names::key(names::image_id(id)?)).join(names::random()?);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Takes an upload in, in the place of an older one of the same id. Its labels stay.
    ///
    /// # Errors
    /// 500.
    pub(crate) fn take_in(&self, picture: Picture) -> Result<(), Refusal> {
        let home = self.uploads.join(&picture.stem);
        let place = picture.path.strip_prefix(&home).unwrap_or(&picture.path).to_string_lossy().into_owned();
        let note = json!({ "id": picture.id, "place": place, "ending": picture.ending, "ts": picture.ts,
            "version": picture.version });
        AtomicFile::write(&home.join("image.json"), note.to_string().as_bytes())?;
        let (version, key) = (picture.version.clone(), names::key(&picture.id));
        lock(&self.known).insert(picture.id.clone(), picture);
        for old in sorted(&home)?.into_iter().filter(|f| f.is_dir() && !f.ends_with(&version)) {
            let _ = fs::remove_dir_all(old);
        }
        self.audit.append("take_image", &json!({ "image": key }))
    }

    /// Removes an uploaded image; its labels stay.
    ///
    /// # Errors
    /// 404; 406 for files of the studies folder, which are the user's own.
    pub(crate) fn remove_image(&self, id: &str) -> Result<(), Refusal> {
        let picture = self.image(id)?;
        if !picture.uploaded {
            return Err(Refusal::off("images of the studies folder are not removed over the network"));
        }
        lock(&self.known).remove(id);
        fs::remove_dir_all(self.uploads.join(&picture.stem))?;
        self.audit.append("remove_image", &json!({ "image": names::key(id) }))
    }

    fn labels(&self, tag: &str) -> PathBuf {
        self.data.join("labels").join(tag)
    }

    /// The current label of an image.
    pub(crate) fn label(&self, picture: &Picture, tag: &str) -> Option<Label> {
        let folder = self.labels(names::plain("tag", tag).ok()?);
        let (path, ending) = LABELS.iter().find_map(|e| {
            let path = folder.join(format!("{}{e}", picture.stem));
            path.is_file().then_some((path, (*e).to_owned()))
        })?;
        let versions = folder.join(".versions");
        let info = latest(&versions, &picture.stem)
            .and_then(|n| fs::read(versions.join(format!("{}.{n}.json", picture.stem))).ok())
            .and_then(|bytes| serde_json::from_slice::<Map<String, Value>>(&bytes).ok())
            .unwrap_or_default();
        Some(Label { path, ending, info })
    }

    /// Tags that an image has a label of, sorted.
    pub(crate) fn tags(&self, picture: &Picture) -> Vec<String> {
        let folders = sorted(&self.data.join("labels")).unwrap_or_default();
        let names = folders.iter().filter_map(|f| f.file_name()?.to_str());
        names.filter(|tag| self.label(picture, tag).is_some()).map(ToOwned::to_owned).collect()
    }

    /// Saves a label for good: a new version beside all older ones, flushed to disk, then put in the current place.
    ///
    /// # Errors
    /// 404 for a tag that cannot be one, 500.
    pub(crate) fn save_label(
        &self,
        picture: &Picture,
        tag: &str,
        from: &Path,
        ending: &str,
        info: &Map<String, Value>,
    ) -> Result<u64, Refusal> {
        let folder = self.labels(names::plain("tag", tag)?);
        let versions = folder.join(".versions");
        let _one_at_a_time = lock(&self.saving);
        fs::create_dir_all(&versions)?;
        let stem = &picture.stem;
        let mut last = latest(&versions, stem);
        // A label that somebody put there by hand becomes the first version.
        if last.is_none()
            && let Some(old) = self.label(picture, tag)
        {
            copy(&old.path, &versions.join(format!("{stem}.1{}", old.ending)))?;
            last = Some(1);
        }
        let version = last.unwrap_or(0) + 1;
        copy(from, &versions.join(format!("{stem}.{version}{ending}")))?;
        AtomicFile::write(&versions.join(format!("{stem}.{version}.json")), json!(info).to_string().as_bytes())?;
        copy(from, &folder.join(format!("{stem}{ending}")))?;
        for other in LABELS.iter().filter(|e| **e != ending) {
            let _ = fs::remove_file(folder.join(format!("{stem}{other}")));
        }
        let sha256 = volseg_io::sha256_file(from)?;
        let facts = json!({ "image": names::key(&picture.id), "tag": tag, "version": version, "sha256": sha256 });
        self.audit.append("save_label", &facts)?;
        Ok(version)
    }

    /// Replaces what is said about the current label.
    ///
    /// # Errors
    /// 404, 500.
    pub(crate) fn set_label_info(
        &self,
        picture: &Picture,
        tag: &str,
        info: &Map<String, Value>,
    ) -> Result<(), Refusal> {
        let old = self.label(picture, tag).ok_or_else(|| Refusal::unknown("there is no such label"))?;
        self.save_label(picture, tag, &old.path, &old.ending, info).map(|_| ())
    }

    /// Removes the current label; its versions stay.
    ///
    /// # Errors
    /// 404, 500.
    pub(crate) fn remove_label(&self, picture: &Picture, tag: &str) -> Result<(), Refusal> {
        let label = self.label(picture, tag).ok_or_else(|| Refusal::unknown("there is no such label"))?;
        let _one_at_a_time = lock(&self.saving);
        let versions = self.labels(tag).join(".versions");
        if latest(&versions, &picture.stem).is_none() {
            fs::create_dir_all(&versions)?;
            copy(&label.path, &versions.join(format!("{}.1{}", picture.stem, label.ending)))?;
        }
        fs::remove_file(&label.path)?;
        self.audit.append("remove_label", &json!({ "image": names::key(&picture.id), "tag": tag }))
    }
}

fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all = fs::read_dir(folder)?.map(|e| Ok(e?.path())).collect::<io::Result<Vec<_>>>()?;
    all.sort();
    Ok(all)
}

/// A file or DICOM folder of the studies.
fn study(path: &Path) -> Option<Picture> {
    let name = path.file_name()?.to_str()?;
    let metadata = fs::metadata(path).ok()?;
    if name.starts_with('.') || names::image_id(name).is_err() {
        return None;
    }
    let lower = name.to_ascii_lowercase();
    let (stem, ending) = if metadata.is_dir() {
        let holds_dicom = |e: &PathBuf| e.extension().is_some_and(|e| e.eq_ignore_ascii_case("dcm"));
        sorted(path).ok()?.iter().any(holds_dicom).then_some((name, ""))?
    } else {
        let ending = IMAGES.into_iter().find(|e| lower.ends_with(e))?;
        if lower.ends_with(".seg.nrrd") {
            return None;
        }
        name.split_at(name.len() - ending.len())
    };
    let changed = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(Picture {
        id: stem.into(),
        path: path.to_owned(),
        ending: ending.into(),
        stem: stem.into(),
        version: format!("{}-{}-{}", names::key(stem), changed.as_nanos(), metadata.len()),
        ts: changed.as_secs(),
        uploaded: false,
    })
}

/// An upload of an earlier run.
fn upload(folder: &Path) -> Option<Picture> {
    let note: Value = serde_json::from_slice(&fs::read(folder.join("image.json")).ok()?).ok()?;
    let text = |key: &str| Some(note.get(key)?.as_str()?.to_owned());
    let (id, place) = (text("id")?, text("place")?);
    let path = folder.join(&place);
    path.exists().then_some(Picture {
        stem: names::key(&id),
        id,
        path,
        ending: text("ending")?,
        version: text("version")?,
        ts: note.get("ts")?.as_u64()?,
        uploaded: true,
    })
}

/// Highest version of a label.
fn latest(versions: &Path, stem: &str) -> Option<u64> {
    let number = |p: &PathBuf| {
        let rest = p.file_name()?.to_str()?.strip_prefix(stem)?.strip_prefix('.')?;
        rest.split('.').next()?.parse::<u64>().ok()
    };
    sorted(versions).ok()?.iter().filter_map(number).max()
}

fn copy(from: &Path, to: &Path) -> Result<(), Refusal> {
    let mut file = AtomicFile::create(to)?;
    io::copy(&mut fs::File::open(from)?, &mut file)?;
    Ok(file.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_version_of_a_label_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let studies = folder.path().join("studies");
        fs::create_dir_all(studies.join("labels/final")).unwrap();
        fs::write(studies.join("case_a.nii.gz"), b"image").unwrap();
        fs::write(studies.join("labels/final/case_a.nrrd"), b"by hand").unwrap();
        fs::write(folder.path().join("new"), b"by a click").unwrap();
        let store = Store::open(Some(studies.clone()), studies.clone(), folder.path()).unwrap();
        let picture = store.image("case_a").unwrap();
        let info = Map::from_iter([("model".to_owned(), json!("m"))]);
        assert_eq!(store.save_label(&picture, "final", &folder.path().join("new"), ".nii.gz", &info).unwrap(), 2);
        let label = store.label(&picture, "final").unwrap();
        assert_eq!((label.ending.as_str(), &label.info), (".nii.gz", &info));
        let versions = studies.join("labels/final/.versions");
        assert_eq!(fs::read(versions.join("case_a.1.nrrd")).unwrap(), b"by hand");
        assert_eq!(fs::read(versions.join("case_a.2.nii.gz")).unwrap(), b"by a click");
        store.remove_label(&picture, "final").unwrap();
        assert!(store.label(&picture, "final").is_none() && versions.join("case_a.2.nii.gz").exists());
        assert_eq!(fs::read_to_string(studies.join("audit.jsonl")).unwrap().lines().count(), 2);
        assert!(store.save_label(&picture, "../x", &folder.path().join("new"), ".nii.gz", &info).is_err());
    }
}
