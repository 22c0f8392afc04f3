//! Names of cases that say nothing about a patient.

use crate::Error;
use std::{fs, io::Write, path::Path};

const WHAT: &str = "site key";

/// The secret of a site: 32 bytes. Who has it can tell which case a known SeriesInstanceUID became; nobody else can.
#[derive(Clone)]
pub struct SiteKey([u8; 32]);

impl SiteKey {
    /// Reads a key: 32 bytes, or 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Record`] for any other length.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let cannot = |source| volseg_io::Error::Io { action: "read", path: path.to_owned(), source };
        let bytes = fs::read(path).map_err(cannot)?;
        let key = <[u8; 32]>::try_from(bytes.as_slice()).ok();
        let hex = || blake3::Hash::from_hex(bytes.trim_ascii()).ok().map(|h| *h.as_bytes());
        key.or_else(hex).map(Self).ok_or_else(|| Error::Record {
            what: WHAT,
            reason: format!("found {} bytes, expected 32 (or 64 hexadecimal digits)", bytes.len()),
        })
    }

    /// The key of a file, which is made with mode 0600 if it is not there.
    ///
    /// # Errors
    /// As [`SiteKey::read`]; [`Error::Io`] if it cannot be written.
    pub fn read_or_make(path: &Path) -> Result<Self, Error> {
        let cannot = |source| volseg_io::Error::Io { action: "write", path: path.to_owned(), source };
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|e| cannot(std::io::Error::other(e.to_string())))?;
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(path) {
            Ok(mut file) => {
                file.write_all(&key).and_then(|()| file.sync_all()).map_err(cannot)?;
                Ok(Self(key))
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Self::read(path),
            Err(e) => Err(cannot(e).into()),
        }
    }

    /// Id of the case with this identity (its SeriesInstanceUID): keyed BLAKE3, 64 hexadecimal digits.
    #[must_use]
    pub fn case_id(&self, identity: &str) -> String {
        blake3::keyed_hash(&self.0, identity.as_bytes()).to_hex().to_string()
    }

    /// The secret behind the UIDs of de-identified outputs: the same for a site, and no help in guessing its case ids.
    #[must_use]
    pub fn uid_secret(&self) -> [u8; 32] {
        *blake3::keyed_hash(&self.0, b"volseg: UIDs of de-identified outputs").as_bytes()
    }
}

/// Whether a text may be a case id, and so a folder's name.
pub(super) fn is_case_id(text: &str) -> bool {
    (2..=128).contains(&text.len())
        && !text.starts_with('.')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        // The first two letters are a folder of their own.
        && text.bytes().take(2).all(|b| b.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_depend_on_key_and_identity_and_are_names() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a.key"), folder.path().join("b.key"));
        let key = SiteKey::read_or_make(&a).unwrap();
        let id = key.case_id("1.2.3");
        assert!(is_case_id(&id) && id.len() == 64);
        assert_eq!(id, SiteKey::read_or_make(&a).unwrap().case_id("1.2.3"));
        assert_ne!(id, key.case_id("1.2.4"));
        assert_ne!(id, SiteKey::read_or_make(&b).unwrap().case_id("1.2.3"));
        fs::write(&b, "short").unwrap();
        assert!(SiteKey::read(&b).is_err());
        for bad in ["", "a", "../x", "a/b", ".hidden", "a.b", "ab\n"] {
            assert!(!is_case_id(bad), "{bad}");
        }
    }

    #[test]
    fn the_key_is_blake3s() {
        // From the official test vectors of BLAKE3: key "whats the Elvish word for friend", input of one zero byte.
        let key = SiteKey(*b"whats the Elvish word for friend");
        assert!(key.case_id("\0").starts_with("6d7878dfff2f485635d39013278ae14f"));
    }
}
