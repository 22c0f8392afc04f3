use super::{Query, Vqa};
use crate::Error;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use volseg_geometry::OrganId;

/// Longest answers file, bytes.
const MOST_BYTES: u64 = 256 << 20;

/// Answers that were given before: JSON lines `{"image": "case7.nii.gz", "slice": 87, "organ": "liver", "question": "...", "answer": "..."}`.
///
/// `image` (a file name, with or without its extension) and `slice` may be left out; such a line holds for all of them. The line that
/// says most wins: image and slice, then image, then slice, then neither. Of equal lines the last one wins. `question` is for readers.
///
/// ```
/// use volseg_prompt::vqa::AnswersFile;
/// let answers = AnswersFile::parse("{\"organ\": \"liver\", \"answer\": \"large\"}").unwrap();
/// assert_eq!(answers.find("any.nii", 3, "Liver"), Some("large"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct AnswersFile {
    answers: BTreeMap<(Option<String>, Option<usize>, String), String>,
}

#[derive(Deserialize)]
struct Line {
    image: Option<String>,
    slice: Option<usize>,
    organ: String,
    answer: String,
}

impl AnswersFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read; [`Error::Request`] naming the line that is no answer, or for a file beyond 256 MiB.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let cannot = || volseg_io::Error::io("read", path);
        let bytes = std::fs::metadata(path).map_err(cannot())?.len();
        if bytes > MOST_BYTES {
            return Err(Error::Request(format!("answers file has {bytes} bytes, allowed are {MOST_BYTES}")));
        }
        Self::parse(&String::from_utf8_lossy(&std::fs::read(path).map_err(cannot())?))
    }

    /// Reads text.
    ///
    /// # Errors
    /// [`Error::Request`] naming the line.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut answers = BTreeMap::new();
        for (n, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let line: Line = serde_json::from_str(line).map_err(|e| {
                Error::Request(format!("line {} of the answers file is no {{\"organ\", \"answer\", ...}}: {e}", n + 1))
            })?;
            answers.insert((line.image.as_deref().map(bare_name), line.slice, organ_key(&line.organ)), line.answer);
        }
        Ok(Self { answers })
    }

    /// The answer that fits best.
    #[must_use]
    pub fn find(&self, image: &str, slice: usize, organ: &str) -> Option<&str> {
        let (image, slice, organ) = (Some(bare_name(image)), Some(slice), organ_key(organ));
        [(image.clone(), slice), (image, None), (None, slice), (None, None)]
            .into_iter()
            .find_map(|(image, slice)| self.answers.get(&(image, slice, organ.clone())))
            .map(String::as_str)
    }
}

impl Vqa for AnswersFile {
    fn id(&self) -> String {
        "file".into()
    }

    fn is_slow(&self) -> bool {
        false
    }

    fn answer(&self, query: &Query<'_>) -> Result<String, Error> {
        Ok(self.find(query.image, query.slice, query.organ).unwrap_or_default().to_owned())
    }
}

/// One key for all names of an organ; a free prompt keeps its words.
fn organ_key(name: &str) -> String {
    match name.parse::<OrganId>() {
        Ok(id) => id.to_string(),
        Err(_) => name.trim().to_lowercase().replace([' ', '-'], "_"),
    }
}

/// A file's name without folders, `.gz` and extension.
fn bare_name(image: &str) -> String {
    let name = image.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or_default();
    let name = name.strip_suffix(".gz").unwrap_or(name);
    match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() && extension.len() <= 4 => stem.to_owned(),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_says_most_wins() {
        let text = r#"
{"image": "a.nii.gz", "slice": 87, "organ": "liver", "question": "?", "answer": "exact"}
{"image": "folder/a.nii.gz", "organ": "liver", "answer": "image"}
{"slice": 5, "organ": "liver", "answer": "slice"}

{"organ": "kidney_right", "answer": "old"}
{"organ": "Right Kidney", "answer": "new"}
{"organ": "dark mass", "answer": "free"}
"#;
        let answers = AnswersFile::parse(text).unwrap();
        for (image, slice, organ, answer) in [
            ("a.nii.gz", 87, "liver", Some("exact")),
            ("a.nii", 88, "liver", Some("image")),
            ("b.nii", 5, "liver", Some("slice")),
            ("b.nii", 6, "liver", None),
            ("a.nii.gz", 0, "right_kidney", Some("new")),
            ("a.nii.gz", 0, "Dark mass", Some("free")),
        ] {
            assert_eq!(answers.find(image, slice, organ), answer, "{image} {slice} {organ}");
        }
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        for wrong in [
            "{",
            "[]",
            "{\"organ\": \"liver\"}",
            "{\"organ\": 3, \"answer\": \"\"}",
            "{\"organ\": \"l\", \"slice\": -1, \"answer\": \"\"}",
        ] {
            let error = AnswersFile::parse(&format!("\n{wrong}\n")).unwrap_err().to_string();
            assert!(error.starts_with("line 2 "), "{error}");
        }
    }
}
