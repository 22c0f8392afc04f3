//! The audit log: one JSON line a change, each chained to the line before by its hash, flushed to disk before the answer.

use crate::{desk::lock, names, refusal::Refusal};
use serde_json::{Value, json};
use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Mutex,
};

/// Bytes at the end of a log that hold its last line for sure.
const TAIL: u64 = 1 << 16;

/// An append-only file of chained lines.
pub(crate) struct Audit {
    path: PathBuf,
    last: Mutex<Option<String>>,
}

impl Audit {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, last: Mutex::default() }
    }

    /// Appends what happened: `action` and plain facts without ids from outside.
    ///
    /// # Errors
    /// 500 if the line cannot be written and flushed.
    pub(crate) fn append(&self, action: &str, facts: &Value) -> Result<(), Refusal> {
        let mut last = lock(&self.last);
        let previous = match last.take() {
            Some(hash) => hash,
            None => last_hash(&self.path)?,
        };
        let mut line = json!({ "time": names::timestamp(names::now()), "action": action, "previous": previous });
        if let (Some(line), Some(facts)) = (line.as_object_mut(), facts.as_object()) {
            line.extend(facts.clone());
        }
        let hash = blake3::hash(line.to_string().as_bytes()).to_hex().to_string();
        if let Some(line) = line.as_object_mut() {
            line.insert("hash".into(), Value::String(hash.clone()));
        }
        append(&self.path, &format!("{line}\n"))?;
        *last = Some(hash);
        Ok(())
    }
}

fn last_hash(path: &Path) -> Result<String, Refusal> {
    let Ok(mut file) = File::open(path) else { return Ok(String::new()) };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let text = String::from_utf8_lossy(&tail);
    let hash = text.lines().rev().find_map(|l| {
        let line: Value = serde_json::from_str(l).ok()?;
        Some(line.get("hash")?.as_str()?.to_owned())
    });
    Ok(hash.unwrap_or_default())
}

/// Appends whole lines to a file (0600 when new) and flushes it to disk.
///
/// # Errors
/// The system's.
pub(crate) fn append(path: &Path, lines: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    // A line cut off by a crash must not swallow the next one.
    let length = file.metadata()?.len();
    let mut end = [b'\n'];
    if length > 0 {
        file.seek(SeekFrom::Start(length - 1))?;
        file.read_exact(&mut end)?;
    }
    let lines = if end == [b'\n'] { lines.to_owned() } else { format!("\n{lines}") };
    file.write_all(lines.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_chained_across_restarts_and_a_cut_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        Audit::new(path.clone()).append("label", &json!({ "version": 1 })).unwrap();
        Audit::new(path.clone()).append("label", &json!({ "version": 2 })).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines[0]["previous"], "");
        assert_eq!(lines[1]["previous"], lines[0]["hash"]);
        let mut unhashed = lines[1].clone();
        unhashed.as_object_mut().unwrap().remove("hash");
        assert_eq!(lines[1]["hash"], blake3::hash(unhashed.to_string().as_bytes()).to_hex().as_str());
        std::fs::write(&path, format!("{text}{{\"cut")).unwrap();
        Audit::new(path.clone()).append("label", &json!({ "version": 3 })).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(last["previous"], lines[1]["hash"]);
    }
}
