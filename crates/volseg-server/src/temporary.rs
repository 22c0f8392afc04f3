//! The server's private folder for files in flight, and what a killed server left of its own.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

const PREFIX: &str = "volseg-serve-";
/// A server holds a lock on this file in its folder while it lives; the system gives the lock up, however the server ends.
const ALIVE: &str = "alive.lock";

/// A folder that is removed when the server ends.
pub(crate) struct Temporary {
    folder: tempfile::TempDir,
    _alive: File,
}

impl Temporary {
    /// Removes folders of servers that were killed, and makes a new one, which only this user can open.
    ///
    /// # Errors
    /// If the folder or its lock cannot be made.
    pub(crate) fn make(place: Option<&Path>) -> io::Result<Self> {
        let place = place.map_or_else(std::env::temp_dir, Path::to_owned);
        sweep(&place);
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix(PREFIX);
        // Uploads and their ids are nobody else's.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
        let folder = builder.tempdir_in(&place)?;
        // Locked before it has its name: another server that starts meanwhile must not take it for one that is left.
        let fresh = folder.path().join("starting.lock");
        let alive = File::create_new(&fresh)?;
        alive.lock()?;
        fs::rename(fresh, folder.path().join(ALIVE))?;
        Ok(Self { folder, _alive: alive })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes the folders in `place` whose server is gone. Those of other users cannot be opened and stay; one without a lock file
/// may be in the making.
fn sweep(place: &Path) {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    let ours = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(PREFIX));
    for folder in entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).filter(ours) {
        let Ok(lock) = File::open(folder.join(ALIVE)) else { continue };
        match lock.try_lock() {
            Ok(()) => _ = fs::remove_dir_all(&folder),
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_server_left_goes_and_what_lives_stays() {
        let place = tempfile::tempdir().unwrap();
        let living = Temporary::make(Some(place.path())).unwrap();
        let dead = place.path().join("volseg-serve-dead");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join(ALIVE), "").unwrap();
        fs::write(dead.join("upload.nii"), "x").unwrap();
        let strange = place.path().join("volseg-serve-strange");
        fs::create_dir(&strange).unwrap();
        let next = Temporary::make(Some(place.path())).unwrap();
        assert!(!dead.exists() && strange.exists() && living.path().exists() && next.path().exists());
        let gone = living.path().to_owned();
        drop(living);
        assert!(!gone.exists());
    }
}
