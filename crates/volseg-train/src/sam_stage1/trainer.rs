//! The passes over a batch, and what they train.

use super::prompts::{error_points, first_point, jittered_box};
use super::{EncoderPart, SamPrompts, SamTrainConfig, Slide};
use crate::optimizer::AdamW;
use crate::{Error, Random};
use candle_core::{Device, Tensor, Var};
use std::collections::BTreeMap;
use volseg_model::config::{SamConfig, TEXT_PROJECTION};
use volseg_model::loss::sam_med2d_loss;
use volseg_model::ops::resize_square;
use volseg_model::picture::training_box;
use volseg_model::prompt_encoder::Sparse;
use volseg_model::sam::Sam;
use volseg_model::weights::Weights;
use volseg_model::{Init, Params};

/// Weight of the focal loss beside one Dice (paper, section 4).
const FOCAL: f64 = 20.0;
/// Numbers of points that a feedback pass draws from.
const POINTS: [usize; 4] = [1, 3, 5, 9];

/// Tensors of which some are variables.
struct Partly {
    encoder: EncoderPart,
    /// Texts are part of the prompts.
    text: bool,
    own: Params,
    fixed: Params,
}

impl Weights for Partly {
    fn tensor(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor, volseg_model::Error> {
        let trained = !name.starts_with("image_encoder.")
            || match self.encoder {
                EncoderPart::All => true,
                EncoderPart::Adapters => name.contains(".Adapter."),
                EncoderPart::None => false,
            };
        let trained = trained && (self.text || !name.starts_with(TEXT_PROJECTION));
        if trained { self.own.get(name, shape, init) } else { self.fixed.get(name, shape, init) }
    }

    fn constant(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor, volseg_model::Error> {
        self.fixed.constant(name, shape, init)
    }
}

/// A network under training.
pub(super) struct Trainer<'a> {
    config: &'a SamTrainConfig,
    pub(super) sizes: SamConfig,
    sam: Sam,
    params: Partly,
    /// Trained in the first pass of a batch only.
    pub(super) outer: BTreeMap<String, Var>,
    /// Trained in every pass.
    pub(super) decoder: BTreeMap<String, Var>,
}

/// One forward pass.
struct Pass {
    loss: Tensor,
    /// Probabilities of the chosen low-resolution masks, without gradient.
    mask: Tensor,
    /// Masks at the network's input size.
    predicted: Vec<Vec<u8>>,
}

impl<'a> Trainer<'a> {
    pub(super) fn new(
        config: &'a SamTrainConfig,
        sizes: SamConfig,
        start: BTreeMap<String, Tensor>,
    ) -> Result<Self, Error> {
        let params = Partly {
            encoder: config.encoder,
            text: config.text.is_some(),
            own: Params::trainable(config.seed, start.clone()),
            fixed: Params::given(start),
        };
        let sam = Sam::new(&sizes, &params)?;
        let (decoder, outer) = params.own.variables().into_iter().partition(|(n, _)| n.starts_with("mask_decoder."));
        Ok(Self { config, sizes, sam, params, outer, decoder })
    }

    pub(super) fn tensors(&self) -> BTreeMap<String, Tensor> {
        let mut all = self.params.fixed.tensors();
        all.extend(self.outer.iter().chain(&self.decoder).map(|(n, v)| (n.clone(), v.as_tensor().clone())));
        all
    }

    fn images(&self, slides: &[&Slide]) -> Result<Tensor, Error> {
        let side = self.sizes.image_size;
        let x: Vec<f32> = slides.iter().flat_map(|s| s.input.iter().copied()).collect();
        Ok(Tensor::from_vec(x, (slides.len(), 3, side, side), &Device::Cpu)?)
    }

