//! Prompts of one kind: what the saliency chain and a description give in place of masks and organ tokens.

use crate::pictures::Picture;
use crate::sample::Sample;
use crate::{Asked, Error, Random};
use std::collections::{BTreeMap, btree_map::Entry};
use std::sync::Arc;
use volseg_geometry::{OrganId, PixelBox};
use volseg_model::clip::{ClipModel, SHIPPED};
use volseg_model::embedded::PromptRow;
use volseg_prompt::vqa::description;

/// Gives every picture the feature of its organ's description, by the image-text model that ships inside: of unit length, times
/// the root of its length, so that its numbers are about as large as those of other tokens.
///
/// # Errors
/// Words that the model cannot read.
pub(crate) fn attach_texts(pictures: &mut [Picture]) -> Result<(), Error> {
    let model = ClipModel::from_bytes(SHIPPED)?;
    let mut known: BTreeMap<OrganId, Arc<[f32]>> = BTreeMap::new();
    for p in pictures {
        let feature = match known.entry(p.organ) {
            Entry::Occupied(e) => e.into_mut(),
            Entry::Vacant(e) => {
                let unit = model.encode_texts(&[description(p.organ).to_owned()])?.concat();
                let scale = (unit.len() as f32).sqrt();
                e.insert(unit.iter().map(|v| v * scale).collect())
            }
        };
        p.text = Some(feature.clone());
    }
    Ok(())
}

/// Length of those features.
///
/// # Errors
/// As [`attach_texts`].
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
