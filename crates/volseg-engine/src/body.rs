//! Which part of a slice the network looks at.

use crate::black_fat::BlackFat;
use volseg_geometry::{AnyVolume, Modality, Plane, Side, SliceStack, Window};
use volseg_io::Image;
use volseg_model::embedded::{BODY_HU, body_box, neighbours, normalise_grey, normalise_hu, stretch};

/// Slices of an image along a plane; a picture is its own one slice.
pub(crate) fn stack_of(image: &Image, plane: Plane) -> SliceStack {
    let dim = image.volume.dim();
    if image.is_picture() {
        SliceStack::picture(dim[0], dim[1])
    } else {
        SliceStack::new(dim, image.volume.affine(), plane)
    }
}

/// How slices become input of the embedded network, and network pixels become slice pixels.
#[derive(Clone, Debug)]
pub struct View {
    pub(crate) stack: SliceStack,
    /// x0, y0, width, height of the part that is read, in shown pixels.
    pub(crate) crop: [usize; 4],
    pub(crate) side: usize,
    modality: Modality,
    window: Option<Window>,
    spacing_mm: f64,
    /// Slices are numbered towards left, posterior or inferior: against those that the network learned from.
    against: bool,
    slope: f64,
    intercept: f64,
    black_fat: Option<BlackFat>,
}

impl View {
    /// The view that [`crate::segment()`] takes of an image of a known modality, without a window of the user's.
    #[must_use]
    pub fn of_image(image: &Image, plane: Plane, modality: Modality, side: usize) -> Self {
        let (stack, picture) = (stack_of(image, plane), image.is_picture());
        Self::new(&image.volume, image.slope, image.intercept, stack, modality, None, side, picture)
    }

    /// The slices.
    #[must_use]
    pub fn stack(&self) -> &SliceStack {
        &self.stack
    }

    /// Stored pixel (x, y) under the middle of every network pixel, row by row; `None` outside the slice.
    pub fn stored_pixels(&self) -> impl Iterator<Item = Option<[usize; 2]>> {
        let [x0, y0, w, h] = self.crop.map(|v| v as f32);
        let side = self.side as f32;
        let [columns, rows] = self.stack.size;
        (0..self.side * self.side).map(move |i| {
            let (u, v) = ((i % self.side) as f32 + 0.5, (i / self.side) as f32 + 0.5);
            let (x, y) = self.stack.to_stored(x0 + u * w / side, y0 + v * h / side);
            let inside = x >= 0.0 && y >= 0.0 && (x as usize) < columns && (y as usize) < rows;
            inside.then_some([x as usize, y as usize])
        })
    }

    pub(crate) fn new(
        volume: &AnyVolume,
        slope: f64,
        intercept: f64,
        stack: SliceStack,
        modality: Modality,
        window: Option<Window>,
        side: usize,
        eight_bit: bool,
    ) -> Self {
        // A picture of a CT has lost its HU; it is read as the soft-tissue window that most are made with, or a narrower one
        // where fat is black.
        let picture = modality == Modality::Ct && eight_bit;
        let (slope, intercept, body_hu) = if picture {
            (slope * 400.0 / 255.0, intercept * 400.0 / 255.0 - 160.0, -150.0)
        } else {
            (slope, intercept, BODY_HU)
        };
        let [w, h] = stack.shown_size();
        let crop = if modality == Modality::Ct {
            let b = body_box(volume, slope, intercept, &stack, body_hu, picture);
            let (x0, y0) = (b.x0.floor() as usize, b.y0.floor() as usize);
            let (x1, y1) = ((b.x1.ceil() as usize).min(w), (b.y1.ceil() as usize).min(h));
            [x0, y0, (x1 - x0).max(1), (y1 - y0).max(1)]
        } else {
            [0, 0, w, h]
        };
        let spacing_mm = volume.affine().spacing_mm()[stack.frame.axes[2]];
        let side_of_axis = volume.affine().orientation().sides()[stack.frame.axes[2]];
        let against = matches!(side_of_axis, Side::Left | Side::Posterior | Side::Inferior);
        let black_fat = (picture && window.is_none()).then(|| BlackFat::find(volume, &stack)).flatten();
        Self { stack, crop, side, modality, window, spacing_mm, against, slope, intercept, black_fat }
    }

    /// Whether the answer is the mean of two readings. A volume has hundreds of slices and organs with sides; a picture has one.
    pub(crate) fn is_read_twice(&self) -> bool {
        self.modality != Modality::Ct && self.stack.slices == 1
    }

    /// Whether it is also read closer and from further away: ultrasounds show lesions of any size.
    pub(crate) fn is_read_at_sizes(&self) -> bool {
        self.is_read_twice() && self.modality == Modality::Ultrasound && self.window.is_none()
    }

    /// [`View::input`] of a picture, `zoom` times as much of it along each side; black beyond its edges.
    pub(crate) fn zoomed_input(&self, volume: &AnyVolume, slice: usize, zoom: f32) -> Vec<f32> {
        if zoom == 1.0 {
            return self.input(volume, slice);
        }
        let grey = stretch(&self.crop_values(volume, slice), [self.crop[2], self.crop[3]], self.side);
        let mut grey = resize_about_middle(&grey, self.side, zoom, 0.0);
        normalise_grey(&mut grey);
        grey.iter().flat_map(|&v| [v, v, v]).collect()
    }

