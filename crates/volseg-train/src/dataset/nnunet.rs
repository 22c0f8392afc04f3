//! `dataset.json`: lists of files (Medical Segmentation Decathlon, nnU-Net 1, AMOS22), or names of files by rule (nnU-Net 2).

use super::{Case, below, list, stem};
use crate::Error;
use serde_json::Value;
use std::path::Path;

/// Words by which such files call images that are no CTs.
const NO_CT: [&str; 13] = ["mr", "mri", "t1", "t1w", "t1c", "t1ce", "t1gd", "t2", "t2w", "flair", "adc", "dwi", "pet"];

/// Whether a JSON file is a `dataset.json`, and no index of another kind.
pub(super) fn is_one(json: &Value) -> bool {
    json.get("training").is_some() || json.get("file_ending").is_some()
}

/// The labelled cases to learn from.
///
/// # Errors
/// [`Error::Data`] for a file of neither form, paths that leave its folder, several channels.
pub(crate) fn training(file: &Path, json: &Value) -> Result<Vec<Case>, Error> {
    if json.get("training").is_some() {
        return listed(file, json, "training");
    }
    let Some(ending) = json["file_ending"].as_str() else {
        return Err(Error::Data(format!(
            "{}: expected a list `training` (nnU-Net 1, AMOS22) or `file_ending` (nnU-Net 2)",
            file.display()
        )));
    };
    one_channel(file, json)?;
    let Some(named) = json["dataset"].as_object() else { return by_name(file, "Tr", ending) };
    let root = file.parent().unwrap_or(Path::new("."));
    let case = |(name, entry): (&String, &Value)| {
        let image = entry["images"][0].as_str().zip(entry["label"].as_str());
        let (image, label) =
            image.ok_or_else(|| Error::Data(format!("dataset.json: {name} has no `images` and `label`")))?;
        Ok(Case { name: name.clone(), image: below(root, image)?, masks: vec![below(root, label)?] })
    };
    named.iter().map(case).collect()
}

/// The labelled cases to test on: listed under `validation` or `test` (a list without labels is for a server to score), or beside
/// `labelsTs`. None if there are none.
///
/// # Errors
/// As [`training`].
pub(crate) fn test(file: &Path, json: &Value) -> Result<Vec<Case>, Error> {
    for key in ["validation", "test"] {
        if json[key].as_array().is_some_and(|l| !l.is_empty() && l.iter().all(|e| e["label"].is_string())) {
            return listed(file, json, key);
        }
    }
    match json["file_ending"].as_str() {
        Some(ending) if file.parent().is_some_and(|root| root.join("labelsTs").is_dir()) => by_name(file, "Ts", ending),
        _ => Ok(Vec::new()),
    }
}

/// Refuses what the file itself calls MR or PET.
///
/// # Errors
/// [`Error::Data`].
pub(crate) fn refuse_mr(json: &Value) -> Result<(), Error> {
    let channels = ["modality", "channel_names"].into_iter().filter_map(|key| json[key].as_object());
    for name in channels.flat_map(|c| c.values()).filter_map(Value::as_str) {
        let mut words = name.split(|c: char| !c.is_ascii_alphanumeric());
        if words.any(|w| NO_CT.iter().any(|n| n.eq_ignore_ascii_case(w))) {
            return Err(Error::Data(format!(
                "dataset.json calls its images {name}, and [cts] are CTs: use [[pictures]]"
            )));
        }
    }
    Ok(())
}

fn one_channel(file: &Path, json: &Value) -> Result<(), Error> {
    match json["channel_names"].as_object().map_or(1, serde_json::Map::len) {
        1 => Ok(()),
        n => Err(Error::Data(format!(
            "{}: images have {n} channels, expected 1: put one of them into images/, the labels into labels/, and name their folder",
            file.display()
        ))),
    }
}

/// `imagesTr/NAME_0000.ENDING` beside `labelsTr/NAME.ENDING`.
fn by_name(file: &Path, part: &str, ending: &str) -> Result<Vec<Case>, Error> {
    let root = file.parent().unwrap_or(Path::new("."));
    let (images, labels) = (root.join(format!("images{part}")), root.join(format!("labels{part}")));
    let mut cases = Vec::new();
    for label in list(&labels)?.1 {
        let Some(name) = label.strip_suffix(ending) else { continue };
        let image = images.join(format!("{name}_0000{ending}"));
        if !image.is_file() {
            return Err(Error::Data(format!("{label} has no image {name}_0000{ending} in images{part}")));
        }
        cases.push(Case { name: name.to_owned(), image, masks: vec![labels.join(&label)] });
    }
    Ok(cases)
}

