//! AdamW whose state can be saved, with clipping and averaged weights.

mod device;

use crate::Error;
use candle_core::{Tensor, Var};
use std::collections::BTreeMap;

pub(crate) use device::DeviceAdamW;

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.99;
const EPSILON: f32 = 1e-8;
/// Greatest norm of the whole gradient.
const CLIP: f64 = 1.0;

/// AdamW on the CPU, in place: betas 0.9 and 0.99, gradient clipped to norm 1, decoupled decay, averaged weights. Moments and averages
/// of all variables stand in the order of their names.
pub struct AdamW {
    first: Vec<Vec<f32>>,
    second: Vec<Vec<f32>>,
    average: Vec<Vec<f32>>,
    beta2: f32,
    clip: f64,
    /// Steps taken.
    pub(crate) step: usize,
}

impl AdamW {
    /// No moments, and the weights as they are for their average.
    ///
    /// # Errors
    /// Variables that are not `f32` on the CPU.
    pub fn new(variables: &BTreeMap<String, Var>) -> Result<Self, Error> {
        let average: Vec<Vec<f32>> =
            variables.values().map(|v| v.flatten_all()?.to_vec1()).collect::<Result<_, _>>()?;
        let zeros: Vec<Vec<f32>> = average.iter().map(|v| vec![0.0; v.len()]).collect();
        Ok(Self { first: zeros.clone(), second: zeros, average, beta2: BETA2, clip: CLIP, step: 0 })
    }

    /// Adam as the paper trained: second beta 0.999, no clipping.
    pub(crate) fn adam(variables: &BTreeMap<String, Var>) -> Result<Self, Error> {
        Ok(Self { beta2: 0.999, clip: f64::INFINITY, ..Self::new(variables)? })
    }

    /// One step with the flat `gradients`, in the order of the variables' names; `average` is the decay of the averaged weights.
    /// `decay` acts on tensors of two and more axes only.
    ///
    /// # Errors
    /// Variables that are not `f32` on the CPU.
    pub fn update(
        &mut self,
        variables: &BTreeMap<String, Var>,
        gradients: &[Vec<f32>],
        rate: f32,
        decay: f32,
        average: f32,
    ) -> Result<(), Error> {
        self.step += 1;
        let norm = gradients.iter().flatten().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt();
        let scale = if norm > self.clip { (self.clip / norm) as f32 } else { 1.0 };
        let c1 = 1.0 - BETA1.powi(self.step as i32);
        let beta2 = self.beta2;
        let c2 = 1.0 - beta2.powi(self.step as i32);
        // Early averages would remember the random start.
        let average = average.min((1.0 + self.step as f32) / (10.0 + self.step as f32));
        for (n, var) in variables.values().enumerate() {
            let mut w = var.flatten_all()?.to_vec1::<f32>()?;
            let shrink = if var.dims().len() > 1 { 1.0 - rate * decay } else { 1.0 };
            let state = self.first[n].iter_mut().zip(self.second[n].iter_mut()).zip(self.average[n].iter_mut());
            for ((w, g), ((m, v), a)) in w.iter_mut().zip(&gradients[n]).zip(state) {
                let g = g * scale;
                *m = BETA1 * *m + (1.0 - BETA1) * g;
                *v = beta2 * *v + (1.0 - beta2) * g * g;
                *w = *w * shrink - rate * (*m / c1) / ((*v / c2).sqrt() + EPSILON);
                *a = average * *a + (1.0 - average) * *w;
            }
            var.set(&Tensor::from_vec(w, var.dims(), var.device())?)?;
        }
        Ok(())
    }

    /// Averaged weights by name.
    pub(crate) fn averaged(&self, variables: &BTreeMap<String, Var>) -> Result<BTreeMap<String, Tensor>, Error> {
        let mut map = BTreeMap::new();
        for ((name, var), a) in variables.iter().zip(&self.average) {
            map.insert(name.clone(), Tensor::from_vec(a.clone(), var.dims(), var.device())?);
        }
        Ok(map)
    }

