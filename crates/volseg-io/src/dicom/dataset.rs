//! Elements of a data set as ranges of bytes (PS3.5 section 7).

use super::FORMAT;
use crate::{Error, Result};
use std::{collections::BTreeMap, ops::Range};

/// Sequences in sequences; real files have fewer than ten.
const MOST_DEPTH: usize = 64;
const UNDEFINED: u32 = 0xffff_ffff;
const ITEM: u32 = 0xfffe_e000;
const ITEM_END: u32 = 0xfffe_e00d;
const SEQUENCE_END: u32 = 0xfffe_e0dd;
/// `PixelData`.
pub(super) const PIXELS: u32 = 0x7fe0_0010;

/// How elements are written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Syntax {
    pub(super) explicit: bool,
    pub(super) big: bool,
}

/// Where the value of an element stands.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) range: Range<usize>,
    /// Written without a length: for pixels, in fragments.
    pub(super) undefined: bool,
}

/// Elements of a data set or an item, up to the pixels.
#[derive(Clone, Debug)]
pub(super) struct Dataset {
    pub(super) syntax: Syntax,
    elements: BTreeMap<u32, Value>,
}

struct Head {
    tag: u32,
    length: u32,
    /// Where the value starts.
    start: usize,
    /// A sequence of unknown type is written implicitly (PS3.5 6.2.2).
    unknown: bool,
}

fn truncated() -> Error {
    Error::malformed(FORMAT, "truncated: an element leads past the end of the file")
}

fn number<const N: usize>(bytes: &[u8], at: usize, big: bool) -> Option<u64> {
    let part = bytes.get(at..at.checked_add(N)?)?;
    Some(part.iter().enumerate().fold(0u64, |n, (i, &b)| n | u64::from(b) << (8 * if big { N - 1 - i } else { i })))
}

fn head(bytes: &[u8], at: usize, syntax: Syntax) -> Result<Head> {
    let short = |at| number::<2>(bytes, at, syntax.big).map(|v| v as u32).ok_or_else(truncated);
    let long = |at| number::<4>(bytes, at, syntax.big).map(|v| v as u32).ok_or_else(truncated);
    let tag = short(at)? << 16 | short(at + 2)?;
    if !syntax.explicit || tag >> 16 == 0xfffe {
        return Ok(Head { tag, length: long(at + 4)?, start: at + 8, unknown: false });
    }
    let vr = bytes.get(at + 4..at + 6).ok_or_else(truncated)?;
    if !vr.iter().all(u8::is_ascii_uppercase) {
        return Err(Error::malformed(
            FORMAT,
            format!("element ({:04x},{:04x}) has no value representation", tag >> 16, tag & 0xffff),
        ));
    }
    if matches!(
        vr,
        b"OB" | b"OD" | b"OF" | b"OL" | b"OV" | b"OW" | b"SQ" | b"SV" | b"UC" | b"UN" | b"UR" | b"UT" | b"UV"
    ) {
        Ok(Head { tag, length: long(at + 8)?, start: at + 12, unknown: vr == b"UN" })
    } else {
        Ok(Head { tag, length: short(at + 6)?, start: at + 8, unknown: false })
    }
}

/// Where a sequence that starts at `at` without a length ends: the value's end and the next element.
fn end_of_sequence(bytes: &[u8], mut at: usize, syntax: Syntax) -> Result<(usize, usize)> {
    // Open containers: `true` a sequence (items follow), `false` an item (elements follow).
    let mut open = vec![(true, syntax)];
    while let Some(&(sequence, syntax)) = open.last() {
        let h = head(bytes, at, syntax)?;
        match (sequence, h.tag) {
            (true, SEQUENCE_END) | (false, ITEM_END) => {
                open.pop();
                if open.is_empty() {
                    return Ok((at, h.start));
                }
                at = h.start;
            }
            (true, ITEM) if h.length == UNDEFINED => {
                open.push((false, syntax));
                at = h.start;
            }
            (true, ITEM) => at = after(&h, bytes)?,
            (true, _) => return Err(Error::malformed(FORMAT, "a sequence holds something else than items")),
            (false, _) if h.length == UNDEFINED => {
                open.push((true, if h.unknown { Syntax { explicit: false, big: false } } else { syntax }));
                at = h.start;
            }
            (false, _) => at = after(&h, bytes)?,
        }
        if open.len() > 2 * MOST_DEPTH {
            return Err(Error::malformed(FORMAT, format!("sequences are nested deeper than {MOST_DEPTH}")));
        }
    }
    Err(truncated())
}

fn after(h: &Head, bytes: &[u8]) -> Result<usize> {
    h.start.checked_add(h.length as usize).filter(|&e| e <= bytes.len()).ok_or_else(truncated)
}

