//! What the loaded model offers, under the names of MONAI Label.

use serde_json::{Value, json};
use volseg_engine::Model;
use volseg_geometry::{Modality, OrganId};

/// What a served name does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Finds the organs of a modality.
    Automatic(Modality),
    /// Points or a box on one slice.
    Click,
    /// Points or a box, followed through the volume.
    Follow,
}

/// A served name.
pub(crate) struct Served {
    pub(crate) name: String,
    pub(crate) task: Task,
    pub(crate) description: &'static str,
}

impl Served {
    /// Organs of an automatic model; label value n is the n-th, from 1.
    pub(crate) fn organs(&self) -> Vec<OrganId> {
        let ids: &[u8] = match self.task {
            Task::Automatic(Modality::Ct) => &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
            Task::Automatic(Modality::Xray) => &[16],
            Task::Automatic(Modality::Ultrasound) => &[17],
            _ => &[],
        };
        ids.iter().filter_map(|&i| OrganId::new(i)).collect()
    }

    /// Names with their values.
    pub(crate) fn labels(&self) -> Vec<(String, u8)> {
        self.organs().iter().zip(1..).map(|(o, n)| (o.to_string(), n)).collect()
    }

    /// Its entry in `/info/`.
    pub(crate) fn info(&self) -> Value {
        let (kind, labels, dimension) = match self.task {
            Task::Automatic(_) => ("segmentation", label_object(&self.labels()), 3),
            Task::Click => ("deepgrow", json!([]), 2),
            Task::Follow => ("deepgrow", json!([]), 3),
        };
        json!({ "type": kind, "labels": labels, "dimension": dimension, "description": self.description,
            "config": { "device": ["auto", "cpu"], "threshold": 0.5, "keep_largest": false } })
    }
}

/// `{"spleen": 1, ...}` in the order of the values.
pub(crate) fn label_object(labels: &[(String, u8)]) -> Value {
    labels.iter().map(|(n, v)| (n.clone(), json!(v))).collect::<serde_json::Map<_, _>>().into()
}

/// All names of a model.
pub(crate) fn served(model: &Model) -> Vec<Served> {
    let prefix = match model {
        Model::Embedded { .. } => "embedded",
        Model::Sam { model, .. } => model.arch().name(),
    };
    let one = |name: &str, task, description| Served { name: format!("{prefix}-{name}"), task, description };
    let mut all = Vec::new();
    if matches!(model, Model::Embedded { .. }) {
        all.push(one("auto", Task::Automatic(Modality::Ct), "Organs of the abdomen in a CT"));
        all.push(one("xray", Task::Automatic(Modality::Xray), "Lungs in a chest X-ray"));
        all.push(one("ultrasound", Task::Automatic(Modality::Ultrasound), "Tumour in a breast ultrasound"));
    }
    all.push(one("click", Task::Click, "Points or a box on one slice"));
    all.push(one("click3d", Task::Follow, "Points or a box, followed through the volume"));
    all
}
