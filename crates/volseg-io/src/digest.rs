//! SHA-256 of inputs: names an input in reports without its path or any patient value.

use crate::{Error, Result, source};
use sha2::{Digest, Sha256};
use std::path::Path;

/// SHA-256 of bytes, as 64 hexadecimal digits.
///
/// ```
/// assert!(volseg_io::sha256(b"").starts_with("e3b0c44298fc1c14"));
/// ```
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of a file, as `sha256sum` prints it.
///
/// # Errors
/// [`Error::Io`] if it cannot be read.
pub fn sha256_file(path: &Path) -> Result<String> {
    let unlimited = crate::Limits { max_file_bytes: u64::MAX, ..Default::default() };
    Ok(sha256(source::open(path, &unlimited)?.as_ref().as_ref()))
}

/// SHA-256 of an input of several files: of the sorted digests of the files, so that names and order do not count. For one
/// file, its own digest.
///
/// # Errors
/// [`Error::Io`] if one cannot be read; [`Error::InvalidArgument`] for no file.
pub fn sha256_files<P: AsRef<Path>>(paths: &[P]) -> Result<String> {
    let digests = paths.iter().map(|p| sha256_file(p.as_ref())).collect::<Result<Vec<_>>>()?;
    if digests.is_empty() {
        return Err(Error::InvalidArgument { what: "files", found: "none".into(), expected: "at least one".into() });
    }
    Ok(of_digests(digests))
}

/// The rule of [`sha256_files`] for digests that are known already.
pub(crate) fn of_digests(mut digests: Vec<String>) -> String {
    digests.sort_unstable();
    if let [one] = digests.as_slice() { one.clone() } else { sha256(digests.join("\n").as_bytes()) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
