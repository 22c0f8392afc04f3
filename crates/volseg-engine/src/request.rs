use crate::{Prompt, PromptSet};
use candle_core::Device;
use std::collections::BTreeSet;
use std::sync::OnceLock;
use volseg_geometry::{Modality, OrganId, Plane, Window};
use volseg_model::Params;
use volseg_model::embedded::{Config, Network, SHIPPED, SHIPPED_CT, Weights};
use volseg_model::sam::SamModel;

/// A loaded model: weights are read once for any number of cases.
pub enum Model {
    /// The small network that ships inside, or one trained by `volseg train prompt`.
    Embedded {
        /// The network, by modality.
        networks: Box<Networks>,
    },
    /// SAM-Med2D, SAM or MedSAM.
    Sam {
        /// The network.
        model: Box<SamModel>,
        /// SHA-256 of its file, hex.
        sha256: String,
    },
}

fn network(bytes: &[u8], device: &Device) -> Result<Network, volseg_model::Error> {
    let weights = Weights::from_bytes(bytes)?;
    let params = Params::given(weights.tensors).on(device);
    let network = Network::new(&weights.config, &params)?;
    match params.extra().first() {
        Some(name) => Err(volseg_model::Error::Malformed { reason: format!("tensor {name} belongs to no layer") }),
        None => Ok(network),
    }
}

/// One file of weights. What ships inside costs time and memory only where it is asked for.
struct Part {
    bytes: &'static [u8],
    sha256: OnceLock<String>,
    network: OnceLock<Network>,
}

impl Part {
    fn of(bytes: &'static [u8]) -> Self {
        Self { bytes, sha256: OnceLock::new(), network: OnceLock::new() }
    }

    fn sha256(&self) -> &str {
        self.sha256.get_or_init(|| volseg_io::sha256(self.bytes))
    }
}

/// The embedded network with the weights of each modality.
pub struct Networks {
    any: Part,
    ct: Option<Part>,
    config: Config,
    device: Device,
    /// Where CTs have their own file: SHA-256 of the digests of both, a line each.
    both_sha256: OnceLock<String>,
}

impl Networks {
    /// The one for a modality; `None` where it is not known yet.
    ///
    /// # Errors
    /// As [`Model::embedded`], for weights that ship inside and are read now.
    pub fn of(&self, modality: Option<Modality>) -> Result<&Network, volseg_model::Error> {
        let part = self.part(modality);
        if let Some(network) = part.network.get() {
            return Ok(network);
        }
        let read = network(part.bytes, &self.device)?;
        Ok(part.network.get_or_init(|| read))
    }

    /// Sizes, the same for all modalities.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    fn part(&self, modality: Option<Modality>) -> &Part {
        self.ct.as_ref().filter(|_| modality == Some(Modality::Ct)).unwrap_or(&self.any)
    }
}

impl Model {
    /// The model that ships inside, on a device.
    ///
    /// # Errors
    /// As [`Model::embedded`].
    pub fn shipped(device: &Device) -> Result<Self, volseg_model::Error> {
        let networks = Networks {
            any: Part::of(SHIPPED),
            ct: Some(Part::of(SHIPPED_CT)),
            config: Weights::config_of(SHIPPED)?,
            device: device.clone(),
            both_sha256: OnceLock::new(),
        };
        Ok(Self::Embedded { networks: Box::new(networks) })
    }

    /// Builds the embedded kind on a device from the bytes of its weights file.
    ///
    /// # Errors
    /// [`volseg_model::Error`] for malformed, missing or extra tensors.
    pub fn embedded(bytes: &[u8], sha256: String, device: &Device) -> Result<Self, volseg_model::Error> {
        let read = network(bytes, device)?;
        let config = read.config.clone();
        let any = Part { bytes: &[], sha256: sha256.into(), network: read.into() };
        let networks = Networks { any, ct: None, config, device: device.clone(), both_sha256: OnceLock::new() };
        Ok(Self::Embedded { networks: Box::new(networks) })
    }

    /// Name in reports: `embedded`, or the architecture.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Embedded { .. } => "embedded",
            Self::Sam { model, .. } => model.arch().name(),
        }
    }

    /// Whether a prompt says anything to the network: where to look, an organ it knows by name, or a text it reads.
    #[must_use]
    pub fn understands(&self, prompts: &PromptSet, prompt: &Prompt) -> bool {
        let placed = prompt.bounds.is_some() || !prompt.points.is_empty();
        placed
            || match self {
                Self::Embedded { networks, .. } => {
                    prompt.named && usize::from(prompt.organ.get()) <= networks.config().organs
                }
                Self::Sam { model, .. } => {
                    let read = |text| prompts.texts.contains_key(text);
                    model.config().text.is_some() && prompt.text.as_ref().is_some_and(read)
                }
            }
    }

    /// SHA-256 of the weights file that answers for a modality, hex: what reports hold.
    #[must_use]
    pub fn weights_sha256(&self, modality: Modality) -> &str {
        match self {
            Self::Embedded { networks, .. } => networks.part(Some(modality)).sha256(),
            Self::Sam { sha256, .. } => sha256,
        }
    }

    /// Digest of all its weights: another model has another one. Names the model, while [`Model::weights_sha256`] names the file that
    /// was used.
    #[must_use]
    pub fn sha256(&self) -> &str {
        match self {
            Self::Embedded { networks } => match &networks.ct {
                None => networks.any.sha256(),
                Some(ct) => networks.both_sha256.get_or_init(|| {
                    volseg_io::sha256(format!("{}\n{}", networks.any.sha256(), ct.sha256()).as_bytes())
                }),
            },
            Self::Sam { sha256, .. } => sha256,
        }
    }
}

