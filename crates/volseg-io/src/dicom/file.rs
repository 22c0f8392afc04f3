//! One DICOM file: what its header says about its frames.

use super::{
    FORMAT,
    dataset::{Dataset, PIXELS, Syntax},
    has_mark,
};
use crate::{
    Error, Limits, Result,
    source::{Shared, stream_error},
};
use flate2::bufread::DeflateDecoder;
use std::{io::Read, sync::Arc};

/// A parsed file.
pub(super) struct File {
    /// The data set's bytes: the file's own, or inflated ones.
    pub(super) bytes: Shared,
    pub(super) data: Dataset,
    pub(super) transfer_syntax: String,
    /// Class and instance of the object, as the file's own group has them.
    pub(super) media: [String; 2],
    /// SHA-256 is of the file as it was.
    pub(super) original: Shared,
}

/// Where a frame lies (LPS mm); `None` for what the header does not say.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    pub(super) position: Option<[f64; 3]>,
    pub(super) orientation: Option<[f64; 6]>,
    /// Between rows, between columns.
    pub(super) spacing: Option<[f64; 2]>,
    pub(super) thickness: Option<f64>,
    /// SpacingBetweenSlices.
    pub(super) between: Option<f64>,
    pub(super) slope: Option<f64>,
    pub(super) intercept: Option<f64>,
    /// Number of the segment in a SEG.
    pub(super) segment: u16,
    /// The orientation's vectors had another length than 1.
    pub(super) stretched: bool,
}

/// What one deflated data set may become: it lies in memory as a whole.
const MOST_DEFLATED: u64 = 1 << 30;

/// Directions that are further from unit length were not rounded but are wrong.
const UNIT: f64 = 1e-3;

const IMPLICIT: Syntax = Syntax { explicit: false, big: false };
const EXPLICIT: Syntax = Syntax { explicit: true, big: false };

impl File {
    pub(super) fn parse(bytes: Shared, limits: &Limits) -> Result<Self> {
        let held: &[u8] = (*bytes).as_ref();
        let start = if has_mark(held) { 132 } else { 0 };
        let (meta, start) = if held.get(start..start + 2) == Some(&[2, 0]) {
            // The end of group 2 is looked for: its stated length is wrong in some files.
            Dataset::parse(held, start..held.len(), EXPLICIT, |tag| tag >> 16 != 2)?
        } else {
            (Dataset::parse(held, 0..0, EXPLICIT, |_| true)?.0, start)
        };
        let stated = meta.text(held, 0x0002_0010);
        let letters = held.get(start + 4..start + 6).is_some_and(|v| v.iter().all(u8::is_ascii_uppercase));
        let transfer_syntax =
            stated.unwrap_or_else(|| if letters { "1.2.840.10008.1.2.1" } else { "1.2.840.10008.1.2" }.into());
        let syntax = match transfer_syntax.as_str() {
            "1.2.840.10008.1.2" => IMPLICIT,
            "1.2.840.10008.1.2.2" => Syntax { explicit: true, big: true },
            t if t.starts_with("1.2.840.10008.1.2") => EXPLICIT,
            _ => return Err(Error::unsupported(FORMAT, "this transfer syntax")),
        };
        let original = bytes.clone();
        let (bytes, start): (Shared, usize) = if transfer_syntax == "1.2.840.10008.1.2.1.99" {
            let mut out = Vec::new();
            let most = limits.max_inflated_bytes.min(MOST_DEFLATED);
            DeflateDecoder::new(held.get(start..).unwrap_or(&[]))
                .take(most.saturating_add(1))
                .read_to_end(&mut out)
                .map_err(|e| stream_error(FORMAT, e))?;
            limits.within("bytes after decompression", out.len() as u64, most)?;
            (Arc::new(out), 0)
        } else {
            (bytes, start)
        };
        let length = (*bytes).as_ref().len();
        let data = Dataset::parse((*bytes).as_ref(), start..length, syntax, |_| false)?.0;
        let media = [0x0002_0002, 0x0002_0003].map(|tag| meta.text((*original).as_ref(), tag).unwrap_or_default());
        Ok(Self { bytes, data, transfer_syntax, media, original })
    }

    pub(super) fn held(&self) -> &[u8] {
        (*self.bytes).as_ref()
    }

    pub(super) fn text(&self, tag: u32) -> String {
        self.data.text(self.held(), tag).unwrap_or_default()
    }

    pub(super) fn short(&self, tag: u32) -> Option<u16> {
        self.data.short(self.held(), tag)
    }

