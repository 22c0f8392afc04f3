use super::{Query, Vqa};
use crate::Error;
use std::path::Path;
use volseg_model::medvint::{MedVint, Precision};
use volseg_model::picture::Picture;
use volseg_model::weights::WeightsFile;

/// Weights of this size or more are held in 8 bits a number: 7.2 GB in place of 27 GB for the released model.
const LARGE: u64 = 4 << 30;

/// MedVInT on this machine, in this process. Nothing leaves it.
pub(super) struct Native {
    model: MedVint,
    id: String,
}

impl Native {
    /// Reads weights that `weights import --arch medvint` wrote.
    pub(super) fn load(path: &Path) -> Result<Self, Error> {
        let file = WeightsFile::open(path)?;
        let precision = if file.bytes() < LARGE { Precision::Full } else { Precision::Eight };
        let digest = file.metadata().get("sha256").cloned().unwrap_or_default();
        Ok(Self { model: MedVint::load(path, precision)?, id: format!("medvint {digest} {precision:?}") })
    }
}

impl Vqa for Native {
    fn id(&self) -> String {
        self.id.clone()
    }

    fn answer(&self, query: &Query<'_>) -> Result<String, Error> {
        let p = query.picture;
        Ok(self.model.answer(&Picture::grey(p.width, p.height, p.pixels)?, query.question)?)
    }
}
