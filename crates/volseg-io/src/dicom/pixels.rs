//! Pixels of one frame (PS3.5 section 8, PS3.3 C.7.6.3).

use super::{
    FORMAT,
    dataset::{PIXELS, items},
    file::File,
};
use crate::{Error, Result, picture};
use dicom_encoding::{
    adapters::{PixelDataObject, RawPixelData},
    transfer_syntax::{Codec, TransferSyntaxIndex},
};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;
use std::{borrow::Cow, ops::Range};
use volseg_geometry::VoxelKind;

/// How the pixels of a file are stored.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pixels {
    pub(super) rows: u16,
    pub(super) columns: u16,
    pub(super) samples: u16,
    allocated: u16,
    stored: u16,
    high: u16,
    signed: bool,
    planar: bool,
    pub(super) photometric: String,
}

/// Samples of a frame, all as 64-bit whole numbers or floats would cost memory: kept in the width they have.
pub(super) enum Samples {
    Bytes(Vec<u8>),
    Words(Vec<u16>),
    Longs(Vec<u32>),
    Floats(Vec<f32>),
    Doubles(Vec<f64>),
}

impl Pixels {
    pub(super) fn of(file: &File) -> Result<Self> {
        let get =
            |tag, name: &str| file.short(tag).ok_or_else(|| Error::malformed(FORMAT, format!("{name} is missing")));
        let float = file.data.value(PIXELS).is_none();
        let allocated = get(0x0028_0100, "BitsAllocated")?;
        let stored = file.short(0x0028_0101).filter(|_| !float).unwrap_or(allocated);
        let out = Self {
            rows: get(0x0028_0010, "Rows")?,
            columns: get(0x0028_0011, "Columns")?,
            samples: file.short(0x0028_0002).unwrap_or(1),
            allocated,
            stored,
            high: file.short(0x0028_0102).unwrap_or(stored.saturating_sub(1)),
            signed: file.short(0x0028_0103) == Some(1),
            planar: file.short(0x0028_0006) == Some(1),
            photometric: file.text(0x0028_0004),
        };
        if out.rows == 0 || out.columns == 0 {
            return Err(Error::malformed(FORMAT, format!("{} rows of {} columns", out.rows, out.columns)));
        }
        let widths: &[u16] = if float { &[32, 64] } else { &[1, 8, 16, 32] };
        if !widths.contains(&allocated) {
            return Err(Error::unsupported(FORMAT, format!("BitsAllocated {allocated}")));
        }
        if stored == 0 || stored > allocated || out.high >= allocated || out.high + 1 < stored {
            return Err(Error::malformed(
                FORMAT,
                format!("BitsStored {stored}, HighBit {} in {allocated} bits", out.high),
            ));
        }
        match (out.samples, out.photometric.as_str()) {
            (1, "PALETTE COLOR") | (1, _) => {}
            (3, _) if allocated == 8 => {}
            (n, _) => return Err(Error::unsupported(FORMAT, format!("{n} samples a pixel of {allocated} bits"))),
        }
        Ok(out)
    }

    /// Voxel type of the grey values.
    pub(super) fn kind(&self, file: &File) -> VoxelKind {
        if self.samples == 3 || self.photometric == "PALETTE COLOR" {
            return VoxelKind::U8;
        }
        match (self.allocated, self.signed) {
            (32, _) if file.data.value(0x7fe0_0008).is_some() => VoxelKind::F32,
            (64, _) => VoxelKind::F64,
            (1, _) | (8, false) => VoxelKind::U8,
            (8, true) => VoxelKind::I8,
            (16, false) => VoxelKind::U16,
            (16, true) => VoxelKind::I16,
            (_, false) => VoxelKind::U32,
            (_, true) => VoxelKind::I32,
        }
    }

    /// Greatest value that the bits can hold, for MONOCHROME1.
    pub(super) fn greatest(&self) -> f64 {
        2f64.powi(i32::from(self.stored) - i32::from(self.signed)) - 1.0
    }

    /// Pixels of one frame.
    pub(super) fn count(&self) -> usize {
        usize::from(self.rows) * usize::from(self.columns)
    }