    /// Intensities of the crop of a shown slice, row by row.
    fn crop_values(&self, volume: &AnyVolume, slice: usize) -> Vec<f32> {
        let (first, column, row) = self.stack.shown_strides(slice);
        let [x0, y0, w, h] = self.crop;
        let (slope, intercept) = if self.black_fat.is_some() { (1.0, 0.0) } else { (self.slope, self.intercept) };
        let mut out = vec![0f32; w * h];
        for (y, line) in out.chunks_exact_mut(w).enumerate() {
            let at = first as isize + row * (y0 + y) as isize + column * x0 as isize;
            if column == 1 {
                volume.read_f32(at as usize, slope, intercept, line);
            } else if column == -1 {
                volume.read_f32((at + 1 - w as isize) as usize, slope, intercept, line);
                line.reverse();
            } else {
                for (x, v) in line.iter_mut().enumerate() {
                    let value = volume.value((at + column * x as isize) as usize);
                    *v = (value * slope + intercept) as f32;
                }
            }
            if let Some(black_fat) = &self.black_fat {
                black_fat.restore(line, x0, y0 + y);
            }
        }
        out
    }

    /// Number of a slice, counted towards right, anterior or superior, whichever way the file counts.
    pub(crate) fn anatomical(&self, slice: usize) -> usize {
        if self.against { self.stack.slices - 1 - slice } else { slice }
    }

    /// Whether all pixels of a slice are the same: padding, in which nothing can be found.
    pub(crate) fn is_blank(&self, volume: &AnyVolume, slice: usize) -> bool {
        let (first, column, row) = self.stack.shown_strides(slice);
        let [x0, y0, w, h] = self.crop;
        // Without a copy: almost every slice is done at its second pixel.
        let value = |x: usize, y: usize| {
            volume.value((first as isize + column * (x0 + x) as isize + row * (y0 + y) as isize) as usize).to_bits()
        };
        (0..h).all(|y| (0..w).all(|x| value(x, y) == value(0, 0)))
    }

    /// `[side, side, 3]` of a slice.
    #[must_use]
    pub fn input(&self, volume: &AnyVolume, slice: usize) -> Vec<f32> {
        let plane = |s: usize| {
            let mut v = stretch(&self.crop_values(volume, s), [self.crop[2], self.crop[3]], self.side);
            match (self.window, self.modality) {
                (Some(window), _) => {
                    window.apply(&mut v);
                    for p in &mut v {
                        *p = (*p - 0.5) * 4.0;
                    }
                }
                (None, Modality::Ct) => normalise_hu(&mut v),
                (None, _) => normalise_grey(&mut v),
            }
            v
        };
        let middle = plane(slice);
        if self.modality != Modality::Ct {
            return middle.iter().flat_map(|&v| [v, v, v]).collect();
        }
        let [mut before, mut after] = neighbours(slice, self.stack.slices, self.spacing_mm);
        if self.against {
            std::mem::swap(&mut before, &mut after);
        }
        let (before, after) = (plane(before), plane(after));
        (0..middle.len()).flat_map(|i| [before[i], middle[i], after[i]]).collect()
    }

    /// A continuous stored position (pixel edges at whole numbers) in network pixels.
    pub(crate) fn to_network(&self, x: f32, y: f32) -> [f32; 2] {
        let (u, v) = self.stack.to_shown(x, y);
        let [x0, y0, w, h] = self.crop;
        let side = self.side as f32;
        [(u - x0 as f32) * side / w as f32, (v - y0 as f32) * side / h as f32]
    }
}

/// A `side * side` map where each pixel shows what lies `zoom` times as far from the middle (linear interpolation); `beyond` is
/// what lies outside the map.
pub(crate) fn resize_about_middle(map: &[f32], side: usize, zoom: f32, beyond: f32) -> Vec<f32> {
    if zoom == 1.0 {
        return map.to_vec();
    }
    let middle = side as f32 / 2.0;
    let at = |x: f32, y: f32| {
        let inside = x >= 0.0 && y >= 0.0 && x < side as f32 && y < side as f32;
        map.get(y as usize * side + x as usize).copied().filter(|_| inside).unwrap_or(beyond)
    };
    (0..side * side)
        .map(|i| {
            let [x, y] = [i % side, i / side].map(|v| middle + (v as f32 + 0.5 - middle) * zoom - 0.5);
            let (x0, y0) = (x.floor(), y.floor());
            let (a, b) = (x - x0, y - y0);
            let row = |y: f32| at(x0, y) * (1.0 - a) + at(x0 + 1.0, y) * a;
            row(y0) * (1.0 - b) + row(y0 + 1.0) * b
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zoomed_map_comes_back_where_it_was_seen() {
        let side = 32;
        let map: Vec<f32> = (0..side * side).map(|i| (i % side) as f32 + 2.0 * (i / side) as f32).collect();
        for zoom in [0.8, 1.25] {
            let back = resize_about_middle(&resize_about_middle(&map, side, zoom, 0.0), side, 1.0 / zoom, -1.0);
            // A plane is the same after two linear interpolations, except near the edges.
            for y in 6..26 {
                for x in 6..26 {
                    assert!((back[y * side + x] - map[y * side + x]).abs() < 1e-3, "{zoom} {x} {y}");
                }
            }
            assert_eq!(back[0] == -1.0, zoom < 1.0);
        }
    }
}
