//! Prompt tokens and an embedding to masks (specs: sam-med2d.md section 4).

use crate::config::SamConfig;
use crate::grad_ops::gelu;
use crate::ops::{Linear, Window, attention, fold, matmul_transposed};
use crate::vit::{EPS, Norm, Trace, linear};
use crate::weights::Weights;
use crate::{Error, Init};
use candle_core::Tensor;

/// Epsilon of the transformer's norms.
const TOKEN_EPS: f32 = 1e-5;
const DOUBLE: Window = Window { size: 2, stride: 2, pad: 0 };

/// All masks of a batch of prompt rows.
pub struct Masks {
    /// `[rows, masks, side, side]`: mask 0 answers clear prompts, the others compete for ambiguous ones.
    pub logits: Tensor,
    /// Predicted IoU, `[rows, masks]`; linear, so it may leave 0..1.
    pub iou: Tensor,
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
    up_bias: [Tensor; 2],
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
        let up = |part: &str, inputs: usize, out: usize| -> Result<(Linear, Tensor), Error> {
            let start = Init::Normal((1.0 / inputs as f32).sqrt());
            let weight = w.tensor(&format!("{name}.output_upscaling.{part}.weight"), &[inputs, out, 2, 2], start)?;
            let bias = w.tensor(&format!("{name}.output_upscaling.{part}.bias"), &[out], Init::Zero)?;
            Ok((Linear::to_patches(weight)?, bias))
        };
        let ((up0, bias0), (up1, bias1)) = (up("0", d, d / 4)?, up("3", d / 4, d / 8)?);
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
            up: [up0, up1],
            up_bias: [bias0, bias1],
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
        self.traced(image, positions, sparse, dense, &mut |_, _| ())
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
        tokens = self.last_norm.forward(&(tokens + mixed)?)?;
        trace("hs", &tokens);
        trace("src", &pixels);

        let (g, [up0, up1], [bias0, bias1]) = (self.grid, &self.up, &self.up_bias);
        let x = up0.forward(&pixels.reshape((rows, g, g, d))?)?;
        let x = fold(&x, DOUBLE, 2 * g, 2 * g)?.broadcast_add(bias0)?;
        let x = up1.forward(&gelu(&self.up_norm.forward(&x)?)?)?;
        let x = gelu(&fold(&x, DOUBLE, 4 * g, 4 * g)?.broadcast_add(bias1)?)?;
        trace("upscaled", &x);

        let token = |n: usize| tokens.narrow(1, n, 1)?.squeeze(1)?.contiguous();
        let hyper = (0..self.masks).map(|n| self.hyper[n].forward(&token(n + 1)?)).collect::<Result<Vec<_>, _>>()?;
        let logits = matmul_transposed(&Tensor::stack(&hyper, 1)?, &x.reshape((rows, 16 * g * g, ()))?)?;
        Ok(Masks { logits: logits.reshape((rows, self.masks, 4 * g, 4 * g))?, iou: self.iou.forward(&token(0)?)? })
    }
}
