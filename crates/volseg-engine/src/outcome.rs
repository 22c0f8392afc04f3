//! What a run says on its way, and what it gives.

use crate::report::{SliceConfidence, Timings};
use volseg_geometry::{LabelMap, Modality, OrganId};

/// Part of the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Slices through the network.
    Network,
    /// Clean-up and reassembly.
    Assemble,
}

/// Told how far the job is, from any thread.
pub trait Observer: Sync {
    /// `done` of `total` steps of a stage.
    fn progress(&self, stage: Stage, done: usize, total: usize);
    /// Whether to give up.
    fn stopped(&self) -> bool {
        false
    }
}

/// The result.
pub struct Segmentation {
    /// Organ ids on the input's grid.
    pub labels: LabelMap,
    /// Organs that were looked for, in label order.
    pub organs: Vec<OrganId>,
    /// With [`crate::Request::keep_probabilities`]: one volume per organ of `organs`, input order.
    pub probabilities: Option<Vec<f32>>,
    /// With [`crate::Request::candidates`]: the label map at each of [`crate::CANDIDATE_THRESHOLDS`].
    pub candidates: Vec<(f32, LabelMap)>,
    /// Modality used.
    pub modality: Modality,
    /// Plain sentences for people.
    pub warnings: Vec<String>,
    /// How sure the network is.
    pub confidence: Vec<SliceConfidence>,
    /// Seconds by stage.
    pub timings: Timings,
}
