use super::{Checkpoint, Fit, write::write};
use crate::Error;
use crate::medvint::{ARCH, MedVintConfig, MedVintSource, SentencePieces, is_medvint};
use std::collections::BTreeMap;
use std::path::Path;

/// What the user says about a MedVInT checkpoint.
#[derive(Clone, Debug, Default)]
pub struct MedVintImportOptions {
    /// Sizes; `None` for those that the file states or the published ones.
    pub config: Option<MedVintConfig>,
    /// LLaMA's `tokenizer.model`; `None` for the one in a file that was imported before.
    pub tokenizer: Option<SentencePieces>,
    /// Licence of the weights, as far as the user knows it.
    pub licence: Option<String>,
}

/// What came out of the import of a MedVInT checkpoint.
#[derive(Clone, Debug)]
pub struct ImportedMedVint {
    /// Sizes.
    pub config: MedVintConfig,
    /// Tensors written.
    pub tensors: usize,
    /// Numbers written.
    pub numbers: usize,
    /// Extra tensors of the checkpoint, which were left out.
    pub fit: Fit,
    /// SHA-256 of the tensors, as in the metadata.
    pub sha256: String,
}

/// Whether a checkpoint holds MedVInT.
///
/// # Errors
/// A file that cannot be read.
pub fn holds_medvint(path: &Path) -> Result<bool, Error> {
    Ok(is_medvint(&Checkpoint::open(path)?.shapes()))
}

/// Converts MedVInT-TD's `pytorch_model.bin` to a weights file of this project: low-rank updates merged, tokenizer inside. One
/// tensor at a time is in memory.
///
/// # Errors
/// [`Error::Malformed`], [`Error::Unfit`] with what is missing or misshaped, [`Error::NotFinite`], [`Error::Io`],
/// [`Error::InvalidArgument`] without a tokenizer or with one of more pieces than the model has rows. No file is left behind.
pub fn import_medvint(from: &Path, to: &Path, options: &MedVintImportOptions) -> Result<ImportedMedVint, Error> {
    let source = MedVintSource::new(Checkpoint::open(from)?);
    let stated = source.metadata();
    let config = match (&options.config, stated.get("config")) {
        (Some(config), _) => config.clone(),
        (None, Some(config)) if stated.get("arch").is_some_and(|a| a == ARCH) => MedVintConfig::from_json(config)?,
        _ => MedVintConfig::default(),
    };
    config.check()?;
    let expected = config.tensors();
    let fit = Fit::new(&expected, &source.shapes(&config));
    if !fit.is_complete() {
        return Err(Error::Unfit { arch: ARCH.into(), fit });
    }
    let tokenizer = match (&options.tokenizer, stated.get("pieces")) {
        (Some(pieces), _) => pieces.clone(),
        (None, Some(pieces)) => SentencePieces::from_json(pieces)?,
        (None, None) => {
            return Err(Error::InvalidArgument {
                what: "tokenizer",
                found: "none".into(),
                expected: "LLaMA's tokenizer.model (--vocab tokenizer.model)".into(),
            });
        }
    };
    if tokenizer.count() > config.language.vocab {
        return Err(Error::InvalidArgument {
            what: "tokenizer",
            found: format!("{} pieces", tokenizer.count()),
            expected: format!("at most {}, the rows of the token table", config.language.vocab),
        });
    }
    let licence = options.licence.clone().or_else(|| stated.get("licence").cloned());
    let metadata = BTreeMap::from([
        ("arch".to_owned(), ARCH.to_owned()),
        ("config".to_owned(), serde_json::to_string(&config).map_err(|e| Error::Malformed { reason: e.to_string() })?),
        ("format".to_owned(), "volseg-weights/1".to_owned()),
        ("pieces".to_owned(), tokenizer.to_json()?),
        (
            "licence".to_owned(),
            licence.unwrap_or_else(|| {
                "LLaMA's licence holds for the language model: no commercial use (not verified)".to_owned()
            }),
        ),
    ]);
    // A file that was imported before has its updates merged already and none beside it.
    let sha256 = write(to, &expected, metadata, |name, _| source.read(name, config.lora_scale))?;
    let numbers = expected.values().map(|s| s.iter().product::<usize>()).sum();
    Ok(ImportedMedVint { config, tensors: expected.len(), numbers, fit, sha256 })
}
