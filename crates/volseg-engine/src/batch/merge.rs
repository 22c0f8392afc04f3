//! All results of a tree as one table: a pure function of what stands there.

use super::{Failure, Range, case_folder::CASE_SCHEMA, cohort, qa::Quality};
use crate::{Error, OrganStatistics};
use rayon::prelude::*;
use serde_json::Value;
use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

/// A finished case.
#[derive(Clone, Debug)]
pub struct CaseRow {
    /// The case.
    pub case_id: String,
    /// `ct`, `xray`, `ultrasound` or `mr`.
    pub modality: String,
    /// Voxels along the stored axes.
    pub dim: [usize; 3],
    /// mm along the stored axes.
    pub spacing_mm: [f64; 3],
    /// Its judgement, with what the cohort shows.
    pub quality: Quality,
    /// Every organ that was looked for.
    pub statistics: Vec<OrganStatistics>,
    /// Seconds to read, to segment and to write, if the tree says so.
    pub seconds: Option<[f64; 3]>,
}

/// All cases of a tree.
#[derive(Clone, Debug, Default)]
pub struct Cohort {
    /// Finished ones, by id.
    pub cases: Vec<CaseRow>,
    /// Failed ones that are not finished, by id.
    pub failures: Vec<Failure>,
    /// Folders that look like results but cannot be read.
    pub broken: usize,
    /// Usual volumes.
    pub ranges: Vec<Range>,
}

/// Reads a tree and compares its cases with each other.
///
/// # Errors
/// [`Error::Io`] if the tree cannot be listed.
pub fn merge(tree: &Path) -> Result<Cohort, Error> {
    let mut folders = Vec::new();
    for above in sorted(tree)? {
        if above.is_dir() && above.file_name().is_some_and(|n| n.len() == 2) {
            folders.extend(sorted(&above)?);
        }
    }
    let rows: Vec<Option<CaseRow>> = folders.par_iter().map(|f| read_case(f)).collect();
    let mut out = Cohort { broken: rows.iter().filter(|r| r.is_none()).count(), ..Cohort::default() };
    out.cases = rows.into_iter().flatten().collect();
    out.cases.sort_by(|a, b| a.case_id.cmp(&b.case_id));
    if tree.join("failed").is_dir() {
        let done = |id: &str| out.cases.binary_search_by(|c| c.case_id.as_str().cmp(id)).is_ok();
        let names = sorted(&tree.join("failed"))?;
        out.failures = names
            .iter()
            .filter_map(|p| Failure::read(tree, p.file_stem()?.to_str()?))
            .filter(|f| !done(&f.case_id))
            .collect();
    }
    out.ranges = cohort::compare(&mut out.cases);
    Ok(out)
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let cannot = |source| volseg_io::Error::Io { action: "read", path: folder.to_owned(), source };
    let entries = fs::read_dir(folder).map_err(cannot)?;
    let mut paths = entries.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>().map_err(cannot)?;
    paths.sort();
    Ok(paths)
}

fn read_case(folder: &Path) -> Option<CaseRow> {
    let json = |name: &str| serde_json::from_slice::<Value>(&fs::read(folder.join(name)).ok()?).ok();
    let record = json("result.json")?;
    if record["schema"] != CASE_SCHEMA {
        return None;
    }
    let timings = json("timings.json");
    let second = |name: &str| timings.as_ref().and_then(|t| t[name].as_f64());
    let segment = || Some(second("network_s")? + second("cleanup_s")? + second("assemble_s")?);
    Some(CaseRow {
        case_id: record["case_id"].as_str()?.to_owned(),
        modality: record["modality"].as_str()?.to_owned(),
        dim: serde_json::from_value(record["dim"].clone()).ok()?,
        spacing_mm: serde_json::from_value(record["spacing_mm"].clone()).ok()?,
        quality: serde_json::from_value(json("qa.json")?).ok()?,
        statistics: serde_json::from_value(json("stats.json")?).ok()?,
        seconds: second("read_s").zip(segment()).zip(second("write_s")).map(|((r, s), w)| [r, s, w]),
    })
}

impl Cohort {
    /// Cases to look at, worst first; green ones are left out.
    #[must_use]
    pub fn queue(&self) -> Vec<&CaseRow> {
        let mut queue: Vec<&CaseRow> = self.cases.iter().filter(|c| c.quality.light > super::Light::Green).collect();
        queue.sort_by(|a, b| {
            (b.quality.light, b.quality.score)
                .partial_cmp(&(a.quality.light, a.quality.score))
                .unwrap_or(std::cmp::Ordering::Equal)
                .then_with(|| a.case_id.cmp(&b.case_id))
        });
        queue
    }

    /// Names of all organs, in label order.
    #[must_use]
    pub fn organs(&self) -> Vec<(u8, String)> {
        let mut organs: Vec<(u8, String)> =
            self.cases.iter().flat_map(|c| &c.statistics).map(|s| (s.id, s.name.clone())).collect();
        organs.sort();
        organs.dedup();
        organs
    }

