//! Which files belong together, and their scores.

use super::{
    Plan,
    load::{Loaded, load},
};
use crate::{exit::Verdict, global::Global};
use anyhow::{Context, bail};
use rayon::prelude::*;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use volseg_metrics::{CaseScores, Labels, align, evaluate as score};

/// The files of a case.
pub(super) struct Files {
    pub(super) name: String,
    gt: PathBuf,
    /// `None`: missing, scored as empty.
    pred: Option<PathBuf>,
    other: Option<PathBuf>,
}

/// A scored case.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) files: [String; 2],
    pub(super) scores: CaseScores,
    /// Scores of the second prediction.
    pub(super) other: Option<CaseScores>,
    pub(super) alignment: &'static str,
    pub(super) picture: bool,
    pub(super) missing: bool,
    pub(super) warnings: Vec<String>,
    /// The slice with the largest error: its size and for each pixel 0 none, 1 gt, 2 pred, 3 both agree, 4 both differ.
    pub(super) slice: (usize, [usize; 2], Vec<u8>, usize),
}

pub(super) struct Failure {
    pub(super) case: String,
    pub(super) error: anyhow::Error,
}

pub(super) struct Done {
    pub(super) cases: Vec<Case>,
    pub(super) failures: Vec<Failure>,
}

const ENDINGS: [&str; 12] = [".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".mha", ".mhd", ".png", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg"];

fn stem(name: &str) -> Option<&str> {
    let lower = name.to_ascii_lowercase();
    ENDINGS.iter().find(|e| lower.ends_with(*e)).and_then(|e| name.get(..name.len() - e.len()))
}

