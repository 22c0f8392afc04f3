//! What stage 2 learns from: a slice that was read once, one prompt for it, and what an annotator thinks of the masks.

use super::config::AlignConfig;
use crate::asked::prompt;
use crate::pictures::Picture;
use crate::preference::{Answer, CANDIDATES, iou};
use crate::sample::Sample;
use crate::volumes::CtVolume;
use crate::{Error, Random};
use candle_core::{Device, Tensor};
use volseg_geometry::PixelBox;
use volseg_model::embedded::{Features, Network, PromptRow};

/// Four masks and what an annotator said about them.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    /// Pixels that were judged; `None`: all.
    pub(crate) pixels: Option<Vec<u32>>,
    /// Masks of the whole slice.
    pub(crate) masks: [Vec<u8>; CANDIDATES],
    /// The answer.
    pub(crate) answer: Answer,
}

/// One organ on one slice.
pub(crate) struct Item {
    /// `[side, side, 3]`.
    pub(crate) input: Vec<f32>,
    /// What the first model's encoder made of it, without gradient; `None` where it is read anew each time.
    pub(crate) features: Option<Features>,
    /// The prompt.
    pub(crate) row: PromptRow,
    /// The first model's logits.
    pub(crate) reference: Vec<f32>,
    /// True mask; the simulated annotator's alone, unless the item is labelled.
    pub(crate) truth: Option<Vec<u8>>,
    /// The simulated annotator's error on this slice.
    pub(crate) flip: Option<u8>,
    /// Fixed judgements: by people, or of the first model's masks.
    pub(crate) judged: Vec<Judged>,
}

/// What the encoder knows of a slice, without the dense head's masks (a megabyte a slice that the decoder does not read).
fn keep(features: &Features) -> Result<Features, Error> {
    Ok(Features {
        embedding: features.embedding.detach(),
        levels: [features.levels[0].detach(), features.levels[1].detach(), features.levels[2].detach()],
        dense: Tensor::zeros(1, candle_core::DType::F32, &Device::Cpu)?,
    })
}

/// Bytes that features take.
pub(super) fn bytes(features: &Features) -> usize {
    4 * (features.embedding.elem_count() + features.levels.iter().map(Tensor::elem_count).sum::<usize>())
}

/// Several slices' features as one batch.
pub(crate) fn join(all: &[&Features]) -> Result<Features, Error> {
    let cat = |part: fn(&Features) -> &Tensor| -> Result<Tensor, Error> {
        let parts: Vec<&Tensor> = all.iter().map(|f| part(f)).collect();
        Ok(Tensor::cat(&parts, 0)?)
    };
    Ok(Features {
        embedding: cat(|f| &f.embedding)?,
        levels: [cat(|f| &f.levels[0])?, cat(|f| &f.levels[1])?, cat(|f| &f.levels[2])?],
        dense: Tensor::zeros(1, candle_core::DType::F32, &Device::Cpu)?,
    })
}

/// Reads a slice with the first model and asks it once. `prompt` sees the dense head's first masks.
pub(crate) fn read_slice(
    first: &Network,
    input: Vec<f32>,
    truth: Option<Vec<u8>>,
    prompt: impl FnOnce(&[Vec<f32>]) -> PromptRow,
) -> Result<Item, Error> {
    let side = first.config.side;
    let x = Tensor::from_vec(input.clone(), (1, side, side, first.config.channels), &Device::Cpu)?;
    let features = first.encoder.forward(&x)?;
    let dense = features.dense.squeeze(0)?.t()?.contiguous()?.to_vec2::<f32>()?;
    let row = prompt(&dense);
    let features = keep(&features)?;
    let reference = first.decoder.forward(&features, std::slice::from_ref(&row))?.logits.flatten_all()?.to_vec1()?;
    Ok(Item { input, features: Some(features), row, reference, truth, flip: None, judged: Vec::new() })
}

