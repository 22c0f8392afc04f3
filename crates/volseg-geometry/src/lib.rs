//! Values of medical imaging: volumes with an affine, orientation, slices, windows, components, organs.
//!
//! No files and no tensors here. Conventions that hold in the whole project:
//!
//! * Voxels are stored with the **first index fastest**: voxel `(i, j, k)` of a volume of `dim = [nx, ny, nz]` stands at
//!   `i + nx * (j + ny * k)` (as NIfTI and NRRD do it).
//! * World coordinates are **RAS+ millimetres** (coordinates grow towards **R**ight, **A**nterior, **S**uperior).
//!   DICOM, NRRD and MetaImage speak LPS+; `volseg-io` negates the first two rows at the border (exact in binary floating point).
//! * Boxes of pixels are half-open: `x1`, `y1` are one past the last pixel.
//!
//! ```
//! use volseg_geometry::{Affine, Volume};
//! let volume = Volume::from_vec(vec![0u8; 24], [2, 3, 4], Affine::from_spacing_mm([0.7, 0.7, 5.0])).unwrap();
//! assert_eq!(volume.affine().spacing_mm(), [0.7, 0.7, 5.0]);
//! assert_eq!(volume.affine().orientation().to_string(), "RAS");
//! ```
#![forbid(unsafe_code)]

mod affine;
mod components;
mod error;
mod organ;
mod orientation;
mod pixelbox;
mod resize;
mod run_length;
mod slice;
mod volume;
mod window;

pub use affine::Affine;
pub use components::{Component2d, components_2d, components_3d, keep_largest_3d};
pub use error::{Error, Result};
pub use organ::{Code, LATERAL_PAIRS, ORGANS, Organ, OrganId};
pub use orientation::{Orientation, Side};
pub use pixelbox::PixelBox;
pub use resize::{resize_area, resize_bilinear, resize_bilinear_into};
pub use run_length::{decode_run_length, encode_run_length, run_length_pixels};
pub use slice::{Plane, SliceFrame, SliceStack};
pub use volume::{AnyVolume, LabelMap, Volume, Voxel, VoxelKind, Voxels};
pub use window::{Modality, Window};

/// The examples of the README are tested as those of this page.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
