//! The list of cases that all workers share.

use super::case_id::{SiteKey, is_case_id};
use crate::Error;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path};
use volseg_geometry::Modality;
use volseg_io::{AtomicFile, Locator, Survey};

const WHAT: &str = "manifest";
/// Longest line: a series in a shared folder lists its files.
const MOST_LINE: usize = 16 << 20;

/// A line of the manifest. Its locator and files may name patients; the id does not.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Case {
    /// Keyed hash of the SeriesInstanceUID, or of the path below the archive where there is none.
    pub case_id: String,
    /// See [`Locator`].
    pub locator: String,
    /// Names below the locator, if not everything there belongs to the case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<String>>,
    /// As the header says, or guessed from the values.
    pub modality: Option<Modality>,
    /// Slices; 0 for what could not be read.
    pub slices: usize,
    /// Voxels; 0 for what could not be read.
    #[serde(default)]
    pub voxels: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Digest of the files ([`volseg_io::sha256_files`]).
    pub input: String,
}

/// A manifest as read.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Cases in the order of the file.
    pub cases: Vec<Case>,
    /// SHA-256 of the file: the id of the job.
    pub job: String,
}

/// The cases of a survey under keyed ids, sorted by id. A case that is there twice is listed once; if two cases share a
/// UID but not their bytes, the later one's id also depends on its bytes. The second value counts the duplicates.
#[must_use]
pub fn build(survey: Survey, key: &SiteKey) -> (Vec<Case>, usize) {
    let mut cases: BTreeMap<String, Case> = BTreeMap::new();
    let mut duplicates = 0;
    // Sorted by identity, then place: which of two comes first does not depend on the disk.
    for found in survey.cases {
        let mut id = key.case_id(&found.identity);
        if let Some(first) = cases.get(&id) {
            if first.input == found.sha256 {
                duplicates += 1;
                continue;
            }
            id = key.case_id(&format!("{}\0{}", found.identity, found.sha256));
        }
        let case = Case {
            case_id: id.clone(),
            locator: found.locator.to_string(),
            files: found.files,
            modality: found.modality,
            slices: found.slices,
            voxels: found.voxels,
            bytes: found.bytes,
            input: found.sha256,
        };
        duplicates += usize::from(cases.insert(id, case).is_some());
    }
    (cases.into_values().collect(), duplicates)
}

impl Manifest {
    /// Reads and checks a manifest: every line a case, no id twice.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Record`] with the line's number.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let cannot = |source| volseg_io::Error::Io { action: "read", path: path.to_owned(), source };
        let bytes = std::fs::read(path).map_err(cannot)?;
        let mut cases = Vec::new();
        for (n, line) in bytes.split(|&b| b == b'\n').enumerate().filter(|(_, l)| !l.trim_ascii().is_empty()) {
            cases.push(
                parse_line(line)
                    .map_err(|reason| Error::Record { what: WHAT, reason: format!("line {}: {reason}", n + 1) })?,
            );
        }
        let mut ids: Vec<&str> = cases.iter().map(|c| c.case_id.as_str()).collect();
        ids.sort_unstable();
        if let Some(pair) = ids.windows(2).find(|w| w[0] == w[1]) {
            return Err(Error::Record { what: WHAT, reason: format!("case {} is there twice", pair[0]) });
        }
        Ok(Self { cases, job: volseg_io::sha256(&bytes) })
    }

    /// Writes cases, one a line, readable by the owner alone.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(path: &Path, cases: &[Case]) -> Result<(), Error> {
        let mut text = String::new();
        for case in cases {
            text += &serde_json::to_string(case).map_err(|e| Error::Record { what: WHAT, reason: e.to_string() })?;
            text.push('\n');
        }
        AtomicFile::write(path, text.as_bytes())?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // Best effort: some file systems have no modes.
            let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600));
        }
        Ok(())
    }
}

/// One line, checked; errors never repeat what the line holds.
fn parse_line(line: &[u8]) -> Result<Case, String> {
    if line.len() > MOST_LINE {
        return Err(format!("{} bytes, but the limit is {MOST_LINE}", line.len()));
    }
    let case: Case = serde_json::from_slice(line).map_err(|e| {
        format!("no case as `volseg manifest build` writes it (byte {}: {:?} error)", e.column(), e.classify())
    })?;
    if !is_case_id(&case.case_id) {
        return Err("case_id: expected 2 to 128 letters, digits, `-`, `_` or `.`".into());
    }
    case.locator.parse::<Locator>().map_err(|e| e.to_string())?;
    let digest = case.input.len() == 64 && case.input.bytes().all(|b| b.is_ascii_hexdigit());
    if !digest && !case.input.is_empty() {
        return Err("input: expected a SHA-256".into());
    }
    Ok(case)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_lines_are_named_by_number_and_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cases.jsonl");
        let good = r#"{"case_id":"abcd","locator":"dir:/x","modality":"ct","slices":3,"bytes":9,"input":""}"#;
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Manifest::read(&path).map(|m| m.cases.len()).map_err(|e| e.to_string())
        };
        assert_eq!(read(&format!("{good}\n\n")).unwrap(), 1);
        for (bad, hint) in [
            (good.replace("abcd", "../SECRET"), "line 2: case_id"),
            (good.replace("dir:/x", "SECRET"), "line 2: locator"),
            (good.replace("\"bytes\":9", "\"bytes\":\"SECRET\""), "line 2: no case"),
            (good.replace("\"input\":\"\"", "\"input\":\"SECRET\""), "line 2: input"),
            (good.to_owned(), "twice"),
            ("[".repeat(100_000), "line 2: no case"),
        ] {
            let error = read(&format!("{good}\n{bad}\n")).unwrap_err();
            assert!(error.contains(hint) && !error.replace("found SECRET", "").contains("SECRET"), "{error}");
        }
    }
}