    /// State as named tensors, for a checkpoint.
    pub(crate) fn state(&self, variables: &BTreeMap<String, Var>) -> Result<BTreeMap<String, Tensor>, Error> {
        let mut map = BTreeMap::new();
        for (n, (name, var)) in variables.iter().enumerate() {
            for (kind, values) in [("first", &self.first), ("second", &self.second), ("average", &self.average)] {
                map.insert(format!("{kind}/{name}"), Tensor::from_vec(values[n].clone(), var.dims(), var.device())?);
            }
        }
        Ok(map)
    }

    /// Takes the state of a checkpoint.
    pub(crate) fn restore(
        &mut self,
        variables: &BTreeMap<String, Var>,
        state: &BTreeMap<String, Tensor>,
        step: usize,
    ) -> Result<(), Error> {
        for (n, (name, var)) in variables.iter().enumerate() {
            let read = |kind| -> Result<Vec<f32>, Error> { Ok(stored(state, kind, name, var)?.to_vec1()?) };
            (self.first[n], self.second[n], self.average[n]) = (read("first")?, read("second")?, read("average")?);
        }
        self.step = step;
        Ok(())
    }
}

/// A variable's part of a stored state, flat.
fn stored(state: &BTreeMap<String, Tensor>, kind: &str, name: &str, var: &Var) -> Result<Tensor, Error> {
    let t = state
        .get(&format!("{kind}/{name}"))
        .filter(|t| t.dims() == var.dims())
        .ok_or_else(|| Error::Checkpoint(format!("has no fitting {kind} state of {name}")))?;
    Ok(t.flatten_all()?)
}

/// What `train prompt` steps with: on the CPU in place, elsewhere where the variables are.
pub(crate) enum Stepper {
    Cpu(AdamW),
    Device(DeviceAdamW),
}

impl Stepper {
    pub(crate) fn new(variables: &BTreeMap<String, Var>) -> Result<Self, Error> {
        Ok(if variables.values().all(|v| v.device().is_cpu()) {
            Self::Cpu(AdamW::new(variables)?)
        } else {
            Self::Device(DeviceAdamW::new(variables)?)
        })
    }

    /// One step with the mean of the gradients of shards, summed in their order.
    pub(crate) fn update(
        &mut self,
        variables: &BTreeMap<String, Var>,
        shards: &[Vec<Tensor>],
        rate: f32,
        decay: f32,
        average: f32,
    ) -> Result<(), Error> {
        match self {
            Self::Cpu(adam) => {
                let flat = |t: &Tensor| Ok(t.flatten_all()?.to_vec1::<f32>()?);
                let shards = shards
                    .iter()
                    .map(|s| s.iter().map(flat).collect::<Result<Vec<_>, Error>>())
                    .collect::<Result<Vec<_>, Error>>()?;
                adam.update(variables, &crate::stage1::mean_of_shards(shards), rate, decay, average)
            }
            Self::Device(adam) => adam.update(variables, shards, rate, decay, average),
        }
    }

    /// Steps taken.
    pub(crate) fn step(&self) -> usize {
        match self {
            Self::Cpu(adam) => adam.step,
            Self::Device(adam) => adam.step,
        }
    }

    /// Averaged weights by name, on the CPU.
    pub(crate) fn averaged(&self, variables: &BTreeMap<String, Var>) -> Result<BTreeMap<String, Tensor>, Error> {
        match self {
            Self::Cpu(adam) => adam.averaged(variables),
            Self::Device(adam) => adam.averaged(variables),
        }
    }

    /// State as named tensors, on the CPU.
    pub(crate) fn state(&self, variables: &BTreeMap<String, Var>) -> Result<BTreeMap<String, Tensor>, Error> {
        match self {
            Self::Cpu(adam) => adam.state(variables),
            Self::Device(adam) => adam.state(variables),
        }
    }

    /// Takes the state of a checkpoint whose weights the variables already hold.
    pub(crate) fn restore(
        &mut self,
        variables: &BTreeMap<String, Var>,
        state: &BTreeMap<String, Tensor>,
        step: usize,
    ) -> Result<(), Error> {
        match self {
            Self::Cpu(adam) => adam.restore(variables, state, step),
            Self::Device(adam) => adam.restore(variables, state, step),
        }
    }
}
