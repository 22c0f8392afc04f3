//! Prompt files (specs: cli.md): what people or other programs say about where an organ is.

use crate::Error;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use volseg_geometry::{OrganId, PixelBox, Plane, SliceStack};

/// A prompt file is never larger.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// Points of one prompt.
const MAX_POINTS: usize = 1000;

/// The file as it stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PromptFile {
    /// Always 1.
    pub version: u32,
    /// The prompts.
    pub prompts: Vec<PromptEntry>,
}

/// One entry of a file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PromptEntry {
    /// Organ name.
    pub organ: Option<String>,
    /// Plane of the slice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plane: Option<Plane>,
    /// Stored index of the slice, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slice: Option<usize>,
    /// x0, y0, x1, y1 in stored pixels, half-open.
    #[serde(rename = "box", skip_serializing_if = "Option::is_none")]
    pub bounds: Option<[f64; 4]>,
    /// x, y, 1 inside or 0 outside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<[f64; 3]>,
    /// Free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// How an automatic prompt came about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<serde_json::Value>,
    /// Keys that mean nothing here: a slip of the pen, or another program's.
    #[serde(flatten, skip_serializing)]
    pub others: BTreeMap<String, serde_json::Value>,
}

/// A prompt for one organ on one slice, in stored pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// What it shows.
    pub organ: OrganId,
    /// Whether the prompt named the organ itself (else it stands for whatever is in the box).
    pub named: bool,
    /// Stored slice index.
    pub slice: usize,
    /// Box in stored pixels.
    pub bounds: Option<PixelBox>,
    /// Whether a program found the box, so that the organ may end a little outside of it.
    pub rough: bool,
    /// x, y, 1 inside / 0 outside, stored pixels.
    pub points: Vec<[f32; 3]>,
    /// Words about it, for networks that read them.
    pub text: Option<String>,
}

/// Prompts of a case in one plane, sorted by slice.
#[derive(Clone, Debug, Default)]
pub struct PromptSet {
    /// Plane that the slices are numbered along; `None` for pictures.
    pub plane: Option<Plane>,
    /// The prompts.
    pub prompts: Vec<Prompt>,
    /// Features of the prompts' texts, of unit length, by the image-text model that the network's weights name. A text
    /// without one is not read.
    pub texts: BTreeMap<String, Vec<f32>>,
}

