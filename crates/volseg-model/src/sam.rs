//! Encoder, prompt encoder and decoder together: pictures and prompts to masks.

use crate::config::{Arch, SamConfig};
use crate::mask_decoder::MaskDecoder;
use crate::picture::{Input, Picture, Placement, full_logits, predictor_input, sigmoid};
use crate::prompt_encoder::{Point, PromptEncoder, Sparse};
use crate::share::{on_all_threads, on_this_thread};
use crate::vit::ImageEncoder;
use crate::weights::{Weights, WeightsFile};
use crate::{Error, Init};
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use volseg_geometry::PixelBox;

/// Prompt rows decoded by one thread at once. Fixed, so that sums do not depend on the number of threads.
const ROWS: usize = 4;

/// Tokens that a GPU reads in one pass: 16 pictures of 256 x 256, or one of 1024 x 1024.
const GPU_TOKENS: usize = 4096;
/// Prompt rows that a GPU decodes at once.
const GPU_ROWS: usize = 64;

/// The three parts of a network of SAM's family.
pub struct Sam {
    /// Picture to embedding.
    pub encoder: ImageEncoder,
    /// Prompts to tokens.
    pub prompts: PromptEncoder,
    /// Tokens and embedding to masks.
    pub decoder: MaskDecoder,
}

impl Sam {
    /// Builds the network from its tensors.
    ///
    /// # Errors
    /// Sizes that cannot work, missing or misshaped tensors.
    pub fn new(config: &SamConfig, weights: &dyn Weights) -> Result<Self, Error> {
        Ok(Self {
            encoder: ImageEncoder::new(config, weights)?,
            prompts: PromptEncoder::new(config, weights)?,
            decoder: MaskDecoder::new(config, weights)?,
        })
    }
}

/// Weights on a device.
struct Placed<'a> {
    weights: &'a dyn Weights,
    device: &'a Device,
}

impl Weights for Placed<'_> {
    fn tensor(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor, Error> {
        Ok(self.weights.tensor(name, shape, init)?.to_device(self.device)?)
    }
}

/// A network ready to use, with the way its architecture takes pictures in and hands masks out.
pub struct SamModel {
    arch: Arch,
    config: SamConfig,
    sam: Sam,
    device: Device,
}

/// What the image encoder made of a picture.
pub struct Embedding {
    /// `[1, tokens, width]`.
    pub features: Tensor,
    /// Columns of the picture.
    pub width: usize,
    /// Rows of the picture.
    pub height: usize,
    /// How the picture lies in the network's input.
    pub placement: Placement,
}

/// Prompts for one mask, in the picture's own pixels (no half-pixel shift; boxes are end-exclusive).
#[derive(Clone, Debug, Default)]
pub struct PromptSet {
    /// Points.
    pub points: Vec<Point>,
    /// Box.
    pub bounds: Option<PixelBox>,
    /// An earlier low-resolution mask, row by row: **probabilities** for SAM-Med2D, logits for SAM.
    pub mask: Option<Vec<f32>>,
    /// More tokens of the prompt's width, such as a text's, behind those of points and box.
    pub tokens: Vec<Vec<f32>>,
}

/// The mask that answers a [`PromptSet`].
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// Logits, row by row, of [`SamConfig::mask_side`] squared pixels.
    pub low_res: Vec<f32>,
    /// Predicted IoU; linear, so it may leave 0..1.
    pub iou: f32,
    /// Which of the decoder's masks this is.
    pub mask: usize,
}

/// Which of the decoder's masks answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Mask 0.
    Single,
    /// That of masks 1.. whose predicted IoU is largest, the first on a tie.
    Best,
}

