//! Data files that a header names: only files in the header's own folder, or below it, are opened.

use crate::{Error, Limits, Result, source};
use std::path::{Component, Path, PathBuf};

/// The path of a data file beside a header.
///
/// # Errors
/// [`Error::Malformed`] if the name is absolute, has `..`, or leads out of the folder through a link.
pub(crate) fn resolve(format: &'static str, header: &Path, name: &str) -> Result<PathBuf> {
    let leaves = || Error::malformed(format, "the data file that the header names is outside the header's folder");
    let relative = Path::new(name);
    if name.contains(['\\', '\0'])
        || !relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir))
    {
        return Err(leaves());
    }
    let folder = header.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let path = folder.join(relative);
    let real = path.canonicalize().map_err(Error::io("read", &path))?;
    let inside = folder.canonicalize().map_err(Error::io("read", folder))?;
    if real.starts_with(inside) { Ok(real) } else { Err(leaves()) }
}

/// The bytes of a data file beside a header.
pub(crate) fn open(format: &'static str, header: &Path, name: &str, limits: &Limits) -> Result<source::Shared> {
    source::open(&resolve(format, header, name)?, limits)
}