/// A picture of a data set. `place` numbers it among all pictures: what is drawn for it hangs on nothing else.
/// `see` is shown the dense head's first masks.
pub(crate) fn of_picture(
    first: &Network,
    p: &Picture,
    config: &AlignConfig,
    place: u64,
    see: &mut dyn FnMut(&[Vec<f32>]),
) -> Result<Item, Error> {
    let mut random = Random::at(&[config.seed, place, 0xa11]);
    let sample = Sample::picture(p, first.config.side, false, &mut random);
    of_sample(first, sample, p.organ.get(), config, random, see)
}

/// An organ on a slice of a CT. `place` as for [`of_picture`].
pub(crate) fn of_slice(
    first: &Network,
    volume: &CtVolume,
    (slice, organ): (usize, u8),
    config: &AlignConfig,
    place: u64,
) -> Result<Item, Error> {
    let mut random = Random::at(&[config.seed, place, 0xa11]);
    let sample = Sample::ct(volume, slice, first.config.side, false, &mut random);
    of_sample(first, sample, organ, config, random, &mut |_| ())
}

fn of_sample(
    first: &Network,
    mut sample: Sample,
    organ: u8,
    config: &AlignConfig,
    mut random: Random,
    see: &mut dyn FnMut(&[Vec<f32>]),
) -> Result<Item, Error> {
    let side = first.config.side;
    let truth = sample.truth.iter().find(|(o, _)| *o == organ);
    let truth: Vec<u8> = truth.map_or_else(Vec::new, |(_, m)| m.iter().map(|&v| u8::from(v > 0.5)).collect());
    let token = usize::from(organ) - 1;
    let bounds = PixelBox::of_mask(&truth, side);
    let input = std::mem::take(&mut sample.input);
    let mut item = read_slice(first, input, Some(truth), |dense| {
        see(dense);
        prompt(config.prompts, &sample, organ, dense.get(token).map(Vec::as_slice), bounds, side, &mut random)
    })?;
    if random.chance(config.noise) {
        item.flip = Some(1 + random.below(CANDIDATES - 1) as u8);
    }
    Ok(item)
}

impl Judged {
    /// The simulated annotator looks at four masks in whole.
    pub(super) fn whole(masks: [Vec<u8>; CANDIDATES], truth: &[u8], flip: Option<u8>) -> Self {
        let answer = Answer::from_iou(masks.each_ref().map(|m| iou(m, truth)), flip);
        Self { pixels: None, masks, answer }
    }

    /// The mask that is liked best.
    pub(super) fn best(&self) -> &Vec<u8> {
        &self.masks[self.answer.order()[0]]
    }
}

/// The simulated annotator looks at four masks, in whole or in each of `tiles * tiles` parts.
pub(crate) fn judge(masks: [Vec<u8>; CANDIDATES], truth: &[u8], flip: Option<u8>, tiles: usize) -> Vec<Judged> {
    let side = (truth.len() as f64).sqrt() as usize;
    if tiles <= 1 {
        return vec![Judged::whole(masks, truth, flip)];
    }
    let n = tiles;
    let mut all = Vec::with_capacity(n * n);
    for (ty, tx) in (0..n * n).map(|t| (t / n, t % n)) {
        let edge = |t: usize| t * side / n;
        let pixels: Vec<u32> = (edge(ty)..edge(ty + 1))
            .flat_map(|y| (edge(tx)..edge(tx + 1)).map(move |x| (y * side + x) as u32))
            .collect();
        // A tile on which the masks agree tells nothing.
        if pixels.iter().all(|&i| masks.iter().all(|m| m[i as usize] == masks[0][i as usize])) {
            continue;
        }
        let part = |m: &[u8]| pixels.iter().map(|&i| m[i as usize]).collect::<Vec<_>>();
        let answer = Answer::from_iou(masks.each_ref().map(|m| iou(&part(m), &part(truth))), flip);
        all.push(Judged { pixels: Some(pixels), answer, masks: masks.clone() });
    }
    all
}
