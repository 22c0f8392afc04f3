//! A traffic light per case, from what the case itself shows. What only the cohort can show is added by a merge.

use crate::{OrganStatistics, Segmentation};
use serde::{Deserialize, Serialize};
use volseg_geometry::{Affine, LabelMap, Orientation, components_3d};
use volseg_io::Image;

/// Schema of `qa.json`.
const SCHEMA: &str = "volseg.qa/1";
/// Dice of the masks at thresholds 0.3 and 0.6: below the first yellow, below the second red.
const CANDIDATE_DICE: [f64; 2] = [0.85, 0.7];
/// Mean predicted IoU.
const PREDICTED_IOU: [f64; 2] = [0.6, 0.4];
/// Part of an organ's voxels in its largest component (for lungs, in the two largest).
const LARGEST: [f64; 2] = [0.9, 0.6];
/// Pairs that must lie to the patient's right of each other: right kidney and left kidney, the adrenals, liver and spleen.
const RIGHT_OF: [(u8, u8); 3] = [(2, 3), (11, 12), (6, 1)];
/// Pairs that must lie above each other: liver, spleen, kidneys and pancreas above the bladder; the bladder does not lie above the prostate's floor.
const ABOVE: [(u8, u8); 5] = [(6, 14), (1, 14), (2, 14), (3, 14), (10, 14)];

/// Whether a person should look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Light {
    /// Nothing found.
    #[default]
    Green,
    /// Worth a look.
    Yellow,
    /// Do not use without a look.
    Red,
}

impl Light {
    /// `green`, `yellow` or `red`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Green => "green",
            Self::Yellow => "yellow",
            Self::Red => "red",
        }
    }
}

/// One reason for a light.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Flag {
    /// Which rule: `nothing_found`, `candidates`, `confidence`, `components`, `border`, `left_right`, `up_down`, `input`;
    /// from a merge also `volume`, `position` and `missing`.
    pub rule: String,
    /// The organ.
    pub organ: Option<String>,
    /// How bad.
    pub light: Light,
    /// What was measured.
    pub value: Option<f64>,
    /// What it was compared with.
    pub limit: Option<f64>,
}

/// What was measured of an organ.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OrganMeasures {
    /// Organ name.
    pub organ: String,
    /// 6-connected components.
    pub components: usize,
    /// Part of its voxels in the largest.
    pub largest_fraction: f64,
    /// Agreement of the candidate masks.
    pub candidate_dice: Option<f64>,
    /// The model's own estimate: how strong the prompt was.
    pub predicted_iou: Option<f64>,
    /// Sides of the volume that it touches, such as `S` or `L`.
    pub touches: String,
}

/// `qa.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Quality {
    /// `volseg.qa/1`.
    pub schema: String,
    /// The case.
    pub case_id: String,
    /// The worst of the flags.
    pub light: Light,
    /// For the order of a queue: 100 for each red flag, 10 for each yellow one, and the doubt in between.
    pub score: f64,
    /// Reasons, in the order of the rules.
    pub flags: Vec<Flag>,
    /// Measures of the organs found.
    pub organs: Vec<OrganMeasures>,
}

impl Quality {
    /// Judges a finished case.
    #[must_use]
    pub fn of(case_id: &str, image: &Image, result: &Segmentation, measured: &[OrganStatistics]) -> Self {
        let mut flags = Vec::new();
        let found: Vec<&OrganStatistics> = measured.iter().filter(|m| m.voxels > 0).collect();
        if found.is_empty() {
            flags.push(Flag::new("nothing_found", None, Light::Red));
        }
        if !result.warnings.is_empty() {
            flags.push(Flag::new("input", None, Light::Yellow));
        }
        let organs: Vec<OrganMeasures> = found.iter().map(|m| measure(m, image, result)).collect();
        for (m, o) in found.iter().zip(&organs) {
            flags.extend(below("candidates", o, o.candidate_dice, CANDIDATE_DICE));
            flags.extend(below("confidence", o, o.predicted_iou, PREDICTED_IOU));
            let parts = if m.id == 16 { None } else { Some(o.largest_fraction) };
            flags.extend(below("components", o, parts, LARGEST));
            // Organs are often cut by the ends of a scan; the sides of the field of view are another matter.
            if o.touches.contains(['L', 'R', 'A', 'P']) && !image.is_picture() {
                flags.push(Flag::new("border", Some(&o.organ), Light::Yellow));
            }
        }
        let centre = |id: u8| found.iter().find(|m| m.id == id).and_then(|m| m.centroid_mm);
        for (rule, pairs, axis) in [("left_right", &RIGHT_OF[..], 0), ("up_down", &ABOVE, 2)] {
            for &(a, b) in pairs {
                if let (Some(p), Some(q)) = (centre(a), centre(b))
                    && p[axis] < q[axis]
                    && !image.is_picture()
                {
                    let name = found.iter().find(|m| m.id == a).map(|m| m.name.as_str());
                    let value = Some(p[axis] - q[axis]);
                    flags.push(Flag { value, limit: Some(0.0), ..Flag::new(rule, name, Light::Red) });
                }
            }
        }
        let mut out =
            Self { schema: SCHEMA.into(), case_id: case_id.into(), light: Light::Green, score: 0.0, flags, organs };
        out.judge();
        out
    }

