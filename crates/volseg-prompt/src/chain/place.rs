//! From masks to prompts: connected parts, boxes, points.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use volseg_geometry::{OrganId, PixelBox, components_2d};

/// Parts of an organ that stay, and how large the second must be beside the first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    pub(super) most: usize,
    pub(super) second: f64,
    /// Which half of a shown slice the organ's centre lies in: -1 left (the patient's right), 1 right, 0 either.
    pub(super) side: i32,
}

impl Parts {
    /// `sided` says that shown columns run to the patient's left.
    pub(super) fn of(organ: Option<OrganId>, second: f64, sided: bool) -> Self {
        let id = organ.map_or(0, OrganId::get);
        let side = match id {
            2 | 11 => -1,
            3 | 12 => 1,
            _ => 0,
        };
        Self { most: if id == 16 { 2 } else { 1 }, second, side: if sided { side } else { 0 } }
    }

    /// Whether a part with its centre at this share of the width lies on the wrong side; organs near the middle are spared.
    fn wrong_side(&self, centre: f64) -> bool {
        match self.side {
            -1 => centre > 0.55,
            1 => centre < 0.45,
            _ => false,
        }
    }

    /// Keeps the largest parts of masks `[slices][pixels]` of `width` columns: 8-connected for one slice, through the stack
    /// (6 neighbours) for several. Equal parts: the earlier one. Returns the number of parts found on the right side.
    pub(super) fn keep(&self, masks: &mut [Vec<u8>], width: usize) -> usize {
        let pixels = masks.first().map_or(0, Vec::len);
        let (ids, sizes, columns) = if let [one] = masks {
            let (ids, list) = components_2d(one, width, true);
            let mut columns = vec![0f64; list.len() + 1];
            ids.iter().enumerate().for_each(|(p, &id)| columns[id as usize] += (p % width) as f64 + 0.5);
            let sizes: Vec<usize> = std::iter::once(0).chain(list.iter().map(|c| c.pixels)).collect();
            (ids, sizes, columns)
        } else {
            parts_3d(masks, width)
        };
        let mut order: Vec<usize> = (1..sizes.len())
            .filter(|&n| !self.wrong_side(columns[n] / sizes[n].max(1) as f64 / width as f64))
            .collect();
        let found = order.len();
        order.sort_by_key(|&n| (std::cmp::Reverse(sizes[n]), n));
        let largest = order.first().map_or(0, |&n| sizes[n]);
        order.truncate(self.most);
        order.retain(|&n| sizes[n] as f64 >= self.second * largest as f64);
        for (s, mask) in masks.iter_mut().enumerate() {
            for (m, id) in mask.iter_mut().zip(&ids[s * pixels..]) {
                *m = u8::from(*id != 0 && order.contains(&(*id as usize)));
            }
        }
        found
    }
}

/// Part numbers of all pixels (0 = none, from 1 in scan order), sizes, and sums of columns.
fn parts_3d(masks: &[Vec<u8>], width: usize) -> (Vec<u32>, Vec<usize>, Vec<f64>) {
    let pixels = masks.first().map_or(0, Vec::len);
    let mut ids = vec![0u32; pixels * masks.len()];
    let (mut sizes, mut columns) = (vec![0usize], vec![0f64]);
    let mut stack = Vec::new();
    for start in 0..ids.len() {
        if ids[start] != 0 || masks[start / pixels][start % pixels] == 0 {
            continue;
        }
        let id = sizes.len() as u32;
        let (mut n, mut sum) = (0, 0f64);
        ids[start] = id;
        stack.push(start);
        while let Some(at) = stack.pop() {
            let (s, p) = (at / pixels, at % pixels);
            n += 1;
            sum += (p % width) as f64 + 0.5;
            let mut visit = |ok: bool, q: usize| {
                if ok && ids[q] == 0 && masks[q / pixels][q % pixels] != 0 {
                    ids[q] = id;
                    stack.push(q);
                }
            };
            visit(p % width > 0, at.wrapping_sub(1));
            visit(p % width + 1 < width, at + 1);
            visit(p >= width, at.wrapping_sub(width));
            visit(p + width < pixels, at + width);
            visit(s > 0, at.wrapping_sub(pixels));
            visit(s + 1 < masks.len(), at + pixels);
        }
        sizes.push(n);
        columns.push(sum);
    }
    (ids, sizes, columns)
}

/// Boxes of consecutive slices with weights 1, 2, 1 on every side; a slice without a box, or at an end, is left out of the sum.
pub(super) fn smooth_boxes(boxes: &mut [Option<PixelBox>]) {
    let old = boxes.to_vec();
    for (s, slot) in boxes.iter_mut().enumerate() {
        let Some(here) = old[s] else { continue };
        let (mut sum, mut weight) = ([0f32; 4], 0f32);
        let near = [s.checked_sub(1).and_then(|p| old[p]), Some(here), old.get(s + 1).copied().flatten()];
        for (b, w) in near.iter().zip([1.0, 2.0, 1.0]) {
            if let Some(b) = b {
                [b.x0, b.y0, b.x1, b.y1].iter().zip(&mut sum).for_each(|(v, t)| *t += w * v);
                weight += w;
            }
        }
        let [x0, y0, x1, y1] = sum.map(|v| v / weight);
        *slot = Some(PixelBox { x0, y0, x1, y1 });
    }
}