impl Dataset {
    /// The elements of `bytes[range]`; stops at the pixels, whose value it keeps, or where `until` says so.
    pub(super) fn parse(
        bytes: &[u8],
        range: Range<usize>,
        syntax: Syntax,
        until: fn(u32) -> bool,
    ) -> Result<(Self, usize)> {
        let bytes = bytes.get(..range.end).ok_or_else(truncated)?;
        let mut out = Self { syntax, elements: BTreeMap::new() };
        let mut at = range.start;
        while at + 8 <= bytes.len() {
            // The tag first: behind the file's own group the syntax is another.
            if until(head(bytes, at, Syntax { explicit: false, ..syntax })?.tag) {
                break;
            }
            let h = head(bytes, at, syntax)?;
            if h.tag == ITEM_END {
                break;
            }
            let pixels = matches!(h.tag, PIXELS | 0x7fe0_0008 | 0x7fe0_0009);
            let (end, next) = if h.length == UNDEFINED {
                let inner = if h.unknown { Syntax { explicit: false, big: false } } else { syntax };
                match end_of_sequence(bytes, h.start, inner) {
                    // Files cut off in the middle of compressed pixels are told later, by the codec.
                    Err(_) if pixels => (bytes.len(), bytes.len()),
                    other => other?,
                }
            } else if pixels {
                let end = h.start.saturating_add(h.length as usize).min(bytes.len());
                (end, end)
            } else {
                let end = after(&h, bytes)?;
                (end, end)
            };
            out.elements.insert(h.tag, Value { range: h.start..end, undefined: h.length == UNDEFINED });
            at = next;
            if pixels {
                return Ok((out, at));
            }
        }
        // Too short for an element; zeros are padding.
        if at + 8 > bytes.len() && bytes.get(at..).is_some_and(|rest| rest.iter().any(|&b| b != 0)) {
            return Err(truncated());
        }
        Ok((out, at))
    }

    pub(super) fn value(&self, tag: u32) -> Option<&Value> {
        self.elements.get(&tag)
    }

    fn bytes<'a>(&self, bytes: &'a [u8], tag: u32) -> Option<&'a [u8]> {
        bytes.get(self.elements.get(&tag)?.range.clone())
    }

    pub(super) fn raw<'a>(&self, bytes: &'a [u8], tag: u32) -> &'a [u8] {
        self.bytes(bytes, tag).unwrap_or(&[])
    }

    /// A text without padding.
    pub(super) fn text(&self, bytes: &[u8], tag: u32) -> Option<String> {
        let text = String::from_utf8_lossy(self.bytes(bytes, tag)?);
        let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// Numbers written as text (DS, IS). `None` if absent, empty or no numbers.
    pub(super) fn decimals(&self, bytes: &[u8], tag: u32) -> Option<Vec<f64>> {
        self.text(bytes, tag)?.split('\\').map(|v| v.trim_matches([' ', '\0']).parse().ok()).collect()
    }

    /// The first number written as text.
    pub(super) fn decimal(&self, bytes: &[u8], tag: u32) -> Option<f64> {
        self.decimals(bytes, tag)?.first().copied()
    }

    /// A 16-bit number (US).
    pub(super) fn short(&self, bytes: &[u8], tag: u32) -> Option<u16> {
        self.short_at(bytes, tag, 0)
    }

    /// A 16-bit number of several, at a byte of the value.
    pub(super) fn short_at(&self, bytes: &[u8], tag: u32, at: usize) -> Option<u16> {
        number::<2>(self.bytes(bytes, tag)?, at, self.syntax.big).map(|v| v as u16)
    }

    /// The items of a sequence.
    pub(super) fn items(&self, bytes: &[u8], tag: u32) -> Result<Vec<Self>> {
        let Some(value) = self.elements.get(&tag) else { return Ok(Vec::new()) };
        let mut out = Vec::new();
        for (range, _) in items(bytes, value, self.syntax)? {
            out.push(Self::parse(bytes, range, self.syntax, |_| false)?.0);
        }
        Ok(out)
    }
}

/// Ranges of the items of a sequence (or of the fragments of pixels), and whether each had a length.
pub(super) fn items(bytes: &[u8], value: &Value, syntax: Syntax) -> Result<Vec<(Range<usize>, bool)>> {
    let mut out = Vec::new();
    let mut at = value.range.start;
    while at + 8 <= value.range.end {
        let h = head(bytes, at, syntax)?;
        if h.tag == SEQUENCE_END {
            break;
        }
        if h.tag != ITEM {
            return Err(Error::malformed(FORMAT, "a sequence holds something else than items"));
        }
        if h.length == UNDEFINED {
            let (_, end) = end_of_item(bytes, h.start, syntax)?;
            out.push((h.start..end, false));
            at = end;
        } else {
            let end = after(&h, bytes)?;
            out.push((h.start..end, true));
            at = end;
        }
    }
    Ok(out)
}

/// End of an item without a length.
fn end_of_item(bytes: &[u8], mut at: usize, syntax: Syntax) -> Result<(usize, usize)> {
    loop {
        let h = head(bytes, at, syntax)?;
        if h.tag == ITEM_END {
            return Ok((at, h.start));
        }
        at = if h.length == UNDEFINED {
            end_of_sequence(bytes, h.start, if h.unknown { Syntax { explicit: false, big: false } } else { syntax })?.1
        } else {
            after(&h, bytes)?
        };
    }
}
