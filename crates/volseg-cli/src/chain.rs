//! Prompts without an expert, for `prompt` and for `segment --prompts chain`: which model, what is looked for, and the prompts as
//! entries of a prompt file.

pub(crate) mod overlay;
pub(crate) mod words;

use crate::{
    exit::{usage_error, weights_error},
    global::{Global, Level},
};
use anyhow::Context;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use volseg_engine::{ModalityGuess, PromptEntry, guess_modality};
use volseg_geometry::{Modality, OrganId, Plane, Window};
use volseg_io::Image;
use volseg_model::clip::{ARCH, ClipModel, Fit, SHIPPED};
use volseg_model::weights;
use volseg_prompt::chain::{Chain, ChainRequest, Target, picture_modality, prompts};
use volseg_prompt::crf::CrfSettings;
use volseg_prompt::saliency::{FeatureCache, GScoreCam, GradCam, Layer, Saliency, SoftmaxOver};

/// How prompts are made.
#[derive(clap::Args)]
#[command(next_help_heading = "How prompts are made")]
pub(crate) struct ChainArgs {
    /// Image-text model: embedded, a name of `weights list`, or a file made by `weights import`
    #[arg(long, default_value = "embedded", value_name = "NAME|FILE")]
    pub(crate) source: String,
    /// gscorecam, or gradcam: much faster, one pass a slice
    #[arg(long, value_enum, default_value = "gscorecam")]
    method: Method,
    /// norm1_patch, norm2_cls, block_patch, or norm2_patch as published; where one has no gradient another is used and named
    #[arg(long, default_value = "norm1_patch", value_name = "LAYER")]
    layer: Layer,
    /// Channels that gscorecam scores for each text [default: what the model's file says, else 300]
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Softmax of gscorecam over all channels (as published) or the scored ones [default: what the model's file says, else all]
    #[arg(long, value_enum)]
    softmax_over: Option<Over>,
    /// Dense CRF: default, medclip-sam-v1, medclip-sam-v2 or pydensecrf, then changes such as ,iterations=10,srgb=8
    #[arg(long, default_value = "default", value_name = "PRESET[,NAME=NUMBER...]")]
    crf: String,
    /// How a slice becomes square: stretched, or with margins
    #[arg(long, value_enum, default_value = "squash")]
    fit: Square,
    /// Points of a prompt
    #[arg(long, default_value_t = 3, value_name = "N")]
    points: usize,
    /// Take every slice of a volume alone, as published; each organ is then found in each slice
    #[arg(long)]
    no_join: bool,
    /// Folder for features of masked slices, which make a second run fast [default: volseg/features in the user's cache folder]
    #[arg(long, value_name = "DIR", conflicts_with = "no_cache")]
    cache: Option<PathBuf>,
    /// Keep no features
    #[arg(long)]
    no_cache: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Method {
    Gscorecam,
    Gradcam,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Over {
    All,
    Selected,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Square {
    Squash,
    Pad,
}

impl ChainArgs {
    /// The defaults with another model.
    pub(crate) fn of_source(source: &str) -> Self {
        Self {
            source: source.to_owned(),
            method: Method::Gscorecam,
            layer: Layer::default(),
            top_k: None,
            softmax_over: None,
            crf: "default".into(),
            fit: Square::Squash,
            points: 3,
            no_join: false,
            cache: None,
            no_cache: false,
        }
    }

    /// A file of this name in the cache folder, unless nothing is to be kept.
    fn cache_file(&self, name: &str) -> Option<PathBuf> {
        self.cache_folder().map(|f| f.join(name))
    }

    fn cache_folder(&self) -> Option<PathBuf> {
        if self.no_cache { None } else { self.cache.clone().or_else(cache_folder) }
    }

    /// Settings and model, ready for any number of images.
    ///
    /// # Errors
    /// A usage error for settings that cannot work; a model that cannot be read.
    pub(crate) fn maker(&self, global: &Global) -> anyhow::Result<PromptMaker> {
        let crf: CrfSettings =
            self.crf.parse().map_err(|e: volseg_prompt::Error| usage_error(format!("--crf: {e}")))?;
        if let Some(k) = self.top_k.filter(|k| !(1..=100_000).contains(k)) {
            return Err(usage_error(format!("--top-k: found {k}, expected 1 to 100000")));
        }
        if self.points > 1000 {
            return Err(usage_error(format!("--points: found {}, expected 0 to 1000", self.points)));
        }
        let (model, sha256) = load_source(&self.source)?;
        let folder = self.cache_folder();
        let stated = GScoreCam::of(&model, FeatureCache::new(folder, &sha256))?;
        let top_k = self.top_k.unwrap_or(stated.top_k);
        let softmax_over = match self.softmax_over {
            Some(Over::All) => SoftmaxOver::All,
            Some(Over::Selected) => SoftmaxOver::Selected,
            None => stated.softmax_over,
        };
        // The last block of the embedded model ends before its second norm: no gradient comes from there.
        let layer = match self.layer {
            Layer::Norm2Cls | Layer::Norm2Patch if sha256 == volseg_io::sha256(SHIPPED) => Layer::Norm1Patch,
            Layer::Norm2Patch => Layer::Norm2Cls,
            other => other,
        };
        if layer != self.layer {
            let (asked, used) = (self.layer.name(), layer.name());
            global.log(
                Level::Warn,
                format_args!(
                    "{asked} has no gradient in this network, so its channels cannot be ranked; {used} is used"
                ),
            );
        }
        let saliency: Box<dyn Saliency> = match self.method {
            Method::Gradcam => Box::new(GradCam { layer }),
            Method::Gscorecam => Box::new(GScoreCam { layer, top_k, softmax_over, ..stated }),
        };
        let method = match self.method {
            Method::Gscorecam => {
                json!({"name": "gscorecam", "layer": layer, "top_k": top_k, "softmax_over": softmax_over})
            }
            Method::Gradcam => json!({"name": "gradcam", "layer": layer}),
        };
        Ok(PromptMaker {
            model,
            saliency,
            settings: json!({"source_sha256": sha256, "method": method, "crf": crf}),
            sha256,
            crf,
            fit: match self.fit {
                Square::Squash => Fit::Squash,
                Square::Pad => Fit::Pad,
            },
            points: self.points,
            join: !self.no_join,
            seed: global.seed,
        })
    }
}

/// A model with settings.
pub(crate) struct PromptMaker {
    pub(crate) model: ClipModel,
    pub(crate) saliency: Box<dyn Saliency>,
    /// Digest of the model's file.
    pub(crate) sha256: String,
    /// For reports: digest of the weights, method, CRF.
    pub(crate) settings: Value,
    crf: CrfSettings,
    fit: Fit,
    points: usize,
    join: bool,
    seed: u64,
}

/// What of an image is asked for.
pub(crate) struct Ask {
    pub(crate) organs: Vec<OrganId>,
    pub(crate) texts: Vec<String>,
    pub(crate) modality: Option<Modality>,
    pub(crate) plane: Option<Plane>,
    pub(crate) window: Option<Window>,
    pub(crate) keep_views: bool,
    pub(crate) keep_saliency: bool,
}

impl PromptMaker {
    /// Targets and request for an image: organs and texts that were named, else the organs of its modality.
    ///
    /// # Errors
    /// A usage error if nothing is named and the modality has no organs of its own.
    pub(crate) fn plan(&self, image: &Image, ask: &Ask) -> anyhow::Result<(Vec<Target>, ChainRequest, ModalityGuess)> {
        let mut targets: Vec<Target> = ask.organs.iter().map(|&o| Target::organ(o)).collect();
        targets.extend(ask.texts.iter().map(|t| Target::text(t)));
        let declared = ask.modality.or(image.modality);
        let guess = guess_modality(&image.volume, image.slope, image.intercept, image.is_picture(), declared);
        let asks = |id: u8| targets.iter().any(|t| t.organ.is_some_and(|o| o.get() == id));
        let modality = match guess.modality {
            Some(m) => m,
            None if asks(16) => Modality::Xray,
            None if asks(17) => Modality::Ultrasound,
            None => picture_modality(image, &self.model)?,
        };
        if targets.is_empty() {
            let ids = match modality {
                Modality::Ct => 1..=15,
                Modality::Xray => 16..=16,
                Modality::Ultrasound => 17..=17,
                Modality::Mr => {
                    return Err(usage_error("--organs: no organs are known for MR; name some, or give --text"));
                }
            };
            targets = ids.filter_map(OrganId::new).map(Target::organ).collect();
        }
        let request = ChainRequest {
            modality,
            plane: ask.plane,
            window: ask.window,
            fit: self.fit,
            crf: self.crf.clone(),
            side: 256,
            points: self.points,
            second_part: 0.1,
            join: self.join,
            seed: self.seed,
            keep_views: ask.keep_views,
            keep_saliency: ask.keep_saliency,
        };
        Ok((targets, request, guess))
    }

    /// The prompts of an image, of which `guess` tells what is odd.
    ///
    /// # Errors
    /// What the chain meets.
    pub(crate) fn run(
        &self,
        image: &Image,
        targets: &[Target],
        request: &ChainRequest,
        guess: &ModalityGuess,
        global: &Global,
    ) -> anyhow::Result<Chain> {
        let bar = global.bar(1, "slices");
        let progress = |done: usize, total: usize| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            true
        };
        let mut chain =
            prompts(image, &self.model, self.saliency.as_ref(), targets, request, &progress).map_err(|e| match e {
                volseg_prompt::Error::Request(text) => usage_error(text),
                other => other.into(),
            })?;
        bar.finish_and_clear();
        if guess.constant {
            chain.prompts.clear();
        }
        for w in &chain.warnings {
            global.log(Level::Warn, w);
        }
        Ok(chain)
    }
}

/// Entries of a prompt file.
pub(crate) fn entries(chain: &Chain, targets: &[Target]) -> Vec<PromptEntry> {
    let round = |v: f32| (f64::from(v) * 100.0).round() / 100.0;
    let entry = |p: &volseg_prompt::chain::ChainPrompt| {
        let target = &targets[p.target];
        let b = p.bounds;
        PromptEntry {
            organ: target.organ.or_else(|| OrganId::named_in(&target.text)).map(|o| o.to_string()),
            plane: chain.plane,
            slice: Some(p.slice),
            bounds: Some([b.x0, b.y0, b.x1, b.y1].map(round)),
            points: p.points.iter().map(|&[x, y]| [round(x), round(y), 1.0]).collect(),
            text: Some(target.text.clone()),
            trace: serde_json::to_value(&p.trace).ok(),
            ..PromptEntry::default()
        }
    };
    chain.prompts.iter().map(entry).collect()
}

fn load_source(name: &str) -> anyhow::Result<(ClipModel, String)> {
    if name == "embedded" {
        return Ok((ClipModel::from_bytes(SHIPPED)?, volseg_io::sha256(SHIPPED)));
    }
    let path = weights::find(name).map_err(|e| usage_error(format!("--source: {e}")))?;
    if !path.exists() {
        return Err(usage_error(format!(
            "--source: found {}, expected `embedded`, a name of `volseg weights list`, or a file made by `volseg weights import`",
            path.display()
        )));
    }
    let model = ClipModel::load(&path).map_err(|e| weights_error(name, &e))?;
    Ok((model, volseg_io::sha256_file(&path)?))
}

/// The image-text model whose file has this SHA-256: the embedded one, or one of the user's weights.
///
/// # Errors
/// The file was found and cannot be used.
pub(crate) fn model_of_digest(sha256: &str) -> anyhow::Result<Option<ClipModel>> {
    if volseg_io::sha256(SHIPPED) == sha256 {
        return Ok(Some(ClipModel::from_bytes(SHIPPED)?));
    }
    for (_, path) in weights::installed() {
        let clip = weights::WeightsFile::open(&path).is_ok_and(|f| f.metadata().get("arch").is_some_and(|a| a == ARCH));
        if clip && volseg_io::sha256_file(&path).is_ok_and(|found| found == sha256) {
            return Ok(Some(ClipModel::load(&path).with_context(|| format!("could not use {}", path.display()))?));
        }
    }
    Ok(None)
}

/// `volseg/features` in the user's cache folder.
fn cache_folder() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = var("XDG_CACHE_HOME").or_else(|| Some(var("HOME")?.join(".cache")))?;
    Some(Path::new(&cache).join("volseg/features"))
}
