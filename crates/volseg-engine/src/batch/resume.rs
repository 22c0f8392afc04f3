//! What stands in the tree says what is done.

use super::{Case, Failure, FailureKind, case_folder::CASE_SCHEMA};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What a result depends on. Equal keys, equal results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Digest of the input.
    pub input: String,
    /// Digest of the weights.
    pub weights: String,
    /// Digest of the settings.
    pub config: String,
    /// Form of the case folder.
    pub schema: String,
}

impl Key {
    /// The key of a case.
    #[must_use]
    pub fn new(case: &Case, weights: &str, config: &str) -> Self {
        Self { input: case.input.clone(), weights: weights.into(), config: config.into(), schema: CASE_SCHEMA.into() }
    }
}

/// How far a case is.
#[derive(Clone, Debug)]
pub enum State {
    /// Nothing is there, or a folder that is no result.
    Missing,
    /// A result with the same key.
    Done,
    /// A result with another key.
    Stale,
    /// It failed with the same key.
    Failed(Box<Failure>),
}

/// The fields of `result.json` that decide.
#[derive(Deserialize)]
struct Finished {
    key: Key,
}

/// Folder of a case in a tree: `<aa>/<case_id>`.
pub(super) fn folder_of(tree: &Path, case_id: &str) -> PathBuf {
    tree.join(case_id.get(..2).unwrap_or("00")).join(case_id)
}

/// The key of a finished case; `None` if there is no result or none that can be read.
pub(super) fn key_in(folder: &Path) -> Option<Key> {
    serde_json::from_slice::<Finished>(&std::fs::read(folder.join("result.json")).ok()?).ok().map(|r| r.key)
}

/// Looks at a tree, which need not be there.
#[must_use]
pub fn state(tree: &Path, case_id: &str, key: &Key) -> State {
    match key_in(&folder_of(tree, case_id)) {
        Some(found) if found == *key => State::Done,
        Some(_) => State::Stale,
        None => match Failure::read(tree, case_id) {
            Some(failure) if failure.key == *key => State::Failed(Box::new(failure)),
            _ => State::Missing,
        },
    }
}

/// How far a case is, whatever weights and settings it was done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progressed {
    /// A result of this input.
    Done,
    /// A result of another input.
    Stale,
    /// It failed and is not done.
    Failed(FailureKind),
    /// Nothing is there.
    Missing,
}

/// How far the cases are, in their order.
#[must_use]
pub fn progress(tree: &Path, cases: &[Case]) -> Vec<Progressed> {
    use rayon::prelude::*;
    let one = |case: &Case| match key_in(&folder_of(tree, &case.case_id)) {
        Some(key) if key.input == case.input => Progressed::Done,
        Some(_) => Progressed::Stale,
        None => Failure::read(tree, &case.case_id).map_or(Progressed::Missing, |f| Progressed::Failed(f.kind)),
    };
    cases.par_iter().map(one).collect()
}
