//! Where a training stands: enough to go on as if it had never been stopped. [`State`] is for trainings by epochs.

mod by_step;

pub(crate) use by_step::{begin, draw_curves, save};

use crate::curves::Line;
use crate::optimizer::AdamW;
use crate::{Error, Progress};
use candle_core::{Device, Tensor, Var};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::Path;
use volseg_io::AtomicFile;
use volseg_model::embedded::write_weights;
use volseg_model::weights::WeightsFile;

/// Name of a checkpoint in the folder of a run.
pub(crate) const FILE: &str = "checkpoint.safetensors";
const LOG: &str = "metrics.jsonl";

/// Whether the folder of a run holds a checkpoint to go on from.
#[must_use]
pub fn has_checkpoint(out: &Path) -> bool {
    out.join(FILE).exists()
}

fn damaged(e: &impl std::fmt::Display) -> Error {
    let cause = e.to_string();
    Error::Checkpoint(format!(
        "is damaged ({}); start again in another folder",
        cause.lines().next().unwrap_or_default()
    ))
}

/// Keeps the folder of a run for the caller as long as it holds the file: two runs at once would write over each other's
/// checkpoints. The folder is made if it is not there. A file system without locks keeps nothing.
///
/// # Errors
/// [`Error::Busy`] if another process keeps it; [`Error::Io`].
pub(crate) fn hold(out: &Path) -> Result<File, Error> {
    let io = |source| Error::Io { what: format!("write into {}", out.display()), source };
    std::fs::create_dir_all(out).map_err(io)?;
    let file = File::options().create(true).append(true).open(out.join(".lock")).map_err(io)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(Error::Busy { folder: out.to_owned() }),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// Numbers and metadata of a checkpoint. One with a digest is compared with it; those of earlier versions have none.
fn read(path: &Path) -> Result<(BTreeMap<String, Tensor>, BTreeMap<String, String>), Error> {
    let file = WeightsFile::open(path).map_err(|e| damaged(&e))?;
    if file.metadata().contains_key("sha256") {
        file.verify().map_err(|e| damaged(&e))?;
    }
    let map = candle_core::safetensors::load(path, &Device::Cpu).map_err(|e| damaged(&e))?;
    Ok((map.into_iter().collect(), file.metadata().clone()))
}

/// Settings that a run may go on with at other values: how long it runs and how often it looks.
const MAY_CHANGE: [&str; 5] = ["steps", "epochs", "patience", "save_every", "validate_every"];

/// Refuses to go on with other settings than the run in `out` began with: what it wrote would say what is not so. Of those that may
/// change it tells, and writes `config.toml` anew.
///
/// # Errors
/// [`Error::Config`] naming the keys that differ.
pub(crate) fn same_settings<C: Serialize + DeserializeOwned>(
    out: &Path,
    resume: bool,
    config: &C,
    progress: &mut dyn Progress,
) -> Result<(), Error> {
    if !resume || !has_checkpoint(out) {
        return Ok(());
    }
    let Ok(text) = std::fs::read_to_string(out.join("config.toml")) else { return Ok(()) };
    let bad = |e: toml::ser::Error| Error::Config(e.to_string());
    // Read as a configuration, keys that are younger than the run have their defaults.
    let began = match toml::from_str::<C>(&text) {
        Ok(began) => toml::Value::try_from(began).map_err(bad)?,
        Err(_) => toml::from_str(&text).map_err(|e| Error::Config(format!("config.toml in {}: {e}", out.display())))?,
    };
    let mut changed = Vec::new();
    differences("", Some(&began), Some(&toml::Value::try_from(config).map_err(bad)?), &mut changed);
    let text = |c: &[(String, String)]| c.iter().map(|(key, v)| format!("{key} {v}")).collect::<Vec<_>>().join(", ");
    let (may, must_not): (Vec<_>, Vec<_>) =
        changed.into_iter().partition(|(key, _)| MAY_CHANGE.contains(&key.as_str()));
    if !must_not.is_empty() {
        return Err(Error::Config(format!(
            "the run in {} began with other settings ({}); --resume goes on with the same ones, and a new run wants another folder",
            out.display(),
            text(&must_not)
        )));
    }
    if !may.is_empty() {
        progress.line(&format!("going on with other settings than the run began with: {}", text(&may)));
        write_settings(out, config)?;
    }
    Ok(())
}

/// Leaves the configuration as run in the folder of a run.
///
/// # Errors
/// A file that cannot be written.
pub(crate) fn write_settings(out: &Path, config: &impl Serialize) -> Result<(), Error> {
    let text = toml::to_string(config).map_err(|e| Error::Config(e.to_string()))?;
    Ok(AtomicFile::write(&out.join("config.toml"), text.as_bytes())?)
}

/// Dotted keys at which two configurations differ, and what is said of their values.
fn differences(key: &str, a: Option<&toml::Value>, b: Option<&toml::Value>, found: &mut Vec<(String, String)>) {
    use toml::Value::{Array, Table};
    let below = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    match (a, b) {
        (Some(Table(a)), Some(Table(b))) => {
            for name in a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))) {
                differences(&below(name), a.get(name), b.get(name), found);
            }
        }
        (Some(Array(a)), Some(Array(b))) if a.len() == b.len() => {
            for (n, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&below(&n.to_string()), Some(a), Some(b), found);
            }
        }
        _ if a == b => {}
        _ => {
            let text = |v: Option<&toml::Value>| v.map_or("nothing".into(), ToString::to_string);
            found.push((key.to_owned(), format!("was {}, is {}", text(a), text(b))));
        }
    }
}

