//! From places of slices to a grid.

use super::{FORMAT, file::Place};
use crate::{Error, Result, picture};
use volseg_geometry::Affine;

/// Slices nearer than this lie at one place, mm.
pub(super) const SAME_PLACE_MM: f64 = 1e-3;

/// What a distance of pixels can be: from electron microscopes to whole bodies.
const LEAST_MM: f64 = 1e-6;
const MOST_MM: f64 = 1e6;

/// Distance of a slice along the normal of `orientation`, mm.
pub(super) fn along(position: [f64; 3], orientation: &[f64; 6]) -> f64 {
    dot(position, normal(orientation))
}

fn normal(o: &[f64; 6]) -> [f64; 3] {
    [o[1] * o[5] - o[2] * o[4], o[2] * o[3] - o[0] * o[5], o[0] * o[4] - o[1] * o[3]]
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn length(v: [f64; 3]) -> f64 {
    dot(v, v).sqrt()
}

/// The grid of slices that are sorted along their normal, index to RAS mm.
pub(super) fn affine(places: &[&Place], warnings: &mut Vec<String>) -> Result<Affine> {
    if let Some(orientation) = places.first().and_then(|p| p.orientation) {
        spacing_warnings(places, &orientation, warnings)?;
    }
    affine_of(places, places.len(), warnings)
}

/// The grid of `count` slices of which the first and the last are known.
pub(super) fn affine_of(places: &[&Place], count: usize, warnings: &mut Vec<String>) -> Result<Affine> {
    let Some(first) = places.first() else { return Err(Error::malformed(FORMAT, "no slices")) };
    let [rows, columns] = first.spacing.unwrap_or([1.0; 2]);
    if first.spacing.is_none() && first.position.is_some() {
        warnings.push("PixelSpacing is missing; taken as 1 mm".into());
    }
    if [rows, columns].iter().any(|s| !(LEAST_MM..=MOST_MM).contains(s)) {
        return Err(Error::malformed(FORMAT, format!("PixelSpacing is {rows} and {columns} mm")));
    }
    let (Some(orientation), Some(start)) = (first.orientation, first.position) else {
        // A picture in millimetres, where they are known.
        let mut grid = picture::GRID;
        grid.rows[0][0] = -columns;
        grid.rows[1][1] = -rows;
        grid.rows[2][2] = first.thickness.unwrap_or(1.0);
        grid.check().map_err(|e| Error::malformed(FORMAT, format!("PixelSpacing: {e}")))?;
        return Ok(grid);
    };
    let across = [0, 1, 2].map(|n| orientation[n] * columns);
    let down = [0, 1, 2].map(|n| orientation[3 + n] * rows);
    let n = normal(&orientation);
    let step = if let (Some(end), true) = (places.last().and_then(|p| p.position), count > 1) {
        [0, 1, 2].map(|r| (end[r] - start[r]) / (count - 1) as f64)
    } else {
        if first.thickness.is_none() {
            warnings.push("SliceThickness is missing; taken as 1 mm".into());
        }
        n.map(|v| v * first.thickness.unwrap_or(1.0))
    };
    let tilt = (dot(step, n) / (length(step) * length(n))).clamp(-1.0, 1.0).acos().to_degrees();
    if tilt > 0.5 {
        warnings.push(format!(
            "gantry tilt: slices are shifted by {tilt:.1} degrees against their normal; the affine says so"
        ));
    }
    let angle = (dot(across, down) / (length(across) * length(down))).clamp(-1.0, 1.0).acos().to_degrees();
    if (angle - 90.0).abs() > 0.5 {
        warnings.push(format!("rows and columns stand at {angle:.1} degrees in ImageOrientationPatient, expected 90"));
    }
    let ras = |v: [f64; 3]| [0.0 - v[0], 0.0 - v[1], v[2]];
    let affine = Affine::from_columns([ras(across), ras(down), ras(step)], ras(start));
    affine.check().map_err(|e| Error::malformed(FORMAT, format!("position, orientation or spacing of slices: {e}")))?;
    Ok(affine)
}

/// Says what a grid of even spacing makes of slices that are not evenly spaced.
///
/// # Errors
/// A slice would lie further from its place than the usual distance of two slices.
fn spacing_warnings(places: &[&Place], orientation: &[f64; 6], warnings: &mut Vec<String>) -> Result<()> {
    let at: Vec<f64> = places.iter().filter_map(|p| p.position).map(|p| along(p, orientation)).collect();
    let mut gaps: Vec<f64> = at.windows(2).map(|w| w[1] - w[0]).collect();
    if gaps.len() < 2 {
        return Ok(());
    }
    let step = (at[at.len() - 1] - at[0]) / (at.len() - 1) as f64;
    let off = at.iter().enumerate().map(|(n, v)| (v - at[0] - n as f64 * step).abs()).fold(0.0, f64::max);
    let each = gaps.clone();
    gaps.sort_by(f64::total_cmp);
    let usual = gaps[gaps.len() / 2];
    let (least, most) = (gaps[0], gaps[gaps.len() - 1]);
    let missing: Vec<String> = each
        .iter()
        .enumerate()
        .filter(|(_, g)| **g > 1.5 * usual && (**g / usual - (**g / usual).round()).abs() < 0.05)
        .map(|(n, g)| format!("{} after slice {}", (g / usual).round() as usize - 1, n + 1))
        .collect();
    let what = if !missing.is_empty() {
        let all = missing.len();
        let some = missing.into_iter().take(8).collect::<Vec<_>>().join(", ");
        let more = if all > 8 { format!(" and at {} other places", all - 8) } else { String::new() };
        format!("slices are missing: {some}{more} (usual distance {usual:.3} mm)")
    } else if most - least > 0.02 * usual && most - least > 0.01 {
        format!("slices are unevenly spaced: {least:.3} to {most:.3} mm")
    } else {
        return Ok(());
    };
    if off > usual {
        return Err(Error::malformed(
            FORMAT,
            format!(
                "{what}; on an even grid slices would lie up to {off:.1} mm from their places. Get the missing files, or read parts of the series alone"
            ),
        ));
    }
    warnings.push(format!("{what}; on the even grid that is used, slices lie up to {off:.2} mm from their places"));
    Ok(())
}
