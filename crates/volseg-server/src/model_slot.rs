//! The model that is served, read anew when its file changes.

use crate::{Log, ModelLoader};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Instant, SystemTime},
};
use volseg_engine::Model;

/// A changed file is noticed after this time at most, by the next request.
const LOOK_EVERY_MS: u128 = 500;

/// The model in use and where it came from.
pub(crate) struct ModelSlot {
    current: RwLock<Arc<Model>>,
    file: Option<PathBuf>,
    seen: Mutex<Seen>,
    load: ModelLoader,
    log: Log,
}

struct Seen {
    at: Instant,
    state: Option<(SystemTime, u64)>,
}

impl ModelSlot {
    /// Loads the model. `file` is looked at for changes.
    ///
    /// # Errors
    /// The loader's sentence.
    pub(crate) fn new(load: ModelLoader, file: Option<PathBuf>, log: Log) -> Result<Self, String> {
        let seen = Mutex::new(Seen { at: Instant::now(), state: state(&file) });
        Ok(Self { current: RwLock::new(Arc::new(load()?)), file, seen, load, log })
    }

    /// The model of now. Reads the file again if it has changed; a file that cannot be read leaves the old model in use.
    /// Blocks while it reads.
    pub(crate) fn get(&self) -> Arc<Model> {
        if let Ok(mut seen) = self.seen.try_lock()
            && self.file.is_some()
            && seen.at.elapsed().as_millis() >= LOOK_EVERY_MS
        {
            seen.at = Instant::now();
            let state = state(&self.file);
            if state.is_some() && state != seen.state {
                seen.state = state;
                match (self.load)() {
                    Ok(model) => {
                        (self.log)(&format!("the model file changed; serving {}", short(model.sha256())));
                        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(model);
                    }
                    Err(e) => (self.log)(&format!("the model file changed but cannot be used, the old one stays: {e}")),
                }
            }
        }
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn state(file: &Option<PathBuf>) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(file.as_ref()?).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}