    /// All steps of a batch; the loss of the first.
    pub(super) fn batch(
        &self,
        slides: &[&Slide],
        rate: f32,
        first: &mut AdamW,
        second: &mut AdamW,
        random: &mut Random,
    ) -> Result<f64, Error> {
        let (gradients, mut parts, loss) = self.first_pass(slides, random)?;
        first.update(&self.outer, &gradients.of(&self.outer)?, rate, 0.0, 0.0)?;
        second.update(&self.decoder, &gradients.of(&self.decoder)?, rate, 0.0, 0.0)?;

        let side = self.sizes.image_size;
        // One pass in the middle and the last have no points.
        let bare = 1 + random.below(self.config.feedback.saturating_sub(2));
        for n in 0..self.config.feedback {
            let points = POINTS[random.below(POINTS.len())];
            let points = if n == bare || n + 1 == self.config.feedback { 0 } else { points };
            let mut gradients = Gradients::default();
            for part in &mut parts {
                let wrong = part.labels.iter().zip(&part.predicted);
                let rows: Vec<Sparse> = wrong
                    .map(|(l, p)| Sparse { points: error_points(l, p, side, points, random), bounds: None })
                    .collect();
                let tokens = self.sam.prompts.sparse(&rows)?.detach();
                let dense = self.sam.prompts.dense(Some(&part.mask))?.detach();
                let pass = self.pass(&part.images, &tokens, &dense, &part.labels)?;
                gradients.add(&self.decoder, &pass.loss.backward()?, part.share)?;
                (part.mask, part.predicted) = (pass.mask, pass.predicted);
            }
            second.update(&self.decoder, &gradients.of(&self.decoder)?, rate, 0.0, 0.0)?;
        }
        Ok(loss)
    }

    /// Encoder, prompts and decoder: gradients and loss of the batch, and what its parts hold for the passes that follow.
    fn first_pass<'s>(
        &self,
        slides: &[&'s Slide],
        random: &mut Random,
    ) -> Result<(Gradients, Vec<BatchPart<'s>>, f64), Error> {
        let side = self.sizes.image_size;
        let (boxed, pointed) = match self.config.prompts {
            SamPrompts::Both => (true, true),
            SamPrompts::Either if random.chance(0.5) => (true, false),
            SamPrompts::Either => (false, true),
        };
        let (mut gradients, mut parts, mut loss) = (Gradients::default(), Vec::new(), 0.0);
        for part in slides.chunks(slides.len().div_ceil(self.config.accumulate).max(1)) {
            let share = part.len() as f64 / slides.len() as f64;
            let rows_of = |s: &&'s Slide| std::iter::repeat_n(*s, self.config.masks);
            let (labels, texts): (Vec<&[u8]>, Vec<&[f32]>) =
                part.iter().flat_map(rows_of).map(|s| (s.label.as_slice(), s.text.as_slice())).unzip();
            let pick: Vec<u32> = (0..labels.len()).map(|r| (r / self.config.masks) as u32).collect();
            let pick = Tensor::from_vec(pick, labels.len(), &Device::Cpu)?;
            let rows: Vec<Sparse> = labels
                .iter()
                .map(|l| Sparse {
                    points: if pointed { vec![first_point(l, side, random)] } else { Vec::new() },
                    bounds: if boxed { jittered_box(l, side, random) } else { None },
                })
                .collect();
            let encoder = &self.sam.encoder;
            let recompute = self.config.recompute && self.config.encoder != EncoderPart::None;
            let (embedding, kept) = if recompute {
                let (embedding, kept) = encoder.forward_keeping(&self.images(part)?)?;
                let leaf = Var::from_tensor(&embedding)?;
                (leaf.as_tensor().clone(), Some((leaf, kept)))
            } else {
                (encoder.forward(&self.images(part)?)?, None)
            };
            let images = embedding.index_select(&pick, 0)?;
            let (tokens, dense) = (self.tokens(&rows, &texts)?, self.sam.prompts.dense(None)?);
            let pass = self.pass(&images, &tokens, &dense, &labels)?;
            loss += share * f64::from(pass.loss.to_scalar::<f32>()?);
            let store = pass.loss.backward()?;
            gradients.add(&self.outer, &store, share)?;
            gradients.add(&self.decoder, &store, share)?;
            if let Some((leaf, kept)) = kept {
                let gradient =
                    store.get(&leaf).ok_or_else(|| Error::Config("the embedding receives no gradient".into()))?;
                encoder.backward(&kept, &gradient.detach(), &mut |store| {
                    Ok(gradients.add(&self.outer, store, share)?)
                })?;
            }
            parts.push(BatchPart {
                share,
                images: images.detach(),
                labels,
                mask: pass.mask,
                predicted: pass.predicted,
            });
        }
        Ok((gradients, parts, loss))
    }

