use crate::{LabelMap, PixelBox};

/// A connected component of a 2D mask.
#[derive(Clone, Debug, PartialEq)]
pub struct Component2d {
    /// Number in the map of [`components_2d`] (from 1).
    pub id: u32,
    /// Pixels in it.
    pub pixels: usize,
    /// Its bounding box.
    pub bounds: PixelBox,
}

/// Components of the non-zero pixels of a mask with rows of `width` pixels: a map of component numbers (0 = background,
/// numbered from 1 in scan order of their first pixel) and the list. `eight` takes diagonal neighbours as connected.
#[must_use]
pub fn components_2d(mask: &[u8], width: usize, eight: bool) -> (Vec<u32>, Vec<Component2d>) {
    let height = mask.len() / width.max(1);
    let mut ids = vec![0u32; mask.len()];
    let mut list = Vec::new();
    let mut stack = Vec::new();
    for start in 0..width * height {
        if mask[start] == 0 || ids[start] != 0 {
            continue;
        }
        let id = list.len() as u32 + 1;
        ids[start] = id;
        stack.push(start);
        let (mut n, mut x0, mut y0, mut x1, mut y1) = (0, width, height, 0, 0);
        while let Some(p) = stack.pop() {
            let (x, y) = (p % width, p / width);
            n += 1;
            (x0, y0, x1, y1) = (x0.min(x), y0.min(y), x1.max(x), y1.max(y));
            for v in y.saturating_sub(1)..(y + 2).min(height) {
                for u in x.saturating_sub(1)..(x + 2).min(width) {
                    let q = v * width + u;
                    if (eight || u == x || v == y) && mask[q] != 0 && ids[q] == 0 {
                        ids[q] = id;
                        stack.push(q);
                    }
                }
            }
        }
        let bounds = PixelBox { x0: x0 as f32, y0: y0 as f32, x1: (x1 + 1) as f32, y1: (y1 + 1) as f32 };
        list.push(Component2d { id, pixels: n, bounds });
    }
    (ids, list)
}

/// Sizes of the 6-connected components of one label: `(first linear index, voxels)` in scan order.
#[must_use]
pub fn components_3d(labels: &LabelMap, label: u8) -> Vec<(usize, usize)> {
    let mut seen = vec![false; labels.voxels().len()];
    let mut found = Vec::new();
    for start in 0..seen.len() {
        if labels.voxels()[start] == label && !seen[start] {
            found.push((start, flood_6(labels.voxels(), labels.dim(), start, &mut seen, &mut |_| {})));
        }
    }
    found
}

/// Removes all 6-connected components of `label` that hold less than `keep` of the voxels of its largest one
/// (`keep = 1.0`: only the largest stays; ties stay). Returns the number of voxels removed.
pub fn keep_largest_3d(labels: &mut LabelMap, label: u8, keep: f64) -> usize {
    let parts = components_3d(labels, label);
    let largest = parts.iter().map(|p| p.1).max().unwrap_or(0);
    let dim = labels.dim();
    let mut removed = 0;
    for (start, n) in parts {
        if (n as f64) < keep * largest as f64 {
            let mut seen = vec![false; labels.voxels().len()];
            let mut part = Vec::with_capacity(n);
            flood_6(labels.voxels(), dim, start, &mut seen, &mut |p| part.push(p));
            let voxels = labels.voxels_mut();
            for p in part {
                voxels[p] = 0;
            }
            removed += n;
        }
    }
    removed
}

fn flood_6(v: &[u8], dim: [usize; 3], start: usize, seen: &mut [bool], each: &mut dyn FnMut(usize)) -> usize {
    let label = v[start];
    let (nx, ny, nz) = (dim[0], dim[1], dim[2]);
    let mut stack = vec![start];
    seen[start] = true;
    let mut n = 0;
    while let Some(p) = stack.pop() {
        n += 1;
        each(p);
        let (x, y, z) = (p % nx, p / nx % ny, p / (nx * ny));
        let mut visit = |inside: bool, q: usize| {
            if inside && !seen[q] && v[q] == label {
                seen[q] = true;
                stack.push(q);
            }
        };
        visit(x > 0, p.wrapping_sub(1));
        visit(x + 1 < nx, p + 1);
        visit(y > 0, p.wrapping_sub(nx));
        visit(y + 1 < ny, p + nx);
        visit(z > 0, p.wrapping_sub(nx * ny));
        visit(z + 1 < nz, p + nx * ny);
    }
    n
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Affine, Volume};

    #[test]
    fn diagonal_pixels_are_one_component_only_with_eight() {
        let mask = [1, 0, 0, 1];
        assert_eq!(components_2d(&mask, 2, true).1.len(), 1);
        assert_eq!(components_2d(&mask, 2, false).1.len(), 2);
    }

    #[test]
    fn only_the_largest_part_stays() {
        let mut l: LabelMap =
            Volume::from_vec(vec![3, 3, 0, 3, 0, 0, 0, 3], [8, 1, 1], Affine::from_spacing_mm([1.0; 3])).unwrap();
        assert_eq!(keep_largest_3d(&mut l, 3, 0.6), 2);
        assert_eq!(l.voxels(), [3, 3, 0, 0, 0, 0, 0, 0]);
    }
}
