//! Synthetic pictures with exact labels, from a seed: CT abdomens, chest X-rays, breast ultrasounds.
//!
//! Anatomy is a set of solids in millimetres, so that any grid shows the same patient. Nothing here is taken from a
//! real picture; sizes follow published ranges (tests: `organ volumes`).
//!
//! ```
//! use volseg_phantom::{CtOptions, ct_abdomen};
//! let options = CtOptions { spacing_mm: Some([6.0; 3]), ..CtOptions::default() };
//! let phantom = ct_abdomen(7, &options).unwrap();
//! assert!(phantom.labels.voxels().contains(&6));
//! ```
#![forbid(unsafe_code)]

mod ct;
mod draw;
mod error;
mod noise;
mod picture;
mod shape;
mod ultrasound;
mod xray;

pub use ct::{Coverage, CtOptions, CtPhantom, MOST_VOXELS, Phase, Size, ct_abdomen};
pub use error::{Error, Result};
pub use picture::PicturePhantom;
pub use ultrasound::breast_ultrasound;
pub use xray::chest_xray;