/// Thresholds of the four candidate masks (paper, section 4, "Implementation Details").
pub const CANDIDATE_THRESHOLDS: [f32; 4] = [0.3, 0.4, 0.5, 0.6];

/// Where prompts come from.
#[derive(Clone, Debug)]
pub enum PromptMode {
    /// The organ's learned token and the model's own second pass.
    Organ,
    /// Given prompts.
    Given {
        /// The prompts, a set for each plane.
        prompts: Vec<PromptSet>,
        /// Who made them.
        origin: Origin,
    },
}

/// Who made given prompts.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A file.
    File,
    /// True labels, for evaluation.
    Oracle,
    /// Image and text alone; with the trace of every prompt, for the report.
    Chain(serde_json::Value),
}

impl PromptMode {
    /// The given prompts; none where organs are asked for by name.
    #[must_use]
    pub fn sets(&self) -> &[PromptSet] {
        match self {
            Self::Organ => &[],
            Self::Given { prompts, .. } => prompts,
        }
    }

    /// All given prompts.
    pub fn given(&self) -> impl Iterator<Item = &Prompt> {
        self.sets().iter().flat_map(|set| &set.prompts)
    }

    /// The organs of the given prompts, in label order.
    #[must_use]
    pub fn organs(&self) -> Vec<OrganId> {
        self.given().map(|p| p.organ).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Name in reports.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Organ => "organ",
            Self::Given { origin: Origin::File, .. } => "file",
            Self::Given { origin: Origin::Oracle, .. } => "oracle",
            Self::Given { origin: Origin::Chain(_), .. } => "chain",
        }
    }
}

/// Slices that a GPU reads together unless told otherwise.
const GPU_SLICES: usize = 16;

/// What to do with a case.
#[derive(Clone, Debug)]
pub struct Request {
    /// Organs to look for; `None` takes those of the modality (or of the prompts).
    pub organs: Option<Vec<OrganId>>,
    /// Of the organs that were asked for by name, look for those that the image's modality has, if there are any: for archives of
    /// several modalities. Else an organ that cannot be found is an error.
    pub skip_unknown: bool,
    /// `None` looks at the image.
    pub modality: Option<Modality>,
    /// Slicing plane of volumes; `None` is axial.
    pub plane: Option<Plane>,
    /// `None` is the modality's own.
    pub window: Option<Window>,
    /// Prompts.
    pub prompts: PromptMode,
    /// Slices read together by one worker; `None` is 1 on the CPU and 16 on a GPU.
    pub batch: Option<usize>,
    /// Keep probabilities for [`crate::Segmentation::probabilities`].
    pub keep_probabilities: bool,
    /// Also make the label maps at the four thresholds of the paper (section 4), for [`crate::Segmentation::candidates`].
    pub candidates: bool,
    /// Probability from which a voxel belongs to an organ (exclusive).
    pub threshold: f32,
    /// Every second slice only; the others are interpolated.
    pub fast: bool,
    /// Refuse a case that needs more, bytes.
    pub memory: Option<u64>,
}

impl Request {
    /// Slices that a worker reads together.
    pub(crate) fn at_once(&self, on_gpu: bool) -> usize {
        self.batch.unwrap_or(if on_gpu { GPU_SLICES } else { 1 }).max(1)
    }

    /// The settings that change labels, in a fixed form for digests. Memory, batches and what else is kept do not count.
    #[must_use]
    pub fn settings(&self) -> serde_json::Value {
        let organs = self.organs.as_ref().map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>());
        serde_json::json!({
            "organs": organs, "modality": self.modality, "plane": self.plane.map(|p| format!("{p:?}")),
            "window": self.window.map(|w| format!("{w:?}")), "prompts": format!("{:?}", self.prompts),
            "fast": self.fast, "threshold": self.threshold,
        })
    }
}

impl Default for Request {
    fn default() -> Self {
        Self {
            organs: None,
            skip_unknown: false,
            modality: None,
            plane: None,
            window: None,
            prompts: PromptMode::Organ,
            batch: None,
            keep_probabilities: false,
            candidates: false,
            threshold: 0.5,
            fast: false,
            memory: None,
        }
    }
}
