use crate::{Error, Result};

/// A rectangle of pixels of a slice, half-open: `x1`, `y1` are one past the last pixel. May be fractional.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PixelBox {
    /// First column.
    pub x0: f32,
    /// First row.
    pub y0: f32,
    /// One past the last column.
    pub x1: f32,
    /// One past the last row.
    pub y1: f32,
}

impl PixelBox {
    /// Checked constructor.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if a side is not finite or the box is empty or reversed.
    pub fn new(x0: f32, y0: f32, x1: f32, y1: f32) -> Result<Self> {
        if [x0, y0, x1, y1].iter().all(|v| v.is_finite()) && x1 > x0 && y1 > y0 {
            Ok(Self { x0, y0, x1, y1 })
        } else {
            Err(Error::InvalidArgument {
                what: "box",
                found: format!("[{x0}, {y0}, {x1}, {y1}]"),
                expected: "x0 < x1 and y0 < y1, all finite".into(),
            })
        }
    }

    /// Bounding box of the non-zero pixels of a mask of `width` columns; `None` if there are none.
    #[must_use]
    pub fn of_mask(mask: &[u8], width: usize) -> Option<Self> {
        let mut b: Option<(usize, usize, usize, usize)> = None;
        for (y, row) in mask.chunks_exact(width.max(1)).enumerate() {
            let Some(first) = row.iter().position(|&v| v != 0) else { continue };
            let last = row.iter().rposition(|&v| v != 0).unwrap_or(first);
            b = Some(match b {
                None => (first, y, last + 1, y + 1),
                Some((x0, y0, x1, _)) => (x0.min(first), y0, x1.max(last + 1), y + 1),
            });
        }
        b.map(|(x0, y0, x1, y1)| Self { x0: x0 as f32, y0: y0 as f32, x1: x1 as f32, y1: y1 as f32 })
    }

    /// The box in a picture that was stretched by `(sx, sy)`.
    #[must_use]
    pub fn scaled(&self, sx: f32, sy: f32) -> Self {
        Self { x0: self.x0 * sx, y0: self.y0 * sy, x1: self.x1 * sx, y1: self.y1 * sy }
    }
}
