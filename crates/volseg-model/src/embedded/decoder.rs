use super::layers::{Attention, Conv, Linear, Norm};
use super::prompt::{POINT_TOKENS, PromptRow, RASTER_CHANNELS, draw_raster};
use super::{Config, Features};
use crate::grad_ops::{add_bias, conv2d, gelu};
use crate::{Error, Init, Params};
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use std::f32::consts::TAU;

/// Answer to a batch of prompt rows.
pub struct Decoded {
    /// `[rows, side * side]`; inside where > 0.
    pub logits: Tensor,
    /// Predicted IoU, `[rows]`.
    pub iou: Tensor,
}

struct Layer {
    self_attn: Attention,
    to_image: Attention,
    to_token: Attention,
    mlp: [Linear; 2],
    norms: [Norm; 4],
}

/// Prompt encoder and two-way mask decoder, as in SAM (specs: sam-med2d.md sections 3 and 4) at another width, with an organ
/// token, a drawn prompt and the dense features at three strides joined on the way up.
pub struct Decoder {
    config: Config,
    frequencies: Vec<f32>,
    pixel_positions: Tensor,
    /// Rows: outside point, inside point, first corner, second corner, no point, IoU token, mask token.
    tokens: Tensor,
    /// Organ tokens; the last row is "none".
    organs: Tensor,
    /// `[width, length of a text's feature]`.
    text: Option<Tensor>,
    prompt_down: [Conv; 3],
    layers: Vec<Layer>,
    last: Attention,
    last_norm: Norm,
    up: [Linear; 3],
    up_norm: Norm,
    lateral: [Linear; 3],
    raster: Tensor,
    mix: Conv,
    mix_bias: Tensor,
    hyper: [Linear; 3],
    iou: [Linear; 3],
}

impl Decoder {
    /// Builds the decoder from its numbers.
    ///
    /// # Errors
    /// Missing or misshaped tensors.
    pub fn new(config: &Config, p: &Params) -> Result<Self, Error> {
        let (w, inner, heads) = (config.width, config.cross_width, config.heads);
        let [d2, d1, d0] = config.dense;
        let fine = config.fine;
        let linear = |name: &str, c, o| Linear::new(p, &format!("decoder.{name}"), c, o);
        let norm = |name: String, c| Norm::new(p, &format!("decoder.{name}"), c);
        let layer = |n: usize| -> Result<Layer, Error> {
            let name = format!("decoder.layers.{n}");
            Ok(Layer {
                self_attn: Attention::new(p, &format!("{name}.self_attn"), w, w, heads)?,
                to_image: Attention::new(p, &format!("{name}.cross_attn_token_to_image"), w, inner, heads)?,
                to_token: Attention::new(p, &format!("{name}.cross_attn_image_to_token"), w, inner, heads)?,
                mlp: [
                    linear(&format!("layers.{n}.mlp.lin1"), w, config.mlp)?,
                    linear(&format!("layers.{n}.mlp.lin2"), config.mlp, w)?,
                ],
                norms: [
                    norm(format!("layers.{n}.norm1"), w)?,
                    norm(format!("layers.{n}.norm2"), w)?,
                    norm(format!("layers.{n}.norm3"), w)?,
                    norm(format!("layers.{n}.norm4"), w)?,
                ],
            })
        };
        let mlp = |name: &str, o| -> Result<[Linear; 3], Error> {
            Ok([
                linear(&format!("{name}.0"), w, w)?,
                linear(&format!("{name}.1"), w, w)?,
                linear(&format!("{name}.2"), w, o)?,
            ])
        };
        // The frequencies are drawn once and stay; they stand in the file (specs: sam-med2d.md section 3).
        let frequencies = p.constant("decoder.frequencies", &[2, w / 2], Init::Normal(1.0))?;
        let frequencies = frequencies.flatten_all()?.to_vec1::<f32>()?;
        let tokens = p.get("decoder.tokens", &[7, w], Init::Normal(0.5))?;
        let grid = config.grid();
        let mut positions = Vec::with_capacity(grid * grid * w);
        for y in 0..grid {
            for x in 0..grid {
                let at = |v: usize| (v as f32 + 0.5) / grid as f32;
                positions.extend(position(&frequencies, at(x), at(y)));
            }
        }
        Ok(Self {
            config: config.clone(),
            pixel_positions: Tensor::from_vec(positions, (1, grid * grid, w), tokens.device())?,
            frequencies,
            tokens,
            organs: p.get("decoder.organ_tokens", &[config.organs + 1, w], Init::Normal(0.5))?,
            text: config
                .text
                .map(|n| p.get("decoder.text_proj.weight", &[w, n], Init::Normal((1.0 / n as f32).sqrt())))
                .transpose()?,
            prompt_down: [
                Conv::new(p, "decoder.prompt_down.0", 3, RASTER_CHANNELS, 8, 2)?,
                Conv::new(p, "decoder.prompt_down.1", 3, 8, 32, 2)?,
                Conv::new(p, "decoder.prompt_down.2", 3, 32, w, 2)?,
            ],
            layers: vec![layer(0)?, layer(1)?],
            last: Attention::new(p, "decoder.final_attn_token_to_image", w, inner, heads)?,
            last_norm: norm("norm_final_attn".into(), w)?,
            up: [linear("up.0", w, 4 * d2)?, linear("up.1", d2, 4 * d1)?, linear("up.2", d1, 4 * fine)?],
            up_norm: norm("up_norm".into(), d2)?,
            lateral: [linear("lateral.0", d2, d2)?, linear("lateral.1", d1, d1)?, linear("lateral.2", d0, fine)?],
            raster: p.get("decoder.raster.weight", &[3, 3, RASTER_CHANNELS, fine], Init::Normal(0.2))?,
            mix: Conv::new(p, "decoder.mix", 3, fine, fine, 1)?,
            mix_bias: p.get("decoder.mix.bias", &[fine], Init::Zero)?,
            hyper: mlp("hyper", fine)?,
            iou: mlp("iou_head", 1)?,
        })
    }

