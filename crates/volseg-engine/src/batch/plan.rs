//! Who does which case: workers agree without talking, from the manifest alone.

use super::Case;
use crate::Error;
use std::collections::BinaryHeap;
use std::{cmp::Reverse, str::FromStr};

/// Part `index` (from 0) of `of` parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 0.
    pub index: usize,
    /// At least 1.
    pub of: usize,
}

/// More shards than this are taken for a mistake.
const MOST_SHARDS: usize = 1_000_000;

impl Shard {
    /// A shard that exists.
    ///
    /// # Errors
    /// [`Error::Request`] with the allowed range.
    pub fn new(index: usize, of: usize) -> Result<Self, Error> {
        if !(1..=MOST_SHARDS).contains(&of) {
            return Err(Error::Request(format!("shards: found {of}, expected 1 to {MOST_SHARDS}")));
        }
        if index >= of {
            return Err(Error::Request(format!(
                "shard {index} of {of}: shards count from 0, expected 0 to {}",
                of - 1
            )));
        }
        Ok(Self { index, of })
    }

    /// `I/N`, or `env` for what a scheduler says in the environment (`get`): Slurm, Grid Engine or a Kubernetes Indexed Job.
    /// `shards` is the number of shards where it is given apart; else `VOLSEG_SHARDS` counts.
    ///
    /// # Errors
    /// [`Error::Request`] that names what is missing or contradicts.
    pub fn parse(text: &str, shards: Option<usize>, get: &dyn Fn(&str) -> Option<String>) -> Result<Self, Error> {
        if text != "env" {
            let expected = || Error::Request(format!("--shard: found {text}, expected I/N such as 0/8, or env"));
            let (index, of) = text.split_once('/').ok_or_else(expected)?;
            let shard =
                Self::new(index.trim().parse().map_err(|_| expected())?, of.trim().parse().map_err(|_| expected())?)?;
            return match shards {
                Some(n) if n != shard.of => {
                    Err(Error::Request(format!("--shard says {} shards, --shards says {n}", shard.of)))
                }
                _ => Ok(shard),
            };
        }
        let number = |name: &str| number(name, get);
        let shards = match shards {
            Some(n) => Some(n),
            None => number("VOLSEG_SHARDS")?,
        };
        if let Some(id) = number("SLURM_ARRAY_TASK_ID")? {
            return match shards {
                Some(n) => Self::new(id, n),
                None => {
                    let of = |name: &str| number(&format!("SLURM_ARRAY_TASK_{name}"));
                    whole_array(id, [of("MIN")?, of("MAX")?, of("STEP")?], of("COUNT")?, "SLURM_ARRAY_TASK_")
                }
            };
        }
        if let Some(id) = number("SGE_TASK_ID")? {
            return match shards {
                // Grid Engine counts tasks from 1.
                Some(n) => Self::new(
                    id.checked_sub(1).ok_or_else(|| Error::Request("SGE_TASK_ID is 0, expected 1 or more".into()))?,
                    n,
                ),
                None => {
                    let of = |name: &str| number(&format!("SGE_TASK_{name}"));
                    let (first, last) = (of("FIRST")?, of("LAST")?);
                    let count = first.zip(last).and_then(|(f, l)| l.checked_sub(f)).map(|n| n + 1);
                    whole_array(id, [first, last, of("STEPSIZE")?], count, "SGE_TASK_")
                }
            };
        }
        if let Some(index) = number("JOB_COMPLETION_INDEX")? {
            return match shards {
                Some(n) => Self::new(index, n),
                None => Err(Error::Request(
                    "JOB_COMPLETION_INDEX does not say how many shards there are: give --shards N or VOLSEG_SHARDS"
                        .into(),
                )),
            };
        }
        Err(Error::Request(
            "--shard env: none of SLURM_ARRAY_TASK_ID, SGE_TASK_ID and JOB_COMPLETION_INDEX is set".into(),
        ))
    }
}

/// A number in the environment. Grid Engine says "undefined" outside arrays.
fn number(name: &str, get: &dyn Fn(&str) -> Option<String>) -> Result<Option<usize>, Error> {
    match get(name).as_deref().map(str::trim) {
        None | Some("" | "undefined") => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|_| Error::Request(format!("{name}: found {text:?}, expected a whole number from 0"))),
    }
}

/// Without a stated number of shards the array's size counts, but only if all of it runs: a rerun of some tasks would
/// otherwise change who does what.
fn whole_array(
    id: usize,
    [min, max, step]: [Option<usize>; 3],
    count: Option<usize>,
    prefix: &str,
) -> Result<Shard, Error> {
    let (Some(min), Some(max), Some(count)) = (min, max, count) else {
        return Err(Error::Request(format!(
            "{prefix}ID is set, but the array's size is not known: give --shards N or VOLSEG_SHARDS"
        )));
    };
    let step = step.unwrap_or(1);
    let span = max.checked_sub(min).map_or(0, |n| n.saturating_add(1));
    if span != count || step != 1 {
        return Err(Error::Request(format!(
            "the array has COUNT {count}, but MAX - MIN + 1 is {span} (STEP {step}): with some tasks left out the number of \
             shards is not known; give --shards N or VOLSEG_SHARDS"
        )));
    }
    let index = id.checked_sub(min).ok_or_else(|| Error::Request(format!("{prefix}ID {id} lies below MIN {min}")))?;
    Shard::new(index, count)
}

