//! Rankings by people (specs: dpo.md section 9): one JSON line a judgement, written by a viewer, read by `train align`.

use crate::{Error, PromptEntry};
use serde::{Deserialize, Serialize};
use std::path::Path;
use volseg_geometry::Plane;

/// A file of judgements is never larger.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// One candidate mask as it was shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShownMask {
    /// Probability threshold that made it; loses its meaning when the model changes.
    pub threshold: f64,
    /// The mask of the whole slice, as [`volseg_geometry::encode_run_length`] writes it.
    pub rle: String,
}

/// What a person thought of four candidate masks of one organ on one slice, or inside one tile of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Judgement {
    /// Always 1.
    pub version: u32,
    /// Keyed id of the case; no patient value.
    #[serde(default)]
    pub case: String,
    /// SHA-256 of the image file, hex: how the image is found again.
    pub image_sha256: String,
    /// SHA-256 of the weights that made the masks, hex.
    #[serde(default)]
    pub weights_sha256: String,
    /// Plane of the slice; `None` for pictures.
    #[serde(default)]
    pub plane: Option<Plane>,
    /// Stored index of the slice; `None` for pictures.
    #[serde(default)]
    pub slice: Option<usize>,
    /// Organ name.
    pub organ: String,
    /// The prompt that the masks answer.
    #[serde(default)]
    pub prompt: Option<PromptEntry>,
    /// x0, y0, x1, y1 in stored pixels, half-open: only this part was judged. `None`: the whole slice.
    #[serde(default)]
    pub tile: Option<[f64; 4]>,
    /// The four masks.
    pub candidates: Vec<ShownMask>,
    /// Rank of each mask; 1 is best, ties are allowed. Empty or `null` if skipped.
    #[serde(default, deserialize_with = "ranks_or_null")]
    pub ranks: Vec<u8>,
    /// The person could not tell.
    #[serde(default)]
    pub skipped: bool,
    /// Pseudonym of the person.
    #[serde(default)]
    pub rater: String,
    /// When, UTC.
    #[serde(default)]
    pub time: String,
}

fn ranks_or_null<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

impl Judgement {
    /// The line of a file, without its end.
    ///
    /// # Errors
    /// Only if the serialiser fails.
    pub fn to_line(&self) -> Result<String, Error> {
        serde_json::to_string(self).map_err(|e| Error::Prompts(e.to_string()))
    }

    /// Reads a file of judgements, in its order. Empty lines are passed over.
    ///
    /// # Errors
    /// [`Error::Prompts`] naming the first line that does not fit the format.
    pub fn read_all(path: &Path) -> Result<Vec<Self>, Error> {
        let bad = |e: String| Error::Prompts(format!("judgements: {e}"));
        let size = std::fs::metadata(path).map_err(|e| bad(e.to_string()))?.len();
        if size > MAX_FILE_BYTES {
            return Err(bad(format!("{size} bytes, at most {MAX_FILE_BYTES} are read")));
        }
        let text = std::fs::read_to_string(path).map_err(|e| bad(e.to_string()))?;
        // Some editors write a byte order mark.
        let text = text.trim_start_matches('\u{feff}');
        let lines = text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty());
        lines.map(|(n, line)| Self::parse(line).map_err(|e| bad(format!("line {}: {e}", n + 1)))).collect()
    }

    /// One line, checked as far as that goes without the image.
    fn parse(line: &str) -> Result<Self, String> {
        let j: Self = serde_json::from_str(line).map_err(|e| e.to_string())?;
        j.check()?;
        Ok(j)
    }

    /// Version, ranks, tile and the number of masks; of the masks themselves nothing, since their size is the image's.
    ///
    /// # Errors
    /// What was found and what is expected.
    pub fn check(&self) -> Result<(), String> {
        if self.version != 1 {
            return Err(format!("version is {}, expected 1", self.version));
        }
        if self.candidates.len() != 4 {
            return Err(format!("{} candidates, expected 4", self.candidates.len()));
        }
        let fits = self.ranks.len() == 4 && self.ranks.iter().all(|r| (1..=4).contains(r)) && self.ranks.contains(&1);
        if !self.skipped && !fits {
            return Err(format!("ranks {:?}: expected four of 1 to 4, with 1 for the best", self.ranks));
        }
        if let Some(t) = self.tile.filter(|t| !(t.iter().all(|v| v.is_finite()) && t[0] < t[2] && t[1] < t[3])) {
            return Err(format!("tile {t:?}: expected x0 < x1 and y0 < y1"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_and_bad_ones_are_named() {
        let good = r#"{"version":1,"case":"k1","image_sha256":"ab","weights_sha256":"cd","plane":"axial","slice":42,
            "organ":"liver","prompt":{"organ":"liver","box":[1,2,3,4]},"tile":null,"candidates":[
            {"threshold":0.3,"rle":"24"},{"threshold":0.4,"rle":"24"},{"threshold":0.5,"rle":"24"},{"threshold":0.6,"rle":"24"}],
            "ranks":[2,1,3,4],"skipped":false,"rater":"r1","time":"2026-01-01T00:00:00Z"}"#
            .replace('\n', "");
        let folder = std::env::temp_dir().join(format!("volseg-judgement-{}", std::process::id()));
        std::fs::write(&folder, format!("{good}\n\n{good}\n")).unwrap();
        let all = Judgement::read_all(&folder).unwrap();
        assert_eq!((all.len(), all[0].slice, all[0].ranks.as_slice()), (2, Some(42), &[2, 1, 3, 4][..]));
        assert_eq!(
            Judgement::parse(&all[1].to_line().unwrap()).unwrap().prompt.unwrap().bounds,
            Some([1.0, 2.0, 3.0, 4.0])
        );
        for (from, to, part) in [
            ("[2,1,3,4]", "[2,2,3,4]", "ranks"),
            ("[2,1,3,4]", "[1,2,3]", "ranks"),
            ("\"tile\":null", "\"tile\":[5,0,5,9]", "tile"),
            ("\"version\":1", "\"version\":2", "version"),
            ("\"organ\":\"liver\",\"prompt\"", "\"prompt\"", "organ"),
        ] {
            std::fs::write(&folder, format!("{good}\n{}\n", good.replace(from, to))).unwrap();
            let text = Judgement::read_all(&folder).unwrap_err().to_string();
            assert!(text.contains("line 2") && text.contains(part), "{text}");
        }
        // What a viewer writes for "cannot tell".
        let skipped = good.replace("[2,1,3,4]", "null").replace("\"skipped\":false", "\"skipped\":true");
        assert!(Judgement::parse(&skipped).unwrap().skipped);
        std::fs::remove_file(&folder).unwrap();
    }
}
