//! The embedded network on one slice: read once, first masks of all organs, decoder rows for those that are there.

use crate::body::View;
use crate::{Error, Prompt};
use candle_core::Tensor;
use volseg_geometry::OrganId;
use volseg_model::embedded::{Features, Network, PromptRow};

/// A first mask of fewer network pixels does not start a second pass.
const MIN_FIRST_PIXELS: usize = 3;
/// A mask whose predicted IoU is lower is taken as "nothing found".
pub(crate) const MIN_IOU: f32 = 0.25;
/// How far outside of a box the middle of a mask's pixel may lie: a share of the box, and network pixels. A box that was given is
/// near its organ's; one that a program found is not (both margins measured: docs, model card).
const GIVEN_MARGIN: (f32, f32) = (0.0, 0.5);
const ROUGH_MARGIN: (f32, f32) = (0.1, 1.0);
/// Logits are kept as 16-bit fixed point: this many steps a unit, so ±32 with steps of 0.001.
pub(crate) const STEPS: f32 = 1024.0;
/// Logit of a pixel that nothing was said about.
pub(crate) const ABSENT: i16 = -8 * 1024;

/// Answer for one organ on one slice.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) organ: u8,
    /// `side * side` logits in steps of 1/[`STEPS`].
    pub(crate) logits: Vec<i16>,
    /// Predicted IoU.
    pub(crate) iou: f32,
}

/// What is asked about a slice.
pub(crate) enum Question<'a> {
    /// These organs, from their names.
    Organs(&'a [OrganId]),
    /// These prompts.
    Prompts(&'a [Prompt]),
}

/// What one reading of a slice leaves for any number of questions.
pub(crate) struct Encoded {
    features: Features,
    /// First mask of every organ token: `side * side` logits.
    pub(crate) dense: Vec<Vec<f32>>,
    /// How it was seen. `dense` is not mirrored all the same.
    pub(crate) seen: Seen,
}

/// How the network saw a slice.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Seen {
    /// How many times as much of it along each side, about its middle.
    pub(crate) zoom: f32,
    /// Whether left and right were exchanged.
    pub(crate) mirrored: bool,
}

impl Seen {
    pub(crate) const PLAIN: Self = Self { zoom: 1.0, mirrored: false };

    /// A position of the plain slice, in network pixels, as it was seen before any mirroring.
    fn place(self, v: f32, side: usize) -> f32 {
        let middle = side as f32 / 2.0;
        middle + (v - middle) / self.zoom
    }
}

impl Encoded {
    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> usize {
        let f = &self.features;
        let tensors = [&f.embedding, &f.dense].into_iter().chain(&f.levels).map(|t| t.elem_count());
        4 * (tensors.sum::<usize>() + self.dense.iter().map(Vec::len).sum::<usize>())
    }
}

/// Reads an input that shows a slice as `seen` says, but not mirrored yet.
pub(crate) fn read(net: &Network, mut input: Vec<f32>, seen: Seen) -> Result<Encoded, Error> {
    let side = net.config.side;
    if seen.mirrored {
        let rows = input.chunks_exact(3 * side);
        input = rows.flat_map(|row| row.chunks_exact(3).rev()).flatten().copied().collect();
    }
    let (features, dense) = forward(net, input)?;
    let mut dense = dense.into_iter().next().unwrap_or_default();
    if seen.mirrored {
        dense.iter_mut().for_each(|d| mirror(d, side));
    }
    Ok(Encoded { features, dense, seen })
}

/// First masks of a slice: `side * side` logits an organ token.
pub(crate) type FirstMasks = Vec<Vec<f32>>;

/// Features and first masks of slices whose inputs stand one behind the other.
pub(crate) fn forward(net: &Network, input: Vec<f32>) -> Result<(Features, Vec<FirstMasks>), Error> {
    let side = net.config.side;
    let n = input.len() / (3 * side * side);
    let device = |e: candle_core::Error| Error::Model(e.into());
    let x = Tensor::from_vec(input, (n, side, side, 3), net.device()).map_err(device)?;
    let features = net.encoder.forward(&x)?;
    let dense = features.dense.transpose(1, 2).and_then(|d| d.contiguous()?.to_vec3::<f32>()).map_err(device)?;
    Ok((features, dense))
}

/// Exchanges left and right of a `side * side` map.
fn mirror<T>(map: &mut [T], side: usize) {
    map.chunks_exact_mut(side).for_each(<[T]>::reverse);
}

