//! The run record: what was done to what, by digest and geometry, never by path or patient value.

use crate::statistics::OrganStatistics;
use crate::{Model, Origin, Prompt, PromptMode, Request, Segmentation};
use serde::Serialize;
use serde_json::json;
use volseg_geometry::Plane;
use volseg_io::Image;

/// Seconds of wall time by stage.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Timings {
    /// Reading and decompressing the input.
    pub read_s: f64,
    /// Network: all slices and organs.
    pub network_s: f64,
    /// Clean-up in 3D.
    pub cleanup_s: f64,
    /// Reassembly to the input's grid.
    pub assemble_s: f64,
    /// Writing outputs.
    pub write_s: f64,
    /// From start to end.
    pub total_s: f64,
}

/// How sure the network is of one organ.
#[derive(Clone, Debug, Serialize)]
pub struct SliceConfidence {
    /// Organ name.
    pub organ: String,
    /// Mean predicted IoU over its slices.
    pub mean_predicted_iou: f64,
    /// Slice of the lowest predicted IoU.
    pub weakest_slice: usize,
    /// That IoU.
    pub weakest_predicted_iou: f64,
    /// Slices with the organ.
    pub slices: usize,
    /// Dice of the masks at the lowest and the highest of [`crate::CANDIDATE_THRESHOLDS`] (0.3 and 0.6), before overlaps are
    /// settled: 1 if the threshold does not matter.
    pub candidate_dice: f64,
}

/// Counts the voxels of an organ at the outer two thresholds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ThresholdCounts {
    low: u64,
    high: u64,
}

impl ThresholdCounts {
    /// Adds voxels by whether they lie above the lowest and the highest threshold.
    pub(crate) fn add(&mut self, above: impl Iterator<Item = (bool, bool)>) {
        for (low, high) in above {
            self.low += u64::from(low);
            self.high += u64::from(high);
        }
    }

    /// Dice of the two masks: the one at the higher threshold lies inside the other.
    pub(crate) fn dice(self) -> f64 {
        if self.low + self.high == 0 { 1.0 } else { 2.0 * self.high as f64 / (self.low + self.high) as f64 }
    }
}

/// A prompt of a file or of true labels, in stored pixels, without its words: people write anything into them.
#[derive(Clone, Debug, Serialize)]
pub struct GivenPrompt {
    /// Organ name.
    pub organ: String,
    /// Plane of the slice; `None` for a picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plane: Option<Plane>,
    /// Stored slice index.
    pub slice: usize,
    /// x0, y0, x1, y1, half-open.
    #[serde(rename = "box", skip_serializing_if = "Option::is_none")]
    pub bounds: Option<[f32; 4]>,
    /// x, y, 1 inside or 0 outside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<[f32; 3]>,
}

impl GivenPrompt {
    fn new(p: &Prompt, plane: Option<Plane>) -> Self {
        let bounds = p.bounds.map(|b| [b.x0, b.y0, b.x1, b.y1]);
        Self { organ: p.organ.to_string(), plane, slice: p.slice, bounds, points: p.points.clone() }
    }
}

/// The record; serialised as JSON (schema `volseg.run/1`).
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    /// `volseg.run/1`.
    pub schema: &'static str,
    /// Program version.
    pub version: String,
    /// SHA-256 of the input's bytes.
    pub input_sha256: String,
    /// Voxels along the stored axes.
    pub dim: [usize; 3],
    /// mm along the stored axes.
    pub spacing_mm: [f64; 3],
    /// Such as `LPS`.
    pub orientation: String,
    /// `ct`, `xray`, `ultrasound` or `mr`.
    pub modality: String,
    /// Model name.
    pub model: String,
    /// SHA-256 of the weights.
    pub weights_sha256: String,
    /// SHA-256 of the settings that change labels.
    pub config_sha256: String,
    /// `organ`, `file`, `oracle` or `chain`.
    pub prompts: String,
    /// The prompts of a file or of true labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given: Option<Vec<GivenPrompt>>,
    /// How automatic prompts came about, one entry a prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain: Option<serde_json::Value>,
    /// Device.
    pub device: String,
    /// Threads.
    pub threads: usize,
    /// Organs asked for.
    pub organs: Vec<String>,
    /// Those not found.
    pub not_found: Vec<String>,
    /// Measures of the organs found.
    pub statistics: Vec<OrganStatistics>,
    /// How sure the network is.
    pub confidence: Vec<SliceConfidence>,
    /// What people should know.
    pub warnings: Vec<String>,
    /// Seconds by stage.
    pub timings: Timings,
    /// What the model is and is not for.
    pub notice: String,
}

/// What every report says.
const NOTICE: &str = "Research use only: not a medical device, not for diagnosis. The embedded model was trained on synthetic CT, \
     public chest X-rays and public breast ultrasounds; see the model card.";

impl RunReport {
    /// The record of a finished case; `measured` as [`crate::statistics()`] gives it.
    #[must_use]
    pub fn new(
        image: &Image,
        model: &Model,
        request: &Request,
        result: &Segmentation,
        measured: &[OrganStatistics],
        threads: usize,
    ) -> Self {
        let modality = match json!(result.modality) {
            serde_json::Value::String(name) => name,
            _ => String::new(),
        };
        let organs: Vec<String> = result.organs.iter().map(ToString::to_string).collect();
        let mut settings = request.settings();
        settings["organs"] = json!(organs);
        settings["modality"] = json!(modality);
        settings["weights"] = json!(model.weights_sha256(result.modality));
        Self {
            schema: "volseg.run/1",
            version: env!("CARGO_PKG_VERSION").into(),
            input_sha256: image.sha256.clone(),
            dim: image.volume.dim(),
            spacing_mm: image.volume.affine().spacing_mm(),
            orientation: image.volume.affine().orientation().to_string(),
            modality,
            model: model.name().into(),
            weights_sha256: model.weights_sha256(result.modality).into(),
            config_sha256: volseg_io::sha256(settings.to_string().as_bytes()),
            prompts: request.prompts.name().into(),
            given: match &request.prompts {
                PromptMode::Given { prompts, origin: Origin::File | Origin::Oracle } => {
                    let asked = |p: &&Prompt| request.organs.as_ref().is_none_or(|organs| organs.contains(&p.organ));
                    let all = prompts
                        .iter()
                        .flat_map(|set| set.prompts.iter().filter(asked).map(|p| GivenPrompt::new(p, set.plane)));
                    Some(all.collect())
                }
                _ => None,
            },
            chain: match &request.prompts {
                PromptMode::Given { origin: Origin::Chain(trace), .. } => Some(trace.clone()),
                _ => None,
            },
            device: "cpu".into(),
            threads,
            organs,
            not_found: measured.iter().filter(|m| m.voxels == 0).map(|m| m.name.clone()).collect(),
            statistics: measured.iter().filter(|m| m.voxels > 0).cloned().collect(),
            confidence: result.confidence.clone(),
            warnings: image.warnings.iter().chain(&result.warnings).cloned().collect(),
            timings: result.timings.clone(),
            notice: NOTICE.into(),
        }
    }
}
