//! SAM's image encoder: a vision transformer with windowed attention, relative positions and, in SAM-Med2D, adapters
//! (specs: sam-med2d.md section 2). Tokens are `[batch, tokens, width]`, pictures pixels-last-channel.

mod adapter;
mod block;

use crate::config::SamConfig;
use crate::grad_ops::layer_norm;
use crate::ops::{Linear, Window, unfold};
use crate::weights::Weights;
use crate::{Error, Init};
use block::Block;
use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};

/// Receives named intermediate results: how parity with the published numbers is checked.
pub type Trace<'a> = &'a mut dyn FnMut(&str, &Tensor);

/// Epsilon of the block norms and of all channel norms.
pub(crate) const EPS: f32 = 1e-6;

/// A norm over the last axis.
pub(crate) struct Norm {
    scale: Tensor,
    shift: Tensor,
    eps: f32,
}

impl Norm {
    pub(crate) fn new(w: &dyn Weights, name: &str, width: usize, eps: f32) -> Result<Self, Error> {
        Ok(Self {
            scale: w.tensor(&format!("{name}.weight"), &[width], Init::One)?,
            shift: w.tensor(&format!("{name}.bias"), &[width], Init::Zero)?,
            eps,
        })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        Ok(layer_norm(x, &self.scale, &self.shift, self.eps)?)
    }
}

/// A linear map with bias.
pub(crate) fn linear(w: &dyn Weights, name: &str, out: usize, inputs: usize) -> Result<Linear, Error> {
    let start = Init::Normal((1.0 / inputs as f32).sqrt());
    let weight = w.tensor(&format!("{name}.weight"), &[out, inputs], start)?;
    Ok(Linear::new(weight, Some(w.tensor(&format!("{name}.bias"), &[out], Init::Zero)?))?)
}

/// A convolution's weight `[out, in, k, k]` as a map of patches.
pub(crate) fn patches(w: &dyn Weights, name: &str, shape: [usize; 4], bias: bool) -> Result<Linear, Error> {
    let [out, inputs, k, _] = shape;
    let start = Init::Normal((2.0 / (inputs * k * k) as f32).sqrt());
    let weight = w.tensor(&format!("{name}.weight"), &shape, start)?;
    let bias = if bias { Some(w.tensor(&format!("{name}.bias"), &[out], Init::Zero)?) } else { None };
    Ok(Linear::of_patches(weight, bias)?)
}

/// Picture to embedding.
pub struct ImageEncoder {
    image_size: usize,
    patch: usize,
    grid: usize,
    embed: Linear,
    positions: Tensor,
    blocks: Vec<Block>,
    neck: (Linear, Norm, Linear, Norm),
}

impl ImageEncoder {
    /// Builds the encoder from its tensors.
    ///
    /// # Errors
    /// Sizes that cannot work, missing or misshaped tensors.
    pub fn new(config: &SamConfig, w: &dyn Weights) -> Result<Self, Error> {
        config.check()?;
        let (d, p, g, out) = (config.encoder_embed_dim, config.patch_size, config.grid(), config.prompt_embed_dim);
        let positions = w.tensor("image_encoder.pos_embed", &[1, g, g, d], Init::Normal(0.02))?;
        Ok(Self {
            image_size: config.image_size,
            patch: p,
            grid: g,
            embed: patches(w, "image_encoder.patch_embed.proj", [d, 3, p, p], true)?,
            positions: positions.reshape((1, g * g, d))?,
            blocks: (0..config.encoder_depth).map(|n| Block::new(config, w, n)).collect::<Result<_, _>>()?,
            neck: (
                patches(w, "image_encoder.neck.0", [out, d, 1, 1], false)?,
                Norm::new(w, "image_encoder.neck.1", out, EPS)?,
                patches(w, "image_encoder.neck.2", [out, out, 3, 3], false)?,
                Norm::new(w, "image_encoder.neck.3", out, EPS)?,
            ),
        })
    }

    /// Keeps the weights of all frozen linear maps as `bf16`: on a GPU their products are then computed in it, norms, softmax and
    /// sums stay `f32`.
    ///
    /// # Errors
    /// Only if the back end fails.
    pub fn to_bf16(&mut self) -> Result<(), Error> {
        let (reduce, _, mix, _) = &mut self.neck;
        let ends = [&mut self.embed, reduce, mix];
        Ok(ends.into_iter().chain(self.blocks.iter_mut().flat_map(Block::linears)).try_for_each(Linear::to_bf16)?)
    }

