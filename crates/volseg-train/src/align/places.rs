//! One round of ranks in two looks: first where, then which outline. Thresholds of one answer cannot find what it missed.

use super::item::{Item, Judged, judge};
use crate::Error;
use crate::preference::{Answer, CANDIDATES, candidates, iou, mask_at_half};
use volseg_model::embedded::{Network, PromptRow};

/// Clicks of a side of the grid that is asked.
const CLICKS: usize = 6;
/// Masks with a greater IoU are the same answer.
const SAME: f64 = 0.6;
/// Masks of the first look: three rankings of four, each with the best of the one before.
const MASKS: usize = 10;
/// Of the answer to the best mask's box.
const THRESHOLDS: [f32; CANDIDATES] = [0.2, 0.5, 0.8, 0.8];

/// What the simulated annotator says in both looks; the last judgements are those of the outline, in each of `tiles * tiles` parts.
///
/// The first look is at the first model's answer at 0.5, at an empty mask, and at its answers to one click in each cell of a grid,
/// surest first (predicted IoU), each unlike those before it. The second is at the best of them and at the answer to its box, at
/// three thresholds; there is none where nothing is there.
///
/// # Errors
/// [`Error::Data`] for an item whose slice was not kept; errors of the network.
pub(super) fn judge_places(first: &Network, item: &Item, truth: &[u8], tiles: usize) -> Result<Vec<Judged>, Error> {
    let features = item.features.as_ref().ok_or_else(|| Error::Data("an image was not read".into()))?;
    let side = first.config.side;
    let at = |cell: usize| (cell as f32 + 0.5) * side as f32 / CLICKS as f32;
    let rows: Vec<PromptRow> = (0..CLICKS * CLICKS)
        .map(|n| PromptRow { points: vec![[at(n % CLICKS), at(n / CLICKS), 1.0]], ..PromptRow::default() })
        .collect();
    let answers = first.decoder.forward(features, &rows)?;
    let sure = answers.iou.to_vec1::<f32>()?;
    let mut clicked: Vec<(f32, Vec<f32>)> = sure.into_iter().zip(answers.logits.to_vec2::<f32>()?).collect();
    clicked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut found = vec![mask_at_half(&item.reference)];
    if found[0].contains(&1) {
        // "Nothing there" is an answer too.
        found.push(vec![0; side * side]);
    }
    for (_, z) in &clicked {
        let mask = mask_at_half(z);
        if found.len() < MASKS && mask.contains(&1) && found.iter().all(|m| iou(m, &mask) < SAME) {
            found.push(mask);
        }
    }
    let mut judged = Vec::new();
    let mut found = found.into_iter();
    let mut best = found.next().unwrap_or_default();
    while found.len() > 0 {
        // Where fewer are left, the best stands for them: equal masks tie.
        let masks: [Vec<u8>; CANDIDATES] =
            std::array::from_fn(|k| if k == 0 { None } else { found.next() }.unwrap_or_else(|| best.clone()));
        let answer = Answer::from_iou(masks.each_ref().map(|m| iou(m, truth)), item.flip);
        best.clone_from(&masks[answer.order()[0]]);
        judged.push(Judged { pixels: None, masks, answer });
    }
    if !best.contains(&1) {
        return Ok(judged);
    }
    let mut row = PromptRow::default();
    row.set_first_mask(&best.iter().map(|&v| f32::from(v) - 0.5).collect::<Vec<_>>(), side);
    let boxed = PromptRow { bounds: row.bounds, ..PromptRow::default() };
    let z = first.decoder.forward(features, &[boxed])?.logits.flatten_all()?.to_vec1::<f32>()?;
    let [low, middle, high, _] = candidates(&z, THRESHOLDS);
    judged.extend(judge([best, low, middle, high], truth, item.flip, tiles));
    Ok(judged)
}

#[cfg(test)]
mod tests {
    use super::super::item::read_slice;
    use super::super::retrain::best_parts;
    use super::*;
    use volseg_model::Params;
    use volseg_model::embedded::Config;

    fn item(truth: &[u8]) -> (Network, Item) {
        let config = Config { side: 32, ..Config::default() };
        let net = Network::new(&config, &Params::trainable(3, Default::default())).unwrap();
        let input = (0..32 * 32 * 3).map(|i| ((i * 37 % 101) as f32 / 50.0) - 1.0).collect();
        let item = read_slice(&net, input, Some(truth.to_vec()), |dense| {
            let mut row = PromptRow { organ: Some(16), ..PromptRow::default() };
            row.set_first_mask(&dense[16], 32);
            row
        });
        (net, item.unwrap())
    }

    #[test]
    fn each_look_is_at_least_as_good_as_what_came_before() {
        let truth: Vec<u8> = (0..32 * 32).map(|i| u8::from(i % 32 < 9 && (10..20).contains(&(i / 32)))).collect();
        let (net, item) = item(&truth);
        let judged = judge_places(&net, &item, &truth, 1).unwrap();
        let mut before = iou(&mask_at_half(&item.reference), &truth);
        for j in &judged {
            let best = iou(&j.masks[j.answer.order()[0]], &truth);
            assert!(best >= before, "{best} after {before}");
            before = best;
        }
        assert_eq!(iou(&best_parts(&item.reference, &judged), &truth), before);
        let tiled = judge_places(&net, &item, &truth, 4).unwrap();
        assert!(tiled.iter().filter(|j| j.pixels.is_none()).count() <= 3 && tiled.len() <= 3 + 16);
    }

    #[test]
    fn where_nothing_is_the_annotator_says_so() {
        let (net, item) = item(&[0; 32 * 32]);
        let judged = judge_places(&net, &item, &[0; 32 * 32], 4).unwrap();
        assert!(!best_parts(&item.reference, &judged).contains(&1));
        assert!(judged.iter().all(|j| j.pixels.is_none()));
    }
}
