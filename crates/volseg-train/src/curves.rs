//! Loss and validation curves as a picture.

use crate::Error;
use plotters::prelude::*;
use std::path::Path;

/// One named line: (step, value).
pub(crate) type Line = (String, Vec<(f32, f32)>);

/// Draws lines of values in 0..1 (losses are clipped at 2) over steps.
pub(crate) fn draw(path: &Path, lines: &[Line]) -> Result<(), Error> {
    let failed = |e: &dyn std::fmt::Display| Error::Io {
        what: format!("draw {}", path.display()),
        source: std::io::Error::other(e.to_string()),
    };
    let last = lines.iter().flat_map(|l| &l.1).map(|p| p.0).fold(1.0, f32::max);
    let svg_path = path.with_extension("svg");
    let root = SVGBackend::new(&svg_path, (900, 520)).into_drawing_area();
    root.fill(&WHITE).map_err(|e| failed(&e))?;
    let mut chart = ChartBuilder::on(&root)
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(48)
        .build_cartesian_2d(0f32..last, 0f32..1.5f32)
        .map_err(|e| failed(&e))?;
    chart.configure_mesh().x_desc("step").light_line_style(WHITE).draw().map_err(|e| failed(&e))?;
    for (n, (name, points)) in lines.iter().enumerate() {
        let colour = Palette99::pick(n).to_rgba();
        chart
            .draw_series(LineSeries::new(points.iter().map(|&(x, y)| (x, y.min(1.5))), colour.stroke_width(2)))
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
    root.present().map_err(|e| failed(&e))
}