/// How cases are dealt out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// By a hash of the id: a case keeps its shard when the manifest grows.
    #[default]
    Hash,
    /// Largest first, each to the shard with the fewest voxels so far: shards end together, but a longer manifest deals anew.
    Voxels,
}

impl FromStr for Balance {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "hash" => Ok(Self::Hash),
            "voxels" => Ok(Self::Voxels),
            _ => Err("expected hash or voxels".into()),
        }
    }
}

/// The shard of each case.
#[must_use]
pub fn shards_of(cases: &[Case], of: usize, balance: Balance) -> Vec<usize> {
    if balance == Balance::Hash {
        return cases.iter().map(|c| (prefix(&c.case_id) % of.max(1) as u64) as usize).collect();
    }
    let mut order: Vec<usize> = (0..cases.len()).collect();
    order.sort_by(|&a, &b| (cases[b].voxels, &cases[a].case_id).cmp(&(cases[a].voxels, &cases[b].case_id)));
    let mut loads: BinaryHeap<Reverse<(u64, usize)>> = (0..of.max(1)).map(|s| Reverse((0, s))).collect();
    let mut shards = vec![0; cases.len()];
    for n in order {
        let Some(Reverse((load, shard))) = loads.pop() else { break };
        shards[n] = shard;
        // A case without voxels still costs something.
        loads.push(Reverse((load + cases[n].voxels.max(1), shard)));
    }
    shards
}

/// The first eight bytes of the id's own BLAKE3: ids need not be hashes themselves.
fn prefix(case_id: &str) -> u64 {
    let hash = *blake3::hash(case_id.as_bytes()).as_bytes();
    hash.first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, shards: Option<usize>, env: &[(&str, &str)]) -> Result<Shard, String> {
        let get = |name: &str| env.iter().find(|e| e.0 == name).map(|e| e.1.to_owned());
        Shard::parse(text, shards, &get).map_err(|e| e.to_string())
    }

    fn slurm<'a>(id: &'a str, min: &'a str, max: &'a str, step: &'a str, count: &'a str) -> [(&'a str, &'a str); 5] {
        let name = |n| ["SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX", n];
        [
            (name("")[0], id),
            (name("")[1], min),
            (name("")[2], max),
            ("SLURM_ARRAY_TASK_STEP", step),
            ("SLURM_ARRAY_TASK_COUNT", count),
        ]
    }

    #[test]
    fn shards_are_written_or_read_from_schedulers() {
        assert_eq!(parse("3/8", None, &[]), Ok(Shard { index: 3, of: 8 }));
        assert!(parse("8/8", None, &[]).unwrap_err().contains("expected 0 to 7"));
        assert!(
            parse("1/0", None, &[]).is_err() && parse("-1/4", None, &[]).is_err() && parse("x", None, &[]).is_err()
        );
        assert!(parse("1/4", Some(8), &[]).is_err());
        assert_eq!(parse("env", None, &slurm("7", "0", "7", "1", "8")), Ok(Shard { index: 7, of: 8 }));
        assert_eq!(parse("env", None, &slurm("5", "1", "8", "1", "8")), Ok(Shard { index: 4, of: 8 }));
        let sparse = parse("env", None, &slurm("5", "3", "5", "1", "2")).unwrap_err();
        assert!(sparse.contains("COUNT 2") && sparse.contains("is 3"), "{sparse}");
        assert!(parse("env", None, &slurm("4", "0", "6", "2", "4")).is_err());
        assert_eq!(parse("env", Some(8), &slurm("5", "3", "5", "1", "2")), Ok(Shard { index: 5, of: 8 }));
        assert!(parse("env", Some(4), &slurm("5", "3", "5", "1", "2")).unwrap_err().contains("0 to 3"));
        let sge = [("SGE_TASK_ID", "8"), ("SGE_TASK_FIRST", "1"), ("SGE_TASK_LAST", "8"), ("SGE_TASK_STEPSIZE", "1")];
        assert_eq!(parse("env", None, &sge), Ok(Shard { index: 7, of: 8 }));
        assert_eq!(parse("env", Some(9), &sge), Ok(Shard { index: 7, of: 9 }));
        assert!(parse("env", None, &[("SGE_TASK_ID", "undefined")]).is_err());
        assert!(parse("env", None, &[("JOB_COMPLETION_INDEX", "1")]).is_err());
        let k8s = [("JOB_COMPLETION_INDEX", "1"), ("VOLSEG_SHARDS", "3")];
        assert_eq!(parse("env", None, &k8s), Ok(Shard { index: 1, of: 3 }));
    }

    #[test]
    fn every_case_has_one_shard_and_keeps_it() {
        let case = |n: usize| Case {
            case_id: format!("{n:04}"),
            locator: "dir:/x".into(),
            files: None,
            modality: None,
            slices: 1,
            voxels: (n as u64 * 7919) % 1000,
            bytes: 1,
            input: String::new(),
        };
        let cases: Vec<Case> = (0..500).map(case).collect();
        let all = shards_of(&cases, 7, Balance::Hash);
        assert!((0..7).all(|s| all.iter().filter(|&&x| x == s).count() > 40));
        assert_eq!(shards_of(&cases[..100], 7, Balance::Hash), all[..100]);
        let dealt = shards_of(&cases, 7, Balance::Voxels);
        let load = |s| cases.iter().zip(&dealt).filter(|d| *d.1 == s).map(|d| d.0.voxels).sum::<u64>();
        let loads: Vec<u64> = (0..7).map(load).collect();
        assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() < 1000, "{loads:?}");
    }
}
