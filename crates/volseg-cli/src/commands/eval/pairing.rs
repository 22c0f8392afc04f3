//! Which files belong together.

use crate::exit::{Verdict, usage_error};
use anyhow::bail;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The files of a case; a label map is a file, or a folder that holds a DICOM series.
pub(super) struct Files {
    pub(super) name: String,
    pub(super) gt: PathBuf,
    /// `None`: missing, scored as empty.
    pub(super) pred: Option<PathBuf>,
    pub(super) other: Option<PathBuf>,
}

/// Endings of files that are label maps by themselves.
const ENDINGS: [&str; 15] = [
    ".nii.gz", ".nii", ".hdr", ".seg.nrrd", ".nrrd", ".nhdr", ".mha", ".mhd", ".zip", ".png", ".bmp", ".tif", ".tiff",
    ".jpg", ".jpeg",
];
/// The ending of files that may be a label map each, or the slices of one.
const DICOM: &str = ".dcm";

fn stem(name: &str) -> Option<&str> {
    let lower = name.to_ascii_lowercase();
    let ending = ENDINGS.iter().chain([&DICOM]).find(|e| lower.ends_with(*e))?;
    name.get(..name.len() - ending.len())
}

/// Case names of a folder: by pattern with `{case}`, by glob, or all known kinds of file.
fn listing(folder: &Path, pattern: Option<&str>) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut out = BTreeMap::new();
    let cannot = |e: std::io::Error| anyhow::Error::from(Verdict::Unreadable(format!("{}: {e}", folder.display())));
    for entry in std::fs::read_dir(folder).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()).filter(|n| !n.starts_with('.')) else { continue };
        let case = match pattern.map(|p| (p, p.split_once("{case}"))) {
            Some((_, Some((before, after)))) => name.strip_prefix(before).and_then(|n| n.strip_suffix(after)),
            Some((glob, None)) => stem(name).filter(|_| matches(glob.as_bytes(), name.as_bytes())),
            None => stem(name),
        };
        if let Some(case) = case.filter(|_| path.is_file())
            && out.insert(case.to_owned(), path.clone()).is_some()
        {
            bail!("{}: found two files of case {case}, expected one", folder.display());
        }
    }
    Ok(out)
}

/// `*` and `?`.
fn matches(glob: &[u8], name: &[u8]) -> bool {
    match (glob.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            matches(rest, name) || name.split_first().is_some_and(|(_, shorter)| matches(glob, shorter))
        }
        (Some((b'?', rest)), Some((_, name))) => matches(rest, name),
        (Some((a, rest)), Some((b, name))) => a == b && matches(rest, name),
        _ => false,
    }
}

/// The patterns of ground truth and predictions. In two patterns a lone `*` stands for the name of the case.
fn patterns(given: Option<&str>) -> anyhow::Result<[Option<String>; 2]> {
    let Some(given) = given else { return Ok([None, None]) };
    let Some((gt, pred)) = given.split_once(':') else { return Ok([Some(given.to_owned()), Some(given.to_owned())]) };
    let case = |side: &str| match (side.contains("{case}"), side.matches('*').count()) {
        (true, _) => Ok(Some(side.to_owned())),
        (false, 1) => Ok(Some(side.replace('*', "{case}"))),
        _ => Err(usage_error(format!("--pattern: found {side:?}, expected a name with {{case}} in it"))),
    };
    Ok([case(gt)?, case(pred)?])
}

/// Whether a folder is one label map (a DICOM series), not a folder of label maps.
fn is_series(path: &Path, pattern: Option<&str>) -> anyhow::Result<bool> {
    if !path.is_dir() || pattern.is_some() {
        return Ok(false);
    }
    let mut found = listing(path, None)?;
    found.retain(|_, file| file.extension().is_none_or(|e| !e.eq_ignore_ascii_case("dcm")));
    Ok(found.is_empty() && std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()))
}

/// The cases of two files or two folders, sorted by name.
pub(super) fn pair(
    gt: &Path,
    pred: &Path,
    other: Option<&Path>,
    pattern: Option<&str>,
    missing_zero: bool,
) -> anyhow::Result<Vec<Files>> {
    for path in [Some(gt), Some(pred), other].into_iter().flatten() {
        std::fs::metadata(path)
            .map_err(|e| anyhow::Error::from(Verdict::Unreadable(format!("{}: {e}", path.display()))))?;
    }
    let [gt_pattern, pred_pattern] = patterns(pattern)?;
    let one = |path: &Path| Ok::<_, anyhow::Error>(!path.is_dir() || is_series(path, pattern)?);
    if one(gt)? {
        for path in [Some(pred), other].into_iter().flatten() {
            if !one(path)? {
                bail!("found one ground truth and a folder of predictions, expected two label maps or two folders");
            }
        }
        let name = gt.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = stem(&name).map_or(name.clone(), ToOwned::to_owned);
        return Ok(vec![Files { name, gt: gt.into(), pred: Some(pred.into()), other: other.map(Into::into) }]);
    }
    let truths = listing(gt, gt_pattern.as_deref())?;
    if truths.is_empty() {
        return Err(Verdict::Unreadable(format!("{}: found no label map", gt.display())).into());
    }
    let find = |folder: &Path| -> anyhow::Result<BTreeMap<String, PathBuf>> {
        if !folder.is_dir() {
            bail!("found a folder of ground truth and one prediction, expected two label maps or two folders");
        }
        let found = listing(folder, pred_pattern.as_deref())?;
        let lone = |a: &BTreeMap<String, PathBuf>, b: &BTreeMap<String, PathBuf>| {
            a.keys().filter(|k| !b.contains_key(*k)).cloned().collect::<Vec<_>>()
        };
        let (missing, extra) = (lone(&truths, &found), lone(&found, &truths));
        if !extra.is_empty() {
            bail!("{} has predictions without ground truth: {}", folder.display(), extra.join(", "));
        }
        if !missing.is_empty() && !missing_zero {
            bail!(
                "{} lacks predictions of: {} (--missing zero scores them as empty)",
                folder.display(),
                missing.join(", ")
            );
        }
        Ok(found)
    };
    let mut preds = find(pred)?;
    let mut others = other.map(find).transpose()?.unwrap_or_default();
    Ok(truths
        .into_iter()
        .map(|(name, gt)| Files { pred: preds.remove(&name), other: others.remove(&name), gt, name })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_match() {
        for (glob, name, is) in
            [("*.nii", "a.nii", true), ("a?c*", "abcd", true), ("*", "", true), ("a*c", "abd", false), ("?", "", false)]
        {
            assert_eq!(matches(glob.as_bytes(), name.as_bytes()), is, "{glob} {name}");
        }
    }

    #[test]
    fn a_lone_star_in_two_patterns_is_the_case() {
        let [gt, pred] = patterns(Some("*_gt.nii.gz:{case}_pred.nii.gz")).unwrap();
        assert_eq!((gt.as_deref(), pred.as_deref()), (Some("{case}_gt.nii.gz"), Some("{case}_pred.nii.gz")));
        assert!(patterns(Some("a:b")).is_err() && patterns(Some("*.nii")).is_ok());
    }
}
