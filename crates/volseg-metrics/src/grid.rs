use crate::{Error, Labels, Result, Settings, settings::check_spacing};
use volseg_geometry::Affine;

/// Largest |cosine| between two axes of a grid that counts as orthogonal.
const SHEAR: f64 = 1e-3;

/// What to do with two grids that differ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GridRules {
    /// Largest shift of a corner voxel in mm that counts as the same place.
    pub tolerance_mm: f64,
    /// Refuse flips and permutations of axes.
    pub strict: bool,
    /// Compare the arrays whatever their affines say.
    pub ignore_affine: bool,
    /// Put the prediction on the ground truth's grid by nearest neighbour.
    pub resample: bool,
}

impl Default for GridRules {
    fn default() -> Self {
        Self { tolerance_mm: 0.01, strict: false, ignore_affine: false, resample: false }
    }
}

/// How the prediction came onto the ground truth's grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alignment {
    /// It was there.
    Same,
    /// By an exact flip or permutation of axes.
    Reoriented,
    /// By nearest neighbour.
    Resampled,
    /// The affines differ and were ignored.
    Ignored,
}

impl Alignment {
    /// Name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Reoriented => "reoriented",
            Self::Resampled => "resampled",
            Self::Ignored => "ignored",
        }
    }
}

/// Spacing of a map in mm: that of the settings, else the lengths of the affine's columns.
pub(crate) fn spacing_of(labels: &Labels, settings: &Settings) -> Result<[f64; 3]> {
    let spacing = settings.spacing.unwrap_or_else(|| labels.affine().spacing_mm());
    check_spacing(spacing)?;
    Ok(spacing)
}

/// The prediction on the ground truth's grid; `None` if it is there already.
///
/// # Errors
/// [`Error::Shape`], [`Error::Grid`] (with the corner shift), [`Error::StrictGrid`], [`Error::Sheared`], [`Error::Spacing`].
pub fn align(gt: &Labels, pred: &Labels, rules: &GridRules) -> Result<(Option<Labels>, Alignment)> {
    let same_shape = gt.dim() == pred.dim();
    let shape_error = || Error::Shape {
        gt: gt.dim(),
        gt_spacing: gt.affine().spacing_mm(),
        pred: pred.dim(),
        pred_spacing: pred.affine().spacing_mm(),
    };
    if rules.ignore_affine {
        return if same_shape { Ok((None, Alignment::Ignored)) } else { Err(shape_error()) };
    }
    for (which, labels) in [("the ground truth", gt), ("the prediction", pred)] {
        check_spacing(labels.affine().spacing_mm())?;
        let found = labels.affine().shear();
        if found.is_nan() || found > SHEAR {
            return Err(Error::Sheared { which: which.into(), found });
        }
    }
    // An axis of one voxel has no second corner: its direction and length count all the same.
    let shift = gt.affine().largest_corner_shift_mm(pred.affine(), gt.dim().map(|n| n.max(2)));
    if same_shape && shift <= rules.tolerance_mm {
        return Ok((None, Alignment::Same));
    }
    if let Some((axes, flip)) = signed_permutation(gt.affine(), pred.affine(), pred.dim()) {
        // Voxel of the prediction that lies at a voxel of the ground truth.
        let place = |i: [usize; 3]| {
            let mut from = [0; 3];
            for a in 0..3 {
                let n = pred.dim()[axes[a]];
                from[axes[a]] = if flip[a] { n.checked_sub(1 + i[a])? } else { i[a] };
            }
            Some(from)
        };
        let dim = axes.map(|a| pred.dim()[a]);
        let back = reordered(pred.affine(), pred.dim(), axes, flip);
        if dim == gt.dim() && gt.affine().largest_corner_shift_mm(&back, dim.map(|n| n.max(2))) <= rules.tolerance_mm {
            if rules.strict {
                return Err(Error::StrictGrid { found: format!("axes {axes:?}, reversed {flip:?}") });
            }
            return Ok((Some(pred.gathered(dim, *gt.affine(), place)?), Alignment::Reoriented));
        }
    }
    if rules.resample {
        let to_pred = pred.affine().inverse().map_err(|e| crate::labels::geometry(&e))?;
        let size = pred.dim();
        let place = |i: [usize; 3]| {
            let p = to_pred.apply(gt.affine().apply(i.map(|v| v as f64)));
            let mut from = [0; 3];
            for a in 0..3 {
                // Half a voxel rounds up on both sides, so that neighbours share no voxel.
                let v = (p[a] + 0.5).floor();
                if !(v >= 0.0 && v < size[a] as f64) {
                    return None;
                }
                from[a] = v as usize;
            }
            Some(from)
        };
        return Ok((Some(pred.gathered(gt.dim(), *gt.affine(), place)?), Alignment::Resampled));
    }
    if same_shape { Err(Error::Grid { shift_mm: shift, tolerance_mm: rules.tolerance_mm }) } else { Err(shape_error()) }
}

/// Which axis of `pred` runs along each axis of `gt`, and whether backwards, if the grids are parallel with equal steps.
fn signed_permutation(gt: &Affine, pred: &Affine, dim: [usize; 3]) -> Option<([usize; 3], [bool; 3])> {
    let (mut axes, mut flip) = ([3usize; 3], [false; 3]);
    for a in 0..3 {
        let g = gt.column(a);
        let length: f64 = g.iter().map(|v| v * v).sum();
        for b in 0..3 {
            let cosine = pred.column(b).iter().zip(g).map(|(x, y)| x * y).sum::<f64>() / length;
            // Loose here: the corners are compared afterwards.
            if (cosine.abs() - 1.0).abs() < 0.5 / dim[b].max(1) as f64 + 1e-3 && !axes.contains(&b) {
                (axes[a], flip[a]) = (b, cosine < 0.0);
                break;
            }
        }
    }
    axes.iter().all(|&a| a < 3).then_some((axes, flip))
}

fn reordered(affine: &Affine, dim: [usize; 3], axes: [usize; 3], flip: [bool; 3]) -> Affine {
    let mut first = [0.0; 3];
    let mut columns = [[0.0; 3]; 3];
    for a in 0..3 {
        let c = affine.column(axes[a]);
        columns[a] = if flip[a] { c.map(|v| -v) } else { c };
        if flip[a] {
            first[axes[a]] = dim[axes[a]].saturating_sub(1) as f64;
        }
    }
    Affine::from_columns(columns, affine.apply(first))
}