    /// The grey values of a frame; for colour pictures also red, green, blue.
    pub(super) fn frame(&self, file: &File, frame: usize) -> Result<(Samples, Option<Vec<u8>>)> {
        let held = file.held();
        if let Some(tag) = [0x7fe0_0008u32, 0x7fe0_0009].into_iter().find(|&t| file.data.value(t).is_some()) {
            let all = file.data.raw(held, tag);
            let width = usize::from(self.allocated / 8);
            let part = part(all, frame, self.count() * width)?;
            let big = file.data.syntax.big;
            return Ok((
                if width == 4 {
                    Samples::Floats(words::<4>(part, big).map(f32::from_ne_bytes).collect())
                } else {
                    Samples::Doubles(words::<8>(part, big).map(f64::from_ne_bytes).collect())
                },
                None,
            ));
        }
        let value = file.data.value(PIXELS).ok_or_else(|| Error::malformed(FORMAT, "PixelData is missing"))?;
        let (bytes, big): (Cow<'_, [u8]>, bool) = if value.undefined {
            if self.allocated == 1 {
                return Err(Error::unsupported(FORMAT, "compressed pixels of one bit"));
            }
            (Cow::Owned(self.decode(file, frame)?), false)
        } else {
            let all = file.data.raw(held, PIXELS);
            if self.allocated == 1 {
                return Ok((Samples::Bytes(self.bits(all, frame)?), None));
            }
            let sub = self.photometric == "YBR_FULL_422" && self.samples == 3;
            let size = if sub { self.count() * 2 } else { self.size() };
            (Cow::Borrowed(part(all, frame, size)?), file.data.syntax.big)
        };
        if self.samples == 3 {
            let rgb = self.colours(&bytes, value.undefined)?;
            return Ok((greys(&rgb), Some(rgb)));
        }
        if self.photometric == "PALETTE COLOR" {
            let index: Vec<usize> = match self.allocated {
                8 => bytes.iter().map(|&b| usize::from(b)).collect(),
                _ => words::<2>(&bytes, big).map(|b| usize::from(u16::from_ne_bytes(b))).collect(),
            };
            let rgb = palette(file, &index)?;
            return Ok((greys(&rgb), Some(rgb)));
        }
        let shift = u32::from(self.high + 1 - self.stored);
        let spare = u32::from(self.allocated - self.stored);
        // Bits beyond those stored may hold anything (old overlays): pushed out, the sign drawn over them.
        Ok((
            match self.allocated {
                8 if spare == 0 => Samples::Bytes(bytes.into_owned()),
                8 => Samples::Bytes(
                    bytes
                        .iter()
                        .map(|&b| {
                            let up = (b >> shift) << spare;
                            if self.signed { ((up as i8) >> spare) as u8 } else { up >> spare }
                        })
                        .collect(),
                ),
                16 => Samples::Words(
                    words::<2>(&bytes, big)
                        .map(|b| {
                            let up = (u16::from_ne_bytes(b) >> shift) << spare;
                            if self.signed { ((up as i16) >> spare) as u16 } else { up >> spare }
                        })
                        .collect(),
                ),
                _ => Samples::Longs(
                    words::<4>(&bytes, big)
                        .map(|b| {
                            let up = (u32::from_ne_bytes(b) >> shift) << spare;
                            if self.signed { ((up as i32) >> spare) as u32 } else { up >> spare }
                        })
                        .collect(),
                ),
            },
            None,
        ))
    }

    /// Refuses more frames than the pixels can hold: each has its bytes, or a fragment of its own.
    ///
    /// # Errors
    /// [`Error::Malformed`] with both numbers.
    pub(super) fn check_frames(&self, file: &File) -> Result<()> {
        let stated = file.frames()?;
        if stated == 1 {
            return Ok(());
        }
        let held = match [PIXELS, 0x7fe0_0008, 0x7fe0_0009].iter().find_map(|&t| Some((t, file.data.value(t)?))) {
            None => return Ok(()),
            Some((_, value)) if value.undefined => items(file.held(), value, file.data.syntax)?.len().saturating_sub(1),
            Some((tag, _)) => {
                let bits = 8 * file.data.raw(file.held(), tag).len();
                let sub = self.photometric == "YBR_FULL_422" && self.samples == 3;
                let samples = if sub { 2 } else { usize::from(self.samples) };
                bits / (self.count() * samples * usize::from(self.allocated)).max(1)
            }
        };
        if held < stated {
            return Err(Error::malformed(
                FORMAT,
                format!("truncated: NumberOfFrames is {stated}, the pixels have {held}"),
            ));
        }
        Ok(())
    }

