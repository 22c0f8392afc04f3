//! Where the files of a case lie, as one line of text.

use crate::{Error, Result};
use std::{
    ffi::OsString,
    fmt::{self, Write},
    path::{Path, PathBuf},
    str::FromStr,
};

/// Where a case lies in an archive: `file:PATH`, `dir:PATH` (files directly in it), `zip:PATH!PREFIX` (entries directly
/// below the prefix) or `s3://BUCKET/PREFIX`. Bytes that text cannot hold, `%` and `!` are written as `%XX`.
///
/// ```
/// use volseg_io::Locator;
/// let zip = Locator::Archive { path: "a b!.zip".into(), prefix: b"study/1/".to_vec() };
/// assert_eq!(zip.to_string(), "zip:a b%21.zip!study/1/");
/// assert_eq!("zip:a b%21.zip!study/1/".parse::<Locator>().unwrap(), zip);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Locator {
    /// One file of any format but a zip.
    File(PathBuf),
    /// DICOM files directly in a folder.
    Folder(PathBuf),
    /// DICOM files in a zip, directly below a prefix that is empty or ends with `/`.
    Archive {
        /// The zip.
        path: PathBuf,
        /// What the names of the entries start with.
        prefix: Vec<u8>,
    },
    /// DICOM objects in an object store, by their URL up to and with the last `/`.
    Objects(String),
}

impl Locator {
    /// The file or folder on disk; `None` in an object store.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) | Self::Folder(path) | Self::Archive { path, .. } => Some(path),
            Self::Objects(_) => None,
        }
    }
}

impl fmt::Display for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |p: &Path| escaped(p.as_os_str().as_encoded_bytes());
        match self {
            Self::File(path) => write!(f, "file:{}", text(path)),
            Self::Folder(path) => write!(f, "dir:{}", text(path)),
            Self::Archive { path, prefix } => write!(f, "zip:{}!{}", text(path), escaped(prefix)),
            Self::Objects(url) => f.write_str(url),
        }
    }
}

impl FromStr for Locator {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::InvalidArgument {
            what: "locator",
            found: text.split(':').next().unwrap_or_default().chars().take(12).collect(),
            expected: "file:PATH, dir:PATH, zip:PATH!PREFIX or s3://BUCKET/PREFIX".into(),
        };
        let path = |t: &str| unescaped(t).and_then(os_string).map(PathBuf::from).ok_or_else(wrong);
        match text.split_once(':') {
            Some(("file", rest)) => Ok(Self::File(path(rest)?)),
            Some(("dir", rest)) => Ok(Self::Folder(path(rest)?)),
            Some(("zip", rest)) => {
                let (file, prefix) = rest.split_once('!').ok_or_else(wrong)?;
                Ok(Self::Archive { path: path(file)?, prefix: unescaped(prefix).ok_or_else(wrong)? })
            }
            Some(("s3" | "gs" | "az" | "memory" | "http" | "https", _)) => Ok(Self::Objects(text.to_owned())),
            _ => Err(wrong()),
        }
    }
}

/// Bytes as text; what is no text, control characters, `%` and `!` as `%XX`.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || c == '%' || c == '!' {
                let mut buffer = [0; 4];
                c.encode_utf8(&mut buffer).bytes().for_each(|b| hex(&mut out, b));
            } else {
                out.push(c);
            }
        }
        chunk.invalid().iter().for_each(|&b| hex(&mut out, b));
    }
    out
}

fn hex(out: &mut String, byte: u8) {
    // Writing to a string cannot fail.
    let _ = write!(out, "%{byte:02X}");
}

/// The inverse of [`escaped`].
pub(crate) fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b == b'%' {
            let digit = |c: Option<u8>| char::from(c?).to_digit(16);
            let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
            out.push((high * 16 + low) as u8);
        } else {
            out.push(b);
        }
    }
    Some(out)
}

#[cfg(unix)]
#[allow(clippy::unnecessary_wraps, reason = "other systems refuse some names")]
pub(crate) fn os_string(bytes: Vec<u8>) -> Option<OsString> {
    Some(std::os::unix::ffi::OsStringExt::from_vec(bytes))
}

#[cfg(not(unix))]
pub(crate) fn os_string(bytes: Vec<u8>) -> Option<OsString> {
    String::from_utf8(bytes).ok().map(OsString::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_come_back() {
        for bytes in [&b"plain/name.dcm"[..], b"50%!\xff\n\xc3\xa9", b"", b"%25"] {
            let text = escaped(bytes);
            assert!(!text.contains(['!', '\n']));
            assert_eq!(unescaped(&text).unwrap(), bytes);
        }
        assert!(unescaped("%4").is_none() && unescaped("%zz").is_none());
        assert!("ftp:x".parse::<Locator>().is_err() && "zip:x".parse::<Locator>().is_err());
    }
}
