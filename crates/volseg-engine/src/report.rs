//! The run record: what was done to what, by digest and geometry, never by path or patient value.

use crate::statistics::OrganStatistics;
use serde::Serialize;

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
    /// `organ`, `file` or `oracle`.
    pub prompts: String,
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