    /// Normalised pictures `[b, 3, side, side]` -> embeddings `[b, tokens, prompt width]`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for another shape.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor, Error> {
        self.traced(images, true, &mut |_, _| ())
    }

    /// [`ImageEncoder::forward`] that shows its intermediate results, with or without its adapters.
    ///
    /// # Errors
    /// As [`ImageEncoder::forward`].
    pub fn traced(&self, images: &Tensor, adapters: bool, trace: Trace<'_>) -> Result<Tensor, Error> {
        match *images.dims() {
            [_, 3, h, w] if h == self.image_size && w == h => {}
            _ => {
                return Err(Error::InvalidArgument {
                    what: "input of the image encoder",
                    found: format!("{:?}", images.dims()),
                    expected: format!("[batch, 3, {0}, {0}]", self.image_size),
                });
            }
        }
        let mut x = self.begin(images, trace)?;
        for (n, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, adapters, &mut |name, t| trace(&format!("block{n}.{name}"), t))?;
        }
        self.end(&x)
    }

    /// Patches with their positions.
    fn begin(&self, images: &Tensor, trace: Trace<'_>) -> Result<Tensor, Error> {
        let pixels = images.permute((0, 2, 3, 1))?.contiguous()?;
        let x = unfold(&pixels, Window { size: self.patch, stride: self.patch, pad: 0 })?;
        let x = self.embed.forward(&x)?;
        trace("patch_embed", &x);
        Ok(x.reshape((images.dim(0)?, self.grid * self.grid, ()))?.broadcast_add(&self.positions)?)
    }

    /// The neck.
    fn end(&self, x: &Tensor) -> Result<Tensor, Error> {
        let (b, g) = (x.dim(0)?, self.grid);
        let (reduce, norm1, mix, norm2) = &self.neck;
        let x = norm1.forward(&reduce.forward(x)?)?.reshape((b, g, g, ()))?;
        let x = unfold(&x, Window { size: 3, stride: 1, pad: 1 })?;
        Ok(norm2.forward(&mix.forward(&x)?)?.reshape((b, g * g, ()))?)
    }

    /// [`ImageEncoder::forward`] for a training that has no memory for all intermediate results: the input of each block is
    /// kept, and [`ImageEncoder::backward`] computes a block once more when it needs the rest. The embedding is a leaf.
    ///
    /// # Errors
    /// As [`ImageEncoder::forward`].
    pub fn forward_keeping(&self, images: &Tensor) -> Result<(Tensor, Kept), Error> {
        let mut x = self.begin(images, &mut |_, _| ())?.detach();
        let mut inputs = Vec::with_capacity(self.blocks.len() + 1);
        for block in &self.blocks {
            inputs.push(x.clone());
            x = block.forward(&x, true, &mut |_, _| ())?.detach();
        }
        let embedding = self.end(&x)?.detach();
        inputs.push(x);
        Ok((embedding, Kept { images: images.clone(), inputs }))
    }

    /// Gradients of all variables from that of the embedding, part by part from the last: `each` gets every part's.
    ///
    /// # Errors
    /// Errors of `each`; only if the back end fails otherwise.
    pub fn backward(
        &self,
        kept: &Kept,
        gradient: &Tensor,
        each: &mut dyn FnMut(&GradStore) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut gradient = gradient.clone();
        for (n, input) in kept.inputs.iter().enumerate().rev() {
            let x = Var::from_tensor(input)?;
            let y = match self.blocks.get(n) {
                Some(block) => block.forward(&x, true, &mut |_, _| ())?,
                None => self.end(&x)?,
            };
            let store = (y * &gradient)?.sum_all()?.backward()?;
            each(&store)?;
            let from =
                store.get(&x).ok_or_else(|| candle_core::Error::Msg("a block's input has no gradient".into()))?;
            gradient = from.detach();
        }
        let y = self.begin(&kept.images, &mut |_, _| ())?;
        each(&(y * &gradient)?.sum_all()?.backward()?)
    }
}

/// What [`ImageEncoder::forward_keeping`] leaves: the pictures and the inputs of the blocks and of the neck.
pub struct Kept {
    images: Tensor,
    inputs: Vec<Tensor>,
}
