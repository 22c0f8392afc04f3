//! Numbers as text: headers and ASCII voxels.

use crate::{
    Error, Result,
    voxels::{Layout, with_kind},
};
use volseg_geometry::{AnyVolume, Volume};

/// All numbers of a list separated by blanks or commas.
pub(crate) fn numbers(format: &'static str, field: &str, text: &str) -> Result<Vec<f64>> {
    text.split(|c: char| c.is_whitespace() || c == ',')
        .filter(|t| !t.is_empty())
        .map(|t| {
            t.parse().map_err(|_| Error::malformed(format, format!("field {field:?} holds {t:?}, expected a number")))
        })
        .collect()
}

/// Voxels written as text, first index fastest.
pub(crate) fn voxels(text: &[u8], layout: &Layout, frame: Option<usize>) -> Result<AnyVolume> {
    let frame = layout.frame(frame)?;
    let total = layout.count() * layout.frames;
    // A digit and a blank for each voxel at least: known before memory is taken.
    if text.len() / 2 + 1 < total {
        return Err(Error::malformed(
            layout.format,
            format!("truncated: text of {} bytes, expected {total} numbers", text.len()),
        ));
    }
    let words = || text.split(|b| b.is_ascii_whitespace() || *b == b',').filter(|w| !w.is_empty());
    with_kind!(layout.kind, T => {
        let mut out: Vec<T> = Vec::new();
        for word in words().take(total) {
            let text = std::str::from_utf8(word).unwrap_or("?");
            let value = text.parse::<T>().map_err(|_| {
                Error::malformed(layout.format, format!("a voxel is {:?}, expected a number that fits", text.chars().take(20).collect::<String>()))
            })?;
            out.push(value);
        }
        if out.len() < total {
            return Err(Error::malformed(layout.format, format!("truncated: {} numbers found, expected {total}", out.len())));
        }
        let mine: Vec<T> = if layout.interleaved {
            out.into_iter().skip(frame).step_by(layout.frames).collect()
        } else {
            out.into_iter().skip(frame * layout.count()).take(layout.count()).collect()
        };
        Ok(Volume::from_vec(mine, layout.dim, layout.affine)?.into())
    })
}

/// Numbers with blanks between, in the shortest form that reads back as the same number.
pub(crate) fn join(numbers: &[f64]) -> String {
    numbers.iter().map(|v| (0.0 + v).to_string()).collect::<Vec<_>>().join(" ")
}
