//! Answers kept from run to run, one JSON object a line.

use crate::Error;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Digest of the picture, question, backend.
pub(super) type Key = [String; 3];

/// A file that only grows; without a path, memory of this run alone.
#[derive(Default)]
pub(super) struct AnswerCache {
    path: Option<PathBuf>,
    known: Mutex<BTreeMap<Key, String>>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    image: String,
    question: String,
    backend: String,
    answer: String,
}

impl AnswerCache {
    /// Reads what is there. A line that is none, such as one that a killed run left half written, is passed over.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = match std::fs::read(path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
            Err(e) => return Err(volseg_io::Error::io("read", path)(e).into()),
        };
        let lines = text.lines().filter_map(|l| serde_json::from_str::<Line>(l).ok());
        let known = lines.map(|l| ([l.image, l.question, l.backend], l.answer)).collect();
        Ok(Self { path: Some(path.to_owned()), known: Mutex::new(known) })
    }

    pub(super) fn get(&self, key: &Key) -> Option<String> {
        self.known().get(key).cloned()
    }

    /// Keeps an answer. The line is written in one piece, so that runs may share the file.
    pub(super) fn put(&self, key: Key, answer: &str) -> std::io::Result<()> {
        self.remember(key.clone(), answer);
        let Some(path) = &self.path else { return Ok(()) };
        let [image, question, backend] = key;
        let line = Line { image, question, backend, answer: answer.to_owned() };
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        // What models say of patients is for the user alone.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(path)?.write_all(format!("\n{}\n", serde_json::to_string(&line)?).as_bytes())
    }

    /// Keeps an answer for this run alone.
    pub(super) fn remember(&self, key: Key, answer: &str) {
        self.known().insert(key, answer.to_owned());
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Key, String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
