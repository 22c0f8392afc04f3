use crate::{Error, Init, Params};
use candle_core::Tensor;

/// Where a network of SAM's family takes its tensors from: variables in training, a file in use.
pub trait Weights {
    /// The tensor of an official name, `f32` and contiguous.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::TensorShape`], or whatever reading it meets.
    fn tensor(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor, Error>;

    /// A tensor that is never trained.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    fn constant(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor, Error> {
        self.tensor(name, shape, init)
    }
}

impl Weights for Params {
    fn tensor(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor, Error> {
        self.get(name, shape, init)
    }
    fn constant(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor, Error> {
        Params::constant(self, name, shape, init)
    }
}
