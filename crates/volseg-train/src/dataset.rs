//! Where the images and masks of a data set lie: pairs in folders, nnU-Net and AMOS, SAM-Med2D's indexes, COVID-QU-Ex, BUSI.

mod nnunet;

pub(crate) use nnunet::{refuse_mr, test, training};

use crate::Error;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use volseg_geometry::{Affine, OrganId};
use volseg_io::{Image, ReadOptions};

/// An image and the files whose non-zero parts together are its mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    /// File name without its ending, with the folders above where names repeat.
    pub(crate) name: String,
    pub(crate) image: PathBuf,
    pub(crate) masks: Vec<PathBuf>,
}

/// Reads a file of a set.
///
/// # Errors
/// [`Error::File`].
pub(crate) fn open(file: &Path) -> Result<Image, Error> {
    volseg_io::read(file, &ReadOptions::default()).map_err(|source| Error::File { file: file_name(file), source })
}

/// Name of a file without its folders.
pub(crate) fn file_name(file: &Path) -> String {
    file.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}

/// Refuses labels that lie elsewhere than their image.
///
/// # Errors
/// [`Error::Data`].
pub(crate) fn same_place(name: &str, image: &Affine, labels: &Affine, dim: [usize; 3]) -> Result<(), Error> {
    image.shift_of_other_grid_mm(labels, dim).map_or(Ok(()), |shift| {
        Err(Error::Data(format!("{name}: image and labels lie {shift:.3} mm apart at a corner, expected one place")))
    })
}

/// Names of folders of masks beside one of images, best first; lungs have two kinds in COVID-QU-Ex.
const MASK_FOLDERS: [&str; 5] = ["masks", "labels", "lung masks", "lung_masks", "labelsTr"];

/// The cases under `path`, sorted by name: a folder (searched deeply), a `dataset.json` or its folder, or an index of
/// SAM-Med2D (`image2label_train.json`, `label2image_test.json`).
///
/// # Errors
/// [`Error::NoSet`] if nothing is recognised, [`Error::Data`] if an image has no mask, or an index names no mask of the organ.
pub(crate) fn find(path: &Path, organ: OrganId) -> Result<Vec<Case>, Error> {
    let mut cases = if path.is_file() {
        let json = read_json(path)?;
        if nnunet::is_one(&json) { training(path, &json)? } else { sam_med2d(path, &json, organ)? }
    } else if path.join("dataset.json").is_file() {
        let file = path.join("dataset.json");
        let json = read_json(&file)?;
        training(&file, &json)?
    } else {
        let mut cases = Vec::new();
        folders(path, path, &mut cases)?;
        cases
    };
    if cases.is_empty() {
        return Err(Error::NoSet(format!(
            "{}: expected images/ beside masks/ or labels/, a dataset.json, an index of SAM-Med2D, or BUSI's NAME.png beside NAME_mask.png",
            path.display()
        )));
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(cases)
}

pub(crate) fn read_json(path: &Path) -> Result<serde_json::Value, Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| Error::Io { what: format!("read {}", path.display()), source })?;
    serde_json::from_str(&text).map_err(|e| Error::Data(format!("{}: {e}", path.display())))
}

/// Sorted (names of folders, names of files) of a folder.
fn list(folder: &Path) -> Result<(Vec<String>, Vec<String>), Error> {
    let io = |source| Error::Io { what: format!("list {}", folder.display()), source };
    let (mut folders, mut files) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // What file managers leave.
        if name.starts_with('.') || name == "Thumbs.db" {
            continue;
        }
        if entry.file_type().map_err(io)?.is_dir() { folders.push(name) } else { files.push(name) }
    }
    folders.sort();
    files.sort();
    Ok((folders, files))
}

/// A file's name without its ending; `.nii.gz` is one.
pub(crate) fn stem(file: &str) -> &str {
    let file = file.strip_suffix(".gz").unwrap_or(file);
    file.rsplit_once('.').map_or(file, |p| p.0)
}

/// Name of a case: the path below the root, so that `benign (1)` of two folders do not clash.
fn case_name(root: &Path, folder: &Path, stem: &str) -> String {
    let below = folder.strip_prefix(root).unwrap_or(folder);
    let mut parts: Vec<String> = below.iter().map(|p| p.to_string_lossy().into_owned()).collect();
    parts.push(stem.to_owned());
    parts.join("/")
}