    /// Tokens of points and boxes, then those of the texts.
    fn tokens(&self, rows: &[Sparse], texts: &[&[f32]]) -> Result<Tensor, Error> {
        let sparse = self.sam.prompts.sparse(rows)?;
        if self.config.text.is_none() {
            return Ok(sparse);
        }
        let features = Tensor::from_vec(texts.concat(), (rows.len(), ()), &Device::Cpu)?;
        Ok(Tensor::cat(&[&sparse, &self.sam.prompts.text(&features)?], 1)?)
    }

    fn pass(&self, images: &Tensor, tokens: &Tensor, dense: &Tensor, labels: &[&[u8]]) -> Result<Pass, Error> {
        let (side, low, rows) = (self.sizes.image_size, self.sizes.mask_side(), labels.len());
        let (logits, iou) = self.decode(images, tokens, dense, rows)?;
        let full = resize_square(&logits, side)?;
        let truth: Vec<f32> = labels.iter().flat_map(|l| l.iter().map(|&v| f32::from(v))).collect();
        let truth = Tensor::from_vec(truth, (rows, side, side), &Device::Cpu)?;
        let parts = sam_med2d_loss(&full, &truth, &iou)?;
        let loss = (((parts.focal * FOCAL)? + parts.dice)? + (parts.iou * self.config.iou_weight)?)?;
        let mask = candle_nn::ops::sigmoid(&logits.detach())?.reshape((rows, low, low))?;
        let predicted = full.detach().flatten_from(1)?.to_vec2::<f32>()?;
        let predicted = predicted.into_iter().map(|r| r.into_iter().map(|z| u8::from(z > 0.0)).collect()).collect();
        Ok(Pass { loss, mask, predicted })
    }

    /// Of masks 1.. the one whose predicted IoU is largest, row by row: logits `[rows, low, low]` and that IoU.
    fn decode(&self, images: &Tensor, tokens: &Tensor, dense: &Tensor, rows: usize) -> Result<(Tensor, Tensor), Error> {
        let low = self.sizes.mask_side();
        let masks = self.sam.decoder.forward(images, self.sam.prompts.dense_positions(), tokens, dense)?;
        let predicted = masks.iou.detach().to_vec2::<f32>()?;
        let mut best = Vec::with_capacity(rows);
        for (row, iou) in predicted.iter().enumerate() {
            let mut mask = 1;
            for n in 2..iou.len() {
                if iou[n] > iou[mask] {
                    mask = n;
                }
            }
            best.push((row * iou.len() + mask) as u32);
        }
        let best = Tensor::from_vec(best, rows, &Device::Cpu)?;
        let logits = masks.logits.reshape(((), low, low))?.index_select(&best, 0)?;
        Ok((logits, masks.iou.flatten_all()?.index_select(&best, 0)?))
    }

