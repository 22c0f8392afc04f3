//! Outlines of pixels.

/// How far inside the pixels' edges an outline runs, in pixels: readers that count a pixel by its centre, and readers that
/// round corners to pixels and fill the line too, both get back the very pixels; the area is smaller by less than 0.1 %.
const INSET: f64 = 0.01;

/// One closed contour for each 4-connected region of the pixels where `inside`; see [`outlines`]. A hole is joined to what lies
/// left of it by a channel without width through the region ("keyhole", PS3.3 C.8.8.6.3), since some readers fill every
/// contour that they meet.
pub(super) fn contours(columns: usize, rows: usize, inside: impl Fn(usize, usize) -> bool) -> Vec<Vec<[f64; 2]>> {
    // Regions run with the area on the right hand, holes against it.
    let area = |o: &Vec<[f64; 2]>| edges(o).map(|(a, b)| a[0] * b[1] - b[0] * a[1]).sum::<f64>();
    let (mut out, holes): (Vec<_>, Vec<_>) = outlines(columns, rows, inside).into_iter().partition(|o| area(o) > 0.0);
    let mut holes: Vec<(usize, Vec<[f64; 2]>)> = holes
        .into_iter()
        .map(|h| {
            (
                edges(&h)
                    .enumerate()
                    .filter(|(_, (a, b))| a[0] == b[0])
                    .min_by(|a, b| a.1.0[0].total_cmp(&b.1.0[0]))
                    .map_or(0, |e| e.0),
                h,
            )
        })
        .collect();
    // From the left: what a channel meets is a region or a hole that has been joined to it.
    holes.sort_by(|a, b| a.1[a.0][0].total_cmp(&b.1[b.0][0]));
    for (edge, mut hole) in holes {
        // The leftmost edge of the hole, after its first pixel: a quarter of a pixel from the centre of a row.
        let start = (edge + 1) % hole.len();
        let (from, to) = (hole[edge], hole[start]);
        let y = if to[1] > from[1] { from[1].ceil() + 0.25 } else { from[1].floor() - 0.25 };
        let met = out
            .iter()
            .enumerate()
            .flat_map(|(n, o)| edges(o).enumerate().map(move |(i, e)| (n, i, e)))
            .filter(|(_, _, (a, b))| a[0] == b[0] && a[0] < from[0] && (a[1] > y) != (b[1] > y))
            .max_by(|a, b| a.2.0[0].total_cmp(&b.2.0[0]));
        hole.rotate_left(start);
        match met {
            None => out.push(hole),
            Some((n, i, (a, _))) => {
                let (near, far) = ([from[0], y], [a[0], y]);
                let channel = [far, near].into_iter().chain(hole).chain([near, far]);
                out[n].splice(i + 1..i + 1, channel);
            }
        }
    }
    out
}

/// From each corner to the next, round.
fn edges(outline: &[[f64; 2]]) -> impl Iterator<Item = ([f64; 2], [f64; 2])> + '_ {
    outline.iter().copied().zip(outline.iter().copied().cycle().skip(1))
}

/// Closed outlines of the pixels where `inside`, as corners (column, row) with pixel centres at whole numbers: outer ones
/// and one around every hole. Regions are 4-connected, holes 8-connected; corners lie on the region's side of the edge.
fn outlines(columns: usize, rows: usize, inside: impl Fn(usize, usize) -> bool) -> Vec<Vec<[f64; 2]>> {
    let filled = |x: isize, y: isize| matches!((usize::try_from(x), usize::try_from(y)), (Ok(x), Ok(y)) if x < columns && y < rows && inside(x, y));
    // Every outline has a piece along the upper edge of one of its pixels, run from left to right.
    let mut seen = vec![false; columns * rows];
    let mut out = Vec::new();
    for y in 0..rows as isize {
        for x in 0..columns as isize {
            if filled(x, y) && !filled(x, y - 1) && !seen[y as usize * columns + x as usize] {
                out.push(follow([x, y], &filled, &mut |[x, y]| seen[y as usize * columns + x as usize] = true));
            }
        }
    }
    out
}

