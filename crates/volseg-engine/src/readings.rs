//! A picture is read several times, and the answer is made of what the readings agree on.

use crate::Error;
use crate::body::{View, resize_about_middle};
use crate::pass::{
    ABSENT, Answer, Encoded, Question, STEPS, Seen, decode, decode_all, fixed_point, forward, found, read,
};
use std::borrow::Borrow;
use std::collections::BTreeMap;
use volseg_geometry::AnyVolume;
use volseg_model::embedded::Network;

/// Sizes at which an ultrasound is read: how many times as much of it along each side.
const ULTRASOUND_ZOOMS: [f32; 3] = [1.0, 0.8, 1.2];
/// An ultrasound's logits are divided by this: the network is surer than it is right. The value with the greatest likelihood of
/// the validation part (docs, model card).
const ULTRASOUND_SOFTENED: f32 = 1.7;
/// An organ asked for by name in an ultrasound whose greatest expected Dice is lower is taken as "nothing found".
const LEAST_EXPECTED_DICE: f32 = 0.4;
/// No mask is cut lower, whatever a prompt says: where the readings see next to nothing there is nothing.
const LEAST_CUT: f32 = 0.05;

/// The readings of a slice of which an answer is made, the plain one first: a slice of a volume is read once. A picture is read a
/// second time with left and right exchanged: errors that are not the same on both sides fall out. An ultrasound is read at three
/// sizes, six times in all.
pub(crate) fn read_all<'a>(
    net: &'a Network,
    volume: &'a AnyVolume,
    view: &'a View,
    slice: usize,
) -> impl Iterator<Item = Result<Encoded, Error>> + 'a {
    let zooms = if view.is_read_at_sizes() { &ULTRASOUND_ZOOMS[..] } else { &[1.0] };
    let mirrored = if view.is_read_twice() { &[false, true][..] } else { &[false] };
    zooms.iter().flat_map(move |&zoom| {
        let input = view.zoomed_input(volume, slice, zoom);
        mirrored.iter().map(move |&mirrored| read(net, input.clone(), Seen { zoom, mirrored }))
    })
}

/// Reads a slice and answers. Organs without an answer were not found.
pub(crate) fn ask(
    net: &Network,
    volume: &AnyVolume,
    view: &View,
    slice: usize,
    question: &Question<'_>,
) -> Result<Vec<Answer>, Error> {
    answer(net, read_all(net, volume, view, slice), view, question)
}

/// Answers from all readings of a slice ([`read_all`]): the mean of a picture's. That of an ultrasound is cut where the expected Dice is
/// greatest ([`best_cut`]); odds are scaled so that this cut becomes 0.5.
pub(crate) fn answer<E: Borrow<Encoded>>(
    net: &Network,
    all: impl Iterator<Item = Result<E, Error>>,
    view: &View,
    question: &Question<'_>,
) -> Result<Vec<Answer>, Error> {
    let ultrasound = view.is_read_at_sizes();
    let softened = if ultrasound { ULTRASOUND_SOFTENED } else { 1.0 };
    let mut readings = 0.0;
    // By organ: sums of probabilities and predicted IoU; a reading that found nothing adds nothing.
    let mut sums: BTreeMap<u8, (Vec<f32>, f32)> = BTreeMap::new();
    for encoded in all {
        let encoded = encoded?;
        let answers = decode(net, encoded.borrow(), view, question)?;
        if !view.is_read_twice() {
            return Ok(found(answers, question));
        }
        readings += 1.0;
        for a in answers {
            let logits: Vec<f32> = a.logits.iter().map(|&l| f32::from(l) / STEPS).collect();
            let zoom = encoded.borrow().seen.zoom;
            let logits = resize_about_middle(&logits, view.side, 1.0 / zoom, f32::from(ABSENT) / STEPS);
            let (sum, iou) = sums.entry(a.organ).or_insert_with(|| (vec![0.0; logits.len()], 0.0));
            sum.iter_mut().zip(&logits).for_each(|(s, l)| *s += 1.0 / (1.0 + (-l / softened).exp()));
            *iou += a.iou;
        }
    }
    let by_name = matches!(question, Question::Organs(_));
    let logit = |p: f32| (p / (1.0 - p)).ln();
    let mut answers = Vec::new();
    for (organ, (sum, iou)) in sums {
        let mean: Vec<f32> = sum.iter().map(|s| s / readings).collect();
        let mut cut = 0.5;
        if ultrasound {
            let expected;
            (cut, expected) = best_cut(&mean);
            if by_name && expected < LEAST_EXPECTED_DICE {
                continue;
            }
        }
        let logits: Vec<f32> = mean.iter().map(|&p| logit(p) - logit(cut)).collect();
        answers.push(Answer { organ, logits: fixed_point(&logits), iou: iou / readings });
    }
    Ok(if ultrasound { answers } else { found(answers, question) })
}

