//! Loss and validation curves as a picture.

mod backend;

use crate::Error;
use backend::CanvasBackend;
use plotters::prelude::*;
use std::path::Path;
use volseg_preview::Canvas;

/// One named line: (step, value).
pub(crate) type Line = (String, Vec<(f32, f32)>);

/// Draws losses and scores over steps as a PNG, from 0 to the greatest value (at least 1).
pub(crate) fn draw(path: &Path, lines: &[Line], x_name: &str) -> Result<(), Error> {
    let finite = lines.iter().flat_map(|l| &l.1).map(|p| p.1).filter(|v| v.is_finite());
    draw_within(path, lines, x_name, [0.0, 1.02 * finite.fold(1.0, f32::max)])
}

/// Draws lines of values as a PNG; values outside `range` are drawn at its edge.
pub(crate) fn draw_within(path: &Path, lines: &[Line], x_name: &str, range: [f32; 2]) -> Result<(), Error> {
    let [bottom, top] = range;
    let failed = |e: &dyn std::fmt::Display| Error::Io {
        what: format!("draw {}", path.display()),
        source: std::io::Error::other(e.to_string()),
    };
    let last = lines.iter().flat_map(|l| &l.1).map(|p| p.0).fold(1.0, f32::max);
    let mut canvas = Canvas::new(900, 520, [255; 3]);
    {
        let root = CanvasBackend(&mut canvas).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(16)
            .x_label_area_size(40)
            .y_label_area_size(48)
            .build_cartesian_2d(0f32..last, bottom..top)
            .map_err(|e| failed(&e))?;
        chart.configure_mesh().x_desc(x_name).light_line_style(WHITE).draw().map_err(|e| failed(&e))?;
        for (n, (name, points)) in lines.iter().enumerate() {
            let colour = Palette99::pick(n).to_rgba();
            chart
                .draw_series(LineSeries::new(
                    points.iter().map(|&(x, y)| (x, y.clamp(bottom, top))),
                    colour.stroke_width(2),
                ))
                .map_err(|e| failed(&e))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .draw()
            .map_err(|e| failed(&e))?;
        root.present().map_err(|e| failed(&e))?;
    }
    let png = canvas.to_png().map_err(|e| failed(&e))?;
    std::fs::write(path, png).map_err(|e| failed(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_of_two_lines() {
        let path = std::env::temp_dir().join(format!("volseg-curves-{}.png", std::process::id()));
        let lines = [("loss".to_owned(), vec![(0.0, 1.0), (5.0, 0.2)]), ("dice".to_owned(), vec![(5.0, 0.9)])];
        draw(&path, &lines, "epoch").unwrap();
        let image = image::open(&path).unwrap().to_rgb8();
        assert_eq!(image.dimensions(), (900, 520));
        let coloured = image.pixels().filter(|p| p.0.iter().max() != p.0.iter().min()).count();
        let black = image.pixels().filter(|p| p.0 == [0; 3]).count();
        assert!(coloured > 500 && black > 500, "{coloured} coloured, {black} black pixels");
        std::fs::remove_file(path).unwrap();
    }
}