    /// Light and score from the flags.
    pub(super) fn judge(&mut self) {
        self.light = self.flags.iter().map(|f| f.light).max().unwrap_or_default();
        let count = |light| self.flags.iter().filter(|f| f.light == light).count() as f64;
        let doubt: f64 = self.organs.iter().filter_map(|o| o.candidate_dice).map(|d| 1.0 - d).sum();
        self.score = 100.0 * count(Light::Red) + 10.0 * count(Light::Yellow) + doubt;
    }
}

impl Flag {
    pub(super) fn new(rule: &str, organ: Option<&str>, light: Light) -> Self {
        Self { rule: rule.into(), organ: organ.map(Into::into), light, value: None, limit: None }
    }
}

fn below(rule: &str, organ: &OrganMeasures, value: Option<f64>, [yellow, red]: [f64; 2]) -> Option<Flag> {
    let v = value?;
    let (light, limit) = if v < red {
        (Light::Red, red)
    } else if v < yellow {
        (Light::Yellow, yellow)
    } else {
        return None;
    };
    Some(Flag { value, limit: Some(limit), ..Flag::new(rule, Some(&organ.organ), light) })
}

fn measure(m: &OrganStatistics, image: &Image, result: &Segmentation) -> OrganMeasures {
    let parts = m.bounding_box.map(|b| parts(&result.labels, m.id, b)).unwrap_or_default();
    let confidence = result.confidence.iter().find(|c| c.organ == m.name);
    OrganMeasures {
        organ: m.name.clone(),
        components: parts.len(),
        largest_fraction: parts.iter().copied().max().unwrap_or(0) as f64 / m.voxels.max(1) as f64,
        candidate_dice: confidence.map(|c| c.candidate_dice),
        predicted_iou: confidence.map(|c| c.mean_predicted_iou),
        touches: m
            .bounding_box
            .map_or_else(String::new, |b| touches(b, result.labels.dim(), image.volume.affine().orientation())),
    }
}

/// Sizes of an organ's components, looked for inside its bounding box only.
fn parts(labels: &LabelMap, id: u8, bounds: [[usize; 2]; 3]) -> Vec<usize> {
    let [[x0, x1], [y0, y1], [z0, z1]] = bounds;
    let [nx, ny, _] = labels.dim();
    let mut cut = Vec::with_capacity((x1 - x0) * (y1 - y0) * (z1 - z0));
    for z in z0..z1 {
        for y in y0..y1 {
            let row = (z * ny + y) * nx;
            cut.extend(labels.voxels().get(row + x0..row + x1).unwrap_or(&[]).iter().map(|&v| u8::from(v == id)));
        }
    }
    match LabelMap::from_vec(cut, [x1 - x0, y1 - y0, z1 - z0], Affine::from_spacing_mm([1.0; 3])) {
        Ok(cut) => components_3d(&cut, 1).into_iter().map(|c| c.1).collect(),
        Err(_) => Vec::new(),
    }
}

fn touches(bounds: [[usize; 2]; 3], dim: [usize; 3], orientation: Orientation) -> String {
    let opposite = |c: char| match c {
        'R' => 'L',
        'L' => 'R',
        'A' => 'P',
        'P' => 'A',
        'S' => 'I',
        _ => 'S',
    };
    let mut out = String::new();
    for ((b, n), letter) in bounds.iter().zip(dim).zip(orientation.to_string().chars()) {
        if b[0] == 0 {
            out.push(opposite(letter));
        }
        if b[1] == n {
            out.push(letter);
        }
    }
    out
}
