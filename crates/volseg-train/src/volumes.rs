//! CT phantoms in memory, as slices to draw from.

use crate::{Error, PhantomSet, Random};
use rayon::prelude::*;
use volseg_geometry::{AnyVolume, OrganId, Plane, SliceStack};
use volseg_io::Image;
use volseg_model::embedded::{BODY_HU, body_box, neighbours};
use volseg_phantom::{CtOptions, ct_abdomen};

/// A CT volume with labels, cut axially.
#[derive(Debug)]
pub(crate) struct CtVolume {
    hu: Vec<i16>,
    labels: Vec<u8>,
    pub(crate) stack: SliceStack,
    /// x0, y0, x1, y1 of the body in shown pixels.
    pub(crate) body: [f32; 4],
    /// Slice before and after, for every slice.
    pub(crate) beside: Vec<[usize; 2]>,
    /// Organs (bit = id) of every slice.
    pub(crate) organs: Vec<u32>,
}

impl CtVolume {
    pub(crate) fn phantom(seed: u64) -> Result<Self, Error> {
        let mut random = Random::at(&[seed, 77]);
        let plane = f64::from(random.uniform(2.0, 3.0));
        let options =
            CtOptions { spacing_mm: Some([plane, plane, f64::from(random.uniform(2.5, 5.0))]), ..CtOptions::default() };
        let phantom = ct_abdomen(seed, &options).map_err(|e| Error::Data(e.to_string()))?;
        let (dim, affine) = (phantom.image.dim(), *phantom.image.affine());
        let stack = SliceStack::new(dim, &affine, Plane::Axial);
        let labels = phantom.labels.voxels().to_vec();
        let hu = phantom.image.voxels().to_vec();
        Ok(Self::new(hu, labels, stack, &phantom.image.into(), 1.0, 0.0))
    }

    /// A CT that was read, with one organ outlined: `inside` holds its voxels.
    pub(crate) fn of_image(image: &Image, stack: SliceStack, inside: &[bool], organ: OrganId) -> Self {
        let value = |n| (image.volume.value(n) * image.slope + image.intercept).round();
        let hu = (0..inside.len()).map(|n| value(n).clamp(-32768.0, 32767.0) as i16).collect();
        let labels = inside.iter().map(|&i| if i { organ.get() } else { 0 }).collect();
        Self::new(hu, labels, stack, &image.volume, image.slope, image.intercept)
    }

    fn new(hu: Vec<i16>, labels: Vec<u8>, stack: SliceStack, volume: &AnyVolume, slope: f64, intercept: f64) -> Self {
        let spacing = volume.affine().spacing_mm()[stack.frame.axes[2]];
        let organs = (0..stack.slices)
            .map(|s| {
                let mut bits = 0u32;
                stack.for_each_shown(s, |_, l| bits |= 1 << labels[l]);
                bits & !1
            })
            .collect();
        let body = body_box(volume, slope, intercept, &stack, BODY_HU, false);
        let beside = (0..stack.slices).map(|s| neighbours(s, stack.slices, spacing)).collect();
        Self { hu, labels, stack, body: [body.x0, body.y0, body.x1, body.y1], beside, organs }
    }

    /// HU and labels of a shown slice.
    pub(crate) fn slice(&self, s: usize) -> (Vec<f32>, Vec<u8>) {
        let [w, h] = self.stack.shown_size();
        let (mut hu, mut labels) = (vec![0f32; w * h], vec![0u8; w * h]);
        self.stack.for_each_shown(s, |p, l| {
            hu[p] = f32::from(self.hu[l]);
            labels[p] = self.labels[l];
        });
        (hu, labels)
    }
}

/// Makes the phantoms of a set, in parallel.
pub(crate) fn make(set: &PhantomSet) -> Result<Vec<CtVolume>, Error> {
    (0..set.volumes as u64).into_par_iter().map(|n| CtVolume::phantom(set.first_seed + n)).collect()
}