    /// Bytes of a frame without compression.
    fn size(&self) -> usize {
        self.count() * usize::from(self.samples) * usize::from(self.allocated / 8)
    }

    fn bits(&self, all: &[u8], frame: usize) -> Result<Vec<u8>> {
        let first = frame.checked_mul(self.count()).ok_or_else(short)?;
        if all.len() < (first + self.count()).div_ceil(8) {
            return Err(short());
        }
        Ok((first..first + self.count()).map(|n| all[n / 8] >> (n % 8) & 1).collect())
    }

    fn colours(&self, bytes: &[u8], decoded: bool) -> Result<Vec<u8>> {
        let n = self.count();
        let ybr = |[y, b, r]: [u8; 3]| {
            let (y, b, r) = (f32::from(y), f32::from(b) - 128.0, f32::from(r) - 128.0);
            [y + 1.402 * r, y - 0.344_136 * b - 0.714_136 * r, y + 1.772 * b].map(|v| v.round().clamp(0.0, 255.0) as u8)
        };
        if !decoded && self.photometric == "YBR_FULL_422" {
            return Ok(bytes
                .chunks_exact(4)
                .flat_map(|c| [ybr([c[0], c[2], c[3]]), ybr([c[1], c[2], c[3]])])
                .flatten()
                .take(3 * n)
                .collect());
        }
        let pixel = |i: usize| {
            if self.planar && !decoded {
                [bytes[i], bytes[n + i], bytes[2 * n + i]]
            } else {
                [bytes[3 * i], bytes[3 * i + 1], bytes[3 * i + 2]]
            }
        };
        if bytes.len() < 3 * n {
            return Err(short());
        }
        // JPEG decoders give red, green, blue; RLE and plain pixels are what the header says.
        let convert = self.photometric == "YBR_FULL" && !decoded;
        Ok((0..n).flat_map(|i| if convert { ybr(pixel(i)) } else { pixel(i) }).collect())
    }

    /// Decodes a compressed frame to little-endian samples.
    fn decode(&self, file: &File, frame: usize) -> Result<Vec<u8>> {
        let uid = file.transfer_syntax.as_str();
        let syntax = TransferSyntaxRegistry.get(uid);
        let Some(Codec::EncapsulatedPixelData(Some(codec), _)) = syntax.map(|s| s.codec()) else {
            let name = syntax.map_or("this transfer syntax".to_owned(), |s| format!("transfer syntax {}", s.name()));
            let hint = if matches!(uid, "1.2.840.10008.1.2.4.80" | "1.2.840.10008.1.2.4.81") {
                " (build with feature jpegls)"
            } else {
                ""
            };
            return Err(Error::unsupported(FORMAT, name + hint));
        };
        let code = fragments(file, frame)?;
        if let Some((width, height)) = coded_size(&code)
            && (width, height) != (u32::from(self.columns), u32::from(self.rows))
        {
            return Err(Error::malformed(
                FORMAT,
                format!(
                    "compressed pixels of {width} x {height}, but the header says {} x {}",
                    self.columns, self.rows
                ),
            ));
        }
        if uid == "1.2.840.10008.1.2.5" {
            check_rle(&code, self)?;
        }
        if uid == "1.2.840.10008.1.2.4.51" && self.stored > 8 {
            return Err(Error::unsupported(FORMAT, format!("JPEG Extended of {} bits", self.stored)));
        }
        let object = Encoded { pixels: self, uid, code: &code };
        let mut out = Vec::new();
        // Foreign code on foreign bytes: a panic there is a broken file, not a broken program.
        let run = std::panic::AssertUnwindSafe(|| codec.decode_frame(&object, 0, &mut out));
        match std::panic::catch_unwind(run) {
            Ok(Ok(())) => {}
            Ok(Err(e)) if e.to_string().contains("nsupported") => {
                return Err(Error::unsupported(FORMAT, format!("this kind of compressed pixels ({e})")));
            }
            Ok(Err(e)) => return Err(Error::malformed(FORMAT, format!("compressed pixels are damaged ({e})"))),
            Err(_) => return Err(Error::malformed(FORMAT, "compressed pixels are damaged (the decoder gave up)")),
        }
        if out.len() < self.size() {
            return Err(Error::malformed(
                FORMAT,
                format!("compressed pixels are damaged ({} bytes decoded, expected {})", out.len(), self.size()),
            ));
        }
        out.truncate(self.size());
        Ok(out)
    }
}

