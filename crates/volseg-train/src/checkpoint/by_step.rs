//! Where a training by steps stands.

use super::{FILE, LOG, forget_later, has_checkpoint, read, read_log, take_weights, write_settings};
use crate::curves::{self, Line};
use crate::optimizer::Stepper;
use crate::{Error, Progress};
use candle_core::{Device, Tensor, Var};
use std::collections::BTreeMap;
use std::path::Path;

/// Goes on from the checkpoint in `out` if there is one and it is wanted; else writes the configuration there and begins.
pub(crate) fn begin(
    config: &impl serde::Serialize,
    out: &Path,
    resume: bool,
    variables: &BTreeMap<String, Var>,
    adam: &mut Stepper,
    progress: &mut dyn Progress,
) -> Result<(), Error> {
    if resume && has_checkpoint(out) {
        restore(&out.join(FILE), variables, adam)?;
        forget_later(out, "step", adam.step())?;
        progress.line(&format!("going on after step {}", adam.step()));
    } else {
        write_settings(out, config)?;
        let _ = std::fs::remove_file(out.join(LOG));
    }
    let numbers: usize = variables.values().map(|v| v.elem_count()).sum();
    progress.line(&format!("{numbers} trainable numbers in {} tensors", variables.len()));
    Ok(())
}

/// Writes variables, optimiser and step.
pub(crate) fn save(path: &Path, variables: &BTreeMap<String, Var>, adam: &Stepper) -> Result<(), Error> {
    let mut map = adam.state(variables)?;
    for (name, var) in variables {
        map.insert(format!("weight/{name}"), var.as_tensor().to_device(&Device::Cpu)?);
    }
    map.insert("step".into(), Tensor::new(&[adam.step() as u32], &Device::Cpu)?);
    volseg_model::embedded::write_weights(path, &map, BTreeMap::new())?;
    Ok(())
}

fn restore(path: &Path, variables: &BTreeMap<String, Var>, adam: &mut Stepper) -> Result<(), Error> {
    let (map, _) = read(path)?;
    take_weights(&map, variables)?;
    let step = map.get("step").ok_or_else(|| Error::Checkpoint("has no step".into()))?.to_vec1::<u32>()?;
    adam.restore(variables, &map, step.first().copied().unwrap_or(0) as usize)
}

/// Draws what `metrics.jsonl` holds so far.
pub(crate) fn draw_curves(out: &Path) -> Result<(), Error> {
    curves::draw(&out.join("curves.png"), &read_lines(out)?, "step")
}

fn read_lines(out: &Path) -> Result<Vec<Line>, Error> {
    let mut lines: BTreeMap<String, Vec<(f32, f32)>> = BTreeMap::new();
    for record in read_log(out)? {
        let Some(step) = record["step"].as_f64() else { continue };
        let mut add = |name: &str, value: &serde_json::Value| {
            if let Some(v) = value.as_f64() {
                lines.entry(name.to_owned()).or_default().push((step as f32, v as f32));
            }
        };
        add("loss", &record["loss"]);
        for (name, value) in record["validation"].as_object().into_iter().flatten() {
            add(name, value);
        }
    }
    Ok(lines.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_checkpoint_says_so_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        let one = Tensor::ones((2, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        let variables = BTreeMap::from([("w".to_owned(), Var::from_tensor(&one).unwrap())]);
        let mut adam = Stepper::new(&variables).unwrap();
        save(&path, &variables, &adam).unwrap();
        restore(&path, &variables, &mut adam).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let lie = [&u64::MAX.to_le_bytes(), &whole[8..]].concat();
        // One bit of the last number is another one.
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for bytes in [&whole[..0], &whole[..7], &whole[..40], &whole[..whole.len() - 5], &lie, &flipped] {
            std::fs::write(&path, bytes).unwrap();
            let text = restore(&path, &variables, &mut adam).unwrap_err().to_string();
            assert!(text.contains("damaged") && text.contains("another folder"), "{text}");
        }
        assert_eq!(variables["w"].to_vec2::<f32>().unwrap(), vec![vec![1.0; 3]; 2]);
    }
}
