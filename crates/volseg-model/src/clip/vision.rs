use super::ClipConfig;
use crate::grad_ops::gelu;
use crate::ops::{Linear, Window, attention, unfold};
use crate::vit::{Norm, Trace, linear, patches};
use crate::weights::Weights;
use crate::{Error, Init};
use candle_core::Tensor;

/// Where a class activation map takes its activations from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// Output of the last block's first norm: the last place where patches still reach the class token.
    LastNorm1,
    /// Output of the last block's second norm. Nothing behind it mixes tokens.
    LastNorm2,
    /// Output of the last block but one.
    PreviousBlock,
}

/// The network cut at a [`Site`].
pub struct Split {
    /// What the rest of the network starts from, `[b, tokens, width]`; token 0 is the class token.
    pub activation: Tensor,
    /// The residual that is added behind the site, of the same shape. Not used at [`Site::PreviousBlock`].
    pub residual: Tensor,
}

/// Pictures to features: a vision transformer whose class token is the answer.
pub struct VisionTower {
    side: usize,
    patch: usize,
    embed: Linear,
    class: Tensor,
    positions: Tensor,
    blocks: Vec<Block>,
    norm: Norm,
    head: Linear,
}

struct Block {
    norm1: Norm,
    qkv: Linear,
    proj: Linear,
    norm2: Norm,
    mlp: [Linear; 2],
    heads: usize,
    width: usize,
}