fn short() -> Error {
    Error::malformed(FORMAT, "truncated: fewer pixels than the header says")
}

fn part(all: &[u8], frame: usize, size: usize) -> Result<&[u8]> {
    frame.checked_mul(size).and_then(|s| all.get(s..s.checked_add(size)?)).ok_or_else(short)
}

/// Numbers of `N` bytes in native order.
fn words<const N: usize>(bytes: &[u8], big: bool) -> impl Iterator<Item = [u8; N]> + '_ {
    let turn = big != cfg!(target_endian = "big");
    bytes.as_chunks::<N>().0.iter().map(move |&b| {
        let mut b = b;
        if turn {
            b.reverse();
        }
        b
    })
}

fn greys(rgb: &[u8]) -> Samples {
    Samples::Bytes(rgb.as_chunks::<3>().0.iter().map(|p| picture::grey(p.map(u32::from)) as u8).collect())
}

/// Colours by the palettes of PS3.3 C.7.6.3.1.5.
fn palette(file: &File, index: &[usize]) -> Result<Vec<u8>> {
    let held = file.held();
    let mut tables = Vec::new();
    for n in 0..3u32 {
        let about = file.data.raw(held, 0x0028_1101 + n);
        let numbers: Vec<u16> = words::<2>(about, file.data.syntax.big).map(u16::from_ne_bytes).collect();
        let [entries, first, bits] = numbers[..] else {
            return Err(Error::malformed(FORMAT, "a palette is not described"));
        };
        let entries = if entries == 0 { 65536 } else { usize::from(entries) };
        let raw = file.data.raw(held, 0x0028_1201 + n);
        let table: Vec<u8> = if bits == 16 || raw.len() >= 2 * entries {
            words::<2>(raw, file.data.syntax.big)
                .map(|b| (u16::from_ne_bytes(b) >> if bits == 16 { 8 } else { 0 }) as u8)
                .collect()
        } else {
            raw.to_vec()
        };
        if table.is_empty() {
            return Err(Error::malformed(FORMAT, "a palette is empty"));
        }
        tables.push((usize::from(first), table));
    }
    let look = |n: usize, v: usize| {
        let (first, table) = &tables[n];
        table.get(v.saturating_sub(*first).min(table.len() - 1)).copied().unwrap_or(0)
    };
    Ok(index.iter().flat_map(|&v| [look(0, v), look(1, v), look(2, v)]).collect())
}

/// The compressed bytes of a frame.
fn fragments(file: &File, frame: usize) -> Result<Vec<u8>> {
    let held = file.held();
    let value = file.data.value(PIXELS).ok_or_else(short)?;
    let parts = items(held, value, file.data.syntax)?;
    let Some(((table, _), parts)) = parts.split_first() else { return Err(short()) };
    let frames = file.frames()?;
    let mine: Vec<Range<usize>> = if frames == 1 {
        parts.iter().map(|p| p.0.clone()).collect()
    } else if parts.len() == frames {
        parts.get(frame).map(|p| p.0.clone()).into_iter().collect()
    } else {
        let offsets: Vec<usize> =
            words::<4>(held.get(table.clone()).unwrap_or(&[]), false).map(|b| u32::from_ne_bytes(b) as usize).collect();
        let first = parts.first().map_or(0, |p| p.0.start - 8);
        let from = offsets
            .get(frame)
            .ok_or_else(|| Error::unsupported(FORMAT, "frames in several fragments without an offset table"))?;
        let to = offsets.get(frame + 1).copied().unwrap_or(usize::MAX);
        parts.iter().filter(|p| (*from..to).contains(&(p.0.start - 8 - first))).map(|p| p.0.clone()).collect()
    };
    if mine.is_empty() {
        return Err(short());
    }
    Ok(mine.into_iter().flat_map(|r| held.get(r).unwrap_or(&[]).iter().copied()).collect())
}

