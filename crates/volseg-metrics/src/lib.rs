//! Dice, surface Dice, Hausdorff and mean surface distances of label maps, exactly defined.
//!
//! ```
//! use volseg_geometry::{Affine, Volume};
//! use volseg_metrics::{Labels, Selection, Settings, evaluate};
//! let cube = |x: usize| {
//!     let voxels = (0..20 * 16 * 16).map(|n| u8::from((x..x + 10).contains(&(n % 20)) && n / 320 < 10)).collect();
//!     let volume = Volume::from_vec(voxels, [20, 16, 16], Affine::from_spacing_mm([1.0; 3])).unwrap();
//!     Labels::new(volume.into(), 1.0, 0.0, "cube").unwrap()
//! };
//! let case = evaluate(&cube(2), &cube(3), &Selection::default(), &Settings::default()).unwrap();
//! let liver = &case.labels[&vec![1]];
//! assert_eq!(liver.counts.dice(), 0.9);
//! assert_eq!(liver.get("nsd@1"), 1.0);
//! assert_eq!(liver.get("hd95"), 1.0);
//! ```
//!
//! | metric | unit | source |
//! | --- | --- | --- |
//! | `dice`, `iou`, `precision`, `recall`, `volumetric_similarity` | 0 to 1 | voxel counts, no epsilon |
//! | `volume_*` | mm³, mL, relative | voxel counts times the spacing |
//! | `nsd@T`, `overlap_gt@T`, `overlap_pred@T` | 0 to 1 | surface distances at most T mm (Nikolov et al. 2018) |
//! | `hd`, `hd95`, `hdQ` | mm | largest and percentile surface distance ([`Hd95`]) |
//! | `asd_*`, `assd`, `masd` | mm | weighted mean surface distances |
//!
//! NaN stands for undefined, infinity for a distance to an empty mask. All sums have one order: results are the same bits
//! at any number of threads.
#![forbid(unsafe_code)]

mod aggregate;
mod bits;
mod case;
mod compare;
mod distances;
mod edt;
mod error;
mod grid;
mod label;
mod labels;
mod pairs;
mod settings;
mod surface;

pub use aggregate::{Cell, Means, Rule, Statistic, bootstrap, mean, means, statistic};
pub use case::{CaseScores, IdMap, Selection, evaluate};
pub use compare::{Paired, Wilcoxon, paired, wilcoxon};
pub use distances::Directed;
pub use error::{Error, Result};
pub use grid::{Alignment, GridRules, align};
pub use label::{Counts, Scores, Status, Target};
pub use labels::{Labels, View};
pub use pairs::{Pair, VoxelBox, pairs};
pub use settings::{FLARE_TOLERANCES, Hd95, PRESETS, Penalty, Preset, Settings, flare_table};
pub use surface::{Surface, contour_lengths, surfel_areas};