/// Runs along the edges with the region on the right hand, from the upper left corner of a pixel. `upper` is told each pixel
/// whose upper edge was run along. A point (x, y) is the upper left corner of pixel (x, y).
fn follow(
    start: [isize; 2],
    filled: &impl Fn(isize, isize) -> bool,
    upper: &mut impl FnMut([isize; 2]),
) -> Vec<[f64; 2]> {
    // Right, down, left, up; the pixel on the right hand of each, and the one on the left, as seen from the point run from.
    const STEP: [[isize; 2]; 4] = [[1, 0], [0, 1], [-1, 0], [0, -1]];
    const RIGHT: [[isize; 2]; 4] = [[0, 0], [-1, 0], [-1, -1], [0, -1]];
    let is = |at: [isize; 2], way: usize| {
        let near = |n: usize| filled(at[0] + RIGHT[n][0], at[1] + RIGHT[n][1]);
        // The left hand of a way is the right hand of the way before it.
        near(way) && !near((way + 3) % 4)
    };
    let (mut at, mut way) = (start, 0);
    let mut corners = Vec::new();
    loop {
        if way == 0 {
            upper(at);
        }
        at = [at[0] + STEP[way][0], at[1] + STEP[way][1]];
        // To the right first: regions that touch at a corner stay apart.
        let next = [1, 0, 3].map(|turn| (way + turn) % 4).into_iter().find(|&w| is(at, w)).unwrap_or((way + 2) % 4);
        if next != way {
            let inward = |way: usize| STEP[(way + 1) % 4].map(|v| v as f64 * INSET);
            let (a, b) = (inward(way), inward(next));
            corners.push([at[0] as f64 - 0.5 + a[0] + b[0], at[1] as f64 - 0.5 + a[1] + b[1]]);
        }
        way = next;
        if at == start && way == 0 {
            return corners;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Even-odd rule.
    fn holds(outlines: &[Vec<[f64; 2]>], x: f64, y: f64) -> bool {
        outlines.iter().flat_map(|o| edges(o)).fold(false, |inside, (a, b)| {
            inside ^ ((a[1] > y) != (b[1] > y) && x < a[0] + (y - a[1]) / (b[1] - a[1]) * (b[0] - a[0]))
        })
    }

    proptest! {
        #[test]
        fn outlines_hold_the_pixels_again(pixels in prop::collection::vec(any::<bool>(), 63)) {
            let found = contours(9, 7, |x, y| pixels[y * 9 + x]);
            prop_assert!(found.iter().all(|o| edges(o).all(|(a, b)| a[0] == b[0] || a[1] == b[1])));
            // Whatever the rule of filling: no region holds another's pixel or its own hole's.
            for y in 0..7 {
                for x in 0..9 {
                    let holding = found.iter().filter(|o| holds(std::slice::from_ref(o), x as f64, y as f64)).count();
                    prop_assert_eq!(holding, usize::from(pixels[y * 9 + x]));
                    prop_assert_eq!(holds(&found, x as f64, y as f64), pixels[y * 9 + x], "{} {} {:?}", x, y, &found);
                }
            }
            // All corners round to pixels of the region.
            for [x, y] in found.into_iter().flatten() {
                prop_assert!(pixels[y.round() as usize * 9 + x.round() as usize]);
            }
        }
    }

    #[test]
    fn a_ring_has_one_contour_and_a_pixel_four_corners() {
        let ring = outlines(5, 5, |x, y| (1..4).contains(&x) && (1..4).contains(&y) && (x, y) != (2, 2));
        assert_eq!(ring.len(), 2);
        let joined = contours(5, 5, |x, y| (1..4).contains(&x) && (1..4).contains(&y) && (x, y) != (2, 2));
        assert_eq!(joined.iter().map(Vec::len).collect::<Vec<_>>(), [12]);
        assert_eq!(outlines(3, 3, |x, y| (x, y) == (1, 1)), [[[1.49, 0.51], [1.49, 1.49], [0.51, 1.49], [0.51, 0.51]]]);
        assert!(outlines(3, 3, |_, _| false).is_empty());
    }
}
