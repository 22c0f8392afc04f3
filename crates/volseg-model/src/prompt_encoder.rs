//! Points, boxes and masks to tokens and a dense map (specs: sam-med2d.md section 3).

use crate::config::{SamConfig, TEXT_PROJECTION};
use crate::grad_ops::gelu;
use crate::ops::{Linear, Window, unfold};
use crate::vit::{EPS, Norm, patches};
use crate::weights::Weights;
use crate::{Error, Init};
use candle_core::Tensor;
use std::f32::consts::TAU;

/// A point of a prompt, in pixels of the network's input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Column.
    pub x: f32,
    /// Row.
    pub y: f32,
    /// 1 inside, 0 outside, -1 no point; any other label is a bare position.
    pub label: i32,
}

/// The tokens of one row of prompts: points, then the padding point if there is no box, then the box's corners.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sparse {
    /// Points.
    pub points: Vec<Point>,
    /// `[x0, y0, x1, y1]` in pixels of the network's input.
    pub bounds: Option<[f32; 4]>,
}

impl Sparse {
    /// Tokens of this row.
    #[must_use]
    pub fn len(&self) -> usize {
        let padding = usize::from(self.bounds.is_none() && !self.points.is_empty());
        self.points.len() + padding + if self.bounds.is_some() { 2 } else { 0 }
    }

    /// No prompt at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Rows of the embedding table.
const CORNER: u32 = 2;
const NOT_A_POINT: u32 = 4;
const NOTHING: u32 = 5;

/// Prompts to tokens; also the positions of the grid's pixels.
pub struct PromptEncoder {
    width: usize,
    image_size: f32,
    mask_side: usize,
    frequencies: Vec<f32>,
    /// Outside point, inside point, first corner, second corner, no point, zeros: `[6, width]` in parts.
    table: Vec<Tensor>,
    no_mask: Tensor,
    down: [Linear; 3],
    norms: [Norm; 2],
    dense_positions: Tensor,
    /// Length of a text feature and its linear map, if texts are read.
    text: Option<(usize, Linear)>,
}

impl PromptEncoder {
    /// Builds the encoder from its tensors.
    ///
    /// # Errors
    /// Sizes that cannot work, missing or misshaped tensors.
    pub fn new(config: &SamConfig, w: &dyn Weights) -> Result<Self, Error> {
        config.check()?;
        let (d, c, grid) = (config.prompt_embed_dim, config.mask_in_chans, config.grid());
        let vector = |name: &str| w.tensor(&format!("prompt_encoder.{name}.weight"), &[1, d], Init::Normal(1.0));
        let frequencies = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix";
        let frequencies = w.constant(frequencies, &[2, d / 2], Init::Normal(1.0))?.flatten_all()?.to_vec1()?;
        let mut table = (0..4).map(|n| vector(&format!("point_embeddings.{n}"))).collect::<Result<Vec<_>, _>>()?;
        table.push(vector("not_a_point_embed")?);
        table.push(Tensor::zeros((1, d), candle_core::DType::F32, table[0].device())?);
        let device = table[0].device().clone();
        let mut positions = Vec::with_capacity(grid * grid * d);
        let middle = |n: usize| (n as f32 + 0.5) / grid as f32;
        for (y, x) in (0..grid * grid).map(|n| (n / grid, n % grid)) {
            position(&frequencies, middle(x), middle(y), &mut positions);
        }
        let down = "prompt_encoder.mask_downscaling";
        let text = match &config.text {
            Some(source) => {
                let from = source.embed_dim;
                let start = Init::Normal((2.0 / (from + d) as f32).sqrt());
                let weight = w.tensor(&format!("{TEXT_PROJECTION}.weight"), &[d, from], start)?;
                let bias = w.tensor(&format!("{TEXT_PROJECTION}.bias"), &[d], Init::Zero)?;
                Some((from, Linear::new(weight, Some(bias))?))
            }
            None => None,
        };
        Ok(Self {
            width: d,
            image_size: config.image_size as f32,
            mask_side: config.mask_side(),
            frequencies,
            table,
            no_mask: vector("no_mask_embed")?,
            down: [
                patches(w, &format!("{down}.0"), [c / 4, 1, 2, 2], true)?,
                patches(w, &format!("{down}.3"), [c, c / 4, 2, 2], true)?,
                patches(w, &format!("{down}.6"), [d, c, 1, 1], true)?,
            ],
            norms: [Norm::new(w, &format!("{down}.1"), c / 4, EPS)?, Norm::new(w, &format!("{down}.4"), c, EPS)?],
            dense_positions: Tensor::from_vec(positions, (1, grid * grid, d), &device)?,
            text,
        })
    }

    /// Tokens `[rows, 1, width]` of text features `[rows, embed]` of unit length, to stand behind those of points and boxes
    /// (specs: biomedclip.md section 6).
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for features of another length, or for a network that reads no texts.
    pub fn text(&self, features: &Tensor) -> Result<Tensor, Error> {
        match &self.text {
            // Entries of a unit vector are far smaller than the other tokens'.
            Some((from, linear)) if matches!(features.dims(), [_, n] if n == from) => {
                Ok(linear.forward(&(features * (*from as f64).sqrt())?)?.unsqueeze(1)?)
            }
            text => Err(Error::InvalidArgument {
                what: "text feature",
                found: format!("{:?}", features.dims()),
                expected: text
                    .as_ref()
                    .map_or("none: this network reads no texts".into(), |t| format!("[rows, {}]", t.0)),
            }),
        }
    }

