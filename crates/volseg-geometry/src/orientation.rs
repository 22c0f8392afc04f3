use crate::{Affine, Error, Result, Volume, volume::Voxel};
use std::{fmt, str::FromStr};

/// A side of the patient, the direction in which an index axis grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Side {
    Right,
    Left,
    Anterior,
    Posterior,
    Superior,
    Inferior,
}

impl Side {
    /// Side of world axis 0 (R/L), 1 (A/P) or 2 (S/I); `positive` means along RAS+.
    #[must_use]
    pub fn of(world_axis: usize, positive: bool) -> Self {
        match (world_axis, positive) {
            (0, true) => Self::Right,
            (0, false) => Self::Left,
            (1, true) => Self::Anterior,
            (1, false) => Self::Posterior,
            (_, true) => Self::Superior,
            (_, false) => Self::Inferior,
        }
    }

    /// World axis of this side: 0 for R/L, 1 for A/P, 2 for S/I.
    #[must_use]
    pub fn world_axis(self) -> usize {
        match self {
            Self::Right | Self::Left => 0,
            Self::Anterior | Self::Posterior => 1,
            Self::Superior | Self::Inferior => 2,
        }
    }

    /// Whether the side is along RAS+.
    #[must_use]
    pub fn is_positive(self) -> bool {
        matches!(self, Self::Right | Self::Anterior | Self::Superior)
    }

    fn letter(self) -> char {
        match self {
            Self::Right => 'R',
            Self::Left => 'L',
            Self::Anterior => 'A',
            Self::Posterior => 'P',
            Self::Superior => 'S',
            Self::Inferior => 'I',
        }
    }
}

/// Towards which side each of the three index axes grows, such as `RAS` or `LPS`: one of 48.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orientation([Side; 3]);

impl Orientation {
    /// Right, anterior, superior (NIfTI's world axes).
    pub const RAS: Self = Self([Side::Right, Side::Anterior, Side::Superior]);
    /// Left, posterior, superior (DICOM's world axes).
    pub const LPS: Self = Self([Side::Left, Side::Posterior, Side::Superior]);

    /// From three sides; each world axis must occur once.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if two sides share a world axis.
    pub fn new(sides: [Side; 3]) -> Result<Self> {
        let mut seen = [false; 3];
        for s in sides {
            seen[s.world_axis()] = true;
        }
        if seen == [true; 3] {
            Ok(Self(sides))
        } else {
            Err(Error::InvalidArgument {
                what: "orientation",
                found: sides.map(Side::letter).iter().collect(),
                expected: "one of R/L, one of A/P, one of S/I".into(),
            })
        }
    }

    /// The sides of the three index axes.
    #[must_use]
    pub fn sides(&self) -> [Side; 3] {
        self.0
    }

    /// Which index axis runs along a world axis (0 R/L, 1 A/P, 2 S/I).
    #[must_use]
    pub fn axis_along(&self, world_axis: usize) -> usize {
        self.0.iter().position(|s| s.world_axis() == world_axis).unwrap_or(world_axis)
    }

    /// All 48 orientations, in a fixed order.
    pub fn all() -> impl Iterator<Item = Self> {
        [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
            .into_iter()
            .flat_map(|p| (0..8usize).map(move |f| Self([0, 1, 2].map(|a| Side::of(p[a], f >> a & 1 == 0)))))
    }
}

impl fmt::Display for Orientation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|s| write!(f, "{}", s.letter()))
    }
}

impl FromStr for Orientation {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::InvalidArgument {
            what: "orientation",
            found: text.into(),
            expected: "three letters such as RAS or LPI".into(),
        };
        let sides: Vec<Side> = text
            .chars()
            .map(|c| match c.to_ascii_uppercase() {
                'R' => Ok(Side::Right),
                'L' => Ok(Side::Left),
                'A' => Ok(Side::Anterior),
                'P' => Ok(Side::Posterior),
                'S' => Ok(Side::Superior),
                'I' => Ok(Side::Inferior),
                _ => Err(bad()),
            })
            .collect::<Result<_>>()?;
        Self::new(sides.try_into().map_err(|_| bad())?)
    }
}

impl<T: Voxel> Volume<T> {
    /// The same voxels in another axis order and direction, with the affine that keeps every voxel where it was.
    /// Exact: no interpolation. Oblique grids keep their obliqueness.
    #[must_use]
    pub fn reoriented(&self, target: Orientation) -> Volume<T> {
        let source = self.affine().orientation();
        let dim = self.dim();
        // Target axis a reads source axis from[a], backwards where flip[a].
        let from = target.sides().map(|s| source.axis_along(s.world_axis()));
        let flip = [0, 1, 2].map(|a| target.sides()[a] != source.sides()[from[a]]);
        let out_dim = from.map(|a| dim[a]);
        let stride = [1, dim[0], dim[0] * dim[1]];
        let mut out = Vec::with_capacity(self.voxels().len());
        let start = |a: usize, i: usize| stride[from[a]] * if flip[a] { out_dim[a] - 1 - i } else { i };
        for k in 0..out_dim[2] {
            for j in 0..out_dim[1] {
                let base = start(2, k) + start(1, j);
                out.extend((0..out_dim[0]).map(|i| self.voxels()[base + start(0, i)]));
            }
        }
        let mut columns = [[0.0; 3]; 3];
        let mut first = [0.0; 3];
        for a in 0..3 {
            let c = self.affine().column(from[a]);
            columns[a] = if flip[a] { c.map(|v| -v) } else { c };
            if flip[a] {
                first[from[a]] = (out_dim[a].max(1) - 1) as f64;
            }
        }
        let affine = Affine::from_columns(columns, self.affine().apply(first));
        Volume::from_parts(out.into(), out_dim, affine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_orientation_and_back_is_the_identity() {
        let voxels: Vec<u16> = (0..2 * 3 * 4).collect();
        let affine = Affine { rows: [[0.75, 0.02, 0.1, -9.0], [-0.02, 0.5, 0.2, 4.0], [-0.05, -0.1, 2.5, 7.0]] };
        let volume = Volume::from_vec(voxels, [2, 3, 4], affine).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for orientation in Orientation::all() {
            seen.insert(orientation.to_string());
            let there = volume.reoriented(orientation);
            assert_eq!(there.affine().orientation(), orientation);
            // The voxel at a world position stays there.
            let p = there.affine().inverse().unwrap().apply(affine.apply([1.0, 2.0, 3.0])).map(f64::round);
            assert_eq!(there.get([p[0] as usize, p[1] as usize, p[2] as usize]), volume.get([1, 2, 3]));
            let back = there.reoriented(affine.orientation());
            assert_eq!(back.voxels(), volume.voxels());
            assert!(back.affine().largest_corner_shift_mm(&affine, [2, 3, 4]) < 1e-9);
        }
        assert_eq!(seen.len(), 48);
    }

    #[test]
    fn names_parse_or_say_why() {
        assert_eq!("lpi".parse::<Orientation>().unwrap().to_string(), "LPI");
        assert!("RLS".parse::<Orientation>().is_err());
        assert!("RAx".parse::<Orientation>().is_err());
    }
}
