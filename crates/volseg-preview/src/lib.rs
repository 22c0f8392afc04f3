//! Pictures of volumes with organs drawn over them: contact sheets of slices, and single X-rays or ultrasounds.
//!
//! Everything is drawn in memory, without a display server or fonts of the system. Slices are shown as a radiologist looks at
//! them, with the letters of the patient's sides at the edges; organs have an outline and a half-transparent fill in their
//! own colour and stand in the legend with their volume.
//!
//! ```
//! use volseg_geometry::{Affine, AnyVolume, Volume, Window};
//! use volseg_preview::{Options, Scene, draw};
//! let grid = Affine::from_spacing_mm([1.0, 1.0, 2.0]);
//! let image = AnyVolume::from(Volume::from_vec(vec![40i16; 8 * 8 * 4], [8, 8, 4], grid)?);
//! let labels = Volume::from_vec((0..256).map(|i| u8::from(i % 8 > 3) * 6).collect(), [8, 8, 4], grid)?;
//! let sheet = draw(&Scene::new(&image).with_labels(&labels), &Options::new(Window::SOFT_TISSUE)).unwrap();
//! assert!(sheet.to_png().unwrap().starts_with(b"\x89PNG"));
//! # Ok::<(), volseg_geometry::Error>(())
//! ```
#![forbid(unsafe_code)]

mod canvas;
mod error;
mod legend;
mod pick;
mod sheet;
mod tile;

pub use canvas::Canvas;
pub use error::{Error, Result};
pub use legend::colour;
pub use sheet::{Options, Scene, draw};
