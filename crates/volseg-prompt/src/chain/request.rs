//! What is looked for in an image, and how.

use crate::crf::CrfSettings;
use volseg_geometry::{Modality, OrganId, Plane, Window};
use volseg_model::clip::Fit;

/// What is looked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The organ; `None` for a free text.
    pub organ: Option<OrganId>,
    /// What the text tower reads.
    pub text: String,
}

impl Target {
    /// An organ by its prompt name.
    #[must_use]
    pub fn organ(organ: OrganId) -> Self {
        Self { organ: Some(organ), text: organ.organ().prompt.to_owned() }
    }

    /// A free text; it stands for an organ if it is the name of one.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self { organ: text.parse().ok(), text: text.to_owned() }
    }
}

/// How prompts are made.
#[derive(Clone, Debug)]
pub struct ChainRequest {
    /// What the image is.
    pub modality: Modality,
    /// Slicing plane of volumes; `None` is axial.
    pub plane: Option<Plane>,
    /// `None` leaves 8-bit pictures as they are and takes the modality's own window for everything else.
    pub window: Option<Window>,
    /// How a slice becomes square.
    pub fit: Fit,
    /// The dense CRF.
    pub crf: CrfSettings,
    /// Longest side of the grid on which masks are made, pixels.
    pub side: usize,
    /// Points of a prompt.
    pub points: usize,
    /// Least size of the lungs' second part, as a share of the first.
    pub second_part: f64,
    /// Whether the slices of a volume are joined; else each is taken alone, and every organ is found in every slice.
    pub join: bool,
    /// Seed of the points.
    pub seed: u64,
    /// Keep pictures for [`super::ChainPrompt::view`].
    pub keep_views: bool,
    /// Keep full-size maps for [`super::Chain::saliency`].
    pub keep_saliency: bool,
}
