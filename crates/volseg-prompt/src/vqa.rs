//! Words about an organ in a slice: questions that something else answers, generic descriptions, and the text that both make.
//!
//! Answers come from a file, from a service over HTTP, from MedVInT on this machine or from nowhere. A service that fails
//! costs the answer and gives a warning; it never stops a run (specs: medvint.md sections 4 and 5).

mod cache;
mod choice;
mod description;
mod file;
mod http;
mod medvint;
mod question;
mod text;
mod wire;

pub use choice::{Backend, VqaChoice};
pub use description::{Descriptions, description};
pub use file::AnswersFile;
pub use http::{HttpClient, HttpSettings};
pub use question::{description_question, question};
pub use text::{ANSWER_PIECES, DESCRIPTION_PIECES, PromptText, prompt_text};
pub use wire::Api;

use crate::Error;
use cache::AnswerCache;
use std::path::Path;
use std::sync::Mutex;

/// Failures in a row after which a backend is left alone for the rest of a run.
const PATIENCE: usize = 3;

/// A rendered slice: one byte a pixel, row by row. Nothing else of an image ever leaves the machine.
#[derive(Clone, Copy, Debug)]
pub struct GreyPicture<'a> {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `width * height` values.
    pub pixels: &'a [u8],
}

impl GreyPicture<'_> {
    fn digest(&self) -> String {
        let mut bytes = format!("{} x {}\n", self.width, self.height).into_bytes();
        bytes.extend_from_slice(self.pixels);
        volseg_io::sha256(&bytes)
    }
}

/// A question about an organ in a slice.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Name of the input, to find its lines in an answers file. It goes nowhere else.
    pub image: &'a str,
    /// Stored index of the slice; 0 for a picture.
    pub slice: usize,
    /// The organ's name, or a free prompt.
    pub organ: &'a str,
    /// What is asked.
    pub question: &'a str,
    /// The slice as it is shown.
    pub picture: GreyPicture<'a>,
}

/// Something that answers questions about slices.
pub trait Vqa: Send + Sync {
    /// Names the backend and what in it decides answers: the model, its address.
    fn id(&self) -> String;

    /// Whether answers are worth keeping from run to run.
    fn is_slow(&self) -> bool {
        true
    }

    /// The answer; empty if there is none.
    ///
    /// # Errors
    /// [`Error::Backend`] if the backend fails.
    fn answer(&self, query: &Query<'_>) -> Result<String, Error>;
}

/// An answer, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// In one line, blanks collapsed.
    pub text: String,
    /// [`Vqa::id`] of its source.
    pub source: String,
    /// It was asked in an earlier run.
    pub cached: bool,
}

/// Asks a backend, keeps its answers, and bears its failures.
///
/// ```
/// use volseg_prompt::vqa::{Answers, GreyPicture, Query};
/// let picture = GreyPicture { width: 2, height: 1, pixels: &[0, 255] };
/// let query = Query { image: "ct.nii.gz", slice: 4, organ: "liver", question: "Where is the liver?", picture };
/// assert!(Answers::none().ask(&query).is_none());
/// ```
pub struct Answers {
    backend: Option<Box<dyn Vqa>>,
    cache: AnswerCache,
    trouble: Mutex<Trouble>,
}

#[derive(Default)]
struct Trouble {
    in_a_row: usize,
    failed: usize,
    warnings: Vec<String>,
}

impl Answers {
    /// No answers at all: the ablation without question answering.
    #[must_use]
    pub fn none() -> Self {
        Self { backend: None, cache: AnswerCache::default(), trouble: Mutex::default() }
    }

    /// Answers of a backend. With `cache`, a JSON-lines file, what a slow backend said is kept from run to run, by digest of the
    /// picture, question and backend.
    ///
    /// # Errors
    /// [`Error::Io`] if the cache is there and cannot be read.
    pub fn new(backend: Box<dyn Vqa>, cache: Option<&Path>) -> Result<Self, Error> {
        let cache = if backend.is_slow() { AnswerCache::open(cache)? } else { AnswerCache::default() };
        Ok(Self { backend: Some(backend), cache, trouble: Mutex::default() })
    }

    /// The answer, or `None` where there is none: no backend, nothing known, or a failure (then a warning is kept).
    #[must_use]
    pub fn ask(&self, query: &Query<'_>) -> Option<Answer> {
        let backend = self.backend.as_deref()?;
        let source = backend.id();
        let known = backend.is_slow().then(|| [query.picture.digest(), query.question.to_owned(), source.clone()]);
        if let Some(text) = known.as_ref().and_then(|key| self.cache.get(key)) {
            return (!text.is_empty()).then_some(Answer { text, source, cached: true });
        }
        if self.trouble().in_a_row >= PATIENCE {
            self.trouble().failed += 1;
            return None;
        }
        match backend.answer(query) {
            Ok(text) => {
                self.trouble().in_a_row = 0;
                let text = text::one_line(&text);
                if let Some(warning) = known.and_then(|key| self.cache.put(key, &text).err()) {
                    self.warn(format!("answers are not kept: {warning}"));
                }
                (!text.is_empty()).then_some(Answer { text, source, cached: false })
            }
            Err(e) => {
                self.fail(&e);
                None
            }
        }
    }

    /// What went wrong so far, each thing once, for the run report.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let trouble = self.trouble();
        let mut warnings = trouble.warnings.clone();
        if trouble.failed > 0 {
            let given_up = if trouble.in_a_row >= PATIENCE { "; the backend was given up" } else { "" };
            warnings.push(format!("{} questions have no answer{given_up}", trouble.failed));
        }
        warnings
    }

    fn fail(&self, error: &Error) {
        self.warn(error.to_string());
        let mut trouble = self.trouble();
        trouble.failed += 1;
        trouble.in_a_row += 1;
    }

    fn warn(&self, warning: String) {
        let mut trouble = self.trouble();
        if !trouble.warnings.contains(&warning) {
            trouble.warnings.push(warning);
        }
    }

    /// A thread that panicked while it held the lock leaves nothing half done.
    fn trouble(&self) -> std::sync::MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
