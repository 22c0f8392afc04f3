//! Sessions: an image that a client works on, until it ends or expires.

use crate::{desk::lock, names, refusal::Refusal, store::Picture};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, path::PathBuf, sync::Mutex};

/// Sessions at the same time.
const MOST: usize = 256;
/// Longest life without use, seconds.
const MOST_EXPIRY: u64 = 24 * 3600;

struct Session {
    folder: PathBuf,
    picture: Picture,
    created: u64,
    used: u64,
    expiry: u64,
}

/// All sessions of this server.
pub(crate) struct Sessions {
    folder: PathBuf,
    expiry: u64,
    open: Mutex<BTreeMap<String, Session>>,
}

impl Sessions {
    /// `expiry` is the life of a session without use, seconds, where the client does not say.
    pub(crate) fn new(folder: PathBuf, expiry: u64) -> Self {
        Self { folder, expiry, open: Mutex::default() }
    }

    /// A fresh folder for the files of a session.
    ///
    /// # Errors
    /// 429 if there are too many sessions; 500.
    pub(crate) fn folder(&self) -> Result<(String, PathBuf), Refusal> {
        self.sweep();
        if lock(&self.open).len() >= MOST {
            return Err(Refusal::busy(format!("{MOST} sessions are open already")));
        }
        let id = names::random()?;
        let folder = self.folder.join(&id);
        fs::create_dir_all(&folder)?;
        Ok((id, folder))
    }

    /// Opens a session.
    pub(crate) fn open(&self, id: &str, folder: PathBuf, picture: Picture, expiry: Option<u64>) -> Value {
        let now = names::now();
        let expiry = expiry.filter(|&e| e > 0).unwrap_or(self.expiry).min(MOST_EXPIRY);
        let session = Session { folder, picture, created: now, used: now, expiry };
        let told = told(id, &session);
        lock(&self.open).insert(id.to_owned(), session);
        told
    }

    /// What is told about a session; `touch` renews its life.
    pub(crate) fn told(&self, id: &str, touch: bool) -> Result<Value, Refusal> {
        self.with(id, touch, |s| told(id, s))
    }

    /// The image of a session; renews its life.
    pub(crate) fn image(&self, id: &str) -> Result<Picture, Refusal> {
        self.with(id, true, |s| s.picture.clone())
    }

    fn with<T>(&self, id: &str, touch: bool, f: impl FnOnce(&Session) -> T) -> Result<T, Refusal> {
        self.sweep();
        let mut open = lock(&self.open);
        let session = open.get_mut(id).ok_or_else(|| Refusal::unknown("the session is not there, or has expired"))?;
        if touch {
            session.used = names::now();
        }
        Ok(f(session))
    }

    /// Ends a session.
    pub(crate) fn end(&self, id: &str) -> Result<Value, Refusal> {
        self.sweep();
        let gone = lock(&self.open).remove(id);
        let gone = gone.ok_or_else(|| Refusal::unknown("the session is not there, or has expired"))?;
        let _ = fs::remove_dir_all(&gone.folder);
        Ok(told(id, &gone))
    }

    /// Number of sessions.
    pub(crate) fn count(&self) -> usize {
        lock(&self.open).len()
    }

    /// Removes sessions whose time is up.
    pub(crate) fn sweep(&self) {
        let now = names::now();
        lock(&self.open).retain(|_, s| {
            let lives = now.saturating_sub(s.used) < s.expiry;
            if !lives {
                let _ = fs::remove_dir_all(&s.folder);
            }
            lives
        });
    }
}

fn told(id: &str, s: &Session) -> Value {
    json!({ "name": id, "path": "", "image": s.picture.name(), "meta": {}, "create_ts": s.created,
        "last_access_ts": s.used, "expiry": s.expiry })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forms::FormFile;

    #[test]
    fn a_session_ends_when_its_time_is_up() {
        let folder = tempfile::tempdir().unwrap();
        let sessions = Sessions::new(folder.path().to_owned(), 3600);
        let (id, place) = sessions.folder().unwrap();
        let file = FormFile { part: "files".into(), path: place.join("00000.nii"), ending: ".nii" };
        let picture = Picture::sent(&id, "image".into(), &place, &[file]);
        assert_eq!(sessions.open(&id, place.clone(), picture, None)["expiry"], 3600);
        assert!(sessions.told(&id, true).is_ok() && place.exists());
        lock(&sessions.open).get_mut(&id).unwrap().used -= 4000;
        assert!(sessions.told(&id, true).is_err() && !place.exists());
        assert_eq!(sessions.count(), 0);
    }
}
