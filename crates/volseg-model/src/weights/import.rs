use super::{
    Checkpoint, Fit, convert, malformed,
    write::{metadata, write},
};
use crate::Error;
use crate::config::{Arch, SamConfig};
use std::collections::BTreeMap;
use std::path::Path;

/// What the user says about a checkpoint.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// `None` to recognise it.
    pub arch: Option<Arch>,
    /// Sizes; `None` for the published ones.
    pub config: Option<SamConfig>,
    /// Licence of the weights, as far as the user knows it.
    pub licence: Option<String>,
    /// Seed of tensors that a conversion starts afresh.
    pub seed: u64,
}

/// What came out of an import.
#[derive(Clone, Debug)]
pub struct Imported {
    /// Architecture.
    pub arch: Arch,
    /// Sizes.
    pub config: SamConfig,
    /// Tensors written.
    pub tensors: usize,
    /// Numbers written.
    pub numbers: usize,
    /// Extra tensors of the checkpoint, which were left out.
    pub fit: Fit,
    /// Tensors that started afresh in a conversion from SAM to SAM-Med2D; they need training.
    pub fresh: Vec<String>,
    /// SHA-256 of the tensors, as in the metadata.
    pub sha256: String,
}

/// Licences that the publishers state for the official files.
fn licence(arch: Arch) -> &'static str {
    match arch {
        Arch::SamMed2d => "Apache-2.0 (as stated by OpenGVLab/SAM-Med2D; not verified)",
        Arch::Sam => "Apache-2.0 (as stated by facebookresearch/segment-anything; not verified)",
        Arch::MedSam => "Apache-2.0 (as stated by bowang-lab/MedSAM; not verified)",
    }
}

/// Converts a checkpoint in torch's form, or safetensors with the official names, to a weights file of this project.
///
/// The checkpoint's pickle is read as data; nothing in it runs. A checkpoint of SAM imported as SAM-Med2D is brought to its
/// size as the official builder does, with fresh adapters.
///
/// # Errors
/// [`Error::Malformed`], [`Error::Unfit`] with what is missing or misshaped, [`Error::NotFinite`], [`Error::Io`]. No
/// file is left behind.
pub fn import(from: &Path, to: &Path, options: &ImportOptions) -> Result<Imported, Error> {
    let source = Checkpoint::open(from)?;
    let found = source.shapes();
    let stated = source.metadata();
    let (arch, config) = match (options.arch, &options.config) {
        (Some(arch), Some(config)) => (arch, config.clone()),
        (Some(arch), None) => (arch, sizes_of(arch, &found)?),
        (None, Some(config)) => (if config.encoder_adapter { Arch::SamMed2d } else { Arch::Sam }, config.clone()),
        (None, None) => match stated.get("arch").zip(stated.get("config")) {
            Some((arch, config)) => (arch.parse()?, SamConfig::from_json(config)?),
            None => recognise(&found)?,
        },
    };
    config.check()?;
    let expected = config.tensors();
    let mut fit = Fit::new(&expected, &found);
    // A bare SAM that the user names SAM-Med2D lacks every adapter.
    let convert = options.arch == Some(Arch::SamMed2d) && !found.keys().any(|k| k.contains(".Adapter."));
    if convert {
        // Position tables are resized, and some tensors start afresh; all others must be there.
        fit.missing.retain(|name| !convert::fresh(name));
        fit.misshaped.retain(|m| !convert::fresh(&m.name) && !convert::resized(&m.name));
    }
    if !fit.is_complete() {
        return Err(Error::Unfit { arch: arch.name().into(), fit });
    }
    let mut fresh = Vec::new();
    let stated = options.licence.clone().or_else(|| stated.get("licence").cloned());
    let metadata = metadata(arch, &config, &stated.unwrap_or_else(|| licence(arch).to_owned()))?;
    let sha256 = write(to, &expected, metadata, |name, shape| {
        if !convert {
            return source.read(name);
        }
        let old =
            if found.contains_key(name) { convert::convert_from_sam(name, &source.read(name)?, shape)? } else { None };
        match old {
            Some(t) => Ok(t),
            None => {
                fresh.push(name.to_owned());
                convert::start(&config, options.seed, name, shape)
            }
        }
    })?;
    let numbers = expected.values().map(|s| s.iter().product::<usize>()).sum();
    Ok(Imported { arch, config, tensors: expected.len(), numbers, fit, fresh, sha256 })
}

/// The published configuration whose shapes a checkpoint has. MedSAM has SAM's shapes, so it must be named.
fn recognise(found: &BTreeMap<String, Vec<usize>>) -> Result<(Arch, SamConfig), Error> {
    let known = [
        (Arch::SamMed2d, SamConfig::sam_med2d()),
        (Arch::Sam, SamConfig::sam_vit_b()),
        (Arch::Sam, SamConfig::sam_vit_l()),
        (Arch::Sam, SamConfig::sam_vit_h()),
    ];
    if !found.contains_key("image_encoder.pos_embed") {
        let some: Vec<&str> = found.keys().take(3).map(String::as_str).collect();
        return Err(Error::WrongArch {
            found: format!("unknown (tensors {}, ...)", some.join(", ")),
            expected: "sam-med2d, sam or medsam, with an image_encoder".into(),
        });
    }
    // The best candidate by position table and adapters, so that a broken file is reported against what it is meant to be.
    let like = |c: &SamConfig| {
        let pos = found.get("image_encoder.pos_embed").map(Vec::as_slice);
        pos == Some(&[1, c.grid(), c.grid(), c.encoder_embed_dim])
            && found.keys().any(|k| k.contains(".Adapter.")) == c.encoder_adapter
    };
    match known.into_iter().find(|(_, c)| like(c)) {
        Some(known) => Ok(known),
        None => malformed(format!(
            "its sizes are none of the published ones (image_encoder.pos_embed is {:?}); give them with --config",
            found.get("image_encoder.pos_embed").map(Vec::as_slice).unwrap_or_default()
        )),
    }
}

/// The published sizes of a named architecture; SAM's by the width of the checkpoint.
fn sizes_of(arch: Arch, found: &BTreeMap<String, Vec<usize>>) -> Result<SamConfig, Error> {
    let width = found.get("image_encoder.pos_embed").and_then(|s| s.last().copied());
    Ok(match (arch, width) {
        (Arch::SamMed2d, _) => SamConfig::sam_med2d(),
        (_, Some(1024)) => SamConfig::sam_vit_l(),
        (_, Some(1280)) => SamConfig::sam_vit_h(),
        _ => SamConfig::sam_vit_b(),
    })
}