impl SamModel {
    /// Reads a weights file.
    ///
    /// # Errors
    /// A file that is missing, malformed, of another family, or does not fit its own configuration or digest.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::load_on(path, &Device::Cpu)
    }

    /// [`SamModel::load`] on a device.
    ///
    /// # Errors
    /// As [`SamModel::load`].
    pub fn load_on(path: &Path, device: &Device) -> Result<Self, Error> {
        let file = WeightsFile::open(path)?;
        let (arch, config) = file.sam()?;
        let placed = Placed { weights: &file, device };
        let model = Self { arch, sam: Sam::new(&config, &placed)?, config, device: device.clone() };
        file.verify()?;
        Ok(model)
    }

    /// The same model with the image encoder's products in `bf16` if it is on a GPU (see [`ImageEncoder::to_bf16`]); on the CPU,
    /// where half precision is slower, it stays as it is.
    ///
    /// # Errors
    /// Only if the back end fails.
    pub fn with_bf16(mut self) -> Result<Self, Error> {
        if !self.device.is_cpu() {
            self.sam.encoder.to_bf16()?;
        }
        Ok(self)
    }

    /// Builds the model from tensors.
    ///
    /// # Errors
    /// As [`Sam::new`].
    pub fn new(arch: Arch, config: SamConfig, weights: &dyn Weights) -> Result<Self, Error> {
        Ok(Self { arch, sam: Sam::new(&config, weights)?, config, device: Device::Cpu })
    }

    /// Whether it runs on a GPU.
    #[must_use]
    pub fn is_on_gpu(&self) -> bool {
        !self.device.is_cpu()
    }

    /// The architecture.
    #[must_use]
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// The sizes.
    #[must_use]
    pub fn config(&self) -> &SamConfig {
        &self.config
    }

    /// The network itself.
    #[must_use]
    pub fn network(&self) -> &Sam {
        &self.sam
    }

    /// The token of a text's feature (unit length) for [`PromptSet::tokens`].
    ///
    /// # Errors
    /// As [`PromptEncoder::text`].
    pub fn text_token(&self, feature: &[f32]) -> Result<Vec<f32>, Error> {
        let feature = Tensor::from_slice(feature, (1, feature.len()), &self.device)?;
        Ok(self.sam.prompts.text(&feature)?.flatten_all()?.to_vec1()?)
    }

    /// Reads one picture, with all threads of the current pool.
    ///
    /// # Errors
    /// Only if the back end fails.
    pub fn embed(&self, picture: &Picture) -> Result<Embedding, Error> {
        on_all_threads(|| self.embed_here(picture))
    }

    fn embed_here(&self, picture: &Picture) -> Result<Embedding, Error> {
        let mut one = self.embed_batch(std::slice::from_ref(picture))?;
        one.pop().ok_or_else(|| Error::Device(candle_core::Error::Msg("no embedding".into())))
    }

    /// Reads pictures in one pass.
    fn embed_batch(&self, pictures: &[Picture]) -> Result<Vec<Embedding>, Error> {
        let side = self.config.image_size;
        let inputs: Vec<_> = pictures.par_iter().map(|p| predictor_input(p, self.arch, side)).collect();
        let values: Vec<&[f32]> = inputs.iter().map(|i| i.values.as_slice()).collect();
        let x = Tensor::from_vec(values.concat(), (pictures.len(), 3, side, side), &self.device)?;
        let all = self.sam.encoder.forward(&x)?;
        let embedding = |((n, picture), input): ((usize, &Picture), &Input)| {
            let features = all.narrow(0, n, 1)?;
            Ok(Embedding { features, width: picture.width(), height: picture.height(), placement: input.placement })
        };
        pictures.iter().enumerate().zip(&inputs).map(embedding).collect()
    }

    /// Reads several pictures, `at_once` of them in a pass: on the CPU a pass for each thread of the current pool as long as there
    /// are enough, the rest with all threads; on a GPU pass by pass, of at most 4096 tokens (16 pictures of 256 x 256).
    ///
    /// # Errors
    /// As [`SamModel::embed`].
    pub fn embed_all(&self, pictures: &[Picture], at_once: usize) -> Result<Vec<Embedding>, Error> {
        let at_once = at_once.max(1);
        if self.is_on_gpu() {
            let most = (GPU_TOKENS / (self.config.grid() * self.config.grid())).max(1);
            let passes = pictures.chunks(at_once.min(most)).map(|part| self.embed_batch(part));
            return Ok(passes.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect());
        }
        let (many, rest) =
            pictures.split_at(pictures.len() - pictures.len() % (at_once * rayon::current_num_threads()));
        let mut all: Vec<Vec<Embedding>> =
            many.par_chunks(at_once).map(|part| on_this_thread(|| self.embed_batch(part))).collect::<Result<_, _>>()?;
        for part in rest.chunks(at_once) {
            all.push(on_all_threads(|| self.embed_batch(part))?);
        }
        Ok(all.into_iter().flatten().collect())
    }

    /// One mask for each set of prompts, in their order; which of the decoder's masks is the architecture's way.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for prompts that are no numbers or have another size.
    pub fn decode(&self, embedding: &Embedding, prompts: &[PromptSet]) -> Result<Vec<Decoded>, Error> {
        self.decode_choosing(embedding, prompts, |p| match self.arch {
            Arch::SamMed2d => Choice::Best,
            // SAM's masks 1.. are for ambiguous prompts: a lone point.
            Arch::Sam if p.bounds.is_none() && p.points.len() == 1 && p.mask.is_none() => Choice::Best,
            Arch::Sam | Arch::MedSam => Choice::Single,
        })
    }

    /// [`SamModel::decode`] with the choice of the mask in the caller's hands.
    ///
    /// # Errors
    /// As [`SamModel::decode`].
    pub fn decode_choosing(
        &self,
        embedding: &Embedding,
        prompts: &[PromptSet],
        choice: impl Fn(&PromptSet) -> Choice,
    ) -> Result<Vec<Decoded>, Error> {
        // Rows of one batch have the same number of tokens and all or none a mask.
        let mut groups: BTreeMap<(usize, usize, bool), Vec<usize>> = BTreeMap::new();
        let sparse: Vec<Sparse> = prompts.iter().map(|p| self.sparse(embedding, p)).collect();
        let choices: Vec<Choice> = prompts.iter().map(choice).collect();
        for (n, (p, s)) in prompts.iter().zip(&sparse).enumerate() {
            groups.entry((s.len(), p.tokens.len(), p.mask.is_some())).or_default().push(n);
        }
        let most = if self.device.is_cpu() { ROWS } else { GPU_ROWS };
        let tasks: Vec<&[usize]> = groups.values().flat_map(|rows| rows.chunks(most)).collect();
        let one = |rows: &&[usize]| {
            let part: Vec<Row<'_>> =
                rows.iter().filter_map(|&n| Some((prompts.get(n)?, sparse.get(n)?, *choices.get(n)?))).collect();
            self.decode_rows(embedding, &part)
        };
        // Groups of rows, one a thread; a lone group with all threads.
        let answers = if tasks.len() == 1 {
            on_all_threads(|| tasks.iter().map(one).collect::<Result<Vec<_>, _>>())
        } else {
            tasks.par_iter().map(|rows| on_this_thread(|| one(rows))).collect()
        }?;
        let mut out: Vec<Option<Decoded>> = vec![None; prompts.len()];
        for (&n, answer) in tasks.iter().flat_map(|rows| rows.iter()).zip(answers.into_iter().flatten()) {
            if let Some(slot) = out.get_mut(n) {
                *slot = Some(answer);
            }
        }
        Ok(out.into_iter().flatten().collect())
    }

    fn sparse(&self, embedding: &Embedding, p: &PromptSet) -> Sparse {
        let side = self.config.image_size;
        let (w, h) = match embedding.placement {
            Placement::Fitted { width, height } => (width, height),
            _ => (side, side),
        };
        let (left, top) = match embedding.placement {
            Placement::Padded { left, top } => (left as f64, top as f64),
            _ => (0.0, 0.0),
        };
        let padded = matches!(embedding.placement, Placement::Padded { .. });
        let scale = |to: usize, from: usize| if padded { 1.0 } else { to as f64 / from as f64 };
        let (sx, sy) = (scale(w, embedding.width), scale(h, embedding.height));
        let x = |v: f32| (f64::from(v) * sx + left) as f32;
        let y = |v: f32| (f64::from(v) * sy + top) as f32;
        Sparse {
            points: p.points.iter().map(|p| Point { x: x(p.x), y: y(p.y), label: p.label }).collect(),
            bounds: p.bounds.map(|b| [x(b.x0), y(b.y0), x(b.x1), y(b.y1)]),
        }
    }

    /// The chosen masks of rows that fit into one batch.
    fn decode_rows(&self, embedding: &Embedding, rows: &[Row<'_>]) -> Result<Vec<Decoded>, Error> {
        let (d, side) = (self.config.prompt_embed_dim, self.config.mask_side());
        let sparse: Vec<Sparse> = rows.iter().map(|(_, s, _)| (*s).clone()).collect();
        let mut tokens = self.sam.prompts.sparse(&sparse)?;
        let more: Vec<f32> = rows.iter().flat_map(|(p, ..)| p.tokens.iter().flatten().copied()).collect();
        if !more.is_empty() {
            let n = rows.first().map_or(0, |(p, ..)| p.tokens.len());
            let expected = rows.len() * n * d;
            if more.len() != expected || more.iter().any(|v| !v.is_finite()) {
                return Err(Error::InvalidArgument {
                    what: "prompt token",
                    found: format!("{} numbers", more.len()),
                    expected: format!("{expected} finite numbers"),
                });
            }
            let more = Tensor::from_vec(more, (rows.len(), n, d), &self.device)?;
            tokens = if tokens.dim(1)? == 0 { more } else { Tensor::cat(&[&tokens, &more], 1)? };
        }
        let masks: Vec<f32> = rows.iter().filter_map(|(p, ..)| p.mask.as_ref()).flatten().copied().collect();
        let masks = if rows.iter().all(|(p, ..)| p.mask.is_none()) {
            None
        } else if masks.len() == rows.len() * side * side && masks.iter().all(|v| v.is_finite()) {
            Some(Tensor::from_vec(masks, (rows.len(), side, side), &self.device)?)
        } else {
            return Err(Error::InvalidArgument {
                what: "mask prompt",
                found: format!("{} numbers", masks.len()),
                expected: format!("{} finite numbers", rows.len() * side * side),
            });
        };
        let dense = self.sam.prompts.dense(masks.as_ref())?;
        let positions = self.sam.prompts.dense_positions();
        let choose = |row: usize, iou: &[f32]| rows.get(row).map_or(0, |(.., choice)| choice.of(iou));
        let all = self.sam.decoder.forward_choosing(&embedding.features, positions, &tokens, &dense, choose)?;
        let logits = all.logits.flatten_from(1)?.to_vec2::<f32>()?;
        let rows = logits.into_iter().zip(&all.iou).zip(&all.chosen);
        Ok(rows
            .map(|((low_res, iou), &mask)| Decoded { low_res, iou: iou.get(mask).copied().unwrap_or_default(), mask })
            .collect())
    }

    /// A mask's logits at the picture's own size.
    #[must_use]
    pub fn logits(&self, embedding: &Embedding, low_res: &[f32]) -> Vec<f32> {
        let Embedding { width, height, placement, .. } = *embedding;
        full_logits(low_res, self.config.mask_side(), self.config.image_size, placement, width, height)
    }

    /// A mask's probabilities at the picture's own size; the mask is where they exceed 0.5.
    #[must_use]
    pub fn postprocess(&self, embedding: &Embedding, decoded: &Decoded) -> Vec<f32> {
        let probability = |v: Vec<f32>| v.into_iter().map(sigmoid).collect::<Vec<_>>();
        match self.arch {
            Arch::SamMed2d | Arch::Sam => probability(self.logits(embedding, &decoded.low_res)),
            // MedSAM enlarges probabilities, in one step.
            Arch::MedSam => {
                let side = self.config.mask_side();
                let low = probability(decoded.low_res.clone());
                volseg_geometry::resize_bilinear(&low, side, side, embedding.width, embedding.height)
            }
        }
    }
}

/// A prompt, its tokens, and which mask shall answer it.
type Row<'a> = (&'a PromptSet, &'a Sparse, Choice);

impl Choice {
    /// Which of the masks with these predicted IoUs it is.
    fn of(self, iou: &[f32]) -> usize {
        match self {
            Self::Single => 0,
            Self::Best => (2..iou.len()).fold(1, |best, n| if iou[n] > iou[best] { n } else { best }),
        }
    }
}
