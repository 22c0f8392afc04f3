//! What can be asked of a CT phantom. Whatever is left open is drawn from the seed.

/// When the scan was taken after the contrast medium was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Without contrast medium.
    Native,
    /// 25–40 s: bright arteries, bright renal cortex.
    Arterial,
    /// 70 s: bright veins and liver; the usual abdominal scan.
    PortalVenous,
    /// Minutes later: all paler, excretion into renal pelvis and bladder.
    Delayed,
}

/// Which part of the trunk is scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coverage {
    /// Lung bases to below the kidneys.
    UpperAbdomen,
    /// Lung bases to the symphysis.
    AbdomenPelvis,
}

/// How fine the grid is when nothing else is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Size {
    /// Voxels of 2.5 to 3 mm: made in about a second.
    #[default]
    Small,
    /// 512×512 pixels of 0.7 to 0.9 mm, slices of 2.5 to 3 mm.
    Full,
}

/// Options of [`crate::ct_abdomen`]. `CtOptions::default()` draws all of it.
#[derive(Clone, Debug, Default)]
pub struct CtOptions {
    /// Kind of grid.
    pub size: Size,
    /// Voxel size in mm, in place of the size's own.
    pub spacing_mm: Option<[f64; 3]>,
    /// Voxels along x, y, z; by default what field of view and coverage need.
    pub dim: Option<[usize; 3]>,
    /// Edge of the square field of view in mm (sets the spacing in the plane if `spacing_mm` is open).
    pub field_of_view_mm: Option<f64>,
    /// Contrast phase.
    pub phase: Option<Phase>,
    /// Standard deviation of the noise in the middle of the body, HU.
    pub noise_hu: Option<f32>,
    /// Points along x and y, 1 to 4, in pixels where tissues meet. More than 1 gives edges as smooth as a scanner's on
    /// coarse grids; 2 takes about twice the time of 1. By default 1 if pixels are under 1.2 mm wide, else 2.
    pub oversample: Option<usize>,
    /// Part of the trunk.
    pub coverage: Option<Coverage>,
}
