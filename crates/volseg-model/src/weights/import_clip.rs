use super::{Checkpoint, Fit, write::write};
use crate::Error;
use crate::clip::{ARCH, ClipConfig, ClipSource, WordPieces, is_clip};
use std::collections::BTreeMap;
use std::path::Path;

/// What the user says about an image-text checkpoint.
#[derive(Clone, Debug, Default)]
pub struct ClipImportOptions {
    /// Sizes; `None` for those that the file states or the published ones.
    pub config: Option<ClipConfig>,
    /// Text of the model's `vocab.txt`; `None` for the one in a file that was imported before.
    pub vocabulary: Option<String>,
    /// Licence of the weights, as far as the user knows it.
    pub licence: Option<String>,
}

/// What came out of the import of an image-text model.
#[derive(Clone, Debug)]
pub struct ImportedClip {
    /// Sizes.
    pub config: ClipConfig,
    /// Numbers written.
    pub numbers: usize,
    /// Extra tensors of the checkpoint, which were left out.
    pub fit: Fit,
    /// SHA-256 of the tensors, as in the metadata.
    pub sha256: String,
}

/// Whether a checkpoint holds an image-text model.
///
/// # Errors
/// A file that cannot be read.
pub fn holds_clip(path: &Path) -> Result<bool, Error> {
    Ok(is_clip(&Checkpoint::open(path)?.shapes()))
}

/// Converts BiomedCLIP's `open_clip_pytorch_model.bin`, a fine-tuned checkpoint with the same names (perhaps behind `model.` or
/// `module.`), safetensors, or the Hugging Face conversion to a weights file of this project, vocabulary inside.
///
/// # Errors
/// [`Error::Malformed`], [`Error::Unfit`] with what is missing or misshaped, [`Error::NotFinite`], [`Error::Io`]. No
/// file is left behind.
pub fn import_clip(from: &Path, to: &Path, options: &ClipImportOptions) -> Result<ImportedClip, Error> {
    let source = ClipSource::new(Checkpoint::open(from)?);
    let stated = source.metadata();
    let config = match (&options.config, stated.get("config")) {
        (Some(config), _) => config.clone(),
        (None, Some(config)) if stated.get("arch").is_some_and(|a| a == ARCH) => ClipConfig::from_json(config)?,
        _ => ClipConfig::biomedclip(),
    };
    config.check()?;
    let expected = config.tensors();
    let fit = Fit::new(&expected, &source.shapes(&config));
    if !fit.is_complete() {
        return Err(Error::Unfit { arch: ARCH.into(), fit });
    }
    let Some(vocabulary) = options.vocabulary.as_ref().or_else(|| stated.get("vocab")) else {
        return Err(Error::InvalidArgument {
            what: "vocabulary",
            found: "none".into(),
            expected: "the model's vocab.txt (--vocab VOCAB.txt)".into(),
        });
    };
    WordPieces::new(vocabulary)?;
    let entries = vocabulary.lines().count();
    if entries > config.text.vocab {
        return Err(Error::InvalidArgument {
            what: "vocabulary",
            found: format!("{entries} entries"),
            expected: format!("at most {}, the rows of the word table", config.text.vocab),
        });
    }
    let licence = options.licence.clone().or_else(|| stated.get("licence").cloned());
    let mut metadata = BTreeMap::from([
        ("arch".to_owned(), ARCH.to_owned()),
        ("config".to_owned(), serde_json::to_string(&config).map_err(|e| Error::Malformed { reason: e.to_string() })?),
        ("format".to_owned(), "volseg-weights/1".to_owned()),
        ("vocab".to_owned(), vocabulary.clone()),
        (
            "licence".to_owned(),
            licence.unwrap_or_else(|| "MIT (as stated by microsoft/BiomedCLIP; not verified)".to_owned()),
        ),
    ]);
    for name in ["presence", "saliency", "boxes"] {
        metadata.extend(stated.get(name).map(|kept| (name.to_owned(), kept.clone())));
    }
    let sha256 = write(to, &expected, metadata, |name, shape| source.read(name, shape))?;
    let numbers = expected.values().map(|s| s.iter().product::<usize>()).sum();
    Ok(ImportedClip { config, numbers, fit, sha256 })
}
