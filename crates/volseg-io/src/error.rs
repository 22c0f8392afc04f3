use std::{fmt, io, path::PathBuf};

/// Why a file could not be read or written. Variants say who is at fault; texts hold the paths that the caller gave and
/// numbers found in the file, never patient values.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The world: disk, permissions, a missing file.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried: "read", "write".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file breaks its own format.
    #[error("{format}: {reason}")]
    Malformed {
        /// Which format.
        format: &'static str,
        /// What was found and what was expected.
        reason: String,
    },
    /// The file is valid but holds what this crate does not read.
    #[error("{format}: {what} is not supported")]
    Unsupported {
        /// Which format.
        format: &'static str,
        /// What is not supported.
        what: String,
    },
    /// The file asks for more than [`crate::Limits`] allows.
    #[error("{what}: {found}, but the limit is {allowed}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much the file asks for.
        found: u64,
        /// The limit.
        allowed: u64,
    },
    /// Nothing in a folder or archive can be read as an image.
    #[error("nothing readable: {reason}")]
    NothingReadable {
        /// What was found instead.
        reason: String,
    },
    /// The files are no longer those that a manifest lists.
    #[error("the files are not those that were listed; list them again")]
    Changed,
    /// A DICOM folder or archive holds several series and none was chosen.
    #[error("{} series; choose one with its number or UID:\n{}", series.len(), SeriesList(series))]
    SeveralSeries {
        /// The series, in the order in which numbers count (from 1).
        series: Vec<crate::SeriesInfo>,
    },
    /// The format of an output cannot hold the image.
    #[error("{format} cannot hold {what}")]
    CannotHold {
        /// The output's format.
        format: &'static str,
        /// What it cannot hold, and what to do instead.
        what: String,
    },
    /// The caller asked for something impossible.
    #[error("{what}: found {found}, expected {expected}")]
    InvalidArgument {
        /// Which argument.
        what: &'static str,
        /// What was given.
        found: String,
        /// What is allowed.
        expected: String,
    },
    /// A grid that cannot be.
    #[error(transparent)]
    Geometry(#[from] volseg_geometry::Error),
}

struct SeriesList<'a>(&'a [crate::SeriesInfo]);

impl fmt::Display for SeriesList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(n, s)| {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "  {}  {s}", n + 1)
        })
    }
}

impl Error {
    pub(crate) fn malformed(format: &'static str, reason: impl Into<String>) -> Self {
        Self::Malformed { format, reason: reason.into() }
    }

    pub(crate) fn unsupported(format: &'static str, what: impl Into<String>) -> Self {
        Self::Unsupported { format, what: what.into() }
    }

    /// For `map_err`: what was tried (`read`, `write`) with which file.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// Names the folder that the caller gave instead of a file or folder in it, whose name may be a patient's.
    pub(crate) fn below(self, folder: &std::path::Path) -> Self {
        match self {
            Self::Io { source, .. } => Self::Io { action: "read what lies in", path: folder.to_owned(), source },
            other => other,
        }
    }

    /// A short word for the kind of error, for machines: `io`, `malformed`, `unsupported`, `limit`, ...
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Io { .. } => "io",
            Self::Malformed { .. } => "malformed",
            Self::Unsupported { .. } => "unsupported",
            Self::Limit { .. } => "limit",
            Self::NothingReadable { .. } => "nothing_readable",
            Self::Changed => "changed",
            Self::SeveralSeries { .. } => "several_series",
            Self::CannotHold { .. } => "cannot_hold",
            Self::InvalidArgument { .. } => "invalid_argument",
            Self::Geometry(_) => "geometry",
        }
    }

    /// Whether another try may succeed without a change of the input.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() != io::ErrorKind::NotFound)
    }

    /// Whether the input is at fault (missing, broken, of no known kind), not the call or the output.
    #[must_use]
    pub fn is_unreadable_input(&self) -> bool {
        match self {
            Self::Io { action, .. } => *action == "read",
            Self::Malformed { .. }
            | Self::Unsupported { .. }
            | Self::NothingReadable { .. }
            | Self::Changed
            | Self::Geometry(_) => true,
            _ => false,
        }
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