    /// Mean Dice with the exact box.
    pub(super) fn validate(&self, slides: &[Slide]) -> Result<f64, Error> {
        let side = self.sizes.image_size;
        let mut sum = 0.0;
        for s in slides {
            let images = self.sam.encoder.forward(&self.images(&[s])?)?.detach();
            let row = Sparse { points: Vec::new(), bounds: training_box(&s.label, side) };
            let (tokens, dense) = (self.tokens(&[row], &[&s.text])?, self.sam.prompts.dense(None)?);
            let (logits, _) = self.decode(&images, &tokens, &dense, 1)?;
            let full = resize_square(&logits, side)?.flatten_all()?.to_vec1::<f32>()?;
            let predicted: Vec<u8> = full.iter().map(|&z| u8::from(z > 0.0)).collect();
            let iou = crate::preference::iou(&predicted, &s.label);
            sum += 2.0 * iou / (1.0 + iou);
        }
        Ok(sum / slides.len().max(1) as f64)
    }
}

/// A part of a batch between two passes.
struct BatchPart<'s> {
    /// Share of the batch's pictures.
    share: f64,
    /// Embeddings, one a row.
    images: Tensor,
    labels: Vec<&'s [u8]>,
    mask: Tensor,
    predicted: Vec<Vec<u8>>,
}

/// Sums of gradients by variable.
#[derive(Default)]
struct Gradients(BTreeMap<String, Vec<f32>>);

impl Gradients {
    /// Adds what `store` holds of the variables, times `share`.
    fn add(
        &mut self,
        variables: &BTreeMap<String, Var>,
        store: &candle_core::backprop::GradStore,
        share: f64,
    ) -> Result<(), candle_core::Error> {
        for (name, var) in variables {
            let Some(g) = store.get(var) else { continue };
            let sum = self.0.entry(name.clone()).or_insert_with(|| vec![0.0; var.elem_count()]);
            let g = g.flatten_all()?.to_vec1::<f32>()?;
            sum.iter_mut().zip(g).for_each(|(s, g)| *s += g * share as f32);
        }
        Ok(())
    }

