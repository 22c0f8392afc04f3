use crate::{Error, Result, Surface};
use std::collections::{BTreeMap, BTreeSet};

/// Which numbers are called HD95 (docs: reference/metrics).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hd95 {
    /// Larger of the two directed percentiles by surfel area, no interpolation (surface-distance).
    SurfelMax,
    /// Larger of the two directed percentiles of border voxels, linear interpolation (MONAI, MetricsReloaded).
    VoxelMax,
    /// One percentile of both lists of border voxels together, linear interpolation (MedPy, nnU-Net v1).
    Pooled,
}

impl Hd95 {
    /// Name on the command line and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SurfelMax => "surfel-max",
            Self::VoxelMax => "voxel-max",
            Self::Pooled => "pooled",
        }
    }

    /// The surface that this percentile is taken on.
    #[must_use]
    pub fn surface(self) -> Surface {
        if self == Self::SurfelMax { Surface::Surfel } else { Surface::Voxel }
    }
}

/// What stands for a distance where one of the two masks is empty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Penalty {
    /// Infinity.
    Infinite,
    /// The diagonal of the image in mm.
    Diagonal,
    /// A number of mm.
    Fixed(f64),
}

/// Whose published script is imitated, quirks included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Preset {
    Flare22,
    Flare21,
    TotalSegmentator,
    NnUnet,
    SamMed3d,
    Monai,
    MedPy,
    DeepMind,
}

/// All presets with their names.
pub const PRESETS: [(&str, Preset); 8] = [
    ("flare22", Preset::Flare22),
    ("flare21", Preset::Flare21),
    ("totalsegmentator", Preset::TotalSegmentator),
    ("nnunet", Preset::NnUnet),
    ("sam-med3d", Preset::SamMed3d),
    ("monai", Preset::Monai),
    ("medpy", Preset::MedPy),
    ("deepmind", Preset::DeepMind),
];

/// Labels of FLARE'22 to '24, ids from 1 on.
pub const FLARE_ORGANS: [&str; 14] = [
    "liver",
    "right_kidney",
    "spleen",
    "pancreas",
    "aorta",
    "inferior_vena_cava",
    "right_adrenal_gland",
    "left_adrenal_gland",
    "gallbladder",
    "esophagus",
    "stomach",
    "duodenum",
    "left_kidney",
    "lesion",
];

/// FLARE's tolerances in mm, in the order of [`FLARE_ORGANS`].
pub const FLARE_TOLERANCES: [f64; 14] = [5.0, 3.0, 3.0, 5.0, 2.0, 2.0, 2.0, 2.0, 2.0, 3.0, 5.0, 7.0, 3.0, 2.0];

/// [`FLARE_TOLERANCES`] as [`Settings::table`].
#[must_use]
pub fn flare_table() -> BTreeMap<Vec<u32>, f64> {
    (1..).map(|id| vec![id]).zip(FLARE_TOLERANCES).collect()
}

/// Organs of [`FLARE_ORGANS`] that FLARE'22 scores on the slices of the ground truth only.
pub const FLARE_TUBES: [&str; 3] = ["aorta", "inferior_vena_cava", "esophagus"];

/// How a label is scored.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Surface of NSD, HD and mean distances; `None` for counting metrics alone.
    pub surface: Option<Surface>,
    /// Definition of HD95 and the other percentiles.
    pub hd95: Hd95,
    /// Tolerances of NSD in mm.
    pub tolerances: Vec<f64>,
    /// Tolerances in mm for the metric `nsd`, by the ids of a label (one) or region (several, sorted).
    pub table: BTreeMap<Vec<u32>, f64>,
    /// Percentiles of the Hausdorff distance.
    pub percentiles: Vec<f64>,
    /// Both masks empty: 1 for overlaps and 0 for distances, instead of undefined.
    pub empty_is_one: bool,
    /// A label that the ground truth lacks is undefined, whatever the prediction has.
    pub skip_absent_gt: bool,
    /// Distances where one mask is empty.
    pub penalty: Penalty,
    /// Ground truth id whose voxels are taken out of both masks.
    pub ignore: Option<u32>,
    /// The input is a picture: contours instead of surfaces.
    pub flat: bool,
    /// Spacing in mm that replaces the files'.
    pub spacing: Option<[f64; 3]>,
    /// Labels by their ids that are scored from the ground truth's first slice to the one before its last (FLARE'22).
    pub tubes: BTreeSet<Vec<u32>>,
    /// Quirks of a published script.
    pub preset: Option<Preset>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            surface: Some(Surface::Surfel),
            hd95: Hd95::SurfelMax,
            tolerances: vec![1.0, 2.0, 3.0],
            table: BTreeMap::new(),
            percentiles: vec![95.0],
            empty_is_one: false,
            skip_absent_gt: false,
            penalty: Penalty::Infinite,
            ignore: None,
            flat: false,
            spacing: None,
            tubes: BTreeSet::new(),
            preset: None,
        }
    }
}

impl Settings {
    /// The rules of a published script.
    #[must_use]
    pub fn of(preset: Preset) -> Self {
        let voxel = |hd95| Self { surface: Some(Surface::Voxel), hd95, ..Self::default() };
        let mut s = match preset {
            Preset::Flare22 => {
                let tubes =
                    (1..).zip(FLARE_ORGANS).filter(|(_, o)| FLARE_TUBES.contains(o)).map(|(id, _)| vec![id]).collect();
                Self { tolerances: Vec::new(), table: flare_table(), tubes, empty_is_one: true, ..Self::default() }
            }
            Preset::Flare21 | Preset::SamMed3d => Self { tolerances: vec![1.0], empty_is_one: true, ..Self::default() },
            Preset::TotalSegmentator => {
                Self { tolerances: vec![3.0], spacing: Some([1.5; 3]), skip_absent_gt: true, ..Self::default() }
            }
            Preset::NnUnet => {
                Self { surface: None, tolerances: Vec::new(), percentiles: Vec::new(), ..Self::default() }
            }
            Preset::Monai => voxel(Hd95::VoxelMax),
            Preset::MedPy => voxel(Hd95::Pooled),
            Preset::DeepMind => Self::default(),
        };
        s.preset = Some(preset);
        s
    }

    /// Refuses numbers that cannot be meant.
    ///
    /// # Errors
    /// [`Error::Argument`] naming the value.
    pub fn check(&self) -> Result<()> {
        let bad = |what: &str, found: f64, expected: &str| {
            Err(Error::Argument { what: what.into(), found: found.to_string(), expected: expected.into() })
        };
        if let Some(&t) = self.tolerances.iter().chain(self.table.values()).find(|t| !(t.is_finite() && **t >= 0.0)) {
            return bad("tolerance", t, "0 mm or more");
        }
        if let Some(&p) = self.percentiles.iter().find(|p| !(0.0..=100.0).contains(*p)) {
            return bad("percentile of the Hausdorff distance", p, "0 to 100");
        }
        if let Penalty::Fixed(v) = self.penalty
            && !(v.is_finite() && v >= 0.0)
        {
            return bad("penalty", v, "0 mm or more");
        }
        self.spacing.map_or(Ok(()), check_spacing)
    }
}

/// Refuses spacings that are zero, negative or not finite.
pub(crate) fn check_spacing(spacing: [f64; 3]) -> Result<()> {
    match spacing.iter().position(|s| !(s.is_finite() && *s > 0.0)) {
        Some(axis) => Err(Error::Spacing { axis, found: spacing[axis] }),
        None => Ok(()),
    }
}
