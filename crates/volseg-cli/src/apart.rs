//! What is written must be another file than what is read, and than what else is written.

use crate::exit::usage_error;
use anyhow::anyhow;
use std::path::{Path, PathBuf};
use volseg_io::ScratchFolder;

/// Refuses an output that is one of the inputs, two outputs of one name, whatever the way to them, and outputs in folders that
/// cannot be written. Each comes with its option.
///
/// # Errors
/// A usage error naming the options and the file; else as [`writable`].
pub(crate) fn check<'a>(
    inputs: impl IntoIterator<Item = (&'a str, &'a Path)>,
    outputs: impl IntoIterator<Item = (&'a str, Option<&'a PathBuf>)>,
) -> anyhow::Result<()> {
    let mut taken: Vec<(&str, PathBuf)> = inputs.into_iter().map(|(name, path)| (name, place(path))).collect();
    for (name, path) in outputs {
        let Some(path) = path else { continue };
        let at = place(path);
        if let Some((other, _)) = taken.iter().find(|(_, t)| *t == at) {
            return Err(usage_error(format!(
                "{name}: found {}, which is also {other}; give it another name",
                path.display()
            )));
        }
        taken.push((name, at));
        writable(path.parent().unwrap_or(path))?;
    }
    Ok(())
}

/// Refuses a folder in which nothing can be written, or be made if it is missing: better said before the work than after it.
///
/// # Errors
/// The folder, or the nearest one above that exists, and what stands in the way.
pub(crate) fn writable(folder: &Path) -> anyhow::Result<()> {
    let here = folder.ancestors().find(|f| f.exists()).unwrap_or(Path::new("."));
    if !here.is_dir() {
        return Err(anyhow!("{} is not a folder", here.display()));
    }
    Ok(ScratchFolder::create(here).map(drop)?)
}

/// One name for a file: links and dots are resolved as far as the file or its folder exists.
fn place(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| {
        let folder = path.parent().map(|f| if f.as_os_str().is_empty() { Path::new(".") } else { f });
        match (folder.and_then(|f| f.canonicalize().ok()), path.file_name()) {
            (Some(folder), Some(name)) => folder.join(name),
            _ => path.to_owned(),
        }
    })
}
