//! [`AdamW`](super::AdamW) on the device where the variables are: all of them as one long vector, so that a step is a few operations.

use super::{BETA1, BETA2, CLIP, EPSILON, stored};
use crate::Error;
use candle_core::{Tensor, Var};
use std::collections::BTreeMap;

/// Weights, moments and averaged weights of all variables one after the other, in the order of their names.
pub(crate) struct DeviceAdamW {
    weights: Tensor,
    first: Tensor,
    second: Tensor,
    average: Tensor,
    /// 1 where decay acts: on tensors of two and more axes only.
    decays: Tensor,
    pub(crate) step: usize,
}

impl DeviceAdamW {
    pub(crate) fn new(variables: &BTreeMap<String, Var>) -> Result<Self, Error> {
        let all: Vec<Tensor> =
            variables.values().map(|v| v.as_detached_tensor().flatten_all()).collect::<Result<_, _>>()?;
        let decays: Vec<Tensor> = variables
            .values()
            .zip(&all)
            .map(|(v, flat)| if v.dims().len() > 1 { flat.ones_like() } else { flat.zeros_like() })
            .collect::<Result<_, _>>()?;
        let weights = Tensor::cat(&all, 0)?;
        let zeros = weights.zeros_like()?;
        Ok(Self {
            first: zeros.clone(),
            second: zeros,
            average: weights.copy()?,
            weights,
            decays: Tensor::cat(&decays, 0)?,
            step: 0,
        })
    }

    /// One step with the mean of the shards' gradients.
    pub(crate) fn update(
        &mut self,
        variables: &BTreeMap<String, Var>,
        shards: &[Vec<Tensor>],
        rate: f32,
        decay: f32,
        average: f32,
    ) -> Result<(), Error> {
        self.step += 1;
        let mut g = self.weights.zeros_like()?;
        for shard in shards {
            g = (g + Tensor::cat(shard, 0)?)?;
        }
        g = (g / shards.len() as f64)?;
        let norm = g.sqr()?.sum_all()?.sqrt()?;
        // min(1, clip / norm)
        let scale = (norm.maximum(CLIP)?.recip()? * CLIP)?;
        let g = g.broadcast_mul(&scale)?;
        let (b1, b2) = (f64::from(BETA1), f64::from(BETA2));
        let (c1, c2) = (1.0 - b1.powi(self.step as i32), 1.0 - b2.powi(self.step as i32));
        self.first = ((&self.first * b1)? + (&g * (1.0 - b1))?)?;
        self.second = ((&self.second * b2)? + (g.sqr()? * (1.0 - b2))?)?;
        let move_by = (&self.first / c1)?.div(&((&self.second / c2)?.sqrt()? + f64::from(EPSILON))?)?;
        let shrunk = (&self.weights * self.decays.affine(-f64::from(rate * decay), 1.0)?)?;
        self.weights = (shrunk - (move_by * f64::from(rate))?)?;
        // Early averages would remember the random start.
        let keep = f64::from(average.min((1.0 + self.step as f32) / (10.0 + self.step as f32)));
        self.average = ((&self.average * keep)? + (&self.weights * (1.0 - keep))?)?;
        let mut at = 0;
        for var in variables.values() {
            let n = var.elem_count();
            var.set(&self.weights.narrow(0, at, n)?.reshape(var.dims())?)?;
            at += n;
        }
        Ok(())
    }

    fn named(
        &self,
        all: &Tensor,
        kind: &str,
        variables: &BTreeMap<String, Var>,
        map: &mut BTreeMap<String, Tensor>,
    ) -> Result<(), Error> {
        let all = all.to_device(&candle_core::Device::Cpu)?;
        let mut at = 0;
        for (name, var) in variables {
            let n = var.elem_count();
            map.insert(format!("{kind}{name}"), all.narrow(0, at, n)?.reshape(var.dims())?);
            at += n;
        }
        Ok(())
    }

    /// Averaged weights by name, on the CPU.
    pub(crate) fn averaged(&self, variables: &BTreeMap<String, Var>) -> Result<BTreeMap<String, Tensor>, Error> {
        let mut map = BTreeMap::new();
        self.named(&self.average, "", variables, &mut map)?;
        Ok(map)
    }

    /// State as named tensors, as [`AdamW`](super::AdamW) names them.
    pub(crate) fn state(&self, variables: &BTreeMap<String, Var>) -> Result<BTreeMap<String, Tensor>, Error> {
        let mut map = BTreeMap::new();
        for (kind, all) in [("first/", &self.first), ("second/", &self.second), ("average/", &self.average)] {
            self.named(all, kind, variables, &mut map)?;
        }
        Ok(map)
    }

    /// Takes the state of a checkpoint whose weights the variables already hold.
    pub(crate) fn restore(
        &mut self,
        variables: &BTreeMap<String, Var>,
        state: &BTreeMap<String, Tensor>,
        step: usize,
    ) -> Result<(), Error> {
        let read = |kind: &str| -> Result<Tensor, Error> {
            let parts: Vec<Tensor> = variables
                .iter()
                .map(|(name, var)| Ok(stored(state, kind, name, var)?.to_device(var.device())?))
                .collect::<Result<_, Error>>()?;
            Ok(Tensor::cat(&parts, 0)?)
        };
        let fresh = Self::new(variables)?;
        *self = Self { first: read("first")?, second: read("second")?, average: read("average")?, step, ..fresh };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::AdamW;
    use super::*;
    use candle_core::Device;

    /// Both forms take the same steps from the same gradients, and one goes on from the other's state.
    #[test]
    fn it_steps_as_the_other_form_does() {
        let make = || {
            let a = Tensor::arange(0f32, 12.0, &Device::Cpu).unwrap().reshape((3, 4)).unwrap();
            let b = Tensor::arange(-2f32, 3.0, &Device::Cpu).unwrap();
            let named = [("a", a), ("b", b)];
            named.map(|(n, t)| (n.to_owned(), Var::from_tensor(&t).unwrap())).into_iter().collect::<BTreeMap<_, _>>()
        };
        let (one, two) = (make(), make());
        let mut adam = AdamW::new(&one).unwrap();
        let mut device = DeviceAdamW::new(&two).unwrap();
        for step in 0..4 {
            let shard = |k: f64| -> Vec<Tensor> {
                let scale = k * f64::from(step + 1);
                one.values().map(|v| (v.as_detached_tensor().flatten_all().unwrap() * scale).unwrap()).collect()
            };
            let shards = [shard(0.5), shard(-0.2)];
            let mean: Vec<Vec<f32>> = (0..2)
                .map(|n| {
                    let sum = (&shards[0][n] + &shards[1][n]).unwrap();
                    (sum / 2.0).unwrap().to_vec1().unwrap()
                })
                .collect();
            if step == 2 {
                let state = adam.state(&one).unwrap();
                device = DeviceAdamW::new(&two).unwrap();
                device.restore(&two, &state, adam.step).unwrap();
            }
            adam.update(&one, &mean, 0.01, 0.05, 0.999).unwrap();
            device.update(&two, &shards, 0.01, 0.05, 0.999).unwrap();
        }
        let far =
            |a: &Tensor, b: &Tensor| (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        let (x, y) = (adam.averaged(&one).unwrap(), device.averaged(&two).unwrap());
        for name in one.keys() {
            assert!(far(one[name].as_tensor(), two[name].as_tensor()) < 2e-6);
            assert!(far(&x[name], &y[name]) < 2e-6);
        }
    }
}