fn mirror_row(row: &mut PromptRow, side: usize) {
    let width = side as f32;
    row.bounds = row.bounds.map(|[x0, y0, x1, y1]| [width - x1, y0, width - x0, y1]);
    row.points.iter_mut().for_each(|p| p[0] = width - p[0]);
    if let Some(prior) = &mut row.prior {
        mirror(prior, side);
    }
}

/// What counts as found: an organ asked for by name needs a mask that the network trusts.
pub(crate) fn found(mut answers: Vec<Answer>, question: &Question<'_>) -> Vec<Answer> {
    answers.retain(|a| matches!(question, Question::Prompts(_)) || a.iou >= MIN_IOU);
    answers
}

pub(crate) fn fixed_point(logits: &[f32]) -> Vec<i16> {
    logits.iter().map(|l| (l * STEPS).clamp(f32::from(i16::MIN), f32::from(i16::MAX)) as i16).collect()
}

/// Masks for all rows of a question, trusted or not, where the slice was seen: not mirrored, but at its zoom.
pub(crate) fn decode(
    net: &Network,
    encoded: &Encoded,
    view: &View,
    question: &Question<'_>,
) -> Result<Vec<Answer>, Error> {
    let one = decode_all(net, &encoded.features, encoded.seen, view, &[(&encoded.dense, question)])?;
    Ok(one.into_iter().flatten().collect())
}