impl PromptFile {
    /// Reads and parses a file.
    ///
    /// # Errors
    /// [`Error::Prompts`] naming the first entry that does not fit the format.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bad = |e: String| Error::Prompts(format!("{}: {e}", path.display()));
        let size = std::fs::metadata(path).map_err(|e| bad(e.to_string()))?.len();
        if size > MAX_FILE_BYTES {
            return Err(bad(format!("{size} bytes, at most {MAX_FILE_BYTES} are read")));
        }
        let text = std::fs::read_to_string(path).map_err(|e| bad(e.to_string()))?;
        let file: Self = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
        if file.version != 1 {
            return Err(bad(format!("version is {}, expected 1", file.version)));
        }
        Ok(file)
    }

    /// Checks every entry against the image and turns names into ids. The answer has a set for each plane that occurs.
    ///
    /// `fallback` names the organ of entries that have none; without it their text may.
    ///
    /// # Errors
    /// [`Error::Prompts`] naming the entry (from 0), what was found and what is allowed.
    pub fn resolve(
        &self,
        stack: impl Fn(Plane) -> SliceStack,
        picture: bool,
        fallback: Option<OrganId>,
    ) -> Result<Vec<PromptSet>, Error> {
        let mut sets: BTreeMap<Option<Plane>, PromptSet> = BTreeMap::new();
        for (n, e) in self.prompts.iter().enumerate() {
            let bad = |m: String| Error::Prompts(format!("entry {n}: {m}"));
            let in_text = || e.text.as_deref().and_then(OrganId::named_in);
            let (organ, named) = match (&e.organ, fallback) {
                (Some(name), _) => (name.parse().map_err(|e: volseg_geometry::Error| bad(e.to_string()))?, true),
                (None, Some(organ)) => (organ, false),
                (None, None) => match in_text() {
                    Some(organ) => (organ, true),
                    None => {
                        return Err(bad(
                            "names no organ; add one, or say with --organs NAME which label it becomes".into()
                        ));
                    }
                },
            };
            let plane = e.plane.unwrap_or(Plane::Axial);
            if !picture && e.slice.is_none() {
                return Err(bad("a volume's prompt needs `slice`".into()));
            }
            let stack = stack(plane);
            let slice = e.slice.unwrap_or(0);
            if slice >= stack.slices {
                return Err(bad(format!("slice {slice}, the image has 0..{}", stack.slices)));
            }
            let [w, h] = stack.size;
            let bounds = match e.bounds {
                None => None,
                Some([x0, y0, x1, y1]) => {
                    let b =
                        PixelBox::new(x0 as f32, y0 as f32, x1 as f32, y1 as f32).map_err(|e| bad(e.to_string()))?;
                    let (wide, high) = (w as f32, h as f32);
                    let leaves = b.x0 < -1.0 || b.y0 < -1.0 || b.x1 > wide + 1.0 || b.y1 > high + 1.0;
                    if leaves || b.x1 <= 0.0 || b.y1 <= 0.0 || b.x0 >= wide || b.y0 >= high {
                        return Err(bad(format!("box [{x0}, {y0}, {x1}, {y1}] leaves the slice of {w} x {h} pixels")));
                    }
                    Some(b)
                }
            };
            if e.points.len() > MAX_POINTS {
                return Err(bad(format!("{} points, at most {MAX_POINTS}", e.points.len())));
            }
            for p in &e.points {
                let inside = p[0] >= 0.0 && p[1] >= 0.0 && p[0] <= w as f64 && p[1] <= h as f64;
                if !inside || !(p[2] == 0.0 || p[2] == 1.0) {
                    return Err(bad(format!("point {p:?}: expected x in 0..={w}, y in 0..={h}, and 1 or 0")));
                }
            }
            let points = e.points.iter().map(|p| p.map(|v| v as f32)).collect();
            let rough = e.trace.is_some();
            let plane = (!picture).then_some(plane);
            let set = sets.entry(plane).or_insert_with(|| PromptSet { plane, ..PromptSet::default() });
            set.prompts.push(Prompt { organ, named, slice, bounds, rough, points, text: e.text.clone() });
        }
        let mut sets: Vec<PromptSet> = sets.into_values().collect();
        sets.iter_mut().for_each(|set| set.prompts.sort_by_key(|p| (p.slice, p.organ)));
        Ok(sets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use volseg_geometry::Affine;

    #[test]
    fn entries_that_do_not_fit_are_named() {
        let stack = |_| SliceStack::picture(40, 30);
        let resolve = |json: &str| {
            let file: PromptFile = serde_json::from_str(json).unwrap();
            file.resolve(stack, true, None).map_err(|e| e.to_string())
        };
        let ok =
            resolve(r#"{"version":1,"prompts":[{"organ":"lungs","box":[1,2,30,20.5],"points":[[5,6,1]]}]}"#).unwrap();
        assert_eq!(ok[0].prompts[0].organ.get(), 16);
        let by_text = resolve(r#"{"version":1,"prompts":[{"text":"both lungs","boxs":[1]}]}"#).unwrap();
        assert_eq!(by_text[0].prompts[0].organ.get(), 16);
        let found = resolve(
            r#"{"version":1,"prompts":[{"organ":"lungs","box":[1,2,9,9]},{"organ":"lungs","box":[1,2,9,9],"trace":{}}]}"#,
        );
        assert_eq!(found.unwrap()[0].prompts.iter().map(|p| p.rough).collect::<Vec<_>>(), [false, true]);
        let planes = r#"{"version":1,"prompts":[{"organ":"liver","plane":"sagittal","slice":3},{"organ":"aorta","slice":2},{"organ":"liver","slice":1}]}"#;
        let file: PromptFile = serde_json::from_str(planes).unwrap();
        let sets = file
            .resolve(|_| SliceStack::new([8, 8, 8], &Affine::from_spacing_mm([1.0; 3]), Plane::Axial), false, None)
            .unwrap();
        let found: Vec<_> =
            sets.iter().map(|s| (s.plane, s.prompts.iter().map(|p| p.slice).collect::<Vec<_>>())).collect();
        assert_eq!(found, [(Some(Plane::Axial), vec![1, 2]), (Some(Plane::Sagittal), vec![3])]);
        for (json, part) in [
            (r#"{"version":1,"prompts":[{"organ":"lungs","box":[9,2,3,20]}]}"#, "entry 0"),
            (r#"{"version":1,"prompts":[{"organ":"lungs","box":[1,2,300,20]}]}"#, "leaves the slice"),
            (r#"{"version":1,"prompts":[{"organ":"lungs","box":[40,2,41,20]}]}"#, "leaves the slice"),
            (r#"{"version":1,"prompts":[{"organ":"lungs","box":[-1,-1,0,20]}]}"#, "leaves the slice"),
            (r#"{"version":1,"prompts":[{"organ":"heart"}]}"#, "expected spleen"),
            (r#"{"version":1,"prompts":[{"box":[1,2,3,4]}]}"#, "names no organ"),
            (r#"{"version":1,"prompts":[{"box":[1,2,3,4],"text":"liver and spleen"}]}"#, "names no organ"),
            (r#"{"version":1,"prompts":[{"organ":"lungs","slice":3}]}"#, "slice 3"),
            (r#"{"version":1,"prompts":[{"organ":"lungs","points":[[5,6,2]]}]}"#, "point"),
        ] {
            assert!(resolve(json).unwrap_err().contains(part), "{json}");
        }
    }
}
