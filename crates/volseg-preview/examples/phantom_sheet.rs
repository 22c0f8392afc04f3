//! Draws a contact sheet of a synthetic CT: `cargo run --release -p volseg-preview --example phantom_sheet -- sheet.png [seed]`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]
use std::{error::Error, fs};
use volseg_geometry::{AnyVolume, Window};
use volseg_phantom::{CtOptions, ct_abdomen};
use volseg_preview::{Options, Scene, draw};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("name the PNG file to write")?;
    let seed = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let options = CtOptions { spacing_mm: Some([1.5, 1.5, 3.0]), ..CtOptions::default() };
    let phantom = ct_abdomen(seed, &options)?;
    let image = AnyVolume::from(phantom.image);
    let sheet = draw(&Scene::new(&image).with_labels(&phantom.labels), &Options::new(Window::SOFT_TISSUE))?;
    fs::write(path, sheet.to_png()?)?;
    Ok(())
}
