use crate::{Error, Result};
use image::{ExtendedColorType, ImageEncoder, codecs::png};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

const WEIGHT: FontWeight = FontWeight::Regular;
const HEIGHT: RasterHeight = RasterHeight::Size16;

/// Height of a line of text in pixels.
pub(crate) const LINE: usize = HEIGHT.val();

/// Width of a text in pixels (all characters are equally wide).
pub(crate) fn text_width(text: &str) -> usize {
    text.chars().count() * get_raster_width(WEIGHT, HEIGHT)
}

/// An RGB picture that can be drawn on. Whatever leaves it is cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canvas {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Canvas {
    /// A canvas of one colour.
    #[must_use]
    pub fn new(width: usize, height: usize, colour: [u8; 3]) -> Self {
        Self { width, height, rgb: colour.repeat(width * height) }
    }

    /// Columns.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// Pixels row by row, red green blue.
    #[must_use]
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// The colour of a pixel; `None` outside.
    #[must_use]
    pub fn pixel(&self, x: usize, y: usize) -> Option<[u8; 3]> {
        let start = (x < self.width && y < self.height).then(|| 3 * (y * self.width + x))?;
        self.rgb.get(start..start + 3)?.try_into().ok()
    }

    /// Mixes `colour` into a pixel: `opacity` 0 leaves it, 1 replaces it.
    pub fn blend(&mut self, x: usize, y: usize, colour: [u8; 3], opacity: f32) {
        if x < self.width && y < self.height {
            let start = 3 * (y * self.width + x);
            for (old, new) in self.rgb[start..start + 3].iter_mut().zip(colour) {
                *old = (f32::from(*old) + (f32::from(new) - f32::from(*old)) * opacity).round() as u8;
            }
        }
    }

    /// Fills a rectangle.
    pub fn fill(&mut self, x: usize, y: usize, width: usize, height: usize, colour: [u8; 3]) {
        for v in y..y + height {
            for u in x..x + width {
                self.blend(u, v, colour, 1.0);
            }
        }
    }

    /// Writes a line of text with its upper left corner at (x, y). Characters that the font lacks become `?`.
    pub fn text(&mut self, x: usize, y: usize, text: &str, colour: [u8; 3]) {
        let mut left = x;
        for character in text.chars() {
            let Some(glyph) = get_raster(character, WEIGHT, HEIGHT).or_else(|| get_raster('?', WEIGHT, HEIGHT)) else {
                continue;
            };
            for (v, row) in glyph.rows().enumerate() {
                for (u, &cover) in row.iter().enumerate() {
                    self.blend(left + u, y + v, colour, f32::from(cover) / 255.0);
                }
            }
            left += glyph.width();
        }
    }

    /// [`Canvas::text`] with a dark rim, readable on any background.
    pub fn text_on_picture(&mut self, x: usize, y: usize, text: &str, colour: [u8; 3]) {
        for (dx, dy) in [(0, 1), (2, 1), (1, 0), (1, 2)] {
            self.text((x + dx).saturating_sub(1), (y + dy).saturating_sub(1), text, [0; 3]);
        }
        self.text(x, y, text, colour);
    }

    /// The picture as the bytes of a PNG file. Equal pictures give equal bytes.
    ///
    /// # Errors
    /// [`Error::Encode`] if the encoder refuses the size.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let encoder =
            png::PngEncoder::new_with_quality(&mut out, png::CompressionType::Default, png::FilterType::Adaptive);
        encoder
            .write_image(&self.rgb, self.width as u32, self.height as u32, ExtendedColorType::Rgb8)
            .map_err(Error::Encode)?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawing_outside_is_cut_off() {
        let mut canvas = Canvas::new(4, 3, [10, 20, 30]);
        canvas.fill(2, 1, 100, 1, [255; 3]);
        canvas.blend(9, 9, [1; 3], 1.0);
        assert_eq!(canvas.pixel(1, 1), Some([10, 20, 30]));
        assert_eq!(canvas.pixel(3, 1), Some([255; 3]));
        assert_eq!(canvas.pixel(3, 2), Some([10, 20, 30]));
        assert_eq!((canvas.pixel(4, 0), canvas.pixel(0, 3)), (None, None));
    }

    #[test]
    fn text_leaves_ink_of_its_width() {
        let mut canvas = Canvas::new(200, 20, [0; 3]);
        canvas.text(0, 0, "liver", [255; 3]);
        let inked = |x: usize| (0..20).any(|y| canvas.pixel(x, y).unwrap()[0] > 100);
        assert!((0..text_width("l")).any(inked));
        assert!((text_width("live")..text_width("liver")).any(inked));
        assert!(!(text_width("liver")..200).any(inked));
    }

    #[test]
    fn png_reads_back() {
        let mut canvas = Canvas::new(5, 2, [9; 3]);
        canvas.blend(4, 1, [200, 100, 0], 0.5);
        let back = image::load_from_memory(&canvas.to_png().unwrap()).unwrap().to_rgb8();
        assert_eq!(back.as_raw().as_slice(), canvas.rgb());
    }
}