/// Sets every variable to its weight in a checkpoint.
fn take_weights(map: &BTreeMap<String, Tensor>, variables: &BTreeMap<String, Var>) -> Result<(), Error> {
    for (name, var) in variables {
        let weight = map.get(&format!("weight/{name}")).filter(|t| t.dims() == var.dims());
        let weight = weight.ok_or_else(|| Error::Checkpoint(format!("has no fitting weight {name}")))?;
        var.set(&weight.to_device(var.device())?)?;
    }
    Ok(())
}

/// Progress of a run, stored in its checkpoint's metadata.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) epoch: usize,
    pub(crate) best_epoch: usize,
    pub(crate) before: f64,
    pub(crate) best: f64,
    pub(crate) tuned: (f64, f64),
}

impl State {
    pub(crate) fn begin(before: f64, tuned: (f64, f64)) -> Self {
        Self { epoch: 0, best_epoch: 0, before, best: before, tuned }
    }

    /// Takes an epoch's validation; whether it is the best so far.
    pub(crate) fn note(&mut self, score: f64, tuned: (f64, f64)) -> bool {
        let better = score > self.best;
        if better {
            (self.best, self.best_epoch, self.tuned) = (score, self.epoch, tuned);
        }
        better
    }

    pub(crate) fn patience_is_over(&self, patience: usize) -> bool {
        patience > 0 && self.epoch >= self.best_epoch + patience
    }

    /// Writes variables and their optimisers; parts share no names.
    pub(crate) fn save(&self, out: &Path, parts: &[(&BTreeMap<String, Var>, &AdamW)]) -> Result<(), Error> {
        let mut map = BTreeMap::new();
        for (n, (variables, adam)) in parts.iter().enumerate() {
            map.extend(adam.state(variables)?);
            for (name, var) in *variables {
                map.insert(format!("weight/{name}"), var.as_tensor().clone());
            }
            map.insert(format!("step/{n}"), Tensor::new(&[adam.step as u32], &Device::Cpu)?);
        }
        let text = serde_json::to_string(self).map_err(|e| Error::Checkpoint(e.to_string()))?;
        write_weights(&out.join(FILE), &map, BTreeMap::from([("state".to_owned(), text)]))?;
        Ok(())
    }

    /// The state of the checkpoint in `out`, if there is one and it is wanted; variables and optimisers take its numbers.
    pub(crate) fn restore(
        out: &Path,
        resume: bool,
        parts: &mut [(&BTreeMap<String, Var>, &mut AdamW)],
    ) -> Result<Option<Self>, Error> {
        if !resume || !has_checkpoint(out) {
            return Ok(None);
        }
        let bad = |e: String| Error::Checkpoint(e);
        let (map, metadata) = read(&out.join(FILE))?;
        let text = metadata.get("state").ok_or_else(|| bad("is not one of a training by epochs".into()))?;
        let state: Self = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        for (n, (variables, adam)) in parts.iter_mut().enumerate() {
            take_weights(&map, variables)?;
            let step = map.get(&format!("step/{n}")).ok_or_else(|| bad("has no step".into()))?.to_vec1::<u32>()?;
            adam.restore(variables, &map, step.first().copied().unwrap_or(0) as usize)?;
        }
        forget_later(out, "epoch", state.epoch)?;
        Ok(Some(state))
    }
}