/// [`decode`] for slices that were read together, each with its first masks and its question.
pub(crate) fn decode_all(
    net: &Network,
    features: &Features,
    seen: Seen,
    view: &View,
    slices: &[(&[Vec<f32>], &Question<'_>)],
) -> Result<Vec<Vec<Answer>>, Error> {
    let side = view.side;
    let device = |e: candle_core::Error| Error::Model(e.into());
    let mut rows = Vec::new();
    let mut asked = Vec::new();
    for (image, (dense, question)) in slices.iter().enumerate() {
        match question {
            Question::Organs(list) => {
                for organ in *list {
                    let token = usize::from(organ.get()) - 1;
                    let Some(first) = dense.get(token) else { continue };
                    if first.iter().filter(|&&l| l > 0.0).count() < MIN_FIRST_PIXELS {
                        continue;
                    }
                    let mut row = PromptRow { image, organ: Some(token), ..PromptRow::default() };
                    row.set_first_mask(first, side);
                    rows.push(row);
                    asked.push((organ.get(), None));
                }
            }
            Question::Prompts(list) => {
                for p in *list {
                    rows.push(PromptRow { image, ..row_of(view, seen, p, dense) });
                    asked.push((p.organ.get(), p.bounds.map(|_| if p.rough { ROUGH_MARGIN } else { GIVEN_MARGIN })));
                }
            }
        }
    }
    let mut all: Vec<Vec<Answer>> = slices.iter().map(|_| Vec::new()).collect();
    if rows.is_empty() {
        return Ok(all);
    }
    if seen.mirrored {
        rows.iter_mut().for_each(|r| mirror_row(r, side));
    }
    let decoded = net.decoder.forward(features, &rows)?;
    let logits = decoded.logits.to_vec2::<f32>().map_err(device)?;
    let iou = decoded.iou.to_vec1::<f32>().map_err(device)?;
    for ((((organ, margin), logits), iou), row) in asked.iter().zip(logits).zip(iou).zip(&rows) {
        let by_prompt = matches!(slices[row.image].1, Question::Prompts(_));
        let answers = &mut all[row.image];
        let mut fixed = fixed_point(&logits);
        // The box of a first mask is no limit: points may say that there is more.
        if let (Some(margin), Some(b)) = (margin, row.bounds) {
            keep_inside(&mut fixed, b, *margin, side);
        }
        if seen.mirrored {
            mirror(&mut fixed, side);
        }
        // Several prompts of one organ on a slice are one mask.
        match answers.iter_mut().find(|a| by_prompt && a.organ == *organ) {
            Some(a) => {
                for (x, y) in a.logits.iter_mut().zip(&fixed) {
                    *x = (*x).max(*y);
                }
                a.iou = a.iou.min(iou);
            }
            None => answers.push(Answer { organ: *organ, logits: fixed, iou }),
        }
    }
    Ok(all)
}

/// The decoder's row for a prompt. `dense` are the slice's first masks, logits of `side * side` pixels an organ token.
#[must_use]
pub fn prompt_row(view: &View, p: &Prompt, dense: &[Vec<f32>]) -> PromptRow {
    row_of(view, Seen::PLAIN, p, dense)
}

/// [`prompt_row`] where the slice was seen, before any mirroring.
fn row_of(view: &View, seen: Seen, p: &Prompt, dense: &[Vec<f32>]) -> PromptRow {
    let side = view.side;
    let at = |x, y| view.to_network(x, y).map(|v| seen.place(v, side));
    let token = usize::from(p.organ.get()) - 1;
    let organ = (p.named && token < dense.len()).then_some(token);
    let point = |&[x, y, inside]: &[f32; 3]| {
        let [u, v] = at(x + 0.5, y + 0.5);
        [u, v, inside]
    };
    let mut row = PromptRow { organ, points: p.points.iter().map(point).collect(), ..PromptRow::default() };
    if let Some(b) = p.bounds {
        let (a, c) = (at(b.x0, b.y0), at(b.x1, b.y1));
        row.bounds = Some([a[0].min(c[0]), a[1].min(c[1]), a[0].max(c[0]), a[1].max(c[1])]);
    } else if let Some(first) = organ.and_then(|o| dense.get(o)) {
        let within = |c: f32| (0.0..side as f32).contains(&c);
        let hit = |u: f32, v: f32| within(u) && within(v) && first[v as usize * side + u as usize] > 0.0;
        let inside = || row.points.iter().filter(|p| p[2] > 0.5);
        // Where most points miss it the first mask is of something else (measured: docs, model card).
        if 2 * inside().filter(|p| hit(p[0], p[1])).count() >= inside().count() {
            row.set_first_mask(first, side);
        }
    }
    row
}

/// A box says where the organ ends: nothing further out than a margin.
fn keep_inside(logits: &mut [i16], [x0, y0, x1, y1]: [f32; 4], (share, pixels): (f32, f32), side: usize) {
    let (mx, my) = (share * (x1 - x0) + pixels, share * (y1 - y0) + pixels);
    for (i, l) in logits.iter_mut().enumerate() {
        let (x, y) = ((i % side) as f32 + 0.5, (i / side) as f32 + 0.5);
        if x < x0 - mx || x > x1 + mx || y < y0 - my || y > y1 + my {
            *l = (*l).min(ABSENT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use volseg_geometry::{Modality, Plane};

    #[test]
    fn points_that_miss_the_first_mask_set_it_aside() {
        let (side, organ) = (32, OrganId::new(17).unwrap());
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../volumes/ultrasound-phantom.png");
        let image = volseg_io::read(&path, &volseg_io::ReadOptions::default()).unwrap();
        let view = View::of_image(&image, Plane::Axial, Modality::Ultrasound, side);
        let [w, h] = view.stack().size.map(|n| n as f32);
        // The first mask is the left half.
        let half = (0..side * side).map(|i| if i % side < side / 2 { 4.0 } else { -4.0 }).collect();
        let mut dense = vec![vec![-4.0; side * side]; 16];
        dense.push(half);
        let row = |points: &[[f32; 3]]| {
            let points = points.to_vec();
            let prompt = Prompt { organ, named: true, slice: 0, bounds: None, rough: false, points, text: None };
            prompt_row(&view, &prompt, &dense)
        };
        let (left, right, outside) = ([0.2 * w, 0.3 * h, 1.0], [0.8 * w, 0.3 * h, 1.0], [0.8 * w, 0.3 * h, 0.0]);
        for kept in [&[][..], &[left], &[left, right], &[outside]] {
            let row = row(kept);
            assert!(row.prior.is_some() && row.bounds.is_some(), "{kept:?}");
        }
        for aside in [&[right][..], &[left, right, right]] {
            let row = row(aside);
            assert!(row.prior.is_none() && row.bounds.is_none() && row.organ == Some(16), "{aside:?}");
        }
    }

    #[test]
    fn a_mask_leaves_its_box_by_a_margin_at_most() {
        let side = 20;
        let columns = |margin| {
            let mut logits = vec![STEPS as i16; side * side];
            keep_inside(&mut logits, [4.6, 5.0, 14.2, 15.0], margin, side);
            let row: Vec<usize> = (0..side).filter(|x| logits[10 * side + x] > 0).collect();
            assert!(logits[2 * side..3 * side].iter().all(|&l| l <= ABSENT));
            (row[0], row[row.len() - 1])
        };
        // Pixels that the edges cut belong to it.
        assert_eq!(columns(GIVEN_MARGIN), (4, 14));
        assert_eq!(columns(ROUGH_MARGIN), (3, 15));
    }
}
