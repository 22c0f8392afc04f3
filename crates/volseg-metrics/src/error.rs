/// What can be wrong with a pair of label maps or with what is asked of them.
#[derive(Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A voxel that is no label.
    #[error("{which} is no label map: voxel {index:?} is {found}, expected an integer from 0 to 65535")]
    NotALabel {
        /// Which of the two label maps.
        which: String,
        /// Index of the first bad voxel.
        index: [usize; 3],
        /// Its value.
        found: f64,
    },
    /// A spacing that no distance can be measured with.
    #[error("spacing of axis {axis} is {found} mm, expected a positive number (set it with --spacing)")]
    Spacing {
        /// The array axis.
        axis: usize,
        /// The value found.
        found: f64,
    },
    /// Axes that are not at right angles.
    #[error("the axes of {which} are sheared: cosine {found:.6} between two of them, expected at most 0.001")]
    Sheared {
        /// Which of the two label maps.
        which: String,
        /// Largest absolute cosine.
        found: f64,
    },
    /// Shapes differ.
    #[error(
        "shapes differ: ground truth {gt:?} at {} mm, prediction {pred:?} at {} mm (--resample pred puts the prediction on the ground truth's grid)",
        short(gt_spacing),
        short(pred_spacing)
    )]
    Shape {
        /// Voxels of the ground truth along its axes.
        gt: [usize; 3],
        /// Its spacing.
        gt_spacing: [f64; 3],
        /// Voxels of the prediction.
        pred: [usize; 3],
        /// Its spacing.
        pred_spacing: [f64; 3],
    },
    /// Same shape, other place in space.
    #[error(
        "grids differ: the largest corner shift is {shift_mm:.6} mm, expected at most {tolerance_mm} mm (--affine-tol, --ignore-affine, --resample pred)"
    )]
    Grid {
        /// Largest shift of a corner voxel, mm.
        shift_mm: f64,
        /// What is allowed, mm.
        tolerance_mm: f64,
    },
    /// A flipped or permuted grid where only an equal one is accepted.
    #[error(
        "the prediction is stored with {found}; found a flip or permutation of axes, expected the ground truth's grid (--strict-grid)"
    )]
    StrictGrid {
        /// What would have to be undone.
        found: String,
    },
    /// A label table, map or argument that makes no sense.
    #[error("{what}: found {found}, expected {expected}")]
    Argument {
        /// Which argument or file.
        what: String,
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
}

/// Spacings to a tenth of a micrometre, without the noise of 32-bit headers.
fn short(spacing: &[f64; 3]) -> String {
    format!("{:?}", spacing.map(|v| (v * 1e4).round() / 1e4))
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
