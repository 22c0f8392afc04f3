//! Texts of pictures as features of an image-text model (specs: biomedclip.md section 6).

use crate::Error;
use crate::pictures::Picture;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use volseg_model::clip::{ClipModel, SHIPPED};
use volseg_model::config::TextSource;
use volseg_prompt::vqa::{AnswersFile, description, prompt_text};

/// Reads what is said about pictures.
pub(crate) struct Texts {
    model: ClipModel,
    sha256: String,
    answers: AnswersFile,
    /// Whether the organ's description stands behind the answer.
    describe: bool,
    /// Features by text: most pictures share one.
    known: RefCell<BTreeMap<String, Vec<f32>>>,
}

impl Texts {
    /// `source` is `embedded` or the weights file of an image-text model, `answers` an answers file; without `describe` an answer
    /// is the whole text.
    ///
    /// # Errors
    /// [`Error::Config`] naming the file that cannot be used.
    pub(crate) fn open(source: &str, answers: Option<&Path>, describe: bool) -> Result<Self, Error> {
        let (model, sha256) = if source == "embedded" {
            (ClipModel::from_bytes(SHIPPED)?, volseg_io::sha256(SHIPPED))
        } else {
            let file = Path::new(source);
            let model = ClipModel::load(file).map_err(|source| Error::Weights { file: file.to_owned(), source })?;
            (model, volseg_io::sha256_file(file)?)
        };
        let bad = |e| match e {
            volseg_prompt::Error::Io(_) => Error::Prompt(e),
            other => Error::Config(format!("answers: {other}")),
        };
        let answers = answers.map_or(Ok(AnswersFile::default()), AnswersFile::read).map_err(bad)?;
        Ok(Self { model, sha256, answers, describe, known: RefCell::default() })
    }

    /// Length and origin of the features.
    pub(crate) fn source(&self) -> TextSource {
        TextSource { embed_dim: self.model.config.embed_dim, sha256: self.sha256.clone() }
    }

    /// The feature of a picture's text: an answer about it, then its organ's description.
    ///
    /// # Errors
    /// Words that the model cannot read; [`Error::Data`] for a picture about which nothing is said.
    pub(crate) fn feature(&self, picture: &Picture) -> Result<Vec<f32>, Error> {
        // Slices of volumes are called case/number.
        let parts = picture.name.rsplit_once('/').and_then(|(case, n)| Some((case, n.parse().ok()?)));
        let (name, slice) = parts.unwrap_or((&picture.name, 0));
        let answer = self.answers.find(name, slice, picture.organ.organ().prompt);
        let pieces = |text: &str| self.model.pieces(text);
        let described = self.describe.then(|| description(picture.organ));
        let text = prompt_text(answer, described, self.model.config.text.context, pieces)
            .ok_or_else(|| Error::Data(format!("the answers say nothing about {}", picture.name)))?
            .text;
        if let Some(known) = self.known.borrow().get(&text) {
            return Ok(known.clone());
        }
        let feature = self.model.encode_texts(std::slice::from_ref(&text))?.concat();
        self.known.borrow_mut().insert(text, feature.clone());
        Ok(feature)
    }
}