    /// In the order of the names. Every variable must have one, but the mask prompt's network, which no pass trains.
    fn of(&self, variables: &BTreeMap<String, Var>) -> Result<Vec<Vec<f32>>, Error> {
        variables
            .iter()
            .map(|(name, var)| match self.0.get(name) {
                Some(g) => Ok(g.clone()),
                None if name.starts_with("prompt_encoder.mask_downscaling.") => Ok(vec![0.0; var.elem_count()]),
                None => Err(Error::Config(format!("variable {name} receives no gradient"))),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use volseg_model::config::TextSource;

    /// Tiny sizes of the same architecture.
    fn sizes() -> SamConfig {
        SamConfig::from_json(include_str!("../../../volseg-model/tests/fixtures/sam_tiny/config.json")).unwrap()
    }

    #[test]
    fn a_batch_trains_what_it_should_and_nothing_else() {
        let sizes = sizes();
        let start = start();
        let side = sizes.image_size;
        let label: Vec<u8> =
            (0..side * side).map(|i| u8::from((8..20).contains(&(i % side)) && i / side > 12)).collect();
        let input = (0..3 * side * side).map(|i| ((i * 37 % 101) as f32 / 50.0) - 1.0).collect();
        let slide = Slide { input, label, text: Vec::new() };
        for encoder in [EncoderPart::Adapters, EncoderPart::All, EncoderPart::None] {
            let config = SamTrainConfig { encoder, masks: 2, feedback: 3, ..SamTrainConfig::default() };
            let t = Trainer::new(&config, sizes.clone(), start.clone()).unwrap();
            let (mut a, mut b) = (AdamW::adam(&t.outer).unwrap(), AdamW::adam(&t.decoder).unwrap());
            let losses: Vec<f64> = (0..60)
                .map(|n| t.batch(&[&slide, &slide], 1e-2, &mut a, &mut b, &mut Random::at(&[n])).unwrap())
                .collect();
            assert_eq!((a.step, b.step), (60, 240));
            let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
            assert!(mean(&losses[55..]) < 0.7 * mean(&losses[..3]), "{encoder:?}: {losses:?}");
            let dice = t.validate(std::slice::from_ref(&slide)).unwrap();
            assert!(dice > 0.5, "{encoder:?}: {dice}, {losses:.2?}");
            let after = t.tensors();
            assert_eq!(after.len(), start.len());
            let moved = |name: &str| {
                let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                values(&after[name]) != values(&start[name])
            };
            assert!(moved("mask_decoder.iou_token.weight") && moved("prompt_encoder.no_mask_embed.weight"));
            assert_eq!(moved("image_encoder.blocks.0.Adapter.norm.weight"), encoder != EncoderPart::None);
            assert_eq!(moved("image_encoder.blocks.0.mlp.lin1.weight"), encoder == EncoderPart::All);
            for fixed in [
                "prompt_encoder.mask_downscaling.0.weight",
                "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
            ] {
                assert!(!moved(fixed), "{fixed}");
            }
        }
    }

    /// Recomputed blocks give the gradients that kept ones give; parts of a batch give the mean of what each gives alone.
    #[test]
    fn less_memory_gives_the_same_gradients() {
        let sizes = sizes();
        let side = sizes.image_size;
        let slide = |shift: usize| Slide {
            input: (0..3 * side * side).map(|i| (((i + shift) * 37 % 101) as f32 / 50.0) - 1.0).collect(),
            label: (0..side * side).map(|i| u8::from((8..20 + shift).contains(&(i % side)) && i / side > 12)).collect(),
            text: Vec::new(),
        };
        let (one, two) = (slide(0), slide(3));
        let pass = |encoder, recompute, accumulate, slides: &[&Slide]| {
            let prompts = SamPrompts::Both;
            let config =
                SamTrainConfig { encoder, recompute, accumulate, prompts, masks: 1, ..SamTrainConfig::default() };
            let t = Trainer::new(&config, sizes.clone(), start()).unwrap();
            let (gradients, parts, _) = t.first_pass(slides, &mut Random::at(&[5])).unwrap();
            assert_eq!(parts.len(), accumulate);
            [gradients.of(&t.outer).unwrap().concat(), gradients.of(&t.decoder).unwrap().concat()].concat()
        };
        let far = |a: &[f32], b: &[f32]| {
            let size = a.iter().fold(0f32, |m, v| m.max(v.abs()));
            a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / size
        };
        for encoder in [EncoderPart::Adapters, EncoderPart::All] {
            let kept = pass(encoder, false, 1, &[&one, &two]);
            let recomputed = pass(encoder, true, 1, &[&one, &two]);
            assert_eq!(kept.len(), recomputed.len());
            assert!(far(&kept, &recomputed) < 1e-5, "{encoder:?}: {}", far(&kept, &recomputed));
            // The same picture twice, with the same prompts but for their jitter, in two parts.
            let parts = pass(encoder, true, 2, &[&one, &one]);
            let whole = pass(encoder, false, 1, &[&one, &one]);
            assert!(far(&whole, &parts) < 0.05, "{encoder:?}: {}", far(&whole, &parts));
        }
    }

    fn start() -> BTreeMap<String, Tensor> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../volseg-model/tests/fixtures/sam_tiny/model.safetensors");
        candle_core::safetensors::load(path, &Device::Cpu).unwrap().into_iter().collect()
    }

    fn reading_texts() -> (SamConfig, SamTrainConfig) {
        let text = Some(TextSource { embed_dim: 4, sha256: String::new() });
        let config =
            SamTrainConfig { masks: 2, feedback: 1, text: Some("embedded".into()), ..SamTrainConfig::default() };
        (SamConfig { text, ..sizes() }, config)
    }

    /// A small disc in the middle of a large one.
    fn disc(side: usize, radius: f32) -> Vec<u8> {
        let middle = side as f32 / 2.0;
        let away = |i: usize| ((i % side) as f32 - middle).hypot((i / side) as f32 - middle);
        (0..side * side).map(|i| u8::from(away(i) < radius)).collect()
    }

    #[test]
    fn words_decide_which_of_two_things_a_point_means() {
        let (sizes, config) = reading_texts();
        let side = sizes.image_size;
        let t = Trainer::new(&config, sizes, start()).unwrap();
        let radii = [side as f32 / 8.0, side as f32 / 3.0];
        let [small, large] = radii.map(|r| disc(side, r));
        let input: Vec<f32> = (0..3 * side * side)
            .map(|i| f32::from(small[i % (side * side)] + large[i % (side * side)]) - 1.0)
            .collect();
        let words = [vec![0.8, 0.6, 0.0, 0.0], vec![0.0, 0.0, 0.6, 0.8]];
        let slides: Vec<Slide> = [&small, &large]
            .iter()
            .zip(&words)
            .map(|(label, text)| Slide { input: input.clone(), label: label.to_vec(), text: text.clone() })
            .collect();
        let (mut a, mut b) = (AdamW::adam(&t.outer).unwrap(), AdamW::adam(&t.decoder).unwrap());
        for n in 0..200 {
            t.batch(&[&slides[0], &slides[1]], 5e-3, &mut a, &mut b, &mut Random::at(&[n])).unwrap();
        }
        let images = t.sam.encoder.forward(&t.images(&[&slides[0]]).unwrap()).unwrap();
        let middle = volseg_model::prompt_encoder::Point { x: side as f32 / 2.0, y: side as f32 / 2.0, label: 1 };
        let row = [Sparse { points: vec![middle], bounds: None }];
        let dense = t.sam.prompts.dense(None).unwrap();
        for (text, own, other) in [(&words[0], &small, &large), (&words[1], &large, &small)] {
            let (logits, _) = t.decode(&images, &t.tokens(&row, &[text]).unwrap(), &dense, 1).unwrap();
            let full = resize_square(&logits, side).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let mask: Vec<u8> = full.iter().map(|&z| u8::from(z > 0.0)).collect();
            let iou = |truth: &[u8]| crate::preference::iou(&mask, truth);
            assert!(iou(own) > 0.5 && iou(own) > iou(other) + 0.2, "{} {}", iou(own), iou(other));
        }
    }

    #[test]
    fn the_gradient_of_the_text_projection_is_the_slope_of_the_loss() {
        let (sizes, config) = reading_texts();
        let side = sizes.image_size;
        let t = Trainer::new(&config, sizes, start()).unwrap();
        let label = disc(side, side as f32 / 4.0);
        let input = (0..3 * side * side).map(|i| ((i * 37 % 101) as f32 / 50.0) - 1.0).collect();
        let slide = Slide { input, label, text: vec![0.1, -0.7, 0.5, 0.5] };
        let images = t.sam.encoder.forward(&t.images(&[&slide]).unwrap()).unwrap().detach();
        let row = [Sparse { points: Vec::new(), bounds: training_box(&slide.label, side) }];
        let dense = t.sam.prompts.dense(None).unwrap();
        let loss = || t.pass(&images, &t.tokens(&row, &[&slide.text]).unwrap(), &dense, &[&slide.label]).unwrap().loss;
        let grads = loss().backward().unwrap();
        for part in ["weight", "bias"] {
            let var = &t.outer[&format!("{TEXT_PROJECTION}.{part}")];
            let gradient = grads.get(var).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let length = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            assert!(length > 1e-5, "{part} has no gradient");
            // Along the gradient itself, where the slope is its length.
            let (old, step) = (var.as_tensor().copy().unwrap(), 1e-2);
            let at = |sign: f64| {
                let direction = Tensor::from_slice(&gradient, old.dims(), &Device::Cpu).unwrap();
                var.set(&(&old + (direction * (sign * step / length)).unwrap()).unwrap()).unwrap();
                f64::from(loss().to_scalar::<f32>().unwrap())
            };
            let slope = (at(1.0) - at(-1.0)) / (2.0 * step);
            var.set(&old).unwrap();
            assert!((slope - length).abs() < 0.03 * length, "{part}: {slope} {length}");
        }
    }
}
