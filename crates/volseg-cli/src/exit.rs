//! Exit codes, and the only place where an error becomes one.

use crate::global::{Global, Level};
use std::io::{ErrorKind, Write};

/// How a run ended. The numbers are a contract with scripts (docs: reference/exit-codes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExitCode {
    /// All done.
    Done = 0,
    /// Failed; one sentence and its causes are on stderr.
    Failed = 1,
    /// The command line cannot be carried out as written.
    Usage = 2,
    /// Finished, but some cases failed.
    SomeFailed = 3,
    /// Nothing readable among the inputs.
    NothingReadable = 4,
    /// Stopped from outside; the same command goes on where it stopped.
    Interrupted = 75,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

/// Errors that decide the exit code wherever they stand in a chain of causes. All other errors are [`ExitCode::Failed`].
#[derive(Debug)]
#[allow(dead_code, reason = "which of them occur depends on the commands plugged in")]
pub(crate) enum Verdict {
    /// Wrong use of options that clap cannot see: [`ExitCode::Usage`].
    Usage(String),
    /// An input is missing, broken or of no known kind: [`ExitCode::NothingReadable`].
    Unreadable(String),
    /// Whoever read our stdout went away: success, as for every well-behaved filter (`volseg organs | head -1`).
    StdoutClosed,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Usage(text) | Self::Unreadable(text) => f.write_str(text),
            Self::StdoutClosed => f.write_str("stdout is closed"),
        }
    }
}

impl std::error::Error for Verdict {}

/// A [`Verdict::Usage`] as an error: `return Err(usage_error("..."))`.
#[allow(dead_code, reason = "used by commands with options that depend on each other")]
pub(crate) fn usage_error(text: impl Into<String>) -> anyhow::Error {
    Verdict::Usage(text.into()).into()
}

/// Weights that cannot be used; a file that is no weights decides the code.
pub(crate) fn weights_error(name: &str, error: &volseg_model::Error) -> anyhow::Error {
    let text = format!("could not use the weights {name}: {error}");
    if error.is_unreadable_input() { Verdict::Unreadable(text).into() } else { anyhow::anyhow!(text) }
}

/// An engine's error with the file behind it in sight, so that it decides the code.
pub(crate) fn unwrapped(error: volseg_engine::Error) -> anyhow::Error {
    match error {
        volseg_engine::Error::Io(e) => e.into(),
        other => other.into(),
    }
}

/// The code of a finished command; says on stderr what went wrong.
pub(crate) fn code(result: anyhow::Result<ExitCode>, global: &Global) -> ExitCode {
    let error = match result {
        Ok(code) => return code,
        Err(error) => error,
    };
    let code = judge(&error);
    if code != ExitCode::Done {
        let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
        global.log_with_causes(Level::Error, &error.to_string(), &causes);
    }
    code
}

fn judge(error: &anyhow::Error) -> ExitCode {
    for cause in error.chain() {
        match cause.downcast_ref::<Verdict>() {
            Some(Verdict::Usage(_)) => return ExitCode::Usage,
            Some(Verdict::Unreadable(_)) => return ExitCode::NothingReadable,
            Some(Verdict::StdoutClosed) => return ExitCode::Done,
            None => {}
        }
        match cause.downcast_ref::<volseg_io::Error>() {
            Some(
                volseg_io::Error::SeveralSeries { .. }
                | volseg_io::Error::InvalidArgument { what: "frame" | "series", .. },
            ) => return ExitCode::Usage,
            Some(e) if e.is_unreadable_input() => return ExitCode::NothingReadable,
            _ => {}
        }
    }
    ExitCode::Failed
}

/// Prints clap's message: help and version to stdout with code 0, refusals to stderr with code 2, as one line of JSON if log lines
/// are to be that.
pub(crate) fn usage(refusal: &clap::Error, json: bool) -> ExitCode {
    let wanted = !refusal.use_stderr();
    if json && !wanted {
        let text = refusal.to_string();
        let line = serde_json::json!({ "level": "error", "message": text.trim_start_matches("error: ").trim_end() });
        // Nobody is left to tell if stderr is gone.
        let _ = writeln!(std::io::stderr().lock(), "{line}");
        return ExitCode::Usage;
    }
    match refusal.print() {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => ExitCode::Failed,
        _ if wanted => ExitCode::Done,
        _ => ExitCode::Usage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_verdict_counts_below_its_context() {
        let wrapped = Err::<(), _>(usage_error("--a needs --b")).context("while planning").unwrap_err();
        assert_eq!(judge(&wrapped), ExitCode::Usage);
        assert_eq!(judge(&anyhow::anyhow!("disk full")), ExitCode::Failed);
        assert_eq!(judge(&Verdict::Unreadable("x".into()).into()), ExitCode::NothingReadable);
        assert_eq!(judge(&Verdict::StdoutClosed.into()), ExitCode::Done);
        let broken = volseg_io::Error::Malformed { format: "NRRD", reason: "no header".into() };
        assert_eq!(judge(&anyhow::Error::from(broken).context("could not read x")), ExitCode::NothingReadable);
    }
}