impl Block {
    fn new(config: &ClipConfig, w: &dyn Weights, n: usize) -> Result<Self, Error> {
        let v = &config.vision;
        let (d, hidden) = (v.width, v.width * v.mlp_ratio);
        let name = format!("visual.trunk.blocks.{n}");
        Ok(Self {
            norm1: Norm::new(w, &format!("{name}.norm1"), d, v.ln_eps)?,
            qkv: linear(w, &format!("{name}.attn.qkv"), 3 * d, d)?,
            proj: linear(w, &format!("{name}.attn.proj"), d, d)?,
            norm2: Norm::new(w, &format!("{name}.norm2"), d, v.ln_eps)?,
            mlp: [linear(w, &format!("{name}.mlp.fc1"), hidden, d)?, linear(w, &format!("{name}.mlp.fc2"), d, hidden)?],
            heads: v.heads,
            width: d,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        self.behind_norm1(x, &self.norm1.forward(x)?, x.dim(1)?)
    }

    /// The block from its first norm's output on, for the first `rows` tokens only; `x` is the block's input.
    fn behind_norm1(&self, x: &Tensor, normed: &Tensor, rows: usize) -> Result<Tensor, Error> {
        let x = self.attended(x, normed, rows)?;
        self.behind_norm2(&x, &self.norm2.forward(&x)?)
    }

    fn attended(&self, x: &Tensor, normed: &Tensor, rows: usize) -> Result<Tensor, Error> {
        let qkv = self.qkv.forward(normed)?;
        let part = |n: usize| qkv.narrow(2, n * self.width, self.width);
        let mixed = attention(&part(0)?.narrow(1, 0, rows)?, &part(1)?, &part(2)?, self.heads)?;
        Ok((x.narrow(1, 0, rows)? + self.proj.forward(&mixed)?)?)
    }

    fn behind_norm2(&self, x: &Tensor, normed: &Tensor) -> Result<Tensor, Error> {
        let [first, second] = &self.mlp;
        Ok((x + second.forward(&gelu(&first.forward(normed)?)?)?)?)
    }
}

impl VisionTower {
    /// Builds the tower from its tensors.
    ///
    /// # Errors
    /// Sizes that cannot work, missing or misshaped tensors.
    pub fn new(config: &ClipConfig, w: &dyn Weights) -> Result<Self, Error> {
        config.check()?;
        let (d, p, g) = (config.vision.width, config.patch, config.grid());
        let head =
            w.tensor("visual.head.proj.weight", &[config.embed_dim, d], Init::Normal((1.0 / d as f32).sqrt()))?;
        Ok(Self {
            side: config.image_size,
            patch: p,
            embed: patches(w, "visual.trunk.patch_embed.proj", [d, 3, p, p], true)?,
            class: w.tensor("visual.trunk.cls_token", &[1, 1, d], Init::Normal(0.02))?,
            positions: w.tensor("visual.trunk.pos_embed", &[1, g * g + 1, d], Init::Normal(0.02))?,
            blocks: (0..config.vision.depth).map(|n| Block::new(config, w, n)).collect::<Result<_, _>>()?,
            norm: Norm::new(w, "visual.trunk.norm", d, config.vision.ln_eps)?,
            head: Linear::new(head, None)?,
        })
    }

    /// Normalised pictures `[b, 3, side, side]` -> features `[b, embed]`, not of unit length. In the last block only the class
    /// token is carried on.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for another shape.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor, Error> {
        let split = self.split(images, Site::LastNorm1)?;
        self.finish(&split.activation, &split.residual, Site::LastNorm1)
    }

    /// The network up to `site`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for another shape than `[b, 3, side, side]`.
    pub fn split(&self, images: &Tensor, site: Site) -> Result<Split, Error> {
        let mut x = self.tokens(images)?;
        let Some((last, before)) = self.blocks.split_last() else {
            return Err(Error::Malformed { reason: "a vision transformer without blocks".into() });
        };
        for block in before {
            x = block.forward(&x)?;
        }
        let (activation, residual) = match site {
            Site::PreviousBlock => (x.clone(), x),
            Site::LastNorm1 => (last.norm1.forward(&x)?, x),
            Site::LastNorm2 => {
                let y = last.attended(&x, &last.norm1.forward(&x)?, x.dim(1)?)?;
                (last.norm2.forward(&y)?, y)
            }
        };
        Ok(Split { activation, residual })
    }

    /// The rest of the network: features `[b, embed]`, not of unit length.
    ///
    /// # Errors
    /// Tensors that do not come from [`VisionTower::split`].
    pub fn finish(&self, activation: &Tensor, residual: &Tensor, site: Site) -> Result<Tensor, Error> {
        let Some(last) = self.blocks.last() else {
            return Err(Error::Malformed { reason: "a vision transformer without blocks".into() });
        };
        let class = match site {
            Site::PreviousBlock => last.behind_norm1(activation, &last.norm1.forward(activation)?, 1)?,
            Site::LastNorm1 => last.behind_norm1(residual, activation, 1)?,
            Site::LastNorm2 => last.behind_norm2(&residual.narrow(1, 0, 1)?, &activation.narrow(1, 0, 1)?)?,
        };
        Ok(self.head.forward(&self.norm.forward(&class)?)?.squeeze(1)?)
    }

    /// Every token of every stage, for comparison: `patch_embed`, `block0`, ..., `norm`.
    ///
    /// # Errors
    /// As [`VisionTower::forward`].
    pub fn traced(&self, images: &Tensor, trace: Trace<'_>) -> Result<(), Error> {
        let mut x = self.tokens(images)?;
        trace("patch_embed", &x);
        for (n, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x)?;
            trace(&format!("block{n}"), &x);
        }
        trace("norm", &self.norm.forward(&x)?);
        Ok(())
    }

    /// Class token and patches with their positions.
    fn tokens(&self, images: &Tensor) -> Result<Tensor, Error> {
        let b = match *images.dims() {
            [b, 3, h, w] if h == self.side && w == h => b,
            _ => {
                return Err(Error::InvalidArgument {
                    what: "input of the image tower",
                    found: format!("{:?}", images.dims()),
                    expected: format!("[batch, 3, {0}, {0}]", self.side),
                });
            }
        };
        let pixels = images.permute((0, 2, 3, 1))?.contiguous()?;
        let x = self.embed.forward(&unfold(&pixels, Window { size: self.patch, stride: self.patch, pad: 0 })?)?;
        let grid = self.side / self.patch;
        let x = x.reshape((b, grid * grid, ()))?;
        let class = self.class.broadcast_as((b, 1, x.dim(2)?))?;
        Ok(Tensor::cat(&[&class.contiguous()?, &x], 1)?.broadcast_add(&self.positions)?)
    }
}
