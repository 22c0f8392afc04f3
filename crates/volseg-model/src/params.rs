//! Named numbers of a network: variables while training, plain tensors when it is used.

use crate::Error;
use candle_core::{DType, Device, Tensor, Var};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// How a fresh variable starts.
#[derive(Clone, Copy, Debug)]
pub enum Init {
    /// All zeros.
    Zero,
    /// All ones.
    One,
    /// All this value.
    Constant(f32),
    /// Normal with this deviation.
    Normal(f32),
}

/// Where a network takes its numbers from. Names are sorted, so that files and optimiser state have a fixed order.
pub struct Params {
    source: Source,
    device: Device,
    used: Mutex<BTreeMap<String, Tensor>>,
}

enum Source {
    Fresh { seed: u64, start: BTreeMap<String, Tensor>, vars: Mutex<BTreeMap<String, Var>> },
    Given(BTreeMap<String, Tensor>),
}

impl Params {
    /// Trainable variables; those named in `start` begin there, the others by their [`Init`] drawn from `seed` and their name.
    #[must_use]
    pub fn trainable(seed: u64, start: BTreeMap<String, Tensor>) -> Self {
        Self {
            source: Source::Fresh { seed, start, vars: Mutex::default() },
            device: Device::Cpu,
            used: Mutex::default(),
        }
    }

    /// Constant tensors of a weights file.
    #[must_use]
    pub fn given(tensors: BTreeMap<String, Tensor>) -> Self {
        Self { source: Source::Given(tensors), device: Device::Cpu, used: Mutex::default() }
    }

    /// The same numbers on a device; to be called before any is asked for.
    #[must_use]
    pub fn on(self, device: &Device) -> Self {
        Self { device: device.clone(), ..self }
    }

    /// The tensor of a name.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] or [`Error::TensorShape`].
    pub fn get(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor, Error> {
        let tensor = match &self.source {
            Source::Given(map) => checked(map, name, shape)?.to_device(&self.device)?,
            Source::Fresh { seed, start, vars } => {
                let tensor = if start.contains_key(name) {
                    checked(start, name, shape)?
                } else {
                    let n = shape.iter().product();
                    let v = match init {
                        Init::Zero => vec![0.0; n],
                        Init::One => vec![1.0; n],
                        Init::Constant(value) => vec![value; n],
                        Init::Normal(deviation) => normal(*seed, name, n, deviation),
                    };
                    Tensor::from_vec(v, shape, &Device::Cpu)?
                };
                let var = Var::from_tensor(&tensor.to_dtype(DType::F32)?.to_device(&self.device)?)?;
                let tensor = var.as_tensor().clone();
                lock(vars).insert(name.to_owned(), var);
                tensor
            }
        };
        lock(&self.used).insert(name.to_owned(), tensor.clone());
        Ok(tensor)
    }

    /// A tensor that is drawn once, stored with the weights and never trained.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] or [`Error::TensorShape`].
    pub fn constant(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor, Error> {
        let tensor = self.get(name, shape, init)?.detach();
        if let Source::Fresh { vars, .. } = &self.source {
            lock(vars).remove(name);
        }
        lock(&self.used).insert(name.to_owned(), tensor.clone());
        Ok(tensor)
    }

    /// Every tensor that the network asked for, by name: what a weights file holds.
    #[must_use]
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        lock(&self.used).clone()
    }

    /// All variables asked for so far, by name; empty for constant weights.
    #[must_use]
    pub fn variables(&self) -> BTreeMap<String, Var> {
        match &self.source {
            Source::Fresh { vars, .. } => lock(vars).clone(),
            Source::Given(_) => BTreeMap::new(),
        }
    }

    /// Tensors of the file that no part of the network asked for.
    #[must_use]
    pub fn extra(&self) -> Vec<String> {
        match &self.source {
            Source::Given(map) => {
                let used = lock(&self.used);
                map.keys().filter(|k| !used.contains_key(*k)).cloned().collect()
            }
            Source::Fresh { .. } => Vec::new(),
        }
    }
}

fn lock<T>(m: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    m.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn checked(map: &BTreeMap<String, Tensor>, name: &str, shape: &[usize]) -> Result<Tensor, Error> {
    let t = map.get(name).ok_or_else(|| Error::MissingTensor { name: name.to_owned() })?;
    if t.dims() != shape {
        return Err(Error::TensorShape { name: name.to_owned(), found: t.dims().to_vec(), expected: shape.to_vec() });
    }
    Ok(t.to_dtype(DType::F32)?.contiguous()?)
}

/// Normal numbers from a splitmix stream seeded by `seed` and the name: independent of the order of construction.
fn normal(seed: u64, name: &str, n: usize, deviation: f32) -> Vec<f32> {
    let mut state = name.bytes().fold(seed ^ 0x9e37_79b9_7f4a_7c15, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17)
    });
    let mut uniform = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..n)
        .map(|_| {
            let (u, v) = (uniform().max(1e-300), uniform());
            ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32 * deviation
        })
        .collect()
}
