//! Binary masks as text: the run lengths of the COCO data set, columns first, in its compact ASCII form.

use crate::{Error, Result};

/// A mask never has more pixels.
const MOST_PIXELS: u64 = 1 << 28;

/// A mask of `width` columns (row by row, non-zero is inside) as COCO's run-length text.
///
/// Runs go down the columns and start with background; each length (from the third on its difference to the one two before)
/// is written in groups of five bits, lowest first, the sixth bit saying that more follow, plus 48.
///
/// ```
/// use volseg_geometry::{decode_run_length, encode_run_length};
/// let mask = [0, 1, 1, 0, 1, 1];
/// let text = encode_run_length(&mask, 3);
/// assert_eq!(text, "24");
/// assert_eq!(decode_run_length(&text, [3, 2]).unwrap(), mask);
/// ```
#[must_use]
pub fn encode_run_length(mask: &[u8], width: usize) -> String {
    let height = mask.len() / width.max(1);
    let (mut runs, mut inside, mut length) = (Vec::new(), false, 0i64);
    for x in 0..width {
        for y in 0..height {
            if (mask[y * width + x] != 0) != inside {
                runs.push(length);
                (inside, length) = (!inside, 0);
            }
            length += 1;
        }
    }
    runs.push(length);
    let mut text = String::new();
    for (n, &run) in runs.iter().enumerate() {
        let mut rest = if n > 2 { run - runs[n - 2] } else { run };
        loop {
            let bits = (rest & 0x1f) as u8;
            rest >>= 5;
            // The sign is the fifth bit of the last group.
            let more = if bits & 0x10 != 0 { rest != -1 } else { rest != 0 };
            text.push(char::from(48 + bits + if more { 0x20 } else { 0 }));
            if !more {
                break;
            }
        }
    }
    text
}

/// The mask (row by row, 0 or 1) of a run-length text of a picture of `size` (columns, rows): COCO's compact form, or plain
/// run lengths with blanks or commas between them.
///
/// # Errors
/// [`Error::InvalidArgument`] for letters that do not occur, runs that are negative or do not fill the picture.
pub fn decode_run_length(text: &str, size: [usize; 2]) -> Result<Vec<u8>> {
    let [width, height] = size;
    let pixels = width.checked_mul(height).filter(|&p| p as u64 <= MOST_PIXELS);
    let pixels = pixels.ok_or_else(|| bad(format!("{width} x {height} pixels"), "at most 2^28".into()))?;
    let (runs, total) = runs(text)?;
    if total != pixels as u64 {
        return Err(bad(format!("runs of {total} pixels in all"), format!("{pixels} for {width} x {height}")));
    }
    let mut mask = vec![0u8; pixels];
    let mut at = 0;
    for (n, &run) in runs.iter().enumerate() {
        // Checked above: runs are not negative and end with the picture.
        let run = run as usize;
        if n % 2 == 1 {
            for i in at..at + run {
                mask[i % height * width + i / height] = 1;
            }
        }
        at += run;
    }
    Ok(mask)
}

/// How many pixels a run-length text stands for, in either form.
///
/// # Errors
/// [`Error::InvalidArgument`] for letters that do not occur, negative runs and more than 2^28 pixels.
pub fn run_length_pixels(text: &str) -> Result<u64> {
    runs(text).map(|(_, total)| total)
}

fn bad(found: String, expected: String) -> Error {
    Error::InvalidArgument { what: "run-length mask", found, expected }
}

/// The runs of a text, none negative, and their sum.
fn runs(text: &str) -> Result<(Vec<i64>, u64)> {
    let runs = if text.contains([' ', ',']) { plain(text) } else { compact(text) };
    let runs = runs.ok_or_else(|| bad("other letters".into(), "COCO's run-length text".into()))?;
    let total = runs.iter().try_fold(0u64, |sum, &r| sum.checked_add(u64::try_from(r).ok()?));
    let total = total.ok_or_else(|| bad("a negative run".into(), "lengths of runs".into()))?;
    match total {
        0..=MOST_PIXELS => Ok((runs, total)),
        _ => Err(bad(format!("runs of {total} pixels in all"), "at most 2^28".into())),
    }
}

fn plain(text: &str) -> Option<Vec<i64>> {
    text.split([' ', ',']).filter(|t| !t.is_empty()).map(|t| t.parse().ok()).collect()
}

fn compact(text: &str) -> Option<Vec<i64>> {
    let mut runs: Vec<i64> = Vec::new();
    let mut bytes = text.bytes();
    while let Some(first) = bytes.next() {
        let (mut value, mut shift, mut byte) = (0i64, 0u32, first);
        loop {
            let bits = byte.checked_sub(48).filter(|b| *b < 64)?;
            value |= i64::from(bits & 0x1f).checked_shl(shift)?;
            shift += 5;
            if bits & 0x20 == 0 {
                if bits & 0x10 != 0 {
                    value |= (-1i64).checked_shl(shift)?;
                }
                break;
            }
            if shift > 40 {
                return None;
            }
            byte = bytes.next()?;
        }
        if runs.len() > 2 {
            value = value.checked_add(*runs.get(runs.len() - 2)?)?;
        }
        runs.push(value);
    }
    Some(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked out with pycocotools 2.0 by `mask.encode(np.asfortranarray(m))["counts"]`.
    #[test]
    fn known_texts() {
        let mut mask = vec![0u8; 7 * 5];
        for (x, y) in [(1, 1), (2, 1), (1, 2), (2, 2), (5, 4), (6, 0)] {
            mask[y * 7 + x] = 1;
        }
        assert_eq!(encode_run_length(&mask, 7), "6230=0D");
        assert_eq!(decode_run_length("6230=0D", [7, 5]).unwrap(), mask);
        assert_eq!(decode_run_length("6 2 3 2 16 2 4", [7, 5]).unwrap(), mask);
        assert_eq!(run_length_pixels("6230=0D").unwrap(), 35);
        assert!(run_length_pixels("300000000 1").is_err());
    }

    #[test]
    fn any_mask_survives_and_bad_texts_are_refused() {
        let mut state = 7u32;
        for (w, h) in [(1, 1), (3, 200), (200, 3), (64, 64)] {
            for density in [0u32, 1, 30, 200, 256] {
                let mask: Vec<u8> = (0..w * h)
                    .map(|_| {
                        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        u8::from((state >> 24) < density)
                    })
                    .collect();
                let text = encode_run_length(&mask, w);
                assert_eq!(decode_run_length(&text, [w, h]).unwrap(), mask);
                assert!(decode_run_length(&text, [w, h + 1]).is_err());
            }
        }
        for text in ["", "\u{7f}", "o", "oooooooooooooooooooo", "-1 5", "é", "5 x"] {
            assert!(decode_run_length(text, [2, 2]).is_err(), "{text}");
        }
        assert!(decode_run_length("4", [usize::MAX, 2]).is_err());
    }
}
