//! Plots as SVG.

use anyhow::anyhow;
use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};
use volseg_metrics::Statistic;

const WIDTH: u32 = 640;
const HEIGHT: u32 = 440;
const BLUE: RGBColor = RGBColor(31, 95, 153);
const RED: RGBColor = RGBColor(178, 58, 72);
const GREY: RGBColor = RGBColor(87, 96, 106);
const INK: RGBColor = RGBColor(27, 31, 36);
/// Letters of axes, in the units of the picture's width.
const LETTERS: (&str, u32) = ("sans-serif", 22);
/// Longest name of a label, letters.
const LONGEST: usize = 22;

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Plotters' errors hold the drawing backend's and cannot leave the function otherwise.
fn ok<T, E: std::fmt::Display>(result: Result<T, E>) -> anyhow::Result<T> {
    result.map_err(|e| anyhow!("{e}"))
}

fn draw(height: u32, paint: impl FnOnce(&Area<'_>) -> anyhow::Result<()>) -> anyhow::Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        ok(area.fill(&WHITE))?;
        paint(&area)?;
        ok(area.present())?;
    }
    Ok(svg.lines().filter(|l| !l.starts_with("<?xml")).collect::<Vec<_>>().join("\n"))
}

fn text(colour: &'static RGBColor, h: HPos, v: VPos) -> TextStyle<'static> {
    TextStyle::from(LETTERS.into_font()).color(colour).pos(Pos::new(h, v))
}

/// A number without digits that say nothing.
fn short(v: f64) -> String {
    let v = if v.abs() < 1e-9 { 0.0 } else { v };
    let digits = match v.abs() {
        100.0.. => 0,
        1.0.. => 2,
        _ => 4,
    };
    let text = format!("{v:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A name of at most [`LONGEST`] letters; long ones lose their middle, since the end often tells them apart.
fn shortened(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= LONGEST {
        return name.to_owned();
    }
    let (start, end) = letters.split_at(letters.len() - LONGEST / 2);
    start.iter().take(LONGEST - 1 - LONGEST / 2).chain(&['…']).chain(end).collect()
}

/// A box for each label (quartiles, median; whiskers to the furthest value within 1.5 times the box), and a dot a case.
/// `rows`: name, its statistic, its values; `ends` of the axis.
pub(crate) fn boxes(rows: &[(&str, &Statistic, Vec<f64>)], x: &str, (low, high): (f64, f64)) -> anyhow::Result<String> {
    let n = rows.len();
    draw(HEIGHT.max(100 + 29 * n as u32), |area| {
        let mut chart = ok(ChartBuilder::on(area)
            .margin(14)
            .margin_right(26)
            .x_label_area_size(66)
            .y_label_area_size(212)
            .build_cartesian_2d(low..high, -0.6f64..(n as f64 - 0.4)))?;
        ok(chart
            .configure_mesh()
            .disable_y_mesh()
            .y_labels(0)
            .x_labels(6)
            .light_line_style(TRANSPARENT)
            .label_style(LETTERS)
            .axis_desc_style(LETTERS)
            .x_label_formatter(&|v| short(*v))
            .x_desc(x)
            .draw())?;
        for (place, (name, st, values)) in rows.iter().rev().enumerate() {
            let y = place as f64;
            let (left, at) = chart.backend_coord(&(low, y));
            ok(area.draw(&Text::new(shortened(name), (left - 10, at), text(&INK, HPos::Right, VPos::Center))))?;
            let known: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
            if known.len() > 4 {
                let [q1, q3] = st.quartiles;
                let reach = 1.5 * (q3 - q1);
                let inside = || known.iter().copied().filter(|v| (q1 - reach..=q3 + reach).contains(v));
                let (a, b) = (inside().fold(q1, f64::min), inside().fold(q3, f64::max));
                let line = |x0: f64, x1: f64| PathElement::new([(x0, y), (x1, y)], BLUE.stroke_width(2));
                ok(chart.draw_series([line(a, q1), line(q3, b)]))?;
                ok(chart.draw_series([
                    Rectangle::new([(q1, y - 0.3), (q3, y + 0.3)], BLUE.mix(0.22).filled()),
                    Rectangle::new([(q1, y - 0.3), (q3, y + 0.3)], BLUE.stroke_width(1)),
                ]))?;
                let median = PathElement::new([(st.median, y - 0.3), (st.median, y + 0.3)], RED.stroke_width(3));
                ok(chart.draw_series([median]))?;
            }
            // Dots of one label lie on three lines, so that equal values stay apart.
            let dot =
                |(n, &v): (usize, &f64)| Circle::new((v, y + 0.12 * (n % 3) as f64 - 0.12), 3, BLUE.mix(0.6).filled());
            ok(chart.draw_series(known.iter().enumerate().map(dot)))?;
        }
        Ok(())
    })
}

/// Dice against volume; the volume by its logarithm.
pub(crate) fn against_volume(points: &[(f64, f64)], x: &str, y: &str) -> anyhow::Result<String> {
    let power = |v: f64, up: f64| 10f64.powf(v.log10().floor() + up);
    let low = power(points.iter().map(|p| p.0).fold(f64::INFINITY, f64::min).clamp(1e-6, 1e6), 0.0);
    let high = power(points.iter().map(|p| p.0).fold(low, f64::max), 1.0);
    draw(HEIGHT, |area| {
        let mut chart = ok(ChartBuilder::on(area)
            .margin(14)
            .margin_right(30)
            .x_label_area_size(66)
            .y_label_area_size(84)
            .build_cartesian_2d((low..high).log_scale(), 0.0..1.02))?;
        ok(chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_labels(8)
            .y_labels(6)
            .label_style(LETTERS)
            .axis_desc_style(LETTERS)
            .x_label_formatter(&|v| {
                if *v < 0.01 { format!("{v:.4}").trim_end_matches('0').to_owned() } else { short(*v) }
            })
            .y_label_formatter(&|v| short(*v))
            .x_desc(x)
            .y_desc(y)
            .draw())?;
        ok(chart.draw_series(points.iter().map(|&p| Circle::new(p, 4, BLUE.mix(0.6).filled()))))?;
        Ok(())
    })
}

/// Differences against means, with the mean difference and 1.96 standard deviations around it.
pub(crate) fn bland_altman(points: &[(f64, f64)], x: &str, y: &str) -> anyhow::Result<String> {
    let st = volseg_metrics::statistic(&points.iter().map(|p| p.1).collect::<Vec<_>>());
    let mut lines = vec![(st.mean, "mean")];
    if st.sd.is_finite() && st.sd > 0.0 {
        lines.extend([(st.mean - 1.96 * st.sd, "−1.96 SD"), (st.mean + 1.96 * st.sd, "+1.96 SD")]);
    }
    let all = points.iter().map(|p| p.1).chain(lines.iter().map(|l| l.0)).filter(|v| v.is_finite());
    let reach = all.map(f64::abs).fold(1e-3, f64::max) * 1.15;
    let right = points.iter().map(|p| p.0).fold(1e-3, f64::max) * 1.05;
    draw(HEIGHT, |area| {
        let mut chart = ok(ChartBuilder::on(area)
            .margin(14)
            .margin_right(128)
            .x_label_area_size(66)
            .y_label_area_size(104)
            .build_cartesian_2d(0.0..right, -reach..reach))?;
        ok(chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_labels(6)
            .y_labels(7)
            .label_style(LETTERS)
            .axis_desc_style(LETTERS)
            .x_label_formatter(&|v| short(*v))
            .y_label_formatter(&|v| short(*v))
            .x_desc(x)
            .y_desc(y)
            .draw())?;
        ok(chart.draw_series([PathElement::new([(0.0, 0.0), (right, 0.0)], GREY.stroke_width(1))]))?;
        let mut free = i32::MAX;
        lines.sort_by(|a, b| a.0.total_cmp(&b.0));
        for &(v, name) in lines.iter().filter(|l| l.0.is_finite()) {
            ok(chart.draw_series([PathElement::new([(0.0, v), (right, v)], RED.stroke_width(2))]))?;
            // From the lowest line up: names never lie on each other.
            let (edge, at) = chart.backend_coord(&(right, v));
            free = at.min(free.saturating_sub(44));
            for (line, shift) in [(name.to_owned(), -10), (short(v), 12)] {
                ok(area.draw(&Text::new(line, (edge + 8, free + shift), text(&RED, HPos::Left, VPos::Center))))?;
            }
        }
        ok(chart.draw_series(points.iter().map(|&p| Circle::new(p, 4, BLUE.mix(0.6).filled()))))?;
        Ok(())
    })
}

/// Mean NSD against tolerance: a thin line a label, a thick one for the mean.
pub(crate) fn tolerances(mean: &[(f64, f64)], labels: &[Vec<(f64, f64)>], x: &str) -> anyhow::Result<String> {
    let right = mean.iter().map(|p| p.0).fold(1e-3, f64::max) * 1.05;
    draw(HEIGHT, |area| {
        let mut chart = ok(ChartBuilder::on(area)
            .margin(14)
            .margin_right(26)
            .x_label_area_size(66)
            .y_label_area_size(84)
            .build_cartesian_2d(0.0..right, 0.0..1.02))?;
        ok(chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_labels(7)
            .y_labels(6)
            .label_style(LETTERS)
            .axis_desc_style(LETTERS)
            .x_label_formatter(&|v| short(*v))
            .y_label_formatter(&|v| short(*v))
            .x_desc(x)
            .y_desc("NSD")
            .draw())?;
        for label in labels {
            ok(chart.draw_series(LineSeries::new(label.iter().copied(), GREY.mix(0.35).stroke_width(1))))?;
        }
        ok(chart.draw_series(LineSeries::new(mean.iter().copied(), BLUE.stroke_width(3))))?;
        ok(chart.draw_series(mean.iter().map(|&p| Circle::new(p, 5, BLUE.filled()))))?;
        Ok(())
    })
}

/// Points with both axes from 0.
pub(crate) fn points(points: &[(f64, f64)], x: &str, y: &str) -> anyhow::Result<String> {
    let reach = |values: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(values).fold(1.0, f64::max) * 1.05;
    draw(HEIGHT, |area| {
        let mut chart = ok(ChartBuilder::on(area)
            .margin(14)
            .margin_right(30)
            .x_label_area_size(58)
            .y_label_area_size(74)
            .build_cartesian_2d(0.0..reach(&|p| p.0), 0.0..reach(&|p| p.1)))?;
        ok(chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_labels(8)
            .y_labels(6)
            .label_style(LETTERS)
            .axis_desc_style(LETTERS)
            .x_label_formatter(&|v| short(*v))
            .y_label_formatter(&|v| short(*v))
            .x_desc(x)
            .y_desc(y)
            .draw())?;
        ok(chart.draw_series(points.iter().map(|&p| Circle::new(p, 4, BLUE.mix(0.6).filled()))))?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_axes_have_no_idle_digits() {
        for (v, text) in
            [(0.5, "0.5"), (-0.0, "0"), (1200.0, "1200"), (0.25, "0.25"), (100.0, "100"), (10.0, "10"), (-3.1, "-3.1")]
        {
            assert_eq!(short(v), text);
        }
    }
}
