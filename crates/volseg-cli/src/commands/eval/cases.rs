//! The scores of each case.

use super::{
    Plan,
    load::{Loaded, load},
    pairing::Files,
    slice::Slice,
};
use crate::global::{Global, Level};
use anyhow::{Context, bail};
use rayon::prelude::*;
use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};
use volseg_geometry::OrganId;
use volseg_metrics::{CaseScores, GridRules, Labels, align, evaluate as score};

/// A scored case.
pub(super) struct Case {
    pub(super) name: String,
    /// Names of the two files, without folders.
    pub(super) files: [String; 2],
    pub(super) scores: CaseScores,
    /// Scores of the second prediction.
    pub(super) other: Option<CaseScores>,
    pub(super) alignment: &'static str,
    pub(super) picture: bool,
    /// Names of labels in the files, those of the ground truth first.
    pub(super) names: BTreeMap<u32, String>,
    pub(super) missing: bool,
    pub(super) warnings: Vec<String>,
    /// Where most voxels are wrong; `None` if none is, or nobody asked.
    pub(super) slice: Option<Slice>,
    /// Time to read the two maps, and to do all else.
    pub(super) times: [Duration; 2],
}

pub(super) struct Failure {
    pub(super) case: String,
    pub(super) error: anyhow::Error,
}

pub(super) struct Done {
    pub(super) cases: Vec<Case>,
    pub(super) failures: Vec<Failure>,
}

pub(super) fn evaluate(files: &[Files], plan: &Plan, global: &Global) -> Done {
    let bar = global.bar(files.len() as u64, "cases");
    let mut done = Done { cases: Vec::new(), failures: Vec::new() };
    // As many cases at once as threads: reading is serial within a case.
    let at_once = global.threads.clamp(1, files.len().max(1));
    for some in files.chunks(at_once) {
        let results: Vec<_> = some
            .par_iter()
            .with_max_len(1)
            .map(|f| {
                let r = one(f, plan, at_once);
                bar.inc(1);
                r
            })
            .collect();
        for (f, result) in some.iter().zip(results) {
            // What is too large beside others is read alone.
            let shared = at_once > 1 && plan.memory.is_some();
            let result = if shared && result.as_ref().is_err_and(is_too_large) { one(f, plan, 1) } else { result };
            match result {
                Ok(case) => done.cases.push(case),
                Err(error) => done.failures.push(Failure { case: f.name.clone(), error }),
            }
        }
    }
    bar.finish_and_clear();
    let seconds = |n: usize| done.cases.iter().map(|c| c.times[n].as_secs_f64()).sum::<f64>();
    global.log(Level::Info, format!("over all cases {:.2} s of reading, {:.2} s of scoring", seconds(0), seconds(1)));
    done
}

/// Two or three label maps in memory, one of them perhaps twice while it is turned.
const MAPS: u64 = 4;

fn is_too_large(error: &anyhow::Error) -> bool {
    error.chain().any(|e| matches!(e.downcast_ref(), Some(volseg_io::Error::Limit { .. })))
}

/// Scores a case, one of `at_once` that share `--memory`.
fn one(files: &Files, plan: &Plan, at_once: usize) -> anyhow::Result<Case> {
    let start = Instant::now();
    let most = plan.memory.map(|m| m / (MAPS * at_once as u64));
    let load = |path: &Path, which| {
        load(path, which, plan, most).map_err(|e| match plan.memory.filter(|_| is_too_large(&e)) {
            Some(m) => e.context(format!("--memory allows {} MiB, a quarter of it for a label map; allow more", m >> 20)),
            None => e,
        })
    };
    let (gt, pred) = rayon::join(
        || load(&files.gt, "the ground truth"),
        || files.pred.as_deref().map(|p| load(p, "the prediction")).transpose(),
    );
    let (gt, pred) = (gt?, pred?);
    let reading = start.elapsed();
    let mut warnings = gt.warnings.clone();
    let names = names(&gt, pred.as_ref(), plan, &mut warnings);
    let flat = gt.picture || plan.flat;
    let dim = gt.labels.dim();
    if flat && dim[2] != 1 {
        bail!("found {dim:?} voxels, expected one slice along the third axis for --2d");
    }
    if !flat && dim.contains(&1) {
        warnings.push("one slice scored as a volume: the two caps of the slab swamp its contour (--2d)".into());
    }
    if !flat && plan.spacing_of_pictures {
        bail!("found a volume and --spacing x,y, expected x,y,z");
    }
    let mut settings = plan.settings.clone();
    settings.flat = flat;
    if flat {
        // Pixels are the unit of pictures unless someone says how large they are (specs: metrics.md section 3d).
        settings.spacing.get_or_insert([1.0; 3]);
    }
    let mut run = |loaded: Option<Loaded>| -> anyhow::Result<_> {
        let Some(loaded) = loaded else {
            let empty = Labels::empty(gt.labels.dim(), *gt.labels.affine())?;
            return Ok((score(&gt.labels, &empty, &plan.selection, &settings)?, "same", empty));
        };
        warnings.extend(loaded.warnings);
        let rules = if loaded.picture == gt.picture {
            plan.grid
        } else {
            warnings.push("a picture has no place in space: stored pixels are compared".into());
            GridRules { ignore_affine: true, ..plan.grid }
        };
        let (moved, how) = align(&gt.labels, &loaded.labels, &rules)?;
        if plan.grid.ignore_affine {
            warnings.push("affines were not compared (--ignore-affine)".into());
        }
        let pred = moved.unwrap_or(loaded.labels);
        Ok((score(&gt.labels, &pred, &plan.selection, &settings)?, how.name(), pred))
    };
    let (scores, alignment, shown) = run(pred)?;
    let second = files.other.as_deref().map(|p| load(p, "the second prediction")).transpose()?;
    let other = match plan.compares {
        true => Some(run(second).context("the second prediction cannot be scored")?.0),
        false => None,
    };
    warnings.dedup();
    let name = |p: &Path| p.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Case {
        name: files.name.clone(),
        files: [name(&files.gt), files.pred.as_deref().map(name).unwrap_or_default()],
        scores,
        other,
        alignment,
        picture: flat,
        names,
        missing: files.pred.is_none(),
        warnings,
        slice: plan.pictures.then(|| Slice::worst(&gt.labels, &shown)).flatten(),
        times: [reading, start.elapsed().saturating_sub(reading)],
    })
}

/// Names of the labels by their files. Ids of a map are not those of the file any more.
fn names(gt: &Loaded, pred: Option<&Loaded>, plan: &Plan, warnings: &mut Vec<String>) -> BTreeMap<u32, String> {
    let mut names = BTreeMap::new();
    if plan.selection.gt_map.to.is_empty() {
        names.extend(gt.names.iter().cloned());
    }
    let organ = |name: &str| name.parse().map_or_else(|_| name.to_lowercase(), |id: OrganId| id.to_string());
    for (id, name) in pred.filter(|_| plan.selection.pred_map.to.is_empty()).iter().flat_map(|p| &p.names) {
        let other = names.entry(*id).or_insert_with(|| name.clone());
        if organ(other) != organ(name) {
            warnings.push(format!("label {id} is {other} in the ground truth's file and {name} in the prediction's (--pred-map)"));
        }
    }
    names
}