    pub(super) fn device(&self) -> &Device {
        self.tokens.device()
    }

    /// Masks of all rows.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if a row names a slice or organ that is not there, or holds a text of another length than
    /// the network reads, or a text beside an organ.
    pub fn forward(&self, features: &Features, rows: &[PromptRow]) -> Result<Decoded, Error> {
        let side = self.config.side;
        let (grid, w) = (self.config.grid(), self.config.width);
        let r = rows.len();
        let images = features.embedding.dim(0)?;
        if let Some(bad) = rows.iter().find(|q| q.image >= images || q.organ.is_some_and(|o| o >= self.config.organs)) {
            return Err(Error::InvalidArgument {
                what: "prompt row",
                found: format!("slice {}, organ {:?}", bad.image, bad.organ),
                expected: format!("slice < {images}, organ < {}", self.config.organs),
            });
        }
        let fits = |t: &Vec<f32>| self.config.text == Some(t.len());
        if let Some(bad) = rows.iter().find(|q| q.text.as_ref().is_some_and(|t| q.organ.is_some() || !fits(t))) {
            return Err(Error::InvalidArgument {
                what: "text of a prompt row",
                found: format!("{:?} numbers, organ {:?}", bad.text.as_ref().map(Vec::len), bad.organ),
                expected: format!("{:?} numbers and no organ", self.config.text),
            });
        }
        let device = self.device();
        // Elsewhere than on the CPU the rows of many slices come together, and the device would wait for them.
        let raster: Vec<Vec<f32>> = if device.is_cpu() {
            rows.iter().map(|row| draw_raster(row, side)).collect()
        } else {
            rows.par_iter().map(|row| draw_raster(row, side)).collect()
        };
        let raster = Tensor::from_vec(raster.concat(), (r, side, side, RASTER_CHANNELS), device)?;
        let pick = Tensor::from_vec(rows.iter().map(|q| q.image as u32).collect(), r, device)?;

        let mut dense = raster.clone();
        for (n, conv) in self.prompt_down.iter().enumerate() {
            dense = conv.forward(&dense)?;
            if n < 2 {
                dense = gelu(&dense)?;
            }
        }
        let embedding = features.embedding.index_select(&pick, 0)?;
        let mut pixels = (embedding + dense)?.reshape((r, grid * grid, w))?;
        let start = self.row_tokens(rows)?;
        let mut tokens = start.clone();
        let positions = self.pixel_positions.broadcast_as((r, grid * grid, w))?.contiguous()?;
        for (n, layer) in self.layers.iter().enumerate() {
            tokens = if n == 0 {
                layer.self_attn.forward(&tokens, &tokens, &tokens)?
            } else {
                let q = (&tokens + &start)?;
                (&tokens + layer.self_attn.forward(&q, &q, &tokens)?)?
            };
            tokens = layer.norms[0].forward(&tokens)?;
            let keys = (&pixels + &positions)?;
            let mixed = layer.to_image.forward(&(&tokens + &start)?, &keys, &pixels)?;
            tokens = layer.norms[1].forward(&(&tokens + mixed)?)?;
            let hidden = layer.mlp[1].forward(&layer.mlp[0].forward(&tokens)?.relu()?)?;
            tokens = layer.norms[2].forward(&(&tokens + hidden)?)?;
            let mixed = layer.to_token.forward(&keys, &(&tokens + &start)?, &tokens)?;
            pixels = layer.norms[3].forward(&(&pixels + mixed)?)?;
        }
        let keys = (&pixels + &positions)?;
        let mixed = self.last.forward(&(&tokens + &start)?, &keys, &pixels)?;
        tokens = self.last_norm.forward(&(&tokens + mixed)?)?;

        let mut x = pixels.reshape((r, grid, grid, w))?;
        for n in 0..3 {
            x = shuffle(&self.up[n].forward(&x)?)?;
            let lateral = self.lateral[n].forward(&features.levels[n])?;
            x = (x + lateral.index_select(&pick, 0)?)?;
            if n == 0 {
                x = self.up_norm.forward(&x)?;
            }
            if n == 2 {
                x = (x + conv2d(&raster, &self.raster, 1)?)?;
            }
            x = gelu(&x)?;
        }
        let c = x.dim(3)?;
        let mixed = self.mix.forward(&x)?.reshape((r * side * side, c))?;
        let x = gelu(&add_bias(&mixed, &self.mix_bias)?)?.reshape((r, side * side, c))?;
        let token = |n: usize| -> Result<Tensor, Error> { Ok(tokens.narrow(1, n, 1)?.contiguous()?.reshape((r, w))?) };
        let weights = mlp(&self.hyper, &token(1)?)?.reshape((r, c, 1))?;
        let logits = x.matmul(&weights)?.reshape((r, side * side))?;
        let iou = mlp(&self.iou, &token(0)?)?.reshape(r)?;
        Ok(Decoded { logits, iou })
    }