    pub(super) fn decimal(&self, tag: u32) -> Option<f64> {
        self.data.decimal(self.held(), tag)
    }

    pub(super) fn modality(&self) -> String {
        self.text(0x0008_0060)
    }

    /// Whether it has rows, columns and pixels.
    pub(super) fn is_image(&self) -> bool {
        self.short(0x0028_0010).is_some()
            && self.short(0x0028_0011).is_some()
            && [PIXELS, 0x7fe0_0008, 0x7fe0_0009].iter().any(|&t| self.data.value(t).is_some())
    }

    pub(super) fn is_segmentation(&self) -> bool {
        matches!(self.text(0x0008_0016).as_str(), "1.2.840.10008.5.1.4.1.1.66.4" | "1.2.840.10008.5.1.4.1.1.66.7")
            || self.modality() == "SEG"
    }

    /// Frames; at least 1.
    pub(super) fn frames(&self) -> Result<usize> {
        match self.decimal(0x0028_0008) {
            None => Ok(1),
            Some(n) if n.fract() == 0.0 && (1.0..=1e9).contains(&n) => Ok(n as usize),
            Some(n) => Err(Error::malformed(FORMAT, format!("NumberOfFrames is {n}"))),
        }
    }

    /// The place of every frame.
    pub(super) fn places(&self) -> Result<Vec<Place>> {
        let frames = self.frames()?;
        let mut common = Place::default();
        self.fill(&self.data, &mut common)?;
        let shared = self.data.items(self.held(), 0x5200_9229)?;
        if let Some(group) = shared.first() {
            self.groups(group, &mut common)?;
        }
        let each = self.data.items(self.held(), 0x5200_9230)?;
        if each.is_empty() {
            return Ok(vec![common; frames.min(1 << 20)]);
        }
        if each.len() != frames {
            return Err(Error::malformed(FORMAT, format!("{} groups of frames for {frames} frames", each.len())));
        }
        each.iter()
            .map(|group| {
                let mut place = common.clone();
                self.groups(group, &mut place)?;
                Ok(place)
            })
            .collect()
    }

    /// Functional groups of PS3.3 C.7.6.16.
    fn groups(&self, group: &Dataset, place: &mut Place) -> Result<()> {
        for tag in [0x0020_9113, 0x0020_9116, 0x0028_9110, 0x0028_9145] {
            for item in group.items(self.held(), tag)?.iter().take(1) {
                self.fill(item, place)?;
            }
        }
        for item in group.items(self.held(), 0x0062_000a)?.iter().take(1) {
            place.segment = item.short(self.held(), 0x0062_000b).unwrap_or(1);
        }
        Ok(())
    }

    fn fill(&self, data: &Dataset, place: &mut Place) -> Result<()> {
        // Numbers that are no numbers would put a slice anywhere; absent and empty ones are told apart from them.
        let list = |tag, name: &str| match (data.text(self.held(), tag), data.decimals(self.held(), tag)) {
            (Some(_), Some(v)) if v.iter().all(|x| x.is_finite()) => Ok(Some(v)),
            (Some(_), _) => Err(Error::malformed(FORMAT, format!("{name} holds something else than numbers"))),
            (None, _) => Ok(None),
        };
        place.position = list(0x0020_0032, "ImagePositionPatient")?.and_then(|v| v.try_into().ok()).or(place.position);
        if let Some(given) = list(0x0020_0037, "ImageOrientationPatient")?.and_then(|v| <[f64; 6]>::try_from(v).ok()) {
            let mut unit = given;
            for half in unit.chunks_exact_mut(3) {
                let length = half.iter().map(|v| v * v).sum::<f64>().sqrt();
                if length > 0.0 && (length - 1.0).abs() > UNIT {
                    half.iter_mut().for_each(|v| *v /= length);
                }
            }
            place.stretched = unit != given;
            place.orientation = Some(unit);
        }
        let spacing = match list(0x0028_0030, "PixelSpacing")? {
            None => list(0x0018_1164, "ImagerPixelSpacing")?,
            spacing => spacing,
        };
        place.spacing = spacing.and_then(|v| v.try_into().ok()).or(place.spacing);
        let one = |tag| data.decimal(self.held(), tag);
        place.thickness =
            one(0x0018_0088).or_else(|| one(0x0018_0050)).filter(|t| *t > 0.0 && t.is_finite()).or(place.thickness);
        place.between = one(0x0018_0088).filter(|t| t.is_finite()).or(place.between);
        place.slope = one(0x0028_1053).or(place.slope);
        place.intercept = one(0x0028_1052).or(place.intercept);
        Ok(())
    }
}
