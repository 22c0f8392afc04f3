use crate::{Error, Result};
use std::{
    collections::BTreeSet,
    fs,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tempfile::{NamedTempFile, TempDir};

/// A file that appears whole or not at all: written beside its place with mode 0600, flushed to disk, then renamed.
///
/// Dropped without [`AtomicFile::commit`], it leaves nothing.
///
/// ```
/// use std::io::Write;
/// let folder = tempfile::tempdir().unwrap();
/// let mut file = volseg_io::AtomicFile::create(&folder.path().join("a.txt")).unwrap();
/// file.write_all(b"whole").unwrap();
/// assert!(!folder.path().join("a.txt").exists());
/// file.commit().unwrap();
/// assert_eq!(std::fs::read(folder.path().join("a.txt")).unwrap(), b"whole");
/// ```
#[derive(Debug)]
pub struct AtomicFile {
    file: BufWriter<NamedTempFile>,
    target: PathBuf,
    shown: PathBuf,
    _listed: Listed,
}

/// Files and folders that were started and not committed yet.
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn unfinished() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place in the list of unfinished files.
#[derive(Debug)]
struct Listed(PathBuf);

impl Drop for Listed {
    fn drop(&mut self) {
        unfinished().remove(&self.0);
    }
}

/// A folder for what is not whole yet, gone with all that is in it when dropped.
#[derive(Debug)]
pub struct ScratchFolder {
    folder: TempDir,
    _listed: Listed,
}

impl ScratchFolder {
    /// Makes one in `parent`, so that what becomes whole can be moved beside it by name.
    ///
    /// # Errors
    /// [`Error::Io`] if `parent` cannot be written.
    pub fn create(parent: &Path) -> Result<Self> {
        let mut list = unfinished();
        let folder = tempfile::Builder::new()
            .prefix(".volseg-")
            .suffix(".part")
            .tempdir_in(parent)
            .map_err(|e| Error::io("write", parent)(plain(e)))?;
        list.insert(folder.path().to_owned());
        let _listed = Listed(folder.path().to_owned());
        drop(list);
        Ok(Self { folder, _listed })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes the files and folders that are being written. From then on no file can be started or finished: for a process that was told
/// to stop and ends now.
pub fn abandon_outputs() {
    let held = unfinished();
    for path in held.iter() {
        let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
    }
    // Whoever starts a file or finishes one waits for this lock, until the process ends.
    std::mem::forget(held);
}

impl AtomicFile {
    /// Starts a file that will stand at `path`. A link there is followed; folders that are missing are made.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be written or `path` is a folder or a device.
    pub fn create(path: &Path) -> Result<Self> {
        let cannot = || Error::io("write", path);
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if fs::metadata(&target).is_ok_and(|m| !m.is_file()) {
            return Err(cannot()(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
        }
        let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(cannot())?;
        let mut list = unfinished();
        let made = tempfile::Builder::new().prefix(".volseg-").suffix(".part").tempfile_in(folder);
        let file = made.map_err(|e| cannot()(plain(e)))?;
        list.insert(file.path().to_owned());
        let _listed = Listed(file.path().to_owned());
        drop(list);
        Ok(Self { file: BufWriter::with_capacity(1 << 18, file), target, shown: path.to_owned(), _listed })
    }

    /// Puts the file in its place. Until then nothing stands there (or the older file).
    ///
    /// # Errors
    /// [`Error::Io`], such as a full disk; nothing is left then.
    pub fn commit(self) -> Result<()> {
        let cannot = || Error::io("write", &self.shown);
        let file = self.file.into_inner().map_err(|e| cannot()(plain(e.into_error())))?;
        set_usual_mode(&file, &self.target);
        file.as_file().sync_all().map_err(cannot())?;
        let list = unfinished();
        file.persist(&self.target).map_err(|e| cannot()(e.error))?;
        drop(list);
        // The name is safe only when the folder is on disk too; file systems that cannot do it are left alone.
        if let Some(folder) = self.target.parent().filter(|p| !p.as_os_str().is_empty()) {
            let _ = fs::File::open(folder).and_then(|f| f.sync_all());
        }
        Ok(())
    }

    /// Writes all of `bytes` to `path`.
    ///
    /// # Errors
    /// As [`AtomicFile::create`] and [`AtomicFile::commit`].
    pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
        let mut file = Self::create(path)?;
        file.write_all(bytes).map_err(Error::io("write", path))?;
        file.commit()
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes).map_err(plain)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush().map_err(plain)
    }
}

/// The kind alone: the text of a temporary file's error names a file that nobody asked for.
fn plain(error: io::Error) -> io::Error {
    error.kind().into()
}

/// Gives the mode that an ordinary new file would have, or that of the file it replaces. Where neither is known, 0600 stays.
#[cfg(unix)]
fn set_usual_mode(file: &NamedTempFile, target: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let old = fs::metadata(target).ok().map(|m| m.permissions().mode() & 0o777);
    let usual = || {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let mask = status.lines().find_map(|l| l.strip_prefix("Umask:"))?;
        u32::from_str_radix(mask.trim(), 8).ok().map(|mask| 0o666 & !mask)
    };
    if let Some(mode) = old.or_else(usual) {
        let _ = file.as_file().set_permissions(fs::Permissions::from_mode(mode));
    }
}

#[cfg(not(unix))]
fn set_usual_mode(_: &NamedTempFile, _: &Path) {}
