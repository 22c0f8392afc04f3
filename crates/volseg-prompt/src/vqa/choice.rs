use super::medvint::Native;
use super::{Answers, AnswersFile, HttpClient, HttpSettings};
use crate::Error;
use std::path::PathBuf;
use std::str::FromStr;

/// Where answers come from, as `--vqa` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Nowhere.
    None,
    /// A file of answers.
    File,
    /// A service.
    Http,
    /// MedVInT on this machine.
    MedVint,
}

impl FromStr for Backend {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "none" => Ok(Self::None),
            "file" => Ok(Self::File),
            "http" => Ok(Self::Http),
            "medvint" => Ok(Self::MedVint),
            _ => Err(Error::Request(format!("answers by {text:?} are unknown, expected none, file, http or medvint"))),
        }
    }
}

/// What the options of a command say about answers.
#[derive(Clone, Debug, Default)]
pub struct VqaChoice {
    /// `--vqa`; if it is not said, `file` with an answers file and else `none`.
    pub backend: Option<Backend>,
    /// `--answers`, JSON lines.
    pub answers: Option<PathBuf>,
    /// `--vqa-url` and what belongs to it.
    pub http: Option<HttpSettings>,
    /// MedVInT's weights.
    pub weights: Option<PathBuf>,
    /// Where answers of slow backends are kept.
    pub cache: Option<PathBuf>,
}

impl VqaChoice {
    fn chosen(&self) -> Backend {
        self.backend.unwrap_or(if self.answers.is_some() { Backend::File } else { Backend::None })
    }

    /// Whether anybody is asked at all.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.chosen() != Backend::None
    }

    /// The answers that were chosen. Nothing is asked yet.
    ///
    /// # Errors
    /// [`Error::Request`] naming the option that is missing or wrong; [`Error::Io`] for files that cannot be read.
    pub fn open(&self) -> Result<Answers, Error> {
        let missing = |option: &str, what: &str| Error::Request(format!("--vqa {what} needs {option}"));
        let backend = self.chosen();
        let cache = self.cache.as_deref();
        match backend {
            Backend::None => Ok(Answers::none()),
            Backend::File => {
                let path = self.answers.as_ref().ok_or_else(|| missing("--answers FILE.jsonl", "file"))?;
                Answers::new(Box::new(AnswersFile::read(path)?), cache)
            }
            Backend::Http => {
                let settings = self.http.clone().ok_or_else(|| missing("--vqa-url URL", "http"))?;
                Answers::new(Box::new(HttpClient::new(settings)?), cache)
            }
            Backend::MedVint => {
                let path = self.weights.as_ref().ok_or_else(|| missing(":FILE", "medvint"))?;
                if !path.exists() {
                    return Err(Error::Request(format!(
                        "--vqa medvint: there are no weights {}; import them with `volseg weights import --arch medvint`",
                        path.display()
                    )));
                }
                Answers::new(Box::new(Native::load(path)?), cache)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let choice = |backend: &str| VqaChoice { backend: Some(backend.parse().unwrap()), ..VqaChoice::default() };
        assert!(VqaChoice::default().open().is_ok() && choice("none").open().is_ok());
        for (backend, option) in [("file", "--answers"), ("http", "--vqa-url"), ("medvint", ":FILE")] {
            assert!(choice(backend).open().err().unwrap().to_string().contains(option));
        }
        assert!("gpt".parse::<Backend>().is_err());
    }
}