fn folders(root: &Path, folder: &Path, cases: &mut Vec<Case>) -> Result<(), Error> {
    let (inner, files) = list(folder)?;
    let masks = MASK_FOLDERS.iter().find(|m| inner.iter().any(|f| f == *m));
    let images = ["images", "imagesTr"].into_iter().find(|i| inner.iter().any(|f| f == i));
    if let (Some(images), Some(masks)) = (images, masks) {
        let of = list(&folder.join(masks))?.1;
        let by_stem: BTreeMap<&str, &String> = of.iter().map(|f| (stem(f), f)).collect();
        let files = list(&folder.join(images))?.1;
        if let Some([one, other]) = files.windows(2).find(|w| stem(&w[0]) == stem(&w[1])) {
            return Err(Error::Data(format!("{one} and {other} have one name, and masks are found by it")));
        }
        for file in files {
            let name = stem(&file);
            // nnU-Net numbers the channels of an image.
            let mask = by_stem.get(name).or_else(|| by_stem.get(name.strip_suffix("_0000")?));
            let mask = mask.ok_or_else(|| Error::Data(format!("{file} has no mask of its name in {masks}")))?;
            cases.push(Case {
                name: case_name(root, folder, name),
                image: folder.join(images).join(&file),
                masks: vec![folder.join(masks).join(mask)],
            });
        }
        return Ok(());
    }
    busi(root, folder, &files, cases)?;
    for name in inner {
        folders(root, &folder.join(name), cases)?;
    }
    Ok(())
}

/// `benign (1).png` beside `benign (1)_mask.png`, `benign (1)_mask_1.png` ...
fn busi(root: &Path, folder: &Path, files: &[String], cases: &mut Vec<Case>) -> Result<(), Error> {
    let ending = |f: &str| f.strip_prefix(stem(f)).unwrap_or_default().to_ascii_lowercase();
    let is_mask = |f: &&String| stem(f).contains("_mask");
    let of_masks: BTreeSet<String> = files.iter().filter(is_mask).map(|f| ending(f)).collect();
    for file in files.iter().filter(|f| !is_mask(f) && of_masks.contains(&ending(f))) {
        let start = format!("{}_mask", stem(file));
        let belongs = |f: &&String| {
            let rest = stem(f).strip_prefix(start.as_str());
            rest.is_some_and(|r| r.is_empty() || r.strip_prefix('_').is_some_and(|n| n.parse::<u32>().is_ok()))
        };
        let masks: Vec<PathBuf> = files.iter().filter(belongs).map(|f| folder.join(f)).collect();
        if masks.is_empty() {
            return Err(Error::Data(format!("{file} has no mask {start}{} beside it", ending(file))));
        }
        cases.push(Case { name: case_name(root, folder, stem(file)), image: folder.join(file), masks });
    }
    Ok(())
}

/// A path that an index names, which must lie below the index: such files come from elsewhere.
fn below(root: &Path, named: &str) -> Result<PathBuf, Error> {
    use std::path::Component;
    let inside = Path::new(named).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if inside { Ok(root.join(named)) } else { Err(Error::Data(format!("{named}: expected a path below its index"))) }
}

