//! Where in a picture an image-text model sees what a text says: gScoreCAM and Grad-CAM (specs: gscorecam.md).

mod cache;
mod gradient;
mod gscorecam;

pub use cache::FeatureCache;
pub use gradient::{Activations, GradCam, activations};
pub use gscorecam::{GScoreCam, SoftmaxOver, masks};

use crate::Error;
use serde::{Deserialize, Serialize};
use volseg_geometry::resize_bilinear;
use volseg_model::clip::{ClipModel, Site};

/// Whose activations a map is made of, and which gradient ranks their channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// First norm of the last block, gradient at the patches: the usual choice for a vision transformer.
    #[default]
    Norm1Patch,
    /// Second norm of the last block, gradient at the class token: the cheapest gradient.
    Norm2Cls,
    /// Output of the last block but one, gradient at the patches.
    BlockPatch,
    /// The setting published with MedCLIP-SAM. Its gradient is zero at every patch, so it always answers
    /// [`Error::Degenerate`].
    Norm2Patch,
}

impl Layer {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Norm1Patch, Self::Norm2Cls, Self::BlockPatch, Self::Norm2Patch];

    /// Name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Norm1Patch => "norm1_patch",
            Self::Norm2Cls => "norm2_cls",
            Self::BlockPatch => "block_patch",
            Self::Norm2Patch => "norm2_patch",
        }
    }

    fn site(self) -> Site {
        match self {
            Self::Norm1Patch => Site::LastNorm1,
            Self::Norm2Cls | Self::Norm2Patch => Site::LastNorm2,
            Self::BlockPatch => Site::PreviousBlock,
        }
    }
}

impl std::str::FromStr for Layer {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let key = text.to_ascii_lowercase().replace('-', "_");
        let names = Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|l| l.name() == key).ok_or_else(|| format!("found {text}, expected one of {names}"))
    }
}

/// A map of one text on the patches of a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Cam {
    /// Weighted sum of activations, row by row.
    pub raw: Vec<f32>,
    /// The same, negative values dropped, stretched to 0..1.
    pub low: Vec<f32>,
    /// Patches along a side.
    pub grid: usize,
    /// Scaled cosine of the whole picture and the text.
    pub score: f32,
    /// Greatest value of `raw`; a flat or negative map means that nothing was seen.
    pub peak: f32,
}

impl Cam {
    fn new(raw: Vec<f32>, grid: usize, score: f32) -> Self {
        let peak = raw.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut low = raw.clone();
        stretch(&mut low);
        Self { raw, low, grid, score, peak }
    }

    /// The map on `width x height` pixels, in 0..1 (half-pixel centres).
    #[must_use]
    pub fn enlarged(&self, width: usize, height: usize) -> Vec<f32> {
        let mut map = resize_bilinear(&self.low, self.grid, self.grid, width, height);
        stretch(&mut map);
        map
    }
}

/// Drops what is negative, moves the least value to 0 and divides by the greatest.
pub(crate) fn stretch(map: &mut [f32]) {
    map.iter_mut().for_each(|v| *v = v.max(0.0));
    let low = map.iter().copied().fold(f32::INFINITY, f32::min);
    map.iter_mut().for_each(|v| *v -= low);
    let high = map.iter().copied().fold(0f32, f32::max) + 1e-8;
    map.iter_mut().for_each(|v| *v /= high);
}

/// A way to make maps of several texts on one picture.
pub trait Saliency: Sync {
    /// One map a text, in their order. `image` is `[3, side, side]`, normalised; texts are features of unit length.
    ///
    /// # Errors
    /// [`Error::Degenerate`] where no gradient reaches the layer; whatever the network meets.
    fn maps(&self, model: &ClipModel, image: &[f32], texts: &[Vec<f32>]) -> Result<Vec<Cam>, Error>;
}
