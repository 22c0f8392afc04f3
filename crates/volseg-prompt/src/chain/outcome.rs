//! What the chain gives: prompts, where they come from, and what was measured on the way.

use serde::Serialize;
use volseg_geometry::{PixelBox, Plane};

/// Which mask a prompt was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// That of the CRF.
    None,
    /// The CRF left nothing: the map from 0.5 on.
    Cam,
    /// The map was empty too: the whole picture.
    WholeImage,
}

/// How a prompt came about.
#[derive(Clone, Debug, Serialize)]
pub struct Trace {
    /// What the text tower read.
    pub text: String,
    /// Cosine of slice and text times the model's scale.
    pub similarity: f32,
    /// Probability of the organ in this slice; `None` for weights without a calibration.
    pub presence: Option<f32>,
    /// Greatest value of the map before it was stretched to 0..1.
    pub peak: f32,
    /// Which mask was used.
    pub fallback: Fallback,
    /// Connected parts of the mask on the right side.
    pub parts: usize,
    /// Pixels of the mask, on the grid of the CRF.
    pub mask_pixels: usize,
    /// Whether slices were joined.
    pub joined: bool,
    /// Whether the mask's box was corrected by the weights' calibration of edges.
    pub box_calibrated: bool,
}

/// A prompt for one target on one slice.
#[derive(Clone, Debug)]
pub struct ChainPrompt {
    /// Number of the target.
    pub target: usize,
    /// Stored slice index.
    pub slice: usize,
    /// Box in stored pixels, half-open.
    pub bounds: PixelBox,
    /// x, y of inside points, stored pixels.
    pub points: Vec<[f32; 2]>,
    /// How it came about.
    pub trace: Trace,
    /// With [`super::ChainRequest::keep_views`]: what it was made from.
    pub view: Option<View>,
}

/// A slice with its map and mask, as shown, on the grid of the CRF.
#[derive(Clone, Debug)]
pub struct View {
    /// Columns and rows.
    pub size: [usize; 2],
    /// Red, green, blue.
    pub rgb: Vec<u8>,
    /// Saliency, 0..1.
    pub saliency: Vec<f32>,
    /// Mask, 0 or 1.
    pub mask: Vec<u8>,
    /// The box.
    pub bounds: PixelBox,
    /// Points, pixel numbers.
    pub points: Vec<usize>,
}

/// Counts and seconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ChainTimings {
    /// Slices of the image.
    pub slices: usize,
    /// Maps that were made (one a slice and target).
    pub maps: usize,
    /// CRF runs (one a slice and target; the lattice is built once a slice).
    pub crf_runs: usize,
    /// Similarity of all slices.
    pub presence_s: f64,
    /// Saliency.
    pub saliency_s: f64,
    /// Dense CRF.
    pub crf_s: f64,
    /// Everything.
    pub total_s: f64,
}

/// The prompts of an image.
pub struct Chain {
    /// Plane of the slices; `None` for a picture.
    pub plane: Option<Plane>,
    /// By slice, then target.
    pub prompts: Vec<ChainPrompt>,
    /// For each target the similarity of every slice.
    pub similarity: Vec<Vec<f32>>,
    /// For each target the probability of presence in every slice; empty without a calibration.
    pub presence: Vec<Vec<f32>>,
    /// With [`super::ChainRequest::keep_saliency`]: one volume a target, input order.
    pub saliency: Option<Vec<f32>>,
    /// Plain sentences for people.
    pub warnings: Vec<String>,
    /// Seconds and counts.
    pub timings: ChainTimings,
}
