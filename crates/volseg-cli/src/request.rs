//! Options that say what to look for and with what, for every command that segments.

use crate::{
    exit::{Verdict, usage_error, weights_error},
    global::{Global, Precision},
    inputs::WindowChoice,
};
use candle_core::Device;
use volseg_engine::{Model, Request};
use volseg_geometry::{Modality, OrganId, Plane};
use volseg_model::{
    embedded::ARCH,
    weights::{self, WeightsFile},
};

/// Model and request as written.
#[derive(clap::Args)]
pub(crate) struct RequestArgs {
    /// embedded, or a weights file
    #[arg(long, default_value = "embedded", value_name = "NAME|FILE")]
    pub(crate) model: String,
    /// auto, ct, xray, ultrasound or mr
    #[arg(long, default_value = "auto", value_name = "MODALITY")]
    modality: String,
    /// Organs to find, comma-separated [default: all that the model knows for the modality]
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    organs: Vec<String>,
    /// auto, axial, coronal or sagittal
    #[arg(long, default_value = "auto", value_name = "PLANE")]
    plane: String,
    /// auto, none, or LOW,HIGH in stored units (HU for CT)
    #[arg(long, default_value = "auto", value_name = "WINDOW", allow_hyphen_values = true)]
    window: WindowChoice,
    /// Slices that a worker reads together; needs as many times the memory [default: 1 on the CPU, 16 on a GPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    batch: Option<u16>,
    /// Every second slice only, the others from their neighbours
    #[arg(long)]
    fast: bool,
}

impl RequestArgs {
    /// The request, with prompts by organ name.
    ///
    /// # Errors
    /// A usage error for an unknown organ, modality or plane.
    pub(crate) fn request(&self, global: &Global) -> anyhow::Result<Request> {
        let auto = |text: &str| text == "auto";
        let usage = |e: volseg_geometry::Error| usage_error(e.to_string());
        let mut organs = self.organs.iter().map(|o| o.parse().map_err(usage)).collect::<Result<Vec<OrganId>, _>>()?;
        organs.sort();
        organs.dedup();
        Ok(Request {
            organs: (!organs.is_empty()).then_some(organs),
            modality: (!auto(&self.modality)).then(|| self.modality.parse::<Modality>()).transpose().map_err(usage)?,
            plane: (!auto(&self.plane)).then(|| self.plane.parse::<Plane>()).transpose().map_err(usage)?,
            window: self.window.window(),
            batch: self.batch.map(usize::from),
            fast: self.fast,
            memory: global.memory,
            ..Request::default()
        })
    }
}

/// The model of a name or file, on a device.
pub(crate) fn load_model(name: &str, device: &Device, precision: Precision) -> anyhow::Result<Model> {
    if name == "embedded" {
        return Ok(Model::shipped(device)?);
    }
    if let Some(bytes) = volseg_model::embedded::shipped(name) {
        return Ok(Model::embedded(bytes, volseg_io::sha256(bytes), device)?);
    }
    let path = &weights::find(name).map_err(|e| usage_error(format!("--model: {e}")))?;
    if !path.exists() {
        return Err(usage_error(format!(
            "--model: found {name}, expected `embedded`, a name of `volseg weights list`, or a .safetensors file (made by `volseg weights import` or `volseg train`)"
        )));
    }
    let judged = |e: volseg_model::Error| weights_error(name, &e);
    let read = |e: std::io::Error| Verdict::Unreadable(format!("could not read the weights {name}: {e}"));
    let arch = WeightsFile::open(path).map_err(judged)?.metadata().get("arch").cloned();
    match arch.as_deref() {
        Some(ARCH) => {
            let bytes = std::fs::read(path).map_err(read)?;
            let digest = volseg_io::sha256(&bytes);
            Model::embedded(&bytes, digest, device).map_err(judged)
        }
        // The loader of SAM's family says what is wrong with it, if anything.
        _ => {
            let model = volseg_model::sam::SamModel::load_on(path, device).map_err(judged)?;
            let model = match precision {
                Precision::F32 => model,
                Precision::Bf16 => model.with_bf16()?,
            };
            Ok(Model::Sam { model: Box::new(model), sha256: volseg_io::sha256_file(path)? })
        }
    }
}
