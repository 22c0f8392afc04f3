use crate::{Affine, Error, Result};
use std::{ops::Deref, sync::Arc};

/// A number that can be a voxel.
pub trait Voxel: bytemuck::Pod + Default + PartialOrd + Send + Sync + 'static {
    /// Its kind.
    const KIND: VoxelKind;
    /// As `f64`; exact for all kinds but 64-bit integers beyond 2^53.
    fn to_f64(self) -> f64;
}

macro_rules! voxel_kinds {
    ($($variant:ident $t:ty),*) => {
        /// Type of a stored voxel.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum VoxelKind { $($variant),* }
        impl VoxelKind {
            /// Bytes of one voxel.
            #[must_use]
            pub fn bytes(self) -> usize { match self { $(Self::$variant => size_of::<$t>()),* } }
            /// Rust's name of the type, such as `i16`.
            #[must_use]
            pub fn name(self) -> &'static str { match self { $(Self::$variant => stringify!($t)),* } }
        }
        $(impl Voxel for $t {
            const KIND: VoxelKind = VoxelKind::$variant;
            #[allow(clippy::cast_lossless)]
            fn to_f64(self) -> f64 { self as f64 }
        }
        impl From<Volume<$t>> for AnyVolume { fn from(v: Volume<$t>) -> Self { Self::$variant(v) } })*

        /// A volume whose voxel type is known at run time only.
        #[derive(Clone, Debug)]
        #[allow(missing_docs)]
        pub enum AnyVolume { $($variant(Volume<$t>)),* }

        impl AnyVolume {
            /// Size along the index axes.
            #[must_use]
            pub fn dim(&self) -> [usize; 3] { match self { $(Self::$variant(v) => v.dim()),* } }
            /// Index to RAS mm.
            #[must_use]
            pub fn affine(&self) -> &Affine { match self { $(Self::$variant(v) => v.affine()),* } }
            /// Replaces the affine.
            pub fn set_affine(&mut self, affine: Affine) { match self { $(Self::$variant(v) => v.affine = affine),* } }
            /// Stored type.
            #[must_use]
            pub fn kind(&self) -> VoxelKind { match self { $(Self::$variant(_) => VoxelKind::$variant),* } }
            /// The stored value at a linear index, as `f64`; 0 beyond the end.
            #[must_use]
            pub fn value(&self, linear: usize) -> f64 {
                match self { $(Self::$variant(v) => v.voxels().get(linear).map_or(0.0, |x| x.to_f64())),* }
            }
            /// The voxels' bytes in native order.
            #[must_use]
            pub fn bytes(&self) -> &[u8] { match self { $(Self::$variant(v) => bytemuck::cast_slice(v.voxels())),* } }
            /// The same voxels in another orientation; see [`Volume::reoriented`].
            #[must_use]
            pub fn reoriented(&self, target: crate::Orientation) -> Self {
                match self { $(Self::$variant(v) => Self::$variant(v.reoriented(target))),* }
            }
            /// All values as `f32`, times `slope` plus `intercept` (computed in `f64`).
            #[must_use]
            pub fn to_f32(&self, slope: f64, intercept: f64) -> Vec<f32> {
                let mut out = vec![0f32; self.dim().iter().product()];
                self.read_f32(0, slope, intercept, &mut out);
                out
            }
            /// Fills `out` with values from linear index `first` on, times `slope` plus `intercept` (computed in `f64`).
            /// Values beyond the end are left as they are.
            pub fn read_f32(&self, first: usize, slope: f64, intercept: f64, out: &mut [f32]) {
                match self { $(Self::$variant(v) => {
                    let voxels = v.voxels().get(first..).unwrap_or(&[]);
                    if slope == 1.0 && intercept == 0.0 {
                        for (o, x) in out.iter_mut().zip(voxels) { *o = x.to_f64() as f32; }
                    } else {
                        for (o, x) in out.iter_mut().zip(voxels) { *o = (x.to_f64() * slope + intercept) as f32; }
                    }
                }),* }
            }
        }
    };
}

voxel_kinds!(U8 u8, I8 i8, U16 u16, I16 i16, U32 u32, I32 i32, U64 u64, I64 i64, F32 f32, F64 f64);

/// Voxels: owned, or a view of shared bytes (a memory map) that are never copied.
#[derive(Clone)]
pub struct Voxels<T>(Storage<T>);

#[derive(Clone)]
enum Storage<T> {
    Owned(Arc<Vec<T>>),
    Shared { bytes: Arc<dyn AsRef<[u8]> + Send + Sync>, start: usize, end: usize },
}

