//! Boxes of masks corrected by what their edges missed on the pictures that a model was trained on.

use serde::Deserialize;
use std::collections::BTreeMap;
use volseg_geometry::{Modality, OrganId, PixelBox};
use volseg_model::{Error, clip::ClipModel};

/// For an organ's name the slope and offset of x0, y0, x1, y1, in shares of the part of the slice that is looked at.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub(super) struct EdgeCalibration(BTreeMap<String, [[f32; 2]; 4]>);

/// Those of each kind of picture: lines fitted on frontal X-rays say nothing about a CT.
type ByModality = BTreeMap<Modality, EdgeCalibration>;

impl EdgeCalibration {
    /// That of a model for one kind of picture; empty if its file has none.
    ///
    /// # Errors
    /// Metadata that cannot be read.
    pub(super) fn of(model: &ClipModel, modality: Modality) -> Result<Self, Error> {
        let all: Option<ByModality> = model.stated("boxes")?;
        Ok(all.unwrap_or_default().remove(&modality).unwrap_or_default())
    }

    /// The corrected box of an organ on a grid of `size`; `None` without a calibration, and where nothing would be left.
    pub(super) fn apply(&self, organ: Option<OrganId>, b: PixelBox, size: [usize; 2]) -> Option<PixelBox> {
        let lines = self.0.get(organ?.organ().name)?;
        let [w, h] = size.map(|n| n as f32);
        let edge = |n: usize, at: f32, side: f32| ((lines[n][0] * at / side + lines[n][1]) * side).clamp(0.0, side);
        let [x0, y0, x1, y1] = [edge(0, b.x0, w), edge(1, b.y0, h), edge(2, b.x1, w), edge(3, b.y1, h)];
        (x1 >= x0 + 1.0 && y1 >= y0 + 1.0).then_some(PixelBox { x0, y0, x1, y1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_edge_moves_by_its_own_line() {
        let text = r#"{"lungs":[[1,0.1],[0.5,0],[1,0],[0,2]],"liver":[[0,0.5],[0,0.5],[0,0.5],[0,0.5]]}"#;
        let edges = EdgeCalibration(serde_json::from_str(text).unwrap());
        let b = PixelBox { x0: 10.0, y0: 20.0, x1: 90.0, y1: 30.0 };
        let of = |id: u8| edges.apply(OrganId::new(id), b, [100, 50]);
        assert_eq!(of(16), Some(PixelBox { x0: 20.0, y0: 10.0, x1: 90.0, y1: 50.0 }));
        assert_eq!((of(6), of(1), edges.apply(None, b, [100, 50])), (None, None, None));
    }
}