    /// `[rows, 5 + POINT_TOKENS, width]`: IoU, mask, organ, two corners, points.
    fn row_tokens(&self, rows: &[PromptRow]) -> Result<Tensor, Error> {
        let (w, side) = (self.config.width, self.config.side as f32);
        let count = 5 + POINT_TOKENS;
        let mut learned = Vec::with_capacity(rows.len() * count);
        let mut fixed = Vec::with_capacity(rows.len() * count * w);
        const NONE: u32 = 4;
        for row in rows {
            let organ = 7 + row.organ.unwrap_or(self.config.organs) as u32;
            learned.extend([5, 6, organ]);
            fixed.extend(std::iter::repeat_n(0.0, 3 * w));
            let mut push = |kind: u32, at: Option<(f32, f32)>| {
                learned.push(kind);
                match at {
                    Some((x, y)) => fixed.extend(position(&self.frequencies, x / side, y / side)),
                    None => fixed.extend(std::iter::repeat_n(0.0, w)),
                }
            };
            match row.bounds {
                Some([x0, y0, x1, y1]) => {
                    push(2, Some((x0, y0)));
                    push(3, Some((x1, y1)));
                }
                None => {
                    push(NONE, None);
                    push(NONE, None);
                }
            }
            for n in 0..POINT_TOKENS {
                match row.points.get(n) {
                    Some(&[x, y, inside]) => push(u32::from(inside > 0.5), Some((x, y))),
                    None => push(NONE, None),
                }
            }
        }
        let n = learned.len();
        let table = Tensor::cat(&[&self.tokens, &self.organs], 0)?;
        let learned = table.index_select(&Tensor::from_vec(learned, n, self.device())?, 0)?;
        let fixed = Tensor::from_vec(fixed, (n, w), self.device())?;
        let tokens = (learned + fixed)?.reshape((rows.len(), count, w))?;
        match &self.text {
            Some(projection) => self.with_texts(&tokens, projection, rows),
            None => Ok(tokens),
        }
    }

    /// Adds the projected texts to the organs' tokens, which are "none" there; rows without a text stay as they are.
    fn with_texts(&self, tokens: &Tensor, projection: &Tensor, rows: &[PromptRow]) -> Result<Tensor, Error> {
        let (r, count, w) = tokens.dims3()?;
        let length = projection.dim(1)?;
        let texts = rows.iter().flat_map(|q| q.text.clone().unwrap_or_else(|| vec![0.0; length])).collect();
        let texts =
            Tensor::from_vec(texts, (r, length), self.device())?.matmul(&projection.t()?)?.reshape((r, 1, w))?;
        let organ = (tokens.narrow(1, 2, 1)? + texts)?;
        Ok(Tensor::cat(&[&tokens.narrow(1, 0, 2)?, &organ, &tokens.narrow(1, 3, count - 3)?], 1)?)
    }
}

/// Three linear maps with ReLU between.
fn mlp(layers: &[Linear; 3], x: &Tensor) -> Result<Tensor, Error> {
    let x = layers[0].forward(x)?.relu()?;
    layers[2].forward(&layers[1].forward(&x)?.relu()?)
}

/// `[r, h, w, 4c]` -> `[r, 2h, 2w, c]`: a transposed 2 x 2 convolution with stride 2 is a linear map and this.
fn shuffle(x: &Tensor) -> Result<Tensor, Error> {
    let (r, h, w, c) = x.dims4()?;
    let x = x.reshape((r, h, w, 2, 2, c / 4))?.permute((0, 1, 3, 2, 4, 5))?.contiguous()?;
    Ok(x.reshape((r, 2 * h, 2 * w, c / 4))?)
}

/// Random Fourier features of a position in [0, 1]²: sin and cos of `2π (2p − 1) G`.
fn position(frequencies: &[f32], x: f32, y: f32) -> Vec<f32> {
    let half = frequencies.len() / 2;
    let angle = |i: usize| TAU * ((2.0 * x - 1.0) * frequencies[i] + (2.0 * y - 1.0) * frequencies[half + i]);
    (0..half).map(|i| angle(i).sin()).chain((0..half).map(|i| angle(i).cos())).collect()
}
