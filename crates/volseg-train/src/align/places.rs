//! One round of ranks in two looks: first where, then which outline. Thresholds of one answer cannot find what it missed.

use super::item::{Item, Judged, judge};
use super::search::{Pixels, Search};
use crate::Error;
use crate::preference::{CANDIDATES, candidates, mask_at_half};
use volseg_geometry::PixelBox;
use volseg_model::embedded::{Features, Network, PromptRow};

/// Clicks of a side of the grid that is asked.
const CLICKS: usize = 6;
/// Boxes: centres of a side of the grid, sizes in shares of the picture's side, width over height.
const GRID: usize = 8;
const SIZES: [f32; 4] = [0.15, 0.25, 0.4, 0.65];
const ASPECTS: [f32; 3] = [0.7, 1.3, 2.2];
/// Share of a box that must lie in the picture.
const WITHIN: f32 = 0.6;
/// Likely guesses whose boxes are moved after each ranking, and how far each side goes, in shares of width or height.
const PARENTS: usize = 8;
const MOVES: [f32; 4] = [-0.25, -0.12, 0.12, 0.25];
/// Rankings of the first look.
const ROUNDS: usize = 5;
/// What the network's own answer and an empty mask count before any ranking, as multiples of all answers to clicks and boxes.
const OWN: f64 = 0.3;
const EMPTY: f64 = 0.1;
/// Prompts that are answered at once.
const ROWS: usize = 64;
/// Of the answer to the best mask's box.
const THRESHOLDS: [f32; CANDIDATES] = [0.2, 0.5, 0.8, 0.8];

