use crate::{Affine, Error, Result, Side};
use std::str::FromStr;

/// Plane in which a volume is cut into slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Plane {
    Axial,
    Coronal,
    Sagittal,
}

impl Plane {
    /// World axis (0 R/L, 1 A/P, 2 S/I) across this plane.
    #[must_use]
    pub fn normal(self) -> usize {
        match self {
            Self::Axial => 2,
            Self::Coronal => 1,
            Self::Sagittal => 0,
        }
    }
}

impl std::fmt::Display for Plane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Axial => "axial",
            Self::Coronal => "coronal",
            Self::Sagittal => "sagittal",
        })
    }
}

impl FromStr for Plane {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "axial" => Ok(Self::Axial),
            "coronal" => Ok(Self::Coronal),
            "sagittal" => Ok(Self::Sagittal),
            _ => Err(Error::InvalidArgument {
                what: "plane",
                found: text.into(),
                expected: "axial, coronal or sagittal".into(),
            }),
        }
    }
}

/// How one slice lies in its volume: which stored axes run along the slice, and which of them are turned for display.
///
/// *Stored* pixels: x along the first of the two remaining stored axes, y along the second, both as stored (this is the
/// frame of prompt files, specs: cli.md). *Shown* pixels: as a radiologist looks at them, axial columns towards the patient's
/// left and rows towards posterior; coronal left and inferior; sagittal posterior and inferior. Networks see shown pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceFrame {
    /// Stored axis of the stored x, the stored y and the slice number.
    pub axes: [usize; 3],
    /// Shown columns run along stored y (and rows along stored x).
    pub transposed: bool,
    /// Shown columns run against their stored axis.
    pub flip_columns: bool,
    /// Shown rows run against their stored axis.
    pub flip_rows: bool,
}

/// The slices of a volume along a plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceStack {
    /// How each slice lies in the volume.
    pub frame: SliceFrame,
    /// Stored pixels along stored x and y of a slice.
    pub size: [usize; 2],
    /// Number of slices.
    pub slices: usize,
    dim: [usize; 3],
}

impl SliceStack {
    /// Slices of a grid along the stored axis that is closest to the plane's normal.
    #[must_use]
    pub fn new(dim: [usize; 3], affine: &Affine, plane: Plane) -> Self {
        let orientation = affine.orientation();
        let across = orientation.axis_along(plane.normal());
        let (x, y) = match across {
            0 => (1, 2),
            1 => (0, 2),
            _ => (0, 1),
        };
        let (columns, rows) = match plane {
            Plane::Axial => (Side::Left, Side::Posterior),
            Plane::Coronal => (Side::Left, Side::Inferior),
            Plane::Sagittal => (Side::Posterior, Side::Inferior),
        };
        let sides = orientation.sides();
        let transposed = sides[x].world_axis() != columns.world_axis();
        let (column_axis, row_axis) = if transposed { (y, x) } else { (x, y) };
        Self {
            frame: SliceFrame {
                axes: [x, y, across],
                transposed,
                flip_columns: sides[column_axis] != columns,
                flip_rows: sides[row_axis] != rows,
            },
            size: [dim[x], dim[y]],
            slices: dim[across],
            dim,
        }
    }

    /// The one slice of a picture, shown as stored.
    #[must_use]
    pub fn picture(width: usize, height: usize) -> Self {
        Self {
            frame: SliceFrame { axes: [0, 1, 2], transposed: false, flip_columns: false, flip_rows: false },
            size: [width, height],
            slices: 1,
            dim: [width, height, 1],
        }
    }

    /// Columns and rows of a shown slice.
    #[must_use]
    pub fn shown_size(&self) -> [usize; 2] {
        if self.frame.transposed { [self.size[1], self.size[0]] } else { self.size }
    }

    /// Linear voxel index of stored pixel (x, y) of a slice.
    #[must_use]
    pub fn linear(&self, x: usize, y: usize, slice: usize) -> usize {
        let stride = [1, self.dim[0], self.dim[0] * self.dim[1]];
        let [ax, ay, az] = self.frame.axes;
        x * stride[ax] + y * stride[ay] + slice * stride[az]
    }

    /// Linear voxel indices of the shown pixels of a slice, row by row: `(of pixel (0, 0), step of a column, step of a row)`.
    #[must_use]
    pub fn shown_strides(&self, slice: usize) -> (usize, isize, isize) {
        let step_x = self.linear(1, 0, 0) as isize;
        let step_y = self.linear(0, 1, 0) as isize;
        let (mut column, mut row) = if self.frame.transposed { (step_y, step_x) } else { (step_x, step_y) };
        let [w, h] = self.shown_size();
        let mut first = self.linear(0, 0, slice) as isize;
        if self.frame.flip_columns {
            first += column * (w as isize - 1);
            column = -column;
        }
        if self.frame.flip_rows {
            first += row * (h as isize - 1);
            row = -row;
        }
        (first as usize, column, row)
    }

    /// Calls `each(shown pixel number, linear voxel index)` for all pixels of a shown slice, row by row.
    pub fn for_each_shown(&self, slice: usize, mut each: impl FnMut(usize, usize)) {
        let (first, column, row) = self.shown_strides(slice);
        let [w, h] = self.shown_size();
        for y in 0..h {
            for x in 0..w {
                each(y * w + x, (first as isize + column * x as isize + row * y as isize) as usize);
            }
        }
    }

    /// A continuous stored position (pixel edges at integers) in the shown slice.
    #[must_use]
    pub fn to_shown(&self, x: f32, y: f32) -> (f32, f32) {
        let [w, h] = self.shown_size();
        let (mut u, mut v) = if self.frame.transposed { (y, x) } else { (x, y) };
        if self.frame.flip_columns {
            u = w as f32 - u;
        }
        if self.frame.flip_rows {
            v = h as f32 - v;
        }
        (u, v)
    }

    /// The inverse of [`SliceStack::to_shown`].
    #[must_use]
    pub fn to_stored(&self, u: f32, v: f32) -> (f32, f32) {
        let [w, h] = self.shown_size();
        let u = if self.frame.flip_columns { w as f32 - u } else { u };
        let v = if self.frame.flip_rows { h as f32 - v } else { v };
        if self.frame.transposed { (v, u) } else { (u, v) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Orientation, Volume};

    #[test]
    fn slices_of_all_orientations_look_the_same_and_stack_back() {
        let base = Volume::from_vec((0..60u8).collect(), [3, 4, 5], Affine::from_spacing_mm([1.0, 2.0, 3.0])).unwrap();
        for plane in [Plane::Axial, Plane::Coronal, Plane::Sagittal] {
            let look = |v: &Volume<u8>| {
                let stack = SliceStack::new(v.dim(), v.affine(), plane);
                let mut all: Vec<Vec<u8>> = (0..stack.slices)
                    .map(|s| {
                        let mut p = vec![0; stack.size[0] * stack.size[1]];
                        stack.for_each_shown(s, |i, l| p[i] = v.voxels()[l]);
                        p
                    })
                    .collect();
                let mut back = vec![0u8; 60];
                for (s, p) in all.iter().enumerate() {
                    stack.for_each_shown(s, |i, l| back[l] = p[i]);
                }
                assert_eq!(back, v.voxels());
                let (x, y) = stack.to_shown(0.5, 1.5);
                assert_eq!(stack.to_stored(x, y), (0.5, 1.5));
                all.sort();
                all
            };
            let expected = look(&base);
            for o in Orientation::all() {
                assert_eq!(look(&base.reoriented(o)), expected);
            }
        }
    }
}
