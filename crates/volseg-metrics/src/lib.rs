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
//! # Input
//!
//! Two [`Labels`] of one shape `[nx, ny, nz]` (first index fastest): ids 0 to 65535 in 8 or 16 bits, 0 is background. [`align`] brings a
//! prediction that is stored flipped or with its axes in another order onto the grid of the ground truth, or says how far apart the
//! grids are. The spacing is that of the ground truth's affine in mm, or [`Settings::spacing`].
//!
//! # Metrics
//!
//! G and P are the voxels of a label (or of a region, a union of labels) in ground truth and prediction. TP, FP and FN are whole numbers
//! of voxels ([`Counts`]). D(G) and D(P) are the lists of distances from the surface points of one mask to the surface of the other, with
//! a weight for each point ([`Directed`]): its area in mm² for [`Surface::Surfel`], 1 for [`Surface::Voxel`], a length in mm for pictures.
//!
//! | name in [`Scores`] | definition | unit | undefined (NaN) | source |
//! | --- | --- | --- | --- | --- |
//! | `dice` | 2 TP / (2 TP + FP + FN), no epsilon | 0 to 1 | both empty | Dice 1945 |
//! | `iou` | TP / (TP + FP + FN) | 0 to 1 | both empty | Jaccard 1901 |
//! | `precision` | TP / (TP + FP) | 0 to 1 | P empty | |
//! | `recall` | TP / (TP + FN) | 0 to 1 | G empty | |
//! | `volumetric_similarity` | 1 - abs(FN - FP) / (2 TP + FP + FN) | 0 to 1 | both empty | Taha & Hanbury 2015 |
//! | `volume_gt_mm3`, `volume_pred_mm3` (and `_ml`) | voxels times voxel volume | mm³, mL | never | |
//! | `volume_diff_mm3` (and `_ml`), `volume_abs_diff_mm3` | prediction minus ground truth; its size | mm³, mL | never | |
//! | `volume_rel_diff`, `volume_abs_rel_diff` | the same over the ground truth's volume | 1 | G empty | |
//! | `nsd@T` | weight of both lists at most T mm over the weight of both lists | 0 to 1 | both empty | Nikolov et al. 2018 |
//! | `nsd` | the same at the label's own tolerance ([`Settings::table`]) | 0 to 1 | both empty | |
//! | `overlap_gt@T`, `overlap_pred@T` | the two directions apart | 0 to 1 | both empty | |
//! | `hd` | largest distance of both lists | mm | both empty | Hausdorff 1914 |
//! | `hd95`, `hdQ` | percentile of the distances, by [`Hd95`] | mm | both empty | |
//! | `asd_gt_to_pred`, `asd_pred_to_gt` | weighted mean of one list | mm | both empty | |
//! | `assd` | weighted mean of both lists together | mm | both empty | |
//! | `masd` | mean of the two directed means | mm | both empty | |
//! | `surface_area_gt_mm2`, `surface_area_pred_mm2` | weight of a list | mm² | never | |
//! | `surfels_gt`, `surfels_pred` | points of a list | 1 | never | |
//!
//! Tolerances are inclusive with a relative slack of 1e-6, so that spacings such as 0.8 in 32 bits do not push a ring of points over T.
//! Where exactly one mask is empty, overlaps are 0 and distances infinite ([`Settings::penalty`]); [`Settings::empty_is_one`] and
//! [`Settings::skip_absent_gt`] are the rules of other tools, and [`Settings::of`] sets all rules of one published script at once.
//! Distances are exact (squares of whole steps times the spacing, in 64 bits), and all sums have one order: results are the same bits at
//! any number of threads.
//!
//! # Means
//!
//! [`means`] averages a table of `values[case][label]` by three [`Rule`]s, [`bootstrap`] gives 95 % intervals over cases, [`paired`]
//! compares two predictions of the same cases. NaN is left out; infinity counts in `n` but not in means.
//!
//! # Errors
//!
//! [`Error`] says which map, which voxel, what was found and what was expected: values that are no labels, spacings that are no lengths,
//! sheared axes, shapes or grids that differ, settings that cannot be meant. Nothing panics on what a file holds.
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
mod near;
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
pub use settings::{
    FLARE_ORGANS, FLARE_TOLERANCES, FLARE_TUBES, Hd95, PRESETS, Penalty, Preset, Settings, flare_table,
};
pub use surface::{Surface, contour_lengths, surfel_areas};