/// Lines of the log behind what the checkpoint knows are written again. The others stay as they were, digit by digit.
fn forget_later(out: &Path, count: &str, known: usize) -> Result<(), Error> {
    let log = std::fs::read_to_string(out.join(LOG)).map_err(failed)?;
    let is_known = |line: &&str| {
        let record = serde_json::from_str::<serde_json::Value>(line).ok();
        record.and_then(|r| r[count].as_u64()).is_some_and(|n| n <= known as u64)
    };
    let kept: String = log.lines().filter(is_known).map(|l| format!("{l}\n")).collect();
    Ok(AtomicFile::write(&out.join(LOG), kept.as_bytes())?)
}

fn failed(source: std::io::Error) -> Error {
    Error::Io { what: format!("read or write {LOG}"), source }
}

pub(crate) fn log_fresh(out: &Path, record: &serde_json::Value) -> Result<(), Error> {
    std::fs::write(out.join(LOG), format!("{record}\n")).map_err(failed)
}

pub(crate) fn log(out: &Path, record: &serde_json::Value) -> Result<(), Error> {
    let mut f = std::fs::OpenOptions::new().create(true).append(true).open(out.join(LOG)).map_err(failed)?;
    writeln!(f, "{record}").map_err(failed)
}

fn read_log(out: &Path) -> Result<Vec<serde_json::Value>, Error> {
    let text = std::fs::read_to_string(out.join(LOG)).map_err(failed)?;
    Ok(text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect())
}

/// Loss and validation over the epochs.
pub(crate) fn lines(out: &Path) -> Result<Vec<Line>, Error> {
    let log = read_log(out)?;
    let line = |key: &str| {
        let points = log.iter().filter_map(|r| Some((r["epoch"].as_f64()? as f32, r[key].as_f64()? as f32)));
        (key.to_owned(), points.collect::<Vec<_>>())
    };
    Ok(vec![line("loss"), line("validation"), line("tuned")])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TrainConfig;

    #[test]
    fn a_run_goes_on_with_its_own_settings_alone() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path();
        let text = "seed = 2\n[[pictures]]\npath = \"p\"\nmodality = \"xray\"\norgan = \"lungs\"\n";
        struct Said(Vec<String>);
        impl Progress for Said {
            fn line(&mut self, text: &str) {
                self.0.push(text.to_owned());
            }
        }
        let mut said = Said(Vec::new());
        let parse = |changes: &[&str]| {
            TrainConfig::parse(text, &changes.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>()).unwrap()
        };
        let began = parse(&[]);
        // A run of an earlier version: keys that it did not know are missing.
        std::fs::write(out.join("config.toml"), text).unwrap();
        assert!(same_settings(out, true, &parse(&["seed=3"]), &mut said).is_ok(), "there is no checkpoint");
        std::fs::write(out.join(FILE), b"").unwrap();
        assert!(same_settings(out, true, &began, &mut said).is_ok() && said.0.is_empty());
        assert!(same_settings(out, false, &parse(&["seed=3"]), &mut said).is_ok());
        let other = parse(&["seed=3", "pictures.0.split.seed=1", "pictures.0.split.validation=0.1", "steps=9"]);
        let error = same_settings(out, true, &other, &mut said).unwrap_err().to_string();
        assert!(error.contains("seed was 2, is 3") && error.contains("pictures.0.split was nothing"), "{error}");
        assert!(!error.contains("steps was"), "{error}");
        // Longer is no other run.
        let longer = parse(&["steps=9"]);
        same_settings(out, true, &longer, &mut said).unwrap();
        assert!(said.0.concat().contains("steps was 2000, is 9"), "{:?}", said.0);
        assert!(std::fs::read_to_string(out.join("config.toml")).unwrap().contains("steps = 9"));
    }
}
