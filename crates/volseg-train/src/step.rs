//! Loss and gradients of one shard of a batch.

use crate::asked::prompt;
use crate::sample::Sample;
use crate::{Error, Random};
use candle_core::{Device, Tensor, Var};
use rayon::prelude::*;
use std::collections::BTreeMap;
use volseg_geometry::{PixelBox, components_2d};
use volseg_model::embedded::{Network, PromptRow};
use volseg_model::grad_ops::mask_loss;

/// Weight of the mean BCE beside one soft Dice.
const BCE: f32 = 2.0;
/// Truth below this many pixels counts as absent: Dice is off.
const PRESENT: f32 = 2.0;

/// Parts of a loss, for the log.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Losses {
    pub(crate) total: f32,
    pub(crate) dense: f32,
    pub(crate) rows: f32,
}

/// One row to train the decoder on: its prompt and what it should answer.
struct Row {
    prompt: PromptRow,
    truth: Vec<f32>,
}

/// Loss of `samples` and its gradient for every variable, in the order of their names.
pub(crate) fn gradients(
    net: &Network,
    variables: &BTreeMap<String, Var>,
    samples: &[Sample],
    rows_per: [usize; 2],
    device: &Device,
    random: &mut Random,
) -> Result<(Losses, Vec<Tensor>), Error> {
    let side = net.config.side;
    let pixels = side * side;
    let n = samples.len();
    let mut input = Vec::with_capacity(n * pixels * 3);
    for s in samples {
        input.extend_from_slice(&s.input);
    }
    let features = net.encoder.forward(&Tensor::from_vec(input, (n, side, side, 3), device)?)?;

    // Dense head: every organ that the sample's data set labels. Most masks are empty: one empty one serves them all.
    let organs = net.config.organs;
    let dense = features.dense.transpose(1, 2)?.contiguous()?.reshape((n * organs, pixels))?;
    let mut masks = vec![0f32; pixels];
    let (mut pick, mut mask_of, mut dice, mut weight) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (i, s) in samples.iter().enumerate() {
        for (organ, mask) in &s.truth {
            pick.push((i * organs + usize::from(*organ) - 1) as u32);
            let sum = mask.iter().sum::<f32>();
            mask_of.push(if sum > 0.0 { (masks.len() / pixels) as u32 } else { 0 });
            if sum > 0.0 {
                masks.extend_from_slice(mask);
            }
            dice.push(if sum > PRESENT { 1.0 } else { 0.0 });
            weight.push(if s.ct { 0.2f32 } else { 1.0 });
        }
    }
    let count = pick.len();
    let chosen = dense.index_select(&Tensor::from_vec(pick, count, device)?, 0)?;
    let masks = Tensor::from_vec(masks, ((), pixels), device)?;
    let truth = masks.index_select(&Tensor::from_vec(mask_of, count, device)?, 0)?;
    let weight = Tensor::from_vec(weight, count, device)?;
    let dense_loss = ((mask_loss(&chosen, &truth, BCE, dice)? * weight)?.sum_all()? / n as f64)?;

    // Prompted rows: (sample, organ of its truth), and the first masks of all of them.
    let mut asked = Vec::new();
    let (mut first, mut at) = (Vec::new(), 0);
    for (i, s) in samples.iter().enumerate() {
        for organ in choose(s, rows_per[usize::from(!s.ct)], random) {
            asked.push((i, organ, random.next()));
            first.push((at + organ) as u32);
        }
        at += s.truth.len();
    }
    let r = asked.len();
    let first = chosen.detach().index_select(&Tensor::from_vec(first, r, device)?, 0)?.to_vec2::<f32>()?;
    let rows: Vec<Row> = asked
        .par_iter()
        .zip(&first)
        .map(|(&(i, organ, seed), logits)| {
            let (organ, truth) = &samples[i].truth[organ];
            let mut random = Random::at(&[seed]);
            match samples[i].asked {
                None => make_row(i, *organ, truth, logits, side, &mut random),
                Some(asked) => {
                    let mask: Vec<u8> = truth.iter().map(|&t| u8::from(t > 0.5)).collect();
                    let bounds = PixelBox::of_mask(&mask, side);
                    let row = prompt(asked, &samples[i], *organ, Some(logits), bounds, side, &mut random);
                    Row { prompt: PromptRow { image: i, ..row }, truth: truth.clone() }
                }
            }
        })
        .collect();
    let (prompts, truths): (Vec<PromptRow>, Vec<Vec<f32>>) = rows.into_iter().map(|r| (r.prompt, r.truth)).unzip();
    let decoded = net.decoder.forward(&features, &prompts)?;
    let dice = truths.iter().map(|t| if t.iter().sum::<f32>() > PRESENT { 1.0 } else { 0.0 }).collect();
    let answers = decoded.logits.detach().to_vec2::<f32>()?;
    let iou: Vec<f32> = truths.par_iter().zip(&answers).map(|(t, a)| hard_iou(a, t)).collect();
    let truth = Tensor::from_vec(truths.concat(), (r, pixels), device)?;
    let row_loss = mask_loss(&decoded.logits, &truth, BCE, dice)?.mean_all()?;
    let iou_loss = (decoded.iou - Tensor::from_vec(iou, r, device)?)?.sqr()?.mean_all()?;
    let total = ((&dense_loss + &row_loss)? + (iou_loss * 0.1)?)?;
    let losses = Losses { total: total.to_scalar()?, dense: dense_loss.to_scalar()?, rows: row_loss.to_scalar()? };
    let store = total.backward()?;
    let gradients = variables
        .iter()
        .map(|(name, var)| {
            let g = store.get(var).ok_or_else(|| Error::Config(format!("variable {name} receives no gradient")))?;
            // candle's gradient of a variable holds on to all that it was computed from.
            Ok(g.flatten_all()?.detach())
        })
        .collect::<Result<_, Error>>()?;
    Ok((losses, gradients))
}

