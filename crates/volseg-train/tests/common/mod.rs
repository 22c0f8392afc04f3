//! What the tests of trainings share.
#![allow(dead_code)]

use std::path::Path;
use volseg_geometry::Modality;
use volseg_model::embedded::Config;
use volseg_train::{PictureSet, Progress};

/// Keeps the lines that a training says.
#[derive(Default)]
pub(crate) struct Lines(pub(crate) Vec<String>);

impl Progress for Lines {
    fn line(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }
}

/// The smallest network that there is, for pictures of 32 x 32.
pub(crate) fn tiny() -> Config {
    Config {
        side: 32,
        stages: [8; 6],
        blocks: [0; 6],
        width: 16,
        dense: [8; 3],
        heads: 2,
        cross_width: 8,
        mlp: 16,
        ..Config::default()
    }
}

/// Ultrasounds with tumours in `images/` and `masks/`, all labelled, parts by name.
pub(crate) fn ultrasounds(folder: &Path) -> PictureSet {
    PictureSet {
        path: folder.to_owned(),
        modality: Modality::Ultrasound,
        organ: "breast_tumor".into(),
        label: None,
        batch: 4,
        group_column: None,
        split: None,
        labelled: 1.0,
        unannotated: 0.0,
        boxes: None,
        answers: None,
        answers_alone: false,
    }
}