/// [`ask`] for several slices of a volume that are read, and whose rows are decoded, together. The answers are the same.
pub(crate) fn ask_all(
    net: &Network,
    volume: &AnyVolume,
    view: &View,
    slices: &[(usize, Question<'_>)],
) -> Result<Vec<Vec<Answer>>, Error> {
    if view.is_read_twice() || slices.len() < 2 {
        return slices.iter().map(|(s, question)| ask(net, volume, view, *s, question)).collect();
    }
    let (features, dense) = forward(net, slices.iter().flat_map(|(s, _)| view.input(volume, *s)).collect())?;
    let asked: Vec<_> = dense.iter().map(Vec::as_slice).zip(slices.iter().map(|(_, question)| question)).collect();
    let answers = decode_all(net, &features, Seen::PLAIN, view, &asked)?;
    Ok(answers.into_iter().zip(slices).map(|(a, (_, question))| found(a, question)).collect())
}

/// Where to cut independent pixels of these probabilities so that the expected Dice, 2 sum p (inside) / (sum p + pixels inside), is
/// greatest: at half of that Dice (Lipton, Elkan, Naryanaswamy 2014). Returns cut and Dice.
fn best_cut(probabilities: &[f32]) -> (f32, f32) {
    let mut falling = probabilities.to_vec();
    falling.sort_unstable_by(|a, b| b.total_cmp(a));
    let total: f64 = falling.iter().map(|&p| f64::from(p)).sum();
    let (mut inside, mut dice) = (0.0, 0.0f64);
    for (n, &p) in falling.iter().enumerate() {
        inside += f64::from(p);
        dice = dice.max(2.0 * inside / (total + (n + 1) as f64));
    }
    ((dice as f32 / 2.0).max(LEAST_CUT), dice as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cut_is_where_the_expected_dice_is_greatest() {
        let expected = |p: &[f32], cut: f32| {
            let inside: Vec<f32> = p.iter().copied().filter(|&v| v > cut).collect();
            2.0 * inside.iter().sum::<f32>() / (p.iter().sum::<f32>() + inside.len() as f32)
        };
        let sure: Vec<f32> = (0..100).map(|n| if n < 30 { 0.99 } else { 0.0 }).collect();
        let unsure: Vec<f32> = (0..100).map(|n| 0.7 * (-(n as f32) / 30.0).exp()).collect();
        for p in [&sure, &unsure] {
            let (cut, dice) = best_cut(p);
            assert!((expected(p, cut) - dice).abs() < 1e-4, "{cut} {dice}");
            assert!((1..100).all(|n| expected(p, n as f32 / 100.0) <= dice + 1e-5), "{cut} {dice}");
        }
        assert!(best_cut(&sure).0 > 0.49 && best_cut(&unsure).0 < 0.35);
        assert_eq!(best_cut(&[0.0; 4]), (LEAST_CUT, 0.0));
    }
}