    /// Positions of the grid's pixels, `[1, tokens, width]`.
    #[must_use]
    pub fn dense_positions(&self) -> &Tensor {
        &self.dense_positions
    }

    /// Tokens `[rows, n, width]` of prompts that all have the same number of tokens `n` (which may be 0).
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if they do not, or for coordinates that are no numbers.
    pub fn sparse(&self, rows: &[Sparse]) -> Result<Tensor, Error> {
        let n = rows.first().map_or(0, Sparse::len);
        let mut positions = Vec::with_capacity(rows.len() * n * self.width);
        let mut kinds = Vec::with_capacity(rows.len() * n);
        for row in rows {
            if row.len() != n {
                let (found, expected) = (format!("{} tokens", row.len()), format!("{n} as in the first row"));
                return Err(Error::InvalidArgument { what: "prompt row", found, expected });
            }
            let numbers = row.points.iter().flat_map(|p| [p.x, p.y]).chain(row.bounds.into_iter().flatten());
            if let Some(bad) = numbers.into_iter().find(|v| !v.is_finite()) {
                return Err(Error::InvalidArgument {
                    what: "coordinate of a prompt",
                    found: bad.to_string(),
                    expected: "a finite number".into(),
                });
            }
            let mut at = |x: f32, y: f32, kind: u32| {
                position(&self.frequencies, (x + 0.5) / self.image_size, (y + 0.5) / self.image_size, &mut positions);
                kinds.push(kind);
            };
            let mut padding = row.points.iter().map(|p| (p.label == -1).then_some(())).collect::<Vec<_>>();
            for p in &row.points {
                let kind = match p.label {
                    0 | 1 => p.label as u32,
                    -1 => NOT_A_POINT,
                    _ => NOTHING,
                };
                at(p.x, p.y, kind);
            }
            match row.bounds {
                Some([x0, y0, x1, y1]) => {
                    at(x0, y0, CORNER);
                    at(x1, y1, CORNER + 1);
                }
                None if !row.points.is_empty() => {
                    at(0.0, 0.0, NOT_A_POINT);
                    padding.push(Some(()));
                }
                None => {}
            }
            // A point that is none has no position.
            let first = positions.len() - row.len() * self.width;
            let tokens = positions[first..].chunks_exact_mut(self.width);
            tokens.zip(&padding).filter(|(_, p)| p.is_some()).for_each(|(t, _)| t.fill(0.0));
        }
        let shape = (rows.len(), n, self.width);
        let positions = Tensor::from_vec(positions, shape, self.table[0].device())?;
        if n == 0 {
            return Ok(positions);
        }
        let kinds = Tensor::from_vec(kinds, rows.len() * n, self.table[0].device())?;
        let vectors = Tensor::cat(&self.table, 0)?.index_select(&kinds, 0)?.reshape(shape)?;
        Ok((positions + vectors)?)
    }

    /// The dense map of mask prompts `[rows, side, side]` (probabilities in SAM-Med2D, logits in SAM) as
    /// `[rows, tokens, width]`; without one the vector for "no mask", `[1, 1, width]`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for masks of another side.
    pub fn dense(&self, masks: Option<&Tensor>) -> Result<Tensor, Error> {
        let Some(masks) = masks else { return Ok(self.no_mask.reshape((1, 1, self.width))?) };
        let side = self.mask_side;
        let rows = match *masks.dims() {
            [rows, h, w] if h == side && w == side => rows,
            _ => {
                return Err(Error::InvalidArgument {
                    what: "mask prompt",
                    found: format!("{:?}", masks.dims()),
                    expected: format!("[rows, {side}, {side}]"),
                });
            }
        };
        let halve = Window { size: 2, stride: 2, pad: 0 };
        let [first, second, last] = &self.down;
        let x = first.forward(&unfold(&masks.reshape((rows, side, side, 1))?, halve)?)?;
        let x = gelu(&self.norms[0].forward(&x)?)?;
        let x = second.forward(&unfold(&x, halve)?)?;
        let x = gelu(&self.norms[1].forward(&x)?)?;
        Ok(last.forward(&x)?.reshape((rows, side * side / 16, self.width))?)
    }
}

/// Appends sine and cosine of the random frequencies at a place of the unit square.
fn position(frequencies: &[f32], x: f32, y: f32, out: &mut Vec<f32>) {
    let (x, y) = (2.0 * x - 1.0, 2.0 * y - 1.0);
    let (fx, fy) = frequencies.split_at(frequencies.len() / 2);
    let angles = || fx.iter().zip(fy).map(|(a, b)| TAU * (x * a + y * b));
    out.extend(angles().map(f32::sin));
    out.extend(angles().map(f32::cos));
}