/// Image to masks, or mask to image. A mask is `IMAGE_STRUCTURE_NUMBER.png`; those of the organ are taken.
fn sam_med2d(file: &Path, json: &serde_json::Value, organ: OrganId) -> Result<Vec<Case>, Error> {
    let map = json.as_object().ok_or_else(|| Error::Data(format!("{}: expected an object", file.display())))?;
    let mut pairs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (key, value) in map {
        match value {
            serde_json::Value::Array(masks) => {
                pairs.entry(key).or_default().extend(masks.iter().filter_map(|m| m.as_str()));
            }
            serde_json::Value::String(image) => pairs.entry(image).or_default().push(key),
            _ => return Err(Error::Data(format!("{}: {key} is neither a list nor a path", file.display()))),
        }
    }
    let place = |text: &str| {
        // The indexes name their own folder as well.
        let folder = file.parent().unwrap_or(Path::new("."));
        let whole = below(folder, text)?;
        let inner = text.split_once('/').map_or(text, |p| p.1);
        Ok::<_, Error>(if whole.exists() { whole } else { folder.join(inner) })
    };
    let mut cases = Vec::new();
    for (image, mut masks) in pairs {
        masks.sort_unstable();
        let name = stem(image.rsplit('/').next().unwrap_or(image));
        let shows = |mask: &&str| {
            let structure = stem(mask.rsplit('/').next().unwrap_or(mask)).strip_prefix(name);
            let structure = structure.map(|s| s.trim_matches('_').rsplit_once('_').map_or(s, |p| p.0));
            structure.and_then(|s| s.trim_matches('_').parse::<OrganId>().ok()) == Some(organ)
        };
        let masks = masks.into_iter().filter(shows).map(place).collect::<Result<Vec<_>, _>>()?;
        if !masks.is_empty() {
            cases.push(Case { name: name.to_owned(), image: place(image)?, masks });
        }
    }
    if cases.is_empty() {
        return Err(Error::Data(format!("{}: no mask of {organ}", file.display())));
    }
    Ok(cases)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(root: &Path, names: &[&str]) {
        for name in names {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
    }

    fn names(cases: &[Case]) -> Vec<(&str, usize)> {
        cases.iter().map(|c| (c.name.as_str(), c.masks.len())).collect()
    }

    fn organ(name: &str) -> OrganId {
        name.parse().unwrap()
    }

    #[test]
    fn every_layout_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        touch(&at("pairs"), &["images/b.png", "images/a.nii.gz", "masks/a.nii.gz", "masks/b.png", "index.csv"]);
        assert_eq!(names(&find(&at("pairs"), organ("lungs")).unwrap()), [("a", 1), ("b", 1)]);

        touch(&at("busi"), &["benign/benign (1).png", "benign/benign (1)_mask.png", "benign/benign (1)_mask_1.png"]);
        touch(
            &at("busi"),
            &[
                "benign/benign (10).png",
                "benign/benign (10)_mask.png",
                "normal/normal (1).png",
                "normal/normal (1)_mask.png",
            ],
        );
        let found = find(&at("busi"), organ("breast_tumor")).unwrap();
        assert_eq!(names(&found), [("benign/benign (1)", 2), ("benign/benign (10)", 1), ("normal/normal (1)", 1)]);

        touch(
            &at("covid"),
            &["Train/COVID-19/images/c.png", "Train/COVID-19/lung masks/c.png", "Train/COVID-19/infection masks/c.png"],
        );
        touch(&at("covid"), &["Test/Normal/images/n.png", "Test/Normal/lung masks/n.png"]);
        let found = find(&at("covid"), organ("lungs")).unwrap();
        assert_eq!(names(&found), [("Test/Normal/n", 1), ("Train/COVID-19/c", 1)]);
        assert!(found[1].masks[0].ends_with("lung masks/c.png"));

        touch(&at("amos"), &["x"]);
        std::fs::write(
            at("amos/dataset.json"),
            r#"{"training": [{"image": "./imagesTr/amos_0001.nii.gz", "label": "./labelsTr/amos_0001.nii.gz"}]}"#,
        )
        .unwrap();
        assert_eq!(names(&find(&at("amos"), organ("liver")).unwrap()), [("amos_0001", 1)]);
        assert_eq!(find(&at("amos/dataset.json"), organ("liver")).unwrap(), find(&at("amos"), organ("liver")).unwrap());

        touch(&at("med2d"), &["images/s1_7.png", "masks/s1_7_liver_000.png", "masks/s1_7_liver_001.png"]);
        std::fs::write(
            at("med2d/train.json"),
            r#"{"data/images/s1_7.png": ["data/masks/s1_7_liver_001.png", "data/masks/s1_7_liver_000.png", "data/masks/s1_7_heart_000.png"]}"#,
        )
        .unwrap();
        std::fs::write(at("med2d/test.json"), r#"{"data/masks/s1_7_liver_000.png": "data/images/s1_7.png"}"#).unwrap();
        let found = find(&at("med2d/train.json"), organ("liver")).unwrap();
        assert_eq!(names(&found), [("s1_7", 2)]);
        assert!(found[0].image.exists() && found[0].masks.iter().all(|m| m.exists()));
        assert_eq!(names(&find(&at("med2d/test.json"), organ("liver")).unwrap()), [("s1_7", 1)]);
        assert!(find(&at("med2d/test.json"), organ("spleen")).unwrap_err().to_string().contains("spleen"));

        touch(&at("odd"), &["images/a.png", "masks/b.png"]);
        assert!(find(&at("odd"), organ("lungs")).unwrap_err().to_string().contains("a.png"));
        touch(&at("none"), &["readme.txt"]);
        assert!(find(&at("none"), organ("lungs")).unwrap_err().to_string().contains("expected images/"));
    }

    #[test]
    fn an_index_names_nothing_outside_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join("index.json");
        for named in ["../x.png", "/etc/x.png", "a/../../x.png"] {
            let listed = serde_json::json!({"training": [{"image": named, "label": "l.png"}]});
            let med2d = serde_json::json!({named: ["a/x_lungs_000.png"]});
            for json in [listed, med2d] {
                std::fs::write(&index, json.to_string()).unwrap();
                let error = find(&index, organ("lungs")).unwrap_err().to_string();
                assert!(error.contains(named), "{error}");
            }
        }
    }
}