/// Organs (indices into the truth) for the decoder's rows: mostly present ones, about one in five absent.
fn choose(s: &Sample, n: usize, random: &mut Random) -> Vec<usize> {
    if !s.ct {
        return vec![0; n];
    }
    let (mut present, absent): (Vec<usize>, Vec<usize>) =
        (0..s.truth.len()).partition(|&i| s.truth[i].1.iter().sum::<f32>() > PRESENT);
    let focus = present.iter().position(|&i| s.focus == Some(s.truth[i].0)).map(|at| present.swap_remove(at));
    let others = (0..n.saturating_sub(usize::from(focus.is_some()))).map(|_| {
        if (random.chance(0.8) || absent.is_empty()) && !present.is_empty() {
            present.swap_remove(random.below(present.len()))
        } else if absent.is_empty() {
            random.below(s.truth.len())
        } else {
            absent[random.below(absent.len())]
        }
    });
    focus.into_iter().chain(others).take(n).collect()
}

fn hard_iou(logits: &[f32], truth: &[f32]) -> f32 {
    let (mut both, mut either) = (0u32, 0u32);
    for (l, t) in logits.iter().zip(truth) {
        let (a, b) = (*l > 0.0, *t > 0.5);
        both += u32::from(a && b);
        either += u32::from(a || b);
    }
    if either == 0 { 0.0 } else { both as f32 / either as f32 }
}

/// Draws how a row is prompted. Half of the rows get what automatic use gives them: the own first mask, its box and points.
fn make_row(image: usize, organ: u8, truth: &[f32], first: &[f32], side: usize, random: &mut Random) -> Row {
    let token = Some(usize::from(organ) - 1);
    let mut prompt = PromptRow { image, organ: token, ..PromptRow::default() };
    let present = truth.iter().sum::<f32>() > PRESENT;
    let mode = random.uniform(0.0, 1.0);
    if mode < 0.5 || !present {
        prompt.set_first_mask(first, side);
        if present && random.chance(0.45) {
            // Clicks: on what the first mask got wrong, or anywhere inside.
            let correct = random.chance(0.5);
            let from: Vec<usize> = (0..truth.len())
                .filter(|&i| if correct { (first[i] > 0.0) != (truth[i] > 0.5) } else { truth[i] > 0.5 })
                .collect();
            add_points(&mut prompt, &from, truth, side, 1 + random.below(4), random);
        }
        return Row { prompt, truth: truth.to_vec() };
    }
    if random.chance(0.5) {
        prompt.organ = None;
    }
    let binary: Vec<u8> = truth.iter().map(|&t| u8::from(t > 0.5)).collect();
    let (ids, parts) = components_2d(&binary, side, true);
    let mut wanted = truth.to_vec();
    let mut bounds = volseg_geometry::PixelBox::of_mask(&binary, side);
    if parts.len() > 1 && random.chance(0.6) {
        let part = &parts[random.below(parts.len())];
        bounds = Some(part.bounds);
        for (w, id) in wanted.iter_mut().zip(&ids) {
            if *id != part.id && *id != 0 {
                *w = 0.0;
            }
        }
    }
    let (boxed, pointed) = match mode {
        m if m < 0.75 => (true, false),
        m if m < 0.92 => (false, true),
        _ => (true, true),
    };
    if let (true, Some(b)) = (boxed, bounds) {
        let jitter = if random.chance(0.4) { 0.0 } else { 0.08 };
        let (w, h) = (b.x1 - b.x0, b.y1 - b.y0);
        let mut move_by = |v: f32, size: f32| v + size * random.uniform(-jitter, jitter);
        prompt.bounds = Some([move_by(b.x0, w), move_by(b.y0, h), move_by(b.x1, w), move_by(b.y1, h)]);
    }
    if pointed {
        let inside: Vec<usize> = (0..wanted.len()).filter(|&i| wanted[i] > 0.5).collect();
        add_points(&mut prompt, &inside, &wanted, side, 1 + random.below(4), random);
        if random.chance(0.3) {
            let outside: Vec<usize> = (0..wanted.len()).filter(|&i| wanted[i] < 0.2).collect();
            add_points(&mut prompt, &outside, &wanted, side, 1, random);
        }
        if !boxed {
            // Without a box a click means the whole organ.
            wanted = truth.to_vec();
        }
    }
    Row { prompt, truth: wanted }
}

fn add_points(p: &mut PromptRow, from: &[usize], truth: &[f32], side: usize, n: usize, random: &mut Random) {
    for _ in 0..n {
        if let Some(&i) = from.get(random.below(from.len())) {
            let inside = if truth[i] > 0.5 { 1.0 } else { 0.0 };
            p.points.push([(i % side) as f32 + 0.5, (i / side) as f32 + 0.5, inside]);
        }
    }
    p.points.truncate(volseg_model::embedded::POINT_TOKENS);
}
