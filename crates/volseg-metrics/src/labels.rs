use crate::{Error, Result};
use rayon::prelude::*;
use volseg_geometry::{Affine, AnyVolume, Volume, Voxel};

/// How far from an integer a voxel of a float-typed file may be.
const INTEGER_SLACK: f64 = 1e-3;

/// A label map: ids 0 to 65535 on a grid, held in 8 or 16 bits, whatever the file's type.
#[derive(Clone, Debug)]
pub struct Labels {
    volume: AnyVolume,
}

/// The voxels of a [`Labels`], first index fastest.
#[derive(Clone, Copy, Debug)]
pub enum View<'a> {
    /// Ids up to 255.
    U8(&'a [u8]),
    /// Ids up to 65535.
    U16(&'a [u16]),
}

impl View<'_> {
    /// The id at a linear index (0 beyond the end).
    #[must_use]
    pub fn id(&self, linear: usize) -> u16 {
        match self {
            Self::U8(v) => v.get(linear).map_or(0, |&x| u16::from(x)),
            Self::U16(v) => v.get(linear).copied().unwrap_or(0),
        }
    }
}

impl Labels {
    /// Takes a volume as labels: `value = stored * slope + intercept` must be within 1e-3 of an integer from 0 to 65535.
    /// 8- and 16-bit integers without scaling are not copied. `which` names the map in errors.
    ///
    /// # Errors
    /// [`Error::NotALabel`] with the first bad voxel (fraction, NaN, infinity, negative, too large).
    pub fn new(volume: AnyVolume, slope: f64, intercept: f64, which: &str) -> Result<Self> {
        if slope == 1.0 && intercept == 0.0 {
            let negative = match &volume {
                AnyVolume::U8(_) | AnyVolume::U16(_) => return Ok(Self { volume }),
                AnyVolume::I8(v) => v.voxels().iter().position(|&x| x < 0),
                AnyVolume::I16(v) => v.voxels().iter().position(|&x| x < 0),
                _ => Some(0),
            };
            if negative.is_none() {
                return Ok(Self { volume });
            }
        }
        let volume = match &volume {
            AnyVolume::U8(v) => converted(v, slope, intercept, which),
            AnyVolume::I8(v) => converted(v, slope, intercept, which),
            AnyVolume::U16(v) => converted(v, slope, intercept, which),
            AnyVolume::I16(v) => converted(v, slope, intercept, which),
            AnyVolume::U32(v) => converted(v, slope, intercept, which),
            AnyVolume::I32(v) => converted(v, slope, intercept, which),
            AnyVolume::U64(v) => converted(v, slope, intercept, which),
            AnyVolume::I64(v) => converted(v, slope, intercept, which),
            AnyVolume::F32(v) => converted(v, slope, intercept, which),
            AnyVolume::F64(v) => converted(v, slope, intercept, which),
        }?;
        Ok(Self { volume })
    }

    /// A map without any label, on a grid.
    ///
    /// # Errors
    /// [`Error::Argument`] if the grid is too large for this machine.
    pub fn empty(dim: [usize; 3], affine: Affine) -> Result<Self> {
        let volume = Volume::<u8>::zeros(dim, affine).map_err(|e| geometry(&e))?;
        Ok(Self { volume: volume.into() })
    }

    /// The voxels.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        match &self.volume {
            AnyVolume::U8(v) => View::U8(v.voxels()),
            AnyVolume::U16(v) => View::U16(v.voxels()),
            // Checked for negative values by `new`: the bits of both types agree.
            AnyVolume::I8(v) => View::U8(bytemuck::cast_slice(v.voxels())),
            AnyVolume::I16(v) => View::U16(bytemuck::cast_slice(v.voxels())),
            _ => View::U8(&[]),
        }
    }

    /// Voxels along the three axes.
    #[must_use]
    pub fn dim(&self) -> [usize; 3] {
        self.volume.dim()
    }

    /// Index to RAS mm.
    #[must_use]
    pub fn affine(&self) -> &Affine {
        self.volume.affine()
    }

    /// The labels read at other places: voxel `n` of the new map is voxel `source(n)` of this one, 0 where that is `None`.
    ///
    /// # Errors
    /// [`Error::Argument`] if the grid is too large for this machine.
    pub(crate) fn gathered(
        &self,
        dim: [usize; 3],
        affine: Affine,
        source: impl Fn([usize; 3]) -> Option<[usize; 3]> + Sync,
    ) -> Result<Self> {
        fn gather<T: Copy + Default + Send + Sync>(
            from: &[T],
            from_dim: [usize; 3],
            dim: [usize; 3],
            source: impl Fn([usize; 3]) -> Option<[usize; 3]> + Sync,
        ) -> Vec<T> {
            let mut out = vec![T::default(); dim.iter().product()];
            out.par_chunks_mut((dim[0] * dim[1]).max(1)).enumerate().for_each(|(k, plane)| {
                for (n, voxel) in plane.iter_mut().enumerate() {
                    let place = source([n % dim[0], n / dim[0], k]);
                    let id = place.and_then(|s| from.get(s[0] + from_dim[0] * (s[1] + from_dim[1] * s[2])));
                    *voxel = id.copied().unwrap_or_default();
                }
            });
            out
        }
        let volume = match self.view() {
            View::U8(v) => Volume::from_vec(gather(v, self.dim(), dim, source), dim, affine).map(AnyVolume::from),
            View::U16(v) => Volume::from_vec(gather(v, self.dim(), dim, source), dim, affine).map(AnyVolume::from),
        };
        Ok(Self { volume: volume.map_err(|e| geometry(&e))? })
    }
}

pub(crate) fn geometry(error: &volseg_geometry::Error) -> Error {
    Error::Argument { what: "grid".into(), found: error.to_string(), expected: "a usable grid".into() }
}

fn converted<T: Voxel>(volume: &Volume<T>, slope: f64, intercept: f64, which: &str) -> Result<AnyVolume> {
    let (mut out, mut wide) = (Vec::new(), Vec::new());
    out.reserve_exact(volume.voxels().len());
    for (n, v) in volume.voxels().iter().enumerate() {
        let value = v.to_f64() * slope + intercept;
        let id = value.round();
        // Written so that NaN is refused too.
        if !((value - id).abs() <= INTEGER_SLACK && (0.0..=65535.0).contains(&id)) {
            let [nx, ny, _] = volume.dim();
            let index = [n % nx.max(1), n / nx.max(1) % ny.max(1), n / (nx * ny).max(1)];
            return Err(Error::NotALabel { which: which.into(), index, found: value });
        }
        let id = id as u16;
        if wide.is_empty() {
            if let Ok(small) = u8::try_from(id) {
                out.push(small);
                continue;
            }
            wide.reserve_exact(volume.voxels().len());
            wide.extend(out.iter().map(|&x| u16::from(x)));
            out = Vec::new();
        }
        wide.push(id);
    }
    let (dim, affine) = (volume.dim(), *volume.affine());
    let made = if wide.is_empty() {
        Volume::from_vec(out, dim, affine).map(AnyVolume::from)
    } else {
        Volume::from_vec(wide, dim, affine).map(AnyVolume::from)
    };
    made.map_err(|e| geometry(&e))
}
