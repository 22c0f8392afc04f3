//! Prompt tokens and an embedding to masks (specs: sam-med2d.md section 4).

use crate::config::SamConfig;
use crate::grad_ops::gelu;
use crate::ops::{Linear, attention, matmul_transposed};
use crate::vit::{EPS, Norm, Trace, linear};
use crate::weights::Weights;
use crate::{Error, Init};
use candle_core::Tensor;

/// Epsilon of the transformer's norms.
const TOKEN_EPS: f32 = 1e-5;

/// All masks of a batch of prompt rows.
pub struct Masks {
    /// `[rows, masks, side, side]`: mask 0 answers clear prompts, the others compete for ambiguous ones.
    pub logits: Tensor,
    /// Predicted IoU, `[rows, masks]`; linear, so it may leave 0..1.
    pub iou: Tensor,
}

/// One mask of each of a batch of prompt rows.
pub struct ChosenMasks {
    /// `[rows, side, side]`
    pub logits: Tensor,
    /// Predicted IoU of all masks, row by row.
    pub iou: Vec<Vec<f32>>,
    /// The mask that was chosen in each row.
    pub chosen: Vec<usize>,
}

struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    heads: usize,
}

impl Attention {
    fn new(w: &dyn Weights, name: &str, width: usize, inner: usize, heads: usize) -> Result<Self, Error> {
        let part = |p: &str| linear(w, &format!("{name}.{p}_proj"), inner, width);
        let out = linear(w, &format!("{name}.out_proj"), width, inner)?;
        Ok(Self { q: part("q")?, k: part("k")?, v: part("v")?, out, heads })
    }

    fn forward(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor, Error> {
        let (q, k, v) = (self.q.forward(q)?, self.k.forward(k)?, self.v.forward(v)?);
        Ok(self.out.forward(&attention(&q, &k, &v, self.heads)?)?)
    }
}

/// Linear layers with ReLU between them.
struct Mlp(Vec<Linear>);

impl Mlp {
    fn new(w: &dyn Weights, name: &str, layers: usize, [input, hidden, output]: [usize; 3]) -> Result<Self, Error> {
        let layer = |n: usize| {
            let from = if n == 0 { input } else { hidden };
            linear(w, &format!("{name}.layers.{n}"), if n + 1 == layers { output } else { hidden }, from)
        };
        (0..layers).map(layer).collect::<Result<_, _>>().map(Self)
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        let mut x = x.clone();
        for (n, layer) in self.0.iter().enumerate() {
            x = layer.forward(&if n == 0 { x } else { x.relu()? })?;
        }
        Ok(x)
    }
}

struct Layer {
    itself: Attention,
    to_image: Attention,
    to_token: Attention,
    mlp: [Linear; 2],
    norms: [Norm; 4],
}

impl Layer {
    fn new(config: &SamConfig, w: &dyn Weights, n: usize) -> Result<Self, Error> {
        let (d, heads) = (config.prompt_embed_dim, config.decoder_num_heads);
        let name = format!("mask_decoder.transformer.layers.{n}");
        let cross =
            |part: &str| Attention::new(w, &format!("{name}.cross_attn_{part}"), d, config.cross_width(), heads);
        let norm = |i: usize| Norm::new(w, &format!("{name}.norm{i}"), d, TOKEN_EPS);
        Ok(Self {
            itself: Attention::new(w, &format!("{name}.self_attn"), d, d, heads)?,
            to_image: cross("token_to_image")?,
            to_token: cross("image_to_token")?,
            mlp: [
                linear(w, &format!("{name}.mlp.lin1"), config.decoder_mlp_dim, d)?,
                linear(w, &format!("{name}.mlp.lin2"), d, config.decoder_mlp_dim)?,
            ],
            norms: [norm(1)?, norm(2)?, norm(3)?, norm(4)?],
        })
    }