/// What the simulated annotator says in both looks; the last judgements are those of the outline, in each of `tiles * tiles` parts.
///
/// The first look is a [`Search`] among the first model's answer at 0.5, an empty mask, and its answers to clicks and boxes all over
/// the picture, then one ranking of what was found and the first model's answer. The second look is at the best of these and at the
/// answer to its box, at three thresholds; there is none where nothing is there.
///
/// # Errors
/// [`Error::Data`] for an item whose slice was not kept; errors of the network.
pub(super) fn judge_places(first: &Network, item: &Item, truth: &[u8], tiles: usize) -> Result<Vec<Judged>, Error> {
    let features = item.features.as_ref().ok_or_else(|| Error::Data("an image was not read".into()))?;
    let side = first.config.side;
    let pixels = side * side;
    let own = mask_at_half(&item.reference);
    let guesses = guesses(first, features, &everywhere(side))?;
    let total: f64 = guesses.iter().map(|g| g.1).sum();
    let mut search = Search::new(guesses);
    search.add(Pixels::of(&own), OWN * total);
    if own.contains(&1) {
        // "Nothing there" is an answer too.
        search.add(Pixels::of(&vec![0; pixels]), EMPTY * total);
    }
    let mut judged = Vec::new();
    let mut best = own.clone();
    for round in 0..ROUNDS {
        let Some(shown) = search.ask() else { break };
        let said = Judged::whole(shown.each_ref().map(|p| p.mask(pixels)), truth, item.flip);
        search.hear(shown, said.answer.clone());
        best.clone_from(said.best());
        judged.push(said);
        if round + 1 < ROUNDS {
            let near: Vec<PromptRow> = search.likely(PARENTS).iter().flat_map(|p| moved(p, side)).collect();
            self::guesses(first, features, &near)?.into_iter().for_each(|(guess, prior)| search.add(guess, prior));
        }
    }
    let top = search.best().map_or_else(|| best.clone(), |p| p.mask(pixels));
    let said = Judged::whole([search.vote(pixels), top, best, own], truth, item.flip);
    let best = said.best().clone();
    judged.push(said);
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

/// Clicks, then boxes, all over the picture.
fn everywhere(side: usize) -> Vec<PromptRow> {
    let at = |cell: usize, of: usize| (cell as f32 + 0.5) * side as f32 / of as f32;
    let click = |n: usize| [at(n % CLICKS, CLICKS), at(n / CLICKS, CLICKS), 1.0];
    let mut rows: Vec<PromptRow> =
        (0..CLICKS * CLICKS).map(|n| PromptRow { points: vec![click(n)], ..PromptRow::default() }).collect();
    for n in 0..GRID * GRID {
        let (x, y) = (at(n % GRID, GRID), at(n / GRID, GRID));
        for size in SIZES {
            for aspect in ASPECTS {
                let (w, h) = (size * aspect.sqrt() * side as f32, size / aspect.sqrt() * side as f32);
                let b = inside([x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0], side);
                if (b[2] - b[0]) * (b[3] - b[1]) > WITHIN * w * h {
                    rows.push(boxed(b));
                }
            }
        }
    }
    rows
}

/// A mask's box, and with each of its sides moved.
fn moved(p: &Pixels, side: usize) -> Vec<PromptRow> {
    let Some(b) = PixelBox::of_mask(&p.mask(side * side), side) else { return Vec::new() };
    let b = [b.x0, b.y0, b.x1, b.y1];
    let size = [b[2] - b[0], b[3] - b[1]];
    let one = |edge: usize, step: f32| {
        let mut b = b;
        b[edge] += step * size[edge % 2];
        boxed(inside(b, side))
    };
    (0..4).flat_map(|edge| MOVES.map(|step| one(edge, step))).chain([boxed(b)]).collect()
}

fn boxed(bounds: [f32; 4]) -> PromptRow {
    PromptRow { bounds: Some(bounds), ..PromptRow::default() }
}

/// The network's answers that are not empty, weighed by the square of the IoU that it foresees.
fn guesses(first: &Network, features: &Features, rows: &[PromptRow]) -> Result<Vec<(Pixels, f64)>, Error> {
    let mut all = Vec::new();
    for rows in rows.chunks(ROWS) {
        let answers = first.decoder.forward(features, rows)?;
        let masks = answers.logits.to_vec2::<f32>()?.into_iter().map(|z| mask_at_half(&z));
        let found = masks.zip(answers.iou.to_vec1::<f32>()?).filter(|(mask, _)| mask.contains(&1));
        all.extend(found.map(|(mask, sure)| (Pixels::of(&mask), f64::from(sure.max(0.01)).powi(2))));
    }
    Ok(all)
}

/// The part of a box within the picture.
fn inside(b: [f32; 4], side: usize) -> [f32; 4] {
    let last = side as f32;
    let x0 = b[0].clamp(0.0, last - 1.0);
    let y0 = b[1].clamp(0.0, last - 1.0);
    [x0, y0, b[2].clamp(x0 + 1.0, last), b[3].clamp(y0 + 1.0, last)]
}

#[cfg(test)]
mod tests {
    use super::super::item::read_slice;
    use super::super::retrain::best_parts;
    use super::*;
    use crate::preference::iou;
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
    fn the_second_look_is_at_least_as_good_as_what_the_first_found() {
        let truth: Vec<u8> = (0..32 * 32).map(|i| u8::from(i % 32 < 9 && (10..20).contains(&(i / 32)))).collect();
        let (net, item) = item(&truth);
        let judged = judge_places(&net, &item, &truth, 1).unwrap();
        let best = |j: &Judged| iou(j.best(), &truth);
        let [.., first, second] = judged.as_slice() else { panic!("{} judgements", judged.len()) };
        assert!(best(first) >= iou(&mask_at_half(&item.reference), &truth) && best(second) >= best(first));
        assert_eq!(iou(&best_parts(&item.reference, &judged), &truth), best(second));
        let tiled = judge_places(&net, &item, &truth, 4).unwrap();
        assert!(tiled.iter().filter(|j| j.pixels.is_none()).count() <= ROUNDS + 1 && tiled.len() <= ROUNDS + 1 + 16);
    }

    #[test]
    fn where_nothing_is_the_annotator_says_so() {
        let (net, item) = item(&[0; 32 * 32]);
        let judged = judge_places(&net, &item, &[0; 32 * 32], 4).unwrap();
        assert!(!best_parts(&item.reference, &judged).contains(&1));
        assert!(judged.iter().all(|j| j.pixels.is_none()));
    }
}
