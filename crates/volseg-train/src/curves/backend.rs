//! Plots without a font of the system: a back end on the canvas of the previews, which carries its own letters.

use plotters::style::text_anchor::{HPos, VPos};
use plotters_backend::{BackendColor, BackendCoord, BackendTextStyle, DrawingBackend, DrawingErrorKind};
use std::convert::Infallible;
use volseg_preview::Canvas;

/// Size of a letter of the canvas, pixels.
const LETTER: [i32; 2] = [8, 16];

pub(super) struct CanvasBackend<'a>(pub(super) &'a mut Canvas);

type Outcome = Result<(), DrawingErrorKind<Infallible>>;

impl DrawingBackend for CanvasBackend<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        (self.0.width() as u32, self.0.height() as u32)
    }

    fn ensure_prepared(&mut self) -> Outcome {
        Ok(())
    }

    fn present(&mut self) -> Outcome {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, color: BackendColor) -> Outcome {
        if let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) {
            let (r, g, b) = color.rgb;
            self.0.blend(x, y, [r, g, b], color.alpha as f32);
        }
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, (x, y): BackendCoord) -> Outcome {
        let (width, height) = (LETTER[0] * text.chars().count() as i32, LETTER[1]);
        let anchor = style.anchor();
        let x = x - match anchor.h_pos {
            HPos::Left => 0,
            HPos::Center => width / 2,
            HPos::Right => width,
        };
        let y = y - match anchor.v_pos {
            VPos::Top => 0,
            VPos::Center => height / 2,
            VPos::Bottom => height,
        };
        let (r, g, b) = style.color().rgb;
        self.0.text(x.max(0) as usize, y.max(0) as usize, text, [r, g, b]);
        Ok(())
    }

    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        text: &str,
        _: &S,
    ) -> Result<(u32, u32), DrawingErrorKind<Infallible>> {
        Ok(((LETTER[0] * text.chars().count() as i32) as u32, LETTER[1] as u32))
    }
}
