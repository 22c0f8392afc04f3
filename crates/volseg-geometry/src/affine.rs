use crate::{Error, Orientation, Result, Side};

/// Maps voxel indices (of voxel centres) to RAS+ millimetres: `p = M · (i, j, k) + t`.
///
/// `rows[r] = [m_r0, m_r1, m_r2, t_r]`, as the `srow_*` fields of NIfTI-1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// The three rows (R, A, S), each three matrix entries and the translation in mm.
    pub rows: [[f64; 4]; 3],
}

impl Affine {
    /// Axis-aligned RAS grid with its first voxel centre at the origin.
    #[must_use]
    pub fn from_spacing_mm(spacing_mm: [f64; 3]) -> Self {
        let [x, y, z] = spacing_mm;
        Self { rows: [[x, 0.0, 0.0, 0.0], [0.0, y, 0.0, 0.0], [0.0, 0.0, z, 0.0]] }
    }

    /// Column vectors of the three index axes (mm per voxel) and the world position of voxel (0, 0, 0).
    #[must_use]
    pub fn from_columns(columns: [[f64; 3]; 3], origin: [f64; 3]) -> Self {
        let mut rows = [[0.0; 4]; 3];
        for (r, row) in rows.iter_mut().enumerate() {
            *row = [columns[0][r], columns[1][r], columns[2][r], origin[r]];
        }
        Self { rows }
    }

    /// Step of index axis `axis` in mm (RAS).
    #[must_use]
    pub fn column(&self, axis: usize) -> [f64; 3] {
        [self.rows[0][axis], self.rows[1][axis], self.rows[2][axis]]
    }

    /// World position of voxel (0, 0, 0), RAS mm.
    #[must_use]
    pub fn origin(&self) -> [f64; 3] {
        self.column(3)
    }

    /// Voxel sizes in mm along the index axes: the norms of the columns.
    #[must_use]
    pub fn spacing_mm(&self) -> [f64; 3] {
        [0, 1, 2].map(|a| norm(self.column(a)))
    }

    /// World position of a (fractional) voxel index, RAS mm.
    #[must_use]
    pub fn apply(&self, index: [f64; 3]) -> [f64; 3] {
        self.rows.map(|r| r[0] * index[0] + r[1] * index[1] + r[2] * index[2] + r[3])
    }