    /// (tokens, pixels) after this layer. `start` are the tokens before the first one, added at every use as positions.
    fn forward(
        &self,
        first: bool,
        tokens: &Tensor,
        start: &Tensor,
        pixels: &Tensor,
        positions: &Tensor,
    ) -> Result<(Tensor, Tensor), Error> {
        let tokens = if first {
            self.itself.forward(tokens, tokens, tokens)?
        } else {
            let q = (tokens + start)?;
            (tokens + self.itself.forward(&q, &q, tokens)?)?
        };
        let tokens = self.norms[0].forward(&tokens)?;
        let keys = pixels.broadcast_add(positions)?;
        let mixed = self.to_image.forward(&(&tokens + start)?, &keys, pixels)?;
        let tokens = self.norms[1].forward(&(tokens + mixed)?)?;
        let [widen, narrow] = &self.mlp;
        let hidden = narrow.forward(&widen.forward(&tokens)?.relu()?)?;
        let tokens = self.norms[2].forward(&(tokens + hidden)?)?;
        let mixed = self.to_token.forward(&keys, &(&tokens + start)?, &tokens)?;
        let pixels = self.norms[3].forward(&pixels.broadcast_add(&mixed)?)?;
        Ok((tokens, pixels))
    }
}

/// Two-way transformer and mask heads.
pub struct MaskDecoder {
    width: usize,
    grid: usize,
    masks: usize,
    /// The IoU token, then the mask tokens.
    tokens: [Tensor; 2],
    layers: Vec<Layer>,
    last: Attention,
    last_norm: Norm,
    up: [Linear; 2],
    up_norm: Norm,
    hyper: Vec<Mlp>,
    iou: Mlp,
}

impl MaskDecoder {
    /// Builds the decoder from its tensors.
    ///
    /// # Errors
    /// Sizes that cannot work, missing or misshaped tensors.
    pub fn new(config: &SamConfig, w: &dyn Weights) -> Result<Self, Error> {
        config.check()?;
        let (d, masks) = (config.prompt_embed_dim, config.num_multimask_outputs + 1);
        let name = "mask_decoder";
        let token = |part: &str, n: usize| w.tensor(&format!("{name}.{part}.weight"), &[n, d], Init::Normal(1.0));
        let up = |part: &str, inputs: usize, out: usize| -> Result<Linear, Error> {
            let start = Init::Normal((1.0 / inputs as f32).sqrt());
            let weight = w.tensor(&format!("{name}.output_upscaling.{part}.weight"), &[inputs, out, 2, 2], start)?;
            let bias = w.tensor(&format!("{name}.output_upscaling.{part}.bias"), &[out], Init::Zero)?;
            Ok(Linear::to_patches(weight, Some(bias))?)
        };
        let last = format!("{name}.transformer.final_attn_token_to_image");
        let hyper = |n: usize| Mlp::new(w, &format!("{name}.output_hypernetworks_mlps.{n}"), 3, [d, d, d / 8]);
        Ok(Self {
            width: d,
            grid: config.grid(),
            masks,
            tokens: [token("iou_token", 1)?, token("mask_tokens", masks)?],
            layers: (0..config.decoder_depth).map(|n| Layer::new(config, w, n)).collect::<Result<_, _>>()?,
            last: Attention::new(w, &last, d, config.cross_width(), config.decoder_num_heads)?,
            last_norm: Norm::new(w, &format!("{name}.transformer.norm_final_attn"), d, TOKEN_EPS)?,
            up: [up("0", d, d / 4)?, up("3", d / 4, d / 8)?],
            up_norm: Norm::new(w, &format!("{name}.output_upscaling.1"), d / 4, EPS)?,
            hyper: (0..masks).map(hyper).collect::<Result<_, _>>()?,
            iou: Mlp::new(
                w,
                &format!("{name}.iou_prediction_head"),
                config.iou_head_depth,
                [d, config.iou_head_hidden_dim, masks],
            )?,
        })
    }

    /// All masks of `rows` prompts.
    ///
    /// `image [1 or rows, tokens, width]`, `positions [1, tokens, width]`, `sparse [rows, n, width]` (any tokens: points,
    /// boxes, text, organs), `dense [1 or rows, 1 or tokens, width]`. An image that all rows share is worked on once for
    /// as long as they do.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(&self, image: &Tensor, positions: &Tensor, sparse: &Tensor, dense: &Tensor) -> Result<Masks, Error> {
        let (tokens, pixels) = self.transform(image, positions, sparse, dense)?;
        self.all(&tokens, &self.enlarge(&pixels)?)
    }

    /// [`MaskDecoder::forward`] that shows its intermediate results.
    ///
    /// # Errors
    /// As [`MaskDecoder::forward`].
    pub fn traced(
        &self,
        image: &Tensor,
        positions: &Tensor,
        sparse: &Tensor,
        dense: &Tensor,
        trace: Trace<'_>,
    ) -> Result<Masks, Error> {
        let (tokens, pixels) = self.transform(image, positions, sparse, dense)?;
        trace("hs", &tokens);
        trace("src", &pixels);
        let large = self.enlarge(&pixels)?;
        trace("upscaled", &self.by_lines(&large)?);
        self.all(&tokens, &large)
    }