/// Compares the segment table of an RLE frame (PS3.5 G.5) with the frame: the decoder trusts it.
fn check_rle(code: &[u8], pixels: &Pixels) -> Result<()> {
    let table: Vec<usize> =
        words::<4>(code.get(..64).unwrap_or(&[]), false).map(|b| u32::from_ne_bytes(b) as usize).collect();
    let expected = usize::from(pixels.samples) * usize::from(pixels.allocated / 8);
    let used = table.get(1..=expected).unwrap_or(&[]);
    let rising = used.windows(2).all(|w| w[0] < w[1]) && used.iter().all(|&o| (64..code.len()).contains(&o));
    if table.first() == Some(&expected) && !used.is_empty() && rising {
        return Ok(());
    }
    Err(Error::malformed(FORMAT, "compressed pixels are damaged (RLE segments are not where they should be)"))
}

/// Width and height that a JPEG or JPEG 2000 stream states, so that it cannot make a decoder take more memory than the header allows.
fn coded_size(code: &[u8]) -> Option<(u32, u32)> {
    let be = |at: usize, n: usize| code.get(at..at + n).map(|b| b.iter().fold(0u32, |v, &x| v << 8 | u32::from(x)));
    if code.starts_with(&[0xff, 0x4f, 0xff, 0x51]) {
        return Some((be(8, 4)?.checked_sub(be(16, 4)?)?, be(12, 4)?.checked_sub(be(20, 4)?)?));
    }
    if !code.starts_with(&[0xff, 0xd8]) {
        return None;
    }
    let mut at = 2;
    loop {
        if be(at, 1)? != 0xff {
            return None;
        }
        match be(at + 1, 1)? {
            0xff => at += 1,
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf | 0xf7 => {
                return Some((be(at + 7, 2)?, be(at + 5, 2)?));
            }
            0xd0..=0xd9 | 0x01 => at += 2,
            _ => at += 2 + be(at + 2, 2)? as usize,
        }
    }
}

/// One compressed frame as the codecs of dicom-rs want to see it.
struct Encoded<'a> {
    pixels: &'a Pixels,
    uid: &'a str,
    code: &'a [u8],
}

impl PixelDataObject for Encoded<'_> {
    fn transfer_syntax_uid(&self) -> &str {
        self.uid
    }
    fn rows(&self) -> Option<u16> {
        Some(self.pixels.rows)
    }
    fn cols(&self) -> Option<u16> {
        Some(self.pixels.columns)
    }
    fn samples_per_pixel(&self) -> Option<u16> {
        Some(self.pixels.samples)
    }
    fn bits_allocated(&self) -> Option<u16> {
        Some(self.pixels.allocated)
    }
    fn bits_stored(&self) -> Option<u16> {
        Some(self.pixels.stored)
    }
    fn photometric_interpretation(&self) -> Option<&str> {
        Some(&self.pixels.photometric)
    }
    fn number_of_frames(&self) -> Option<u32> {
        Some(1)
    }
    fn number_of_fragments(&self) -> Option<u32> {
        Some(1)
    }
    fn fragment(&self, fragment: usize) -> Option<Cow<'_, [u8]>> {
        (fragment == 0).then_some(Cow::Borrowed(self.code))
    }
    fn offset_table(&self) -> Option<Cow<'_, [u32]>> {
        Some(Cow::Borrowed(&[]))
    }
    fn raw_pixel_data(&self) -> Option<RawPixelData> {
        Some(RawPixelData { fragments: vec![self.code.to_vec()].into(), offset_table: Vec::new().into() })
    }
}
