//! What the slices know together: smoothing along the stack and connected parts in 3D, on the network's grid.

use crate::pass::{ABSENT, Answer};
use volseg_geometry::OrganId;

/// Slices further apart are not smoothed together.
const SMOOTH_BELOW_MM: f64 = 6.0;

/// Smooths each organ's logits along the slices (weights 1, 2, 1; a slice without an answer counts as absent).
pub(crate) fn smooth(answers: &mut [Vec<Answer>], organs: &[OrganId], spacing_mm: f64, pixels: usize) {
    if answers.len() < 3 || spacing_mm > SMOOTH_BELOW_MM {
        return;
    }
    let absent = vec![ABSENT; pixels];
    for organ in organs {
        let id = organ.get();
        let mut before: Option<Vec<i16>> = None;
        for s in 0..answers.len() {
            let find = |v: &[Answer]| v.iter().position(|a| a.organ == id);
            let here = find(&answers[s]);
            let after = answers.get(s + 1).and_then(|v| find(v).map(|i| v[i].logits.clone()));
            let original = here.map(|i| answers[s][i].logits.clone());
            if original.is_some() || (before.is_some() && after.is_some()) {
                let middle = original.as_deref().unwrap_or(&absent);
                // At the ends of the stack the slice stands in for the missing neighbour.
                let a = if s == 0 { middle } else { before.as_deref().unwrap_or(&absent) };
                let b = if s + 1 == answers.len() { middle } else { after.as_deref().unwrap_or(&absent) };
                let mixed: Vec<i16> = a
                    .iter()
                    .zip(middle)
                    .zip(b)
                    .map(|((&a, &m), &b)| {
                        let cap = |v: i16| i32::from(v.clamp(ABSENT, -ABSENT));
                        ((cap(a) + 2 * cap(m) + cap(b)) / 4) as i16
                    })
                    .collect();
                match here {
                    Some(i) => answers[s][i].logits = mixed,
                    None => answers[s].push(Answer { organ: id, logits: mixed, iou: 0.5 }),
                }
            }
            before = original;
        }
    }
    for v in answers {
        v.sort_by_key(|a| a.organ);
    }
}

/// A connected part of an organ.
struct Part {
    pixels: usize,
    /// Mean column, as a share of the row.
    column: f64,
    /// First and last slice.
    slices: (usize, usize),
}

/// How much of an organ's largest part another part must have to stay; `beyond` if it lies in slices above or below all of the largest.
fn keep_fraction(id: u8, beyond: bool) -> f64 {
    match id {
        // Esophagus, aorta and vena cava: a tube that was lost on the way goes on there.
        5 | 8 | 9 if beyond => 0.2,
        // Bowel-like, lobed and branching organs come in pieces where slices are thick.
        7 | 10 | 13 => 0.15,
        16 => 0.1,
        17 => 0.3,
        _ => 0.5,
    }
}

/// +1 for organs of the patient's left, -1 for those of the right.
fn side_of(id: u8) -> i32 {
    match id {
        1 | 3 | 12 => 1,
        2 | 4 | 11 => -1,
        _ => 0,
    }
}