/// `"training": [{"image": ..., "label": ...}]`, or another list of this kind; paths relative to the file. nnU-Net 1 numbers the
/// channels in the files' names and not in this list.
fn listed(file: &Path, json: &Value, key: &str) -> Result<Vec<Case>, Error> {
    let root = file.parent().unwrap_or(Path::new("."));
    let entries = json[key].as_array().ok_or_else(|| Error::Data(format!("dataset.json: `{key}` is no list")))?;
    entries
        .iter()
        .enumerate()
        .map(|(n, entry)| {
            let text = |key: &str| {
                entry[key].as_str().ok_or_else(|| Error::Data(format!("dataset.json: entry {n} has no `{key}`")))
            };
            let (image, label) = (text("image")?, text("label")?);
            let file = image.rsplit('/').next().unwrap_or(image);
            let name = stem(file).to_owned();
            let mut image = below(root, image)?;
            if !image.exists() {
                let numbered = image.with_file_name(file.replacen(&name, &format!("{name}_0000"), 1));
                image = if numbered.exists() { numbered } else { image };
            }
            Ok(Case { name, image, masks: vec![below(root, label)?] })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names(cases: &[Case]) -> Vec<&str> {
        cases.iter().map(|c| c.name.as_str()).collect()
    }

    #[test]
    fn both_versions_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("dataset.json");
        for name in ["imagesTr/a_0000.mha", "imagesTr/b_0000.mha", "imagesTs/c_0000.mha"] {
            std::fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        for name in ["labelsTr/a.mha", "labelsTr/b.mha", "labelsTr/b.json", "labelsTs/c.mha"] {
            std::fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        let two =
            json!({"channel_names": {"0": "CT"}, "labels": {"background": 0}, "numTraining": 2, "file_ending": ".mha"});
        assert!(is_one(&two));
        assert_eq!(names(&training(&file, &two).unwrap()), ["a", "b"]);
        assert!(training(&file, &two).unwrap().iter().all(|c| c.image.exists() && c.masks[0].exists()));
        assert_eq!(names(&test(&file, &two).unwrap()), ["c"]);
        let mut named = two.clone();
        named["dataset"] = json!({"x": {"images": ["imagesTr/b_0000.mha"], "label": "labelsTr/b.mha"}});
        assert_eq!(names(&training(&file, &named).unwrap()), ["x"]);
        named["dataset"]["x"]["label"] = json!("../labels/b.mha");
        assert!(training(&file, &named).unwrap_err().to_string().contains("../labels"));

        let one = json!({"training": [{"image": "./imagesTr/a.mha", "label": "./labelsTr/a.mha"}], "test": ["./imagesTs/c.mha"]});
        let found = training(&file, &one).unwrap();
        assert_eq!((names(&found), found[0].image.exists()), (vec!["a"], true));
        assert!(test(&file, &one).unwrap().is_empty());

        let mut many = two.clone();
        many["channel_names"]["1"] = json!("CT late");
        assert!(training(&file, &many).unwrap_err().to_string().contains("2 channels"));
        std::fs::remove_file(folder.path().join("imagesTr/b_0000.mha")).unwrap();
        assert!(training(&file, &two).unwrap_err().to_string().contains("b_0000.mha"));
        assert!(training(&file, &json!({"labels": {}})).unwrap_err().to_string().contains("file_ending"));
    }

    #[test]
    fn mr_is_no_ct() {
        for (name, fits) in [("CT", true), ("ct (venous)", true), ("zscore", true), ("MR", false), ("T2-FLAIR", false)]
        {
            assert_eq!(refuse_mr(&json!({"modality": {"0": name}})).is_ok(), fits, "{name}");
            assert_eq!(refuse_mr(&json!({"channel_names": {"0": name}})).is_ok(), fits, "{name}");
        }
        assert!(refuse_mr(&json!({})).is_ok());
    }
}
