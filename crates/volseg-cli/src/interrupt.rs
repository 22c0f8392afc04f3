//! Signals that stop a run: unfinished files are removed, and the exit code says that the same command may be run again. Without
//! this the system would end the process at once and leave `.volseg-*.part` files. Batches and servers end at places of their own.

use crate::exit::ExitCode;
use crate::global::{Global, Level};
use anyhow::Context;

/// Makes a file that grows beyond the system's limit an error of the write, not the end of the process.
///
/// # Errors
/// If signals cannot be waited for.
#[cfg(unix)]
pub(crate) fn survive_file_limits() -> anyhow::Result<()> {
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, std::sync::Arc::default())
        .context("could not wait for signals")?;
    Ok(())
}

/// Nothing to do where there is no such signal.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub(crate) fn survive_file_limits() -> anyhow::Result<()> {
    Ok(())
}

/// Ends the process at SIGINT, SIGTERM or SIGHUP, after removing what is half written, and says how to go on.
///
/// # Errors
/// If signals cannot be waited for.
#[cfg(unix)]
pub(crate) fn leave_nothing_half_written(global: Global, way_on: &'static str) -> anyhow::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals =
        signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM]).context("could not wait for signals")?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            if signals.forever().next().is_some() {
                volseg_io::abandon_outputs();
                global.log(Level::Error, format_args!("interrupted{way_on}"));
                std::process::exit(ExitCode::Interrupted as i32);
            }
        })
        .context("could not wait for signals")?;
    Ok(())
}

/// Nothing to do where there are no such signals.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub(crate) fn leave_nothing_half_written(_: Global, _: &'static str) -> anyhow::Result<()> {
    Ok(())
}