/// Case names of a folder: by pattern with `{case}`, by glob, or all known kinds of file.
fn listing(folder: &Path, pattern: Option<&str>) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut out = BTreeMap::new();
    let entries = std::fs::read_dir(folder)
        .map_err(|e| anyhow::Error::from(Verdict::Unreadable(format!("{}: {e}", folder.display()))))?;
    for entry in entries {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()).filter(|n| !n.starts_with('.')) else { continue };
        let case = match pattern.map(|p| (p, p.split_once("{case}"))) {
            Some((_, Some((before, after)))) => name.strip_prefix(before).and_then(|n| n.strip_suffix(after)),
            Some((glob, None)) => stem(name).filter(|_| matches(glob.as_bytes(), name.as_bytes())),
            None => stem(name),
        };
        if let Some(case) = case.filter(|_| path.is_file())
            && out.insert(case.to_owned(), path.clone()).is_some() {
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
        if path.is_dir() != gt.is_dir() {
            bail!("found a file and a folder, expected two files or two folders: {}", path.display());
        }
    }
    if !gt.is_dir() {
        let name = gt.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = stem(&name).map_or(name.clone(), ToOwned::to_owned);
        return Ok(vec![Files { name, gt: gt.into(), pred: Some(pred.into()), other: other.map(Into::into) }]);
    }
    let (gt_pattern, pred_pattern) = match pattern.and_then(|p| p.split_once(':')) {
        Some((a, b)) => (Some(a), Some(b)),
        None => (pattern, pattern),
    };
    let truths = listing(gt, gt_pattern)?;
    if truths.is_empty() {
        return Err(Verdict::Unreadable(format!("{}: found no label map", gt.display())).into());
    }
    let find = |folder: &Path| -> anyhow::Result<BTreeMap<String, PathBuf>> {
        let found = listing(folder, pred_pattern)?;
        let lone = |a: &BTreeMap<String, PathBuf>, b: &BTreeMap<String, PathBuf>| {
            a.keys().filter(|k| !b.contains_key(*k)).cloned().collect::<Vec<_>>()
        };
        let (missing, extra) = (lone(&truths, &found), lone(&found, &truths));
        if !extra.is_empty() {
            bail!("{} has predictions without ground truth: {}", folder.display(), extra.join(", "));
        }
        if !missing.is_empty() && !missing_zero {
            bail!("{} lacks predictions of: {} (--missing zero scores them as empty)", folder.display(), missing.join(", "));
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

pub(super) fn evaluate(files: &[Files], plan: &Plan, global: &Global) -> Done {
    let bar = global.bar(files.len() as u64, "cases");
    let mut done = Done { cases: Vec::new(), failures: Vec::new() };
    // As many cases at once as threads: reading is serial within a case.
    for some in files.chunks(global.threads.max(1)) {
        let results: Vec<_> = some
            .par_iter()
            .with_max_len(1)
            .map(|f| {
                let r = one(f, plan);
                bar.inc(1);
                r
            })
            .collect();
        for (f, result) in some.iter().zip(results) {
            match result {
                Ok(case) => done.cases.push(case),
                Err(error) => done.failures.push(Failure { case: f.name.clone(), error }),
            }
        }
    }
    bar.finish_and_clear();
    done
}

fn labels(loaded: Loaded, path: &Path) -> anyhow::Result<Labels> {
    Ok(Labels::new(loaded.volume, loaded.slope, loaded.intercept, &path.display().to_string())?)
}

fn one(files: &Files, plan: &Plan) -> anyhow::Result<Case> {
    let read = |path: &Path| load(path, plan.spacing_given);
    let (gt, pred) = rayon::join(|| read(&files.gt), || files.pred.as_deref().map(read).transpose());
    let (gt, pred) = (gt?, pred?);
    let mut warnings: Vec<String> = gt.warnings.clone();
    warnings.extend(pred.iter().flat_map(|p| p.warnings.clone()));
    let picture = gt.picture || plan.flat;
    let gt = labels(gt, &files.gt)?;
    if picture && gt.dim()[2] != 1 {
        bail!("--2d: found {} slices, expected 1", gt.dim()[2]);
    }
    if !picture && gt.dim()[2] == 1 {
        warnings.push("one slice scored as a volume: the two caps of the slab swamp its contour (--2d)".into());
    }
    let mut settings = plan.settings.clone();
    settings.flat = picture;
    let mut run = |path: Option<&Path>, loaded: Option<Loaded>| -> anyhow::Result<_> {
        let pred = match (path, loaded) {
            (Some(path), Some(loaded)) => labels(loaded, path)?,
            _ => Labels::empty(gt.dim(), *gt.affine())?,
        };
        let (moved, how) = align(&gt, &pred, &plan.grid)?;
        let pred = moved.unwrap_or(pred);
        if how.name() == "ignored" {
            warnings.push("affines were not compared (--ignore-affine)".into());
        }
        let scores = score(&gt, &pred, &plan.selection, &settings)?;
        Ok((scores, how.name(), pred))
    };
    let (scores, alignment, shown) = run(files.pred.as_deref(), pred)?;
    let other = match &files.other {
        Some(path) => Some(run(Some(path), Some(read(path)?)).with_context(|| path.display().to_string())?.0),
        None => None,
    };
    let name = |p: &Path| p.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Case {
        name: files.name.clone(),
        files: [name(&files.gt), files.pred.as_deref().map(name).unwrap_or_default()],
        scores,
        other,
        alignment,
        picture,
        missing: files.pred.is_none(),
        warnings,
        slice: if plan.pictures { worst_slice(&gt, &shown) } else { (0, [0; 2], Vec::new(), 0) },
    })
}

fn worst_slice(gt: &Labels, pred: &Labels) -> (usize, [usize; 2], Vec<u8>, usize) {
    let [nx, ny, nz] = gt.dim();
    let (g, p) = (gt.view(), pred.view());
    let wrong = |z: usize| (z * nx * ny..(z + 1) * nx * ny).filter(|&n| g.id(n) != p.id(n)).count();
    let counts: Vec<usize> = (0..nz).into_par_iter().map(wrong).collect();
    let z = (0..nz).max_by_key(|&z| (counts[z], nz - z)).unwrap_or(0);
    let pixel = |n: usize| match (g.id(n), p.id(n)) {
        (0, 0) => 0,
        (_, 0) => 1,
        (0, _) => 2,
        (a, b) if a == b => 3,
        _ => 4,
    };
    let pixels = (z * nx * ny..(z + 1) * nx * ny).map(pixel).collect();
    (z, [nx, ny], pixels, counts.get(z).copied().unwrap_or(0))
}
