//! What is made of a finished case besides its label map.

use crate::{Error, Segmentation};
use volseg_geometry::{LabelMap, Modality, OrganId, Window};
use volseg_io::Image;

/// The label map of one organ alone, with its own id.
///
/// # Errors
/// A grid that cannot be.
pub fn only_organ(labels: &LabelMap, organ: OrganId) -> Result<LabelMap, Error> {
    let voxels = labels.voxels().iter().map(|&v| if v == organ.get() { v } else { 0 }).collect();
    Ok(LabelMap::from_vec(voxels, labels.dim(), *labels.affine())?)
}

/// A PNG of slices with the organs drawn over them.
///
/// # Errors
/// An image without voxels.
pub fn preview_png(image: &Image, result: &Segmentation) -> Result<Vec<u8>, Error> {
    let mut scene =
        volseg_preview::Scene::new(&image.volume).with_scale(image.slope, image.intercept).with_labels(&result.labels);
    if image.is_picture() {
        scene = scene.as_picture();
    }
    let window = if image.is_picture() { Window::of(Modality::Xray) } else { Window::of(result.modality) };
    Ok(volseg_preview::draw(&scene, &volseg_preview::Options::new(window))?.to_png()?)
}
