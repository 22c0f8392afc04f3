//! Prompts of one kind: what the saliency chain and texts give in place of masks and organ tokens.

use crate::pictures::Picture;
use crate::sample::Sample;
use crate::texts::Texts;
use crate::{Asked, Error, PictureSet, Random};
use volseg_geometry::PixelBox;
use volseg_model::clip::{ClipModel, SHIPPED};
use volseg_model::embedded::PromptRow;

/// Gives every picture of a set the feature of its text (an answer about it, the organ's description), by the image-text model that
/// ships inside: of unit length, times the root of its length, so that its numbers are about as large as those of other tokens.
///
/// # Errors
/// Answers that cannot be read or that say nothing about a picture; words that the model cannot read.
pub(crate) fn attach_texts(pictures: &mut [Picture], set: &PictureSet) -> Result<(), Error> {
    let texts = Texts::open("embedded", set.answers.as_deref(), !set.answers_alone)?;
    for p in pictures {
        let unit = texts.feature(p)?;
        let scale = (unit.len() as f32).sqrt();
        p.text = Some(unit.iter().map(|v| v * scale).collect());
    }
    Ok(())
}

/// Length of those features.
///
/// # Errors
/// A model inside that cannot be read.
pub(crate) fn text_length() -> Result<usize, Error> {
    Ok(ClipModel::from_bytes(SHIPPED)?.config.embed_dim)
}

/// The prompt for an organ on a slice. `first` is the network's own first mask, `truth` the box around the true one.
pub(crate) fn prompt(
    asked: Asked,
    sample: &Sample,
    organ: u8,
    first: Option<&[f32]>,
    truth: Option<PixelBox>,
    side: usize,
    random: &mut Random,
) -> PromptRow {
    let mut row = PromptRow::default();
    if let (Asked::Box, Some(b)) = (asked, truth) {
        let (w, h) = (b.x1 - b.x0, b.y1 - b.y0);
        let mut off = |v: f32, size: f32| v + size * random.uniform(-0.1, 0.1);
        row.bounds = Some([off(b.x0, w), off(b.y0, h), off(b.x1, w), off(b.y1, h)]);
        return row;
    }
    if asked.reads_text() {
        row.text = sample.text.as_ref().map(|t| t.to_vec());
    } else if !asked.takes_box() {
        row.organ = Some(usize::from(organ) - 1);
    }
    match first {
        _ if asked.takes_box() => row.bounds = sample.bounds,
        Some(logits) => row.set_first_mask(logits, side),
        None => {}
    }
    row
}
