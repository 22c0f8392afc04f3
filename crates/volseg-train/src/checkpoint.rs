//! Where a training stands: enough to go on as if it had never been stopped. [`State`] is for trainings by epochs.

mod by_step;

pub(crate) use by_step::{begin, draw_curves, save};

use crate::Error;
use crate::curves::Line;
use crate::optimizer::AdamW;
use candle_core::{Device, Tensor, Var};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use volseg_model::embedded::write_tensors;

/// Name of a checkpoint in the folder of a run.
pub(crate) const FILE: &str = "checkpoint.safetensors";
const LOG: &str = "metrics.jsonl";

/// Whether the folder of a run holds a checkpoint to go on from.
#[must_use]
pub fn has_checkpoint(out: &Path) -> bool {
    out.join(FILE).exists()
}

pub(crate) fn damaged(e: &candle_core::Error) -> Error {
    let cause = e.to_string();
    Error::Checkpoint(format!(
        "is damaged ({}); start again without --resume",
        cause.lines().next().unwrap_or_default()
    ))
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
        write_tensors(&out.join(FILE), &map, BTreeMap::from([("state".to_owned(), text)]))?;
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
        let path = out.join(FILE);
        let bad = |e: String| Error::Checkpoint(e);
        let bytes = std::fs::read(&path).map_err(|source| Error::Io { what: "read the checkpoint".into(), source })?;
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).map_err(|e| bad(e.to_string()))?;
        let text = header.metadata().as_ref().and_then(|m| m.get("state")).cloned();
        let state: Self = serde_json::from_str(&text.ok_or_else(|| bad("is not one of a training by epochs".into()))?)
            .map_err(|e| bad(e.to_string()))?;
        let map: BTreeMap<String, Tensor> =
            candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|e| damaged(&e))?.into_iter().collect();
        for (n, (variables, adam)) in parts.iter_mut().enumerate() {
            take_weights(&map, variables)?;
            let step = map.get(&format!("step/{n}")).ok_or_else(|| bad("has no step".into()))?.to_vec1::<u32>()?;
            adam.restore(variables, &map, step.first().copied().unwrap_or(0) as usize)?;
        }
        // Lines of an epoch that the checkpoint does not know are written again. The text stays as it was, digit by digit.
        let log = std::fs::read_to_string(out.join(LOG)).map_err(failed)?;
        let known = |line: &&str| {
            let record = serde_json::from_str::<serde_json::Value>(line).ok();
            record.and_then(|r| r["epoch"].as_u64()).is_some_and(|e| e <= state.epoch as u64)
        };
        let kept: String = log.lines().filter(known).map(|l| format!("{l}\n")).collect();
        std::fs::write(out.join(LOG), kept).map_err(failed)?;
        Ok(Some(state))
    }
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