impl<T: Voxel> Voxels<T> {
    /// A view of `count` voxels in native byte order that start at byte `start` of `bytes`.
    /// `None` if they leave the bytes or are not aligned for `T`.
    #[must_use]
    pub fn shared(bytes: Arc<dyn AsRef<[u8]> + Send + Sync>, start: usize, count: usize) -> Option<Self> {
        let end = count.checked_mul(size_of::<T>())?.checked_add(start)?;
        bytemuck::try_cast_slice::<u8, T>((*bytes).as_ref().get(start..end)?).ok()?;
        Some(Self(Storage::Shared { bytes, start, end }))
    }
}

impl<T> From<Vec<T>> for Voxels<T> {
    fn from(v: Vec<T>) -> Self {
        Self(Storage::Owned(Arc::new(v)))
    }
}

impl<T: Voxel> Deref for Voxels<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match &self.0 {
            Storage::Owned(v) => v,
            // Checked by `shared`; an object that shrinks afterwards reads as empty.
            Storage::Shared { bytes, start, end } => {
                (**bytes).as_ref().get(*start..*end).and_then(|b| bytemuck::try_cast_slice(b).ok()).unwrap_or(&[])
            }
        }
    }
}

impl<T: Voxel> std::fmt::Debug for Voxels<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} × {}", self.len(), T::KIND.name())
    }
}

/// Voxels on a grid in space. A 2D picture is a volume with `dim[2] == 1`.
#[derive(Clone, Debug)]
pub struct Volume<T: Voxel> {
    voxels: Voxels<T>,
    dim: [usize; 3],
    pub(crate) affine: Affine,
}

/// Organ ids (0 = background) on a grid; ids are those of [`crate::ORGANS`].
pub type LabelMap = Volume<u8>;

impl<T: Voxel> Volume<T> {
    /// From voxels with the first index fastest.
    ///
    /// # Errors
    /// [`Error::VoxelCount`] if `voxels` does not fill `dim`; [`Error::TooLarge`] if `dim` overflows.
    pub fn new(voxels: Voxels<T>, dim: [usize; 3], affine: Affine) -> Result<Self> {
        let expected = dim.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or(Error::TooLarge { dim })?;
        if voxels.len() != expected {
            return Err(Error::VoxelCount { found: voxels.len(), expected, dim });
        }
        Ok(Self { voxels, dim, affine })
    }

    /// [`Volume::new`] from a vector.
    ///
    /// # Errors
    /// As [`Volume::new`].
    pub fn from_vec(voxels: Vec<T>, dim: [usize; 3], affine: Affine) -> Result<Self> {
        Self::new(voxels.into(), dim, affine)
    }

    /// All voxels at `T::default()`.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if `dim` overflows.
    pub fn zeros(dim: [usize; 3], affine: Affine) -> Result<Self> {
        let n = dim.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or(Error::TooLarge { dim })?;
        Self::from_vec(vec![T::default(); n], dim, affine)
    }

    pub(crate) fn from_parts(voxels: Voxels<T>, dim: [usize; 3], affine: Affine) -> Self {
        Self { voxels, dim, affine }
    }

    /// Size along the index axes.
    #[must_use]
    pub fn dim(&self) -> [usize; 3] {
        self.dim
    }

    /// Index to RAS mm.
    #[must_use]
    pub fn affine(&self) -> &Affine {
        &self.affine
    }

    /// The voxels, first index fastest.
    #[must_use]
    pub fn voxels(&self) -> &[T] {
        &self.voxels
    }

    /// The voxels for writing. Copies them first if they are shared with another volume or a file.
    pub fn voxels_mut(&mut self) -> &mut [T] {
        if !matches!(self.voxels.0, Storage::Owned(_)) {
            self.voxels = self.voxels.to_vec().into();
        }
        match &mut self.voxels.0 {
            Storage::Owned(v) => Arc::make_mut(v).as_mut_slice(),
            Storage::Shared { .. } => &mut [],
        }
    }

    /// Linear index of a voxel.
    #[must_use]
    pub fn linear(&self, index: [usize; 3]) -> usize {
        index[0] + self.dim[0] * (index[1] + self.dim[1] * index[2])
    }

    /// The voxel at an index, `None` outside.
    #[must_use]
    pub fn get(&self, index: [usize; 3]) -> Option<T> {
        if (0..3).all(|a| index[a] < self.dim[a]) { self.voxels().get(self.linear(index)).copied() } else { None }
    }
}
