//! Prompts made from true labels, for evaluation only.

use crate::{Prompt, PromptSet};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use volseg_geometry::{OrganId, PixelBox, Plane, SliceStack, components_2d};

/// Components of fewer pixels get no prompt.
pub const ORACLE_MIN_PIXELS: usize = 10;

/// One prompt for each connected part or for the whole label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    /// Each 8-connected component of at least [`ORACLE_MIN_PIXELS`] pixels.
    Component,
    /// The label as one.
    Label,
}

/// A part of a mask: its prompt-to-be.
struct Part {
    organ: OrganId,
    slice: usize,
    bounds: PixelBox,
    pixels: Vec<usize>,
}

fn parts(labels: &dyn Fn(usize) -> u32, stack: &SliceStack, map: &BTreeMap<u32, OrganId>, per: Per) -> Vec<Part> {
    let [w, h] = stack.size;
    let mut found = Vec::new();
    let mut mask = vec![0u8; w * h];
    for slice in 0..stack.slices {
        let values: Vec<u32> = (0..w * h).map(|p| labels(stack.linear(p % w, p / w, slice))).collect();
        for (&id, &organ) in map {
            for (m, v) in mask.iter_mut().zip(&values) {
                *m = u8::from(*v == id);
            }
            let (ids, list) = components_2d(&mask, w, true);
            let kept: Vec<_> = list.iter().filter(|c| c.pixels >= ORACLE_MIN_PIXELS).collect();
            match per {
                Per::Component => found.extend(kept.iter().map(|c| Part {
                    organ,
                    slice,
                    bounds: c.bounds,
                    pixels: (0..ids.len()).filter(|&p| ids[p] == c.id).collect(),
                })),
                Per::Label if !kept.is_empty() => {
                    if let Some(bounds) = PixelBox::of_mask(&mask, w) {
                        let pixels = (0..mask.len()).filter(|&p| mask[p] != 0).collect();
                        found.push(Part { organ, slice, bounds, pixels });
                    }
                }
                Per::Label => {}
            }
        }
    }
    found
}

/// A box around every part. `labels` gives the label of a linear voxel index; `map` names the labels to use.
#[must_use]
pub fn boxes_from(
    labels: &dyn Fn(usize) -> u32,
    stack: &SliceStack,
    plane: Option<Plane>,
    map: &BTreeMap<u32, OrganId>,
    per: Per,
) -> PromptSet {
    let prompts = parts(labels, stack, map, per)
        .into_iter()
        .map(|p| Prompt {
            organ: p.organ,
            named: true,
            slice: p.slice,
            bounds: Some(p.bounds),
            rough: false,
            points: Vec::new(),
            text: None,
        })
        .collect();
    PromptSet { plane, prompts, ..PromptSet::default() }
}

/// `n` points inside every component, at pixel centres, drawn from `seed`.
#[must_use]
pub fn points_from(
    labels: &dyn Fn(usize) -> u32,
    stack: &SliceStack,
    plane: Option<Plane>,
    map: &BTreeMap<u32, OrganId>,
    n: usize,
    seed: u64,
) -> PromptSet {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let w = stack.size[0];
    let prompts = parts(labels, stack, map, Per::Component)
        .into_iter()
        .map(|part| {
            let points = (0..n)
                .map(|_| {
                    let p = part.pixels[random.random_range(0..part.pixels.len())];
                    [(p % w) as f32, (p / w) as f32, 1.0]
                })
                .collect();
            Prompt { organ: part.organ, named: true, slice: part.slice, bounds: None, rough: false, points, text: None }
        })
        .collect();
    PromptSet { plane, prompts, ..PromptSet::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_for_each_component_of_ten_pixels() {
        let (w, h) = (20, 10);
        let label = |p: usize| {
            let (x, y) = (p % w, p / w);
            u32::from((2..6).contains(&x) && (1..5).contains(&y)) * 5
                + u32::from((10..14).contains(&x) && (6..9).contains(&y)) * 5
                + u32::from(x == 18 && y == 0) * 5
        };
        let map = BTreeMap::from([(5, OrganId::new(10).unwrap())]);
        let stack = SliceStack::picture(w, h);
        let boxes = boxes_from(&label, &stack, None, &map, Per::Component);
        let bounds: Vec<_> = boxes.prompts.iter().map(|p| p.bounds.unwrap()).collect();
        assert_eq!(bounds.len(), 2);
        assert_eq!((bounds[0].x0, bounds[0].x1, bounds[1].y0, bounds[1].y1), (2.0, 6.0, 6.0, 9.0));
        let one = boxes_from(&label, &stack, None, &map, Per::Label);
        assert_eq!(one.prompts[0].bounds.unwrap().x1, 19.0);
        let points = points_from(&label, &stack, None, &map, 3, 7);
        assert!(points.prompts.iter().flat_map(|p| &p.points).all(|p| label(p[0] as usize + w * p[1] as usize) == 5));
    }
}