    /// Determinant of the matrix part, mm³; its absolute value is the voxel's volume.
    #[must_use]
    pub fn determinant(&self) -> f64 {
        let [a, b, c] = self.rows;
        a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0]) + a[2] * (b[0] * c[1] - b[1] * c[0])
    }

    /// The map from RAS mm to voxel index.
    ///
    /// # Errors
    /// [`Error::Affine`] if an entry is not finite or the columns are dependent.
    pub fn inverse(&self) -> Result<Self> {
        self.check()?;
        let d = self.determinant();
        let m = &self.rows;
        let minor = |r0: usize, r1: usize, c0: usize, c1: usize| m[r0][c0] * m[r1][c1] - m[r0][c1] * m[r1][c0];
        let inv = [
            [minor(1, 2, 1, 2) / d, minor(0, 2, 2, 1) / d, minor(0, 1, 1, 2) / d],
            [minor(1, 2, 2, 0) / d, minor(0, 2, 0, 2) / d, minor(0, 1, 2, 0) / d],
            [minor(1, 2, 0, 1) / d, minor(0, 2, 1, 0) / d, minor(0, 1, 0, 1) / d],
        ];
        let t = self.origin();
        Ok(Self { rows: inv.map(|r| [r[0], r[1], r[2], -(r[0] * t[0] + r[1] * t[1] + r[2] * t[2])]) })
    }

    /// Refuses entries that are not finite, columns of length zero and dependent columns.
    ///
    /// # Errors
    /// [`Error::Affine`] naming what is wrong.
    pub fn check(&self) -> Result<()> {
        if let Some(bad) = self.rows.iter().flatten().find(|v| !v.is_finite()) {
            return Err(Error::Affine { reason: format!("an entry is {bad}") });
        }
        let spacing = self.spacing_mm();
        if let Some(axis) = spacing.iter().position(|&s| s <= 0.0 || !s.is_finite()) {
            return Err(Error::Affine { reason: format!("spacing of axis {axis} is {} mm", spacing[axis]) });
        }
        let relative = self.determinant().abs() / (spacing[0] * spacing[1] * spacing[2]);
        if relative.is_nan() || relative < 1e-6 {
            return Err(Error::Affine { reason: "the axes are dependent (determinant 0)".into() });
        }
        Ok(())
    }

    /// Largest |cosine| between two axes; 0 for an orthogonal grid. More than 1e-3 counts as sheared.
    #[must_use]
    pub fn shear(&self) -> f64 {
        let s = self.spacing_mm();
        let mut worst = 0.0f64;
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            let (u, v) = (self.column(a), self.column(b));
            let dot: f64 = u.iter().zip(v).map(|(x, y)| x * y).sum();
            worst = worst.max((dot / (s[a] * s[b])).abs());
        }
        worst
    }

    /// Closest assignment of patient sides to the index axes (largest summed cosine; ties to the earlier axis).
    #[must_use]
    pub fn orientation(&self) -> Orientation {
        let spacing = self.spacing_mm();
        let cosine = |world: usize, axis: usize| self.rows[world][axis] / spacing[axis];
        let mut best = ([0usize, 1, 2], f64::NEG_INFINITY);
        for p in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let score: f64 = (0..3).map(|axis| cosine(p[axis], axis).abs()).sum();
            if score > best.1 + 1e-9 {
                best = (p, score);
            }
        }
        Orientation::new([0, 1, 2].map(|axis| Side::of(best.0[axis], cosine(best.0[axis], axis) >= 0.0)))
            .unwrap_or(Orientation::RAS)
    }

    /// How far, in mm at a corner, another grid of `dim` lies from this one, if it is another: more than a tenth of the smallest voxel
    /// away, or nowhere (NaN). Less is the rounding of writers.
    #[must_use]
    pub fn shift_of_other_grid_mm(&self, other: &Self, dim: [usize; 3]) -> Option<f64> {
        let shift = self.largest_corner_shift_mm(other, dim);
        let voxel = self.spacing_mm().into_iter().fold(f64::INFINITY, f64::min);
        (shift.is_nan() || shift > 0.1 * voxel).then_some(shift)
    }

    /// Largest distance in mm between the world positions that two affines give to the eight corner voxels of `dim`.
    #[must_use]
    pub fn largest_corner_shift_mm(&self, other: &Self, dim: [usize; 3]) -> f64 {
        let mut worst = 0.0f64;
        for corner in 0..8usize {
            let index = [0, 1, 2].map(|a| if corner >> a & 1 == 1 { dim[a].saturating_sub(1) as f64 } else { 0.0 });
            let (p, q) = (self.apply(index), other.apply(index));
            let shift = norm([p[0] - q[0], p[1] - q[1], p[2] - q[2]]);
            if shift.is_nan() {
                return f64::NAN;
            }
            worst = worst.max(shift);
        }
        worst
    }
}

fn norm(v: [f64; 3]) -> f64 {
    if v[1] == 0.0 && v[2] == 0.0 {
        return v[0].abs();
    }
    if v[0] == 0.0 && v[2] == 0.0 {
        return v[1].abs();
    }
    if v[0] == 0.0 && v[1] == 0.0 {
        return v[2].abs();
    }
    (v[0] * v[0] + v[1] * v[1] + v[2] * v[2]).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverse_undoes_the_affine() {
        let a = Affine { rows: [[0.6, -0.1, 0.3, -90.0], [0.2, 0.7, -0.4, 20.0], [-0.1, 0.2, 2.9, 5.0]] };
        let p = a.inverse().unwrap().apply(a.apply([3.0, -7.0, 11.5]));
        for (x, y) in p.iter().zip([3.0, -7.0, 11.5]) {
            assert!((x - y).abs() < 1e-10);
        }
    }

    #[test]
    fn unusable_affines_are_named() {
        let mut a = Affine::from_spacing_mm([1.0, 1.0, 0.0]);
        assert!(a.check().unwrap_err().to_string().contains("axis 2"));
        a.rows[0][0] = f64::NAN;
        assert!(a.check().unwrap_err().to_string().contains("NaN"));
        let flat = Affine::from_columns([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], [0.0; 3]);
        assert!(flat.check().is_err());
    }
}
