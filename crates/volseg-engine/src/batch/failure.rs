//! Cases that could not be done: a record by kind, so that nobody retries what cannot work.

use super::Key;
use crate::Error;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use volseg_io::AtomicFile;

/// Schema of the records.
const SCHEMA: &str = "volseg.failure/1";

/// What is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The files break their format.
    Corrupt,
    /// The files are valid, but nothing here reads them or no model knows them.
    Unsupported,
    /// More than a limit or `--memory` allows.
    Limit,
    /// The files are no longer those of the manifest.
    Changed,
    /// A file could not be read.
    Io,
    /// The network failed, such as a device without memory.
    Device,
    /// The program is at fault.
    Internal,
}

impl FailureKind {
    /// Name in records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Corrupt => "corrupt",
            Self::Unsupported => "unsupported",
            Self::Limit => "limit",
            Self::Changed => "changed",
            Self::Io => "io",
            Self::Device => "device",
            Self::Internal => "internal",
        }
    }

    /// Whether another try with the same input may succeed.
    #[must_use]
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Io | Self::Device)
    }
}

/// Which limit, and by how much.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitHit {
    /// What there is too much of; `memory` for `--memory`.
    pub what: String,
    /// How much the case needs.
    pub found: u64,
    /// How much is allowed.
    pub allowed: u64,
}

/// A record `failed/<case_id>.json`. Holds no path, no UID and no text of the input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// `volseg.failure/1`.
    pub schema: String,
    /// The case.
    pub case_id: String,
    /// What was tried with what.
    pub key: Key,
    /// `read`, `segment` or `write`.
    pub stage: String,
    /// What is at fault.
    pub kind: FailureKind,
    /// How often it was tried.
    pub attempt: u32,
    /// The limit that was hit.
    pub limit: Option<LimitHit>,
    /// One sentence for people.
    pub reason: String,
}

impl Failure {
    /// The record of an error. `attempt` counts from 1.
    pub(super) fn new(case_id: &str, key: &Key, stage: &str, attempt: u32, error: &Error) -> Self {
        let (kind, limit, reason) = describe(error);
        let (schema, case_id, stage) = (SCHEMA.into(), case_id.into(), stage.into());
        Self { schema, case_id, key: key.clone(), stage, kind, attempt, limit, reason }
    }

    /// The record of a panic.
    pub(super) fn panic(case_id: &str, key: &Key, stage: &str, attempt: u32) -> Self {
        let reason = "the program stopped in the middle of this case; please report it with the kind of scanner".into();
        Self {
            schema: SCHEMA.into(),
            case_id: case_id.into(),
            key: key.clone(),
            stage: stage.into(),
            kind: FailureKind::Internal,
            attempt,
            limit: None,
            reason,
        }
    }

    /// Whether a later run should try again.
    #[must_use]
    pub fn is_worth_another_try(&self) -> bool {
        self.kind.is_transient() || self.limit.as_ref().is_some_and(|l| l.what == "memory")
    }

    /// Its place in a tree.
    pub(super) fn path(tree: &Path, case_id: &str) -> PathBuf {
        tree.join("failed").join(format!("{case_id}.json"))
    }

    /// Writes the record to its place.
    pub(super) fn write(&self, tree: &Path) -> Result<(), Error> {
        let path = Self::path(tree, &self.case_id);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|source| volseg_io::Error::Io {
                action: "write",
                path: folder.to_owned(),
                source,
            })?;
        }
        let text =
            serde_json::to_string_pretty(self).map_err(|e| Error::Record { what: "failure", reason: e.to_string() })?;
        Ok(AtomicFile::write(&path, (text + "\n").as_bytes())?)
    }

    /// The record of a case, if there is one that can be read.
    #[must_use]
    pub(super) fn read(tree: &Path, case_id: &str) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(Self::path(tree, case_id)).ok()?).ok()
    }
}

/// Kind, limit and a sentence without anything that stood in the input but numbers.
fn describe(error: &Error) -> (FailureKind, Option<LimitHit>, String) {
    use volseg_io::Error as Io;
    let plain = |kind, text: String| (kind, None, text);
    match error {
        Error::Io(Io::Io { source, .. }) => {
            plain(FailureKind::Io, format!("a file could not be read: {}", source.kind()))
        }
        Error::Io(Io::Limit { what, found, allowed }) => {
            let hit = LimitHit { what: (*what).into(), found: *found, allowed: *allowed };
            (FailureKind::Limit, Some(hit), format!("{what}: {found}, but the limit is {allowed}"))
        }
        // Its name promised a volume or a picture.
        Error::Io(Io::Unsupported { format: "file", .. }) => {
            plain(FailureKind::Corrupt, "the file is of no known kind".into())
        }
        Error::Io(Io::Malformed { format, reason }) => plain(FailureKind::Corrupt, safe(format, reason)),
        Error::Io(Io::Unsupported { format, what }) => {
            plain(FailureKind::Unsupported, safe(format, &format!("{what} is not supported")))
        }
        Error::Io(Io::NothingReadable { .. }) => plain(FailureKind::Corrupt, "no file of the case can be read".into()),
        Error::Io(Io::Geometry(e)) => plain(FailureKind::Corrupt, e.to_string()),
        Error::Io(Io::Changed) => plain(FailureKind::Changed, Io::Changed.to_string()),
        Error::Io(Io::SeveralSeries { .. }) => plain(FailureKind::Unsupported, "several series in one place".into()),
        Error::Memory { needed_mib, allowed_mib } => {
            let hit = LimitHit { what: "memory".into(), found: needed_mib << 20, allowed: allowed_mib << 20 };
            (FailureKind::Limit, Some(hit), error.to_string())
        }
        Error::Request(text) => plain(FailureKind::Unsupported, text.clone()),
        Error::Input(text) => plain(FailureKind::Unsupported, text.clone()),
        Error::Geometry(e) => plain(FailureKind::Corrupt, e.to_string()),
        Error::Model(_) => plain(FailureKind::Device, "the network could not be run on this case".into()),
        _ => plain(FailureKind::Internal, "this case could not be written".into()),
    }
}

/// The reason, if the format's reasons hold numbers only: text headers may be quoted in theirs.
fn safe(format: &str, reason: &str) -> String {
    if ["DICOM", "NIfTI", "zip"].contains(&format) {
        format!("{format}: {reason}")
    } else {
        format!("{format}: the file breaks its format or uses a part of it that is not read")
    }
}