    /// One row a case, failed ones included: status, light, geometry, and volume, mean and standard deviation of each organ.
    #[must_use]
    pub fn cases_csv(&self) -> String {
        let organs = self.organs();
        let mut out = String::from("case_id,status,failure,qa,score,flags,modality,nx,ny,nz,dx_mm,dy_mm,dz_mm");
        for (_, name) in &organs {
            let _ = write!(out, ",{name}_ml,{name}_mean,{name}_sd");
        }
        out.push('\n');
        for c in &self.cases {
            let q = &c.quality;
            let _ = write!(
                out,
                "{},done,,{},{},{},{}",
                c.case_id,
                q.light.name(),
                number(Some(q.score)),
                flags(q),
                c.modality
            );
            c.dim.iter().for_each(|d| {
                let _ = write!(out, ",{d}");
            });
            c.spacing_mm.iter().for_each(|s| {
                let _ = write!(out, ",{}", number(Some(*s)));
            });
            for (id, _) in &organs {
                let s = c.statistics.iter().find(|s| s.id == *id);
                let _ = write!(
                    out,
                    ",{},{},{}",
                    number(s.map(|s| s.volume_ml)),
                    number(s.and_then(|s| s.mean)),
                    number(s.and_then(|s| s.sd))
                );
            }
            out.push('\n');
        }
        for f in &self.failures {
            let _ = writeln!(out, "{},failed,{},,,,,,,,,,{}", f.case_id, f.kind.name(), ",".repeat(3 * organs.len()));
        }
        out
    }

    /// One row a case and organ.
    #[must_use]
    pub fn organs_csv(&self) -> String {
        let mut out = String::from(
            "case_id,id,organ,voxels,volume_ml,mean,sd,x0,x1,y0,y1,z0,z1,centroid_r_mm,centroid_a_mm,centroid_s_mm,components,largest_fraction,candidate_dice,predicted_iou,touches\n",
        );
        for c in &self.cases {
            for s in &c.statistics {
                let _ = write!(out, "{},{},{},{},{}", c.case_id, s.id, s.name, s.voxels, number(Some(s.volume_ml)));
                let _ = write!(out, ",{},{}", number(s.mean), number(s.sd));
                for axis in 0..3 {
                    for end in 0..2 {
                        let _ = write!(out, ",{}", s.bounding_box.map_or(String::new(), |b| b[axis][end].to_string()));
                    }
                }
                for axis in 0..3 {
                    let _ = write!(out, ",{}", number(s.centroid_mm.map(|p| p[axis])));
                }
                let m = c.quality.organs.iter().find(|m| m.organ == s.name);
                let _ = writeln!(
                    out,
                    ",{},{},{},{},{}",
                    m.map_or(String::new(), |m| m.components.to_string()),
                    number(m.map(|m| m.largest_fraction)),
                    number(m.and_then(|m| m.candidate_dice)),
                    number(m.and_then(|m| m.predicted_iou)),
                    m.map_or("", |m| &m.touches)
                );
            }
        }
        out
    }

    /// The queue as a table: place, case, light, score, flags.
    #[must_use]
    pub fn queue_csv(&self) -> String {
        let mut out = String::from("place,case_id,qa,score,flags\n");
        for (n, c) in self.queue().into_iter().enumerate() {
            let q = &c.quality;
            let _ = writeln!(out, "{},{},{},{},{}", n + 1, c.case_id, q.light.name(), number(Some(q.score)), flags(q));
        }
        out
    }
}

/// `rule:organ` of each flag, worst first, without a comma.
#[must_use]
pub(super) fn flags(q: &Quality) -> String {
    let mut all: Vec<_> = q.flags.iter().collect();
    all.sort_by_key(|f| std::cmp::Reverse(f.light));
    let name = |f: &super::Flag| match &f.organ {
        Some(organ) => format!("{}:{organ}", f.rule),
        None => f.rule.clone(),
    };
    all.into_iter().map(name).collect::<Vec<_>>().join(" ")
}

fn number(value: Option<f64>) -> String {
    value.filter(|v| v.is_finite()).map_or(String::new(), |v| format!("{v:.4}"))
}

#[cfg(test)]
impl CaseRow {
    /// A CT with these organs and no flag.
    pub(super) fn for_test(case_id: &str, statistics: Vec<OrganStatistics>) -> Self {
        let quality = Quality {
            schema: String::new(),
            case_id: case_id.into(),
            light: super::Light::Green,
            score: 0.0,
            flags: Vec::new(),
            organs: Vec::new(),
        };
        Self {
            case_id: case_id.into(),
            modality: "ct".into(),
            dim: [1; 3],
            spacing_mm: [1.0; 3],
            quality,
            statistics,
            seconds: None,
        }
    }
}