/// Removes stray parts of each organ: on the patient's wrong side (`sided` stacks only: shown columns run to the patient's
/// left), and smaller than a fraction of the largest part.
pub(crate) fn largest_parts(answers: &mut [Vec<Answer>], organs: &[OrganId], side: usize, sided: bool) {
    let pixels = side * side;
    for organ in organs {
        let id = organ.get();
        let place: Vec<Option<usize>> = answers.iter().map(|v| v.iter().position(|a| a.organ == id)).collect();
        let mut seen = vec![0u32; pixels * answers.len()];
        let inside = |s: usize, p: usize| place[s].is_some_and(|i| answers[s][i].logits[p] > 0);
        let mut parts: Vec<Part> = Vec::new();
        let mut stack = Vec::new();
        for s in 0..answers.len() {
            if place[s].is_none() {
                continue;
            }
            for p in 0..pixels {
                if seen[s * pixels + p] != 0 || !inside(s, p) {
                    continue;
                }
                let number = parts.len() as u32 + 1;
                let (mut n, mut columns, mut last) = (0usize, 0usize, s);
                seen[s * pixels + p] = number;
                stack.push((s, p));
                while let Some((z, q)) = stack.pop() {
                    n += 1;
                    columns += q % side;
                    last = last.max(z);
                    let (x, y) = (q % side, q / side);
                    let mut visit = |ok: bool, z: usize, q: usize| {
                        if ok && seen[z * pixels + q] == 0 && inside(z, q) {
                            seen[z * pixels + q] = number;
                            stack.push((z, q));
                        }
                    };
                    visit(x > 0, z, q.wrapping_sub(1));
                    visit(x + 1 < side, z, q + 1);
                    visit(y > 0, z, q.wrapping_sub(side));
                    visit(y + 1 < side, z, q + side);
                    visit(z > 0, z.wrapping_sub(1), q);
                    visit(z + 1 < answers.len(), z + 1, q);
                }
                // Slices are walked upwards, so no part begins below where it was met.
                parts.push(Part { pixels: n, column: columns as f64 / n as f64 / side as f64, slices: (s, last) });
            }
        }
        let wrong_side = |c: f64| match side_of(id) {
            1 => sided && c < 0.42,
            -1 => sided && c > 0.58,
            _ => false,
        };
        // The first of the largest.
        let largest = parts.iter().filter(|p| !wrong_side(p.column)).rev().max_by_key(|p| p.pixels);
        let keep: Vec<bool> = parts
            .iter()
            .map(|p| {
                largest.is_some_and(|l| {
                    let beyond = p.slices.1 < l.slices.0 || p.slices.0 > l.slices.1;
                    !wrong_side(p.column) && p.pixels as f64 >= keep_fraction(id, beyond) * l.pixels as f64
                })
            })
            .collect();
        for (s, i) in place.iter().enumerate() {
            let Some(i) = *i else { continue };
            let mut any = false;
            for (p, l) in answers[s][i].logits.iter_mut().enumerate() {
                let part = seen[s * pixels + p];
                if part != 0 {
                    if keep[part as usize - 1] {
                        any = true;
                    } else {
                        *l = ABSENT;
                    }
                }
            }
            if !any {
                answers[s][i].logits.clear();
            }
        }
    }
    for v in answers {
        v.retain(|a| !a.logits.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(organ: u8, on: &[usize]) -> Answer {
        let logits = (0..64).map(|p| if on.contains(&p) { 3000 } else { ABSENT }).collect();
        Answer { organ, logits, iou: 0.9 }
    }

    #[test]
    fn the_larger_part_stays_across_slices() {
        let organs = [OrganId::new(6).unwrap()];
        let mut a = vec![vec![answer(6, &[9, 10, 60])], vec![answer(6, &[9, 10])], vec![answer(6, &[60])]];
        largest_parts(&mut a, &organs, 8, true);
        assert!(a[0][0].logits[9] > 0 && a[0][0].logits[60] == ABSENT);
        assert!(a[2].is_empty());
    }

    /// A vena cava that no slice between shows goes on below; as small a part beside it goes.
    #[test]
    fn a_part_in_slices_of_its_own_stays() {
        let organs = [OrganId::new(9).unwrap()];
        let mut a =
            vec![vec![answer(9, &[9, 10, 60])], vec![answer(9, &[9, 10])], vec![answer(9, &[])], vec![answer(9, &[9])]];
        largest_parts(&mut a, &organs, 8, true);
        assert!(a[0][0].logits[9] > 0 && a[0][0].logits[60] == ABSENT);
        assert!(a[3][0].logits[9] > 0);
    }

    #[test]
    fn a_kidney_on_the_wrong_side_goes() {
        let organs = [OrganId::new(2).unwrap()];
        // Column 7 of 8 is the patient's left.
        let mut a = vec![vec![answer(2, &[7, 15, 23, 8])]];
        largest_parts(&mut a, &organs, 8, true);
        assert!(a[0][0].logits[8] > 0 && a[0][0].logits[15] == ABSENT);
    }

    #[test]
    fn a_gap_of_one_slice_is_closed() {
        let organs = [OrganId::new(6).unwrap()];
        let strong = |on: &[usize]| Answer {
            organ: 6,
            logits: answer(6, on).logits.iter().map(|&l| if l > 0 { 8192 } else { l }).collect(),
            iou: 0.9,
        };
        let mut a =
            vec![vec![strong(&[9])], vec![strong(&[9])], vec![answer(6, &[])], vec![strong(&[9])], vec![strong(&[9])]];
        a[2][0].logits[9] = -2000;
        smooth(&mut a, &organs, 3.0, 64);
        assert!(a[2][0].logits[9] > 0);
    }
}