    /// As [`MaskDecoder::forward`], but of each row only the mask that `choose(row, predicted IoUs)` names.
    ///
    /// # Errors
    /// As [`MaskDecoder::forward`]; a mask that does not exist.
    pub fn forward_choosing(
        &self,
        image: &Tensor,
        positions: &Tensor,
        sparse: &Tensor,
        dense: &Tensor,
        choose: impl Fn(usize, &[f32]) -> usize,
    ) -> Result<ChosenMasks, Error> {
        let (tokens, pixels) = self.transform(image, positions, sparse, dense)?;
        let iou = self.iou.forward(&token(&tokens, 0)?)?.to_vec2::<f32>()?;
        let chosen: Vec<usize> = iou.iter().enumerate().map(|(row, iou)| choose(row, iou)).collect();
        if let Some(bad) = chosen.iter().find(|&&n| n >= self.masks) {
            return Err(Error::InvalidArgument {
                what: "mask of the decoder",
                found: bad.to_string(),
                expected: format!("less than {}", self.masks),
            });
        }
        let at = chosen.iter().enumerate().map(|(row, n)| (row * self.masks + n) as u32).collect();
        let at = Tensor::from_vec(at, chosen.len(), tokens.device())?;
        let weights = self.weights(&tokens)?.flatten_to(1)?.index_select(&at, 0)?.unsqueeze(1)?;
        let logits = matmul_transposed(&weights, &self.enlarge(&pixels)?)?;
        Ok(ChosenMasks { logits: self.by_lines(&logits.squeeze(1)?.unsqueeze(2)?)?.squeeze(3)?, iou, chosen })
    }

    /// Tokens `[rows, 1 + masks + n, width]` and pixels `[rows, tokens, width]` after the transformer.
    fn transform(
        &self,
        image: &Tensor,
        positions: &Tensor,
        sparse: &Tensor,
        dense: &Tensor,
    ) -> Result<(Tensor, Tensor), Error> {
        let (rows, _, d) = sparse.dims3()?;
        if d != self.width || rows == 0 {
            return Err(Error::InvalidArgument {
                what: "prompt tokens",
                found: format!("{:?}", sparse.dims()),
                expected: format!("[rows, n, {}]", self.width),
            });
        }
        let own = Tensor::cat(&self.tokens, 0)?.unsqueeze(0)?.broadcast_as((rows, 1 + self.masks, d))?.contiguous()?;
        let start = if sparse.dim(1)? == 0 { own } else { Tensor::cat(&[&own, sparse], 1)? };
        let (mut tokens, mut pixels) = (start.clone(), image.broadcast_add(dense)?);
        for (n, layer) in self.layers.iter().enumerate() {
            (tokens, pixels) = layer.forward(n == 0, &tokens, &start, &pixels, positions)?;
        }
        let keys = pixels.broadcast_add(positions)?;
        let mixed = self.last.forward(&(&tokens + &start)?, &keys, &pixels)?;
        Ok((self.last_norm.forward(&(tokens + mixed)?)?, pixels))
    }

    /// Sixteen pixels of `width / 8` channels for each: `[rows, 16 tokens, width / 8]`. Both transposed convolutions double
    /// the sides without overlap, so the new pixels of one stay together here: matrix products without any gathering.
    fn enlarge(&self, pixels: &Tensor) -> Result<Tensor, Error> {
        let (rows, tokens, d) = pixels.dims3()?;
        let [first, second] = &self.up;
        let x = first.forward(pixels)?.reshape((rows, 4 * tokens, d / 4))?;
        let x = second.forward(&gelu(&self.up_norm.forward(&x)?)?)?;
        Ok(gelu(&x)?.reshape((rows, 16 * tokens, d / 8))?)
    }

    /// [`MaskDecoder::enlarge`]'s pixels `[rows, 16 tokens, c]` in lines: `[rows, side, side, c]`.
    fn by_lines(&self, large: &Tensor) -> Result<Tensor, Error> {
        let (g, (rows, _, c)) = (self.grid, large.dims3()?);
        let x = large.reshape([rows, g, g, 2, 2, 2, 2, c].as_slice())?.permute([0, 1, 3, 5, 2, 4, 6, 7].as_slice())?;
        Ok(x.contiguous()?.reshape((rows, 4 * g, 4 * g, c))?)
    }

    /// The weights that each mask gives to the channels of the enlarged pixels: `[rows, masks, width / 8]`.
    fn weights(&self, tokens: &Tensor) -> Result<Tensor, Error> {
        let one = |n: usize| self.hyper[n].forward(&token(tokens, n + 1)?);
        Ok(Tensor::stack(&(0..self.masks).map(one).collect::<Result<Vec<_>, _>>()?, 1)?)
    }

    fn all(&self, tokens: &Tensor, large: &Tensor) -> Result<Masks, Error> {
        let (rows, side) = (large.dim(0)?, 4 * self.grid);
        let logits = matmul_transposed(&self.weights(tokens)?, large)?;
        let logits = self.by_lines(&logits.reshape((rows * self.masks, side * side, 1))?)?;
        let logits = logits.reshape((rows, self.masks, side, side))?;
        Ok(Masks { logits, iou: self.iou.forward(&token(tokens, 0)?)? })
    }
}

/// Token `n` of every row.
fn token(tokens: &Tensor, n: usize) -> Result<Tensor, Error> {
    Ok(tokens.narrow(1, n, 1)?.squeeze(1)?.contiguous()?)
}
