//! Prompts that the published training draws from a mask (specs: sam-med2d.md section 7).

use crate::Random;
use volseg_model::picture::training_box;
use volseg_model::prompt_encoder::Point;

/// The box of the largest part, moved as a whole by up to 5 pixels or half its smaller side.
pub(super) fn jittered_box(label: &[u8], side: usize, random: &mut Random) -> Option<[f32; 4]> {
    let [x0, y0, x1, y1] = training_box(label, side)?;
    let reach = ((0.5 * (x1 - x0).min(y1 - y0)) as usize).min(5);
    let mut shift = || if reach == 0 { 0.0 } else { random.below(2 * reach) as f32 - reach as f32 };
    let (dx, dy) = (shift(), shift());
    Some([x0 + dx, y0 + dy, x1 + dx, y1 + dy])
}

/// One pixel of the mask, or any pixel as background if it is empty.
pub(super) fn first_point(label: &[u8], side: usize, random: &mut Random) -> Point {
    let inside: Vec<usize> = (0..label.len()).filter(|&i| label[i] != 0).collect();
    match inside.get(random.below(inside.len())) {
        Some(&i) => point(i, side, 1),
        None => point(random.below(label.len()), side, 0),
    }
}

/// `n` pixels, with replacement, from where prediction and truth differ; without a difference random ones that say nothing.
pub(super) fn error_points(label: &[u8], predicted: &[u8], side: usize, n: usize, random: &mut Random) -> Vec<Point> {
    let wrong: Vec<usize> = (0..label.len()).filter(|&i| label[i] != predicted[i]).collect();
    (0..n)
        .map(|_| match wrong.get(random.below(wrong.len())) {
            Some(&i) => point(i, side, i32::from(label[i])),
            None => point(random.below(label.len()), side, -1),
        })
        .collect()
}

fn point(i: usize, side: usize, label: i32) -> Point {
    Point { x: (i % side) as f32, y: (i / side) as f32, label }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_lie_where_they_should() {
        let side = 32;
        let mut label = vec![0u8; side * side];
        for y in 8..20 {
            label[y * side + 10..y * side + 22].fill(1);
        }
        let mut shifts = std::collections::BTreeSet::new();
        for n in 0..200 {
            let mut random = Random::at(&[n]);
            let [x0, y0, x1, y1] = jittered_box(&label, side, &mut random).unwrap();
            assert_eq!((x1 - x0, y1 - y0), (12.0, 12.0));
            shifts.insert((x0 - 10.0) as i32);
            let p = first_point(&label, side, &mut random);
            assert!(label[p.y as usize * side + p.x as usize] == 1 && p.label == 1);
            let mut half = label.clone();
            half[..14 * side].fill(0);
            half[0] = 1;
            for p in error_points(&label, &half, side, 5, &mut random) {
                let i = p.y as usize * side + p.x as usize;
                assert!(label[i] != half[i] && p.label == i32::from(label[i]));
            }
            assert!(error_points(&label, &label, side, 3, &mut random).iter().all(|p| p.label == -1));
        }
        assert_eq!((*shifts.first().unwrap(), *shifts.last().unwrap()), (-5, 4));
        assert!(jittered_box(&[0; 9], 3, &mut Random::at(&[1])).is_none());
        assert_eq!(first_point(&[0; 9], 3, &mut Random::at(&[1])).label, 0);
    }
}
