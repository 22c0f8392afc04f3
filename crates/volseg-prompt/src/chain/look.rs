use super::ChainRequest;
use crate::Error;
use volseg_geometry::{Modality, Plane, SliceStack, VoxelKind, Window, resize_area, resize_bilinear};
use volseg_io::Image;
use volseg_model::clip::{ClipConfig, Fit, fit_picture};
use volseg_model::embedded::{BODY_HU, body_box};
use volseg_model::picture::Picture;

/// How slices become pictures, and pixels of pictures become stored pixels.
pub(super) struct Look<'a> {
    image: &'a Image,
    pub(super) stack: SliceStack,
    /// x0, y0, width, height of the part that is looked at, in shown pixels: the patient's body in a CT volume.
    pub(super) crop: [usize; 4],
    /// Columns and rows of the grid on which masks are made.
    pub(super) size: [usize; 2],
    window: Option<Window>,
    fit: Fit,
}

impl<'a> Look<'a> {
    pub(super) fn new(image: &'a Image, request: &ChainRequest) -> Self {
        let dim = image.volume.dim();
        let picture = image.is_picture();
        let stack = if picture {
            SliceStack::picture(dim[0], dim[1])
        } else {
            SliceStack::new(dim, image.volume.affine(), request.plane.unwrap_or(Plane::Axial))
        };
        let [w, h] = stack.shown_size();
        let crop = if request.modality == Modality::Ct && !picture {
            let b = body_box(&image.volume, image.slope, image.intercept, &stack, BODY_HU, false);
            let (x0, y0) = (b.x0.floor() as usize, b.y0.floor() as usize);
            let (x1, y1) = ((b.x1.ceil() as usize).min(w), (b.y1.ceil() as usize).min(h));
            [x0, y0, x1.saturating_sub(x0).max(1), y1.saturating_sub(y0).max(1)]
        } else {
            [0, 0, w, h]
        };
        let long = crop[2].max(crop[3]);
        let shrink = |n: usize| if long > request.side { (n * request.side / long).max(1) } else { n };
        // Eight-bit pictures are what the model was trained on; anything else is windowed first.
        let window = match (request.window, image.volume.kind()) {
            (Some(window), _) => Some(window),
            (None, VoxelKind::U8) if picture => None,
            (None, _) => Some(Window::of(request.modality)),
        };
        Self { image, stack, crop, size: [shrink(crop[2]), shrink(crop[3])], window, fit: request.fit }
    }

    /// The crop of a slice as an 8-bit picture.
    pub(super) fn picture(&self, slice: usize) -> Result<Picture, Error> {
        let [x0, y0, w, h] = self.crop;
        if let (true, Some(rgb)) = (self.window.is_none(), self.image.rgb()) {
            return Ok(Picture::rgb(w, h, rgb.to_vec())?);
        }
        let (first, column, row) = self.stack.shown_strides(slice);
        let mut grey = Vec::with_capacity(w * h);
        for y in y0..y0 + h {
            for x in x0..x0 + w {
                let at = (first as isize + column * x as isize + row * y as isize) as usize;
                grey.push((self.image.volume.value(at) * self.image.slope + self.image.intercept) as f32);
            }
        }
        if let Some(window) = self.window {
            window.apply(&mut grey);
            grey.iter_mut().for_each(|v| *v *= 255.0);
        }
        let grey: Vec<u8> = grey.iter().map(|v| v.clamp(0.0, 255.0).round() as u8).collect();
        Ok(Picture::grey(w, h, &grey)?)
    }

    /// The network's input.
    pub(super) fn input(&self, picture: &Picture, config: &ClipConfig) -> Vec<f32> {
        fit_picture(picture, config, self.fit)
    }

    /// The picture at the size of the masks, three bytes a pixel.
    pub(super) fn guide(&self, picture: &Picture) -> Vec<u8> {
        let (w, h) = (picture.width(), picture.height());
        if self.size == [w, h] {
            return picture.values().to_vec();
        }
        let channel = |c: usize| -> Vec<f32> {
            let plane: Vec<f32> = picture.values().iter().skip(c).step_by(3).map(|&v| f32::from(v)).collect();
            resize_area(&plane, w, h, self.size[0], self.size[1])
        };
        let planes = [0, 1, 2].map(channel);
        (0..self.size[0] * self.size[1]).flat_map(|p| [0, 1, 2].map(|c| planes[c][p].round() as u8)).collect()
    }

    /// A map of patches on `size` pixels of the crop, 0..1.
    pub(super) fn enlarged(&self, low: &[f32], grid: usize, size: [usize; 2]) -> Vec<f32> {
        let [w, h] = size;
        let mut map = if self.fit == Fit::Pad {
            let long = w.max(h);
            let (left, top) = ((long - w) / 2, (long - h) / 2);
            let whole = resize_bilinear(low, grid, grid, long, long);
            whole.chunks_exact(long).skip(top).take(h).flat_map(|l| l[left..left + w].iter().copied()).collect()
        } else {
            resize_bilinear(low, grid, grid, w, h)
        };
        crate::saliency::stretch(&mut map);
        map
    }

    /// A continuous position on the masks' grid in stored pixels (edges at whole numbers).
    pub(super) fn to_stored(&self, x: f32, y: f32) -> [f32; 2] {
        let [x0, y0, w, h] = self.crop.map(|v| v as f32);
        let [cw, ch] = self.size.map(|v| v as f32);
        let (a, b) = self.stack.to_stored(x0 + x * w / cw, y0 + y * h / ch);
        [a, b]
    }
}