/// As [`points`], from the pixels whose centres lie in `bounds`, so that a prompt does not contradict itself where its box is
/// smaller than its mask (smoothed or calibrated edges); from the whole mask if none does.
pub(super) fn points_within(mask: &[u8], width: usize, bounds: PixelBox, n: usize, seed: &[u8]) -> Vec<usize> {
    let mut inside = mask.to_vec();
    for (p, v) in inside.iter_mut().enumerate() {
        let (x, y) = ((p % width) as f32 + 0.5, (p / width) as f32 + 0.5);
        if !(bounds.x0..=bounds.x1).contains(&x) || !(bounds.y0..=bounds.y1).contains(&y) {
            *v = 0;
        }
    }
    points(if inside.iter().any(|&v| v != 0) { &inside } else { mask }, n, seed)
}

/// `n` different pixels of a mask (all of them if it has fewer), uniform, drawn from `seed`.
fn points(mask: &[u8], n: usize, seed: &[u8]) -> Vec<usize> {
    let digest = volseg_io::sha256(seed);
    let start = digest.bytes().take(16).fold(0u64, |h, b| h.wrapping_mul(16).wrapping_add(u64::from(b)));
    let mut random = ChaCha8Rng::seed_from_u64(start);
    let mut inside: Vec<usize> = (0..mask.len()).filter(|&p| mask[p] != 0).collect();
    let n = n.min(inside.len());
    for k in 0..n {
        let other = random.random_range(k..inside.len());
        inside.swap(k, other);
    }
    inside.truncate(n);
    inside
}

#[cfg(test)]
mod tests {
    use super::*;

    fn organ(id: u8) -> Option<OrganId> {
        OrganId::new(id)
    }

    #[test]
    fn lungs_keep_two_parts_and_others_one() {
        let mask = || vec![vec![1u8, 1, 1, 0, 1, 1, 0, 1]];
        for (id, second, left) in [(16, 0.1, 5), (6, 0.1, 3), (16, 0.9, 3)] {
            let mut m = mask();
            assert_eq!(Parts::of(organ(id), second, true).keep(&mut m, 8), 3);
            assert_eq!(m[0].iter().filter(|&&v| v != 0).count(), left, "{id}");
        }
    }

    #[test]
    fn a_part_on_the_wrong_side_goes_however_large() {
        // Shown columns run to the patient's left: the right kidney is in the left half.
        let mut m = vec![vec![1u8, 0, 0, 0, 0, 1, 1, 1]; 2];
        Parts::of(organ(2), 0.1, true).keep(&mut m, 8);
        assert_eq!(m[1], [1, 0, 0, 0, 0, 0, 0, 0]);
        let mut m = vec![vec![1u8, 0, 0, 0, 0, 1, 1, 1]; 2];
        Parts::of(organ(2), 0.1, false).keep(&mut m, 8);
        assert_eq!(m[1], [0, 0, 0, 0, 0, 1, 1, 1]);
    }

    #[test]
    fn a_part_is_judged_through_the_stack() {
        let mut m = vec![vec![1u8, 0, 1, 1], vec![1, 0, 0, 0], vec![1, 0, 0, 0]];
        Parts::of(organ(6), 0.1, false).keep(&mut m, 4);
        assert_eq!(m.concat(), [1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn points_lie_inside_and_come_again() {
        let mask: Vec<u8> = (0..50).map(|p| u8::from(p % 3 == 0)).collect();
        let a = points(&mask, 5, b"7 liver");
        assert_eq!((a.len(), &a), (5, &points(&mask, 5, b"7 liver")));
        assert!(a.iter().all(|&p| mask[p] == 1) && a != points(&mask, 5, b"8 liver"));
        assert_eq!(points(&[0, 1, 0], 4, b""), [1]);
        let bounds = PixelBox { x0: 1.0, y0: 0.0, x1: 2.0, y1: 2.0 };
        assert_eq!(points_within(&[1, 0, 1, 1, 1, 1], 3, bounds, 4, b""), [4]);
        assert_eq!(points_within(&[1, 0, 0, 0, 0, 0], 3, bounds, 4, b""), [0]);
    }

    #[test]
    fn boxes_change_smoothly() {
        let b = |x1: f32| Some(PixelBox { x0: 0.0, y0: 0.0, x1, y1: 4.0 });
        let mut boxes = [b(10.0), b(18.0), b(10.0), None, b(6.0)];
        smooth_boxes(&mut boxes);
        assert_eq!(boxes[1], b(14.0));
        assert_eq!((boxes[3], boxes[4]), (None, b(6.0)));
    }
}
