//! CTs in memory, phantoms and real ones, as slices to draw from.

use crate::{Error, PhantomSet, Random};
use rayon::prelude::*;
use volseg_geometry::{AnyVolume, OrganId, Plane, SliceStack};
use volseg_io::Image;
use volseg_model::embedded::{BODY_HU, body_box, neighbours};
use volseg_phantom::{CtOptions, ct_abdomen};

/// The organs of CTs have the ids below this one.
pub(crate) const CT_ORGANS_END: u8 = 16;

/// A CT volume with labels, cut axially, in the order in which slices are shown: 3 bytes a voxel.
#[derive(Debug)]
pub(crate) struct CtVolume {
    hu: Vec<i16>,
    labels: Vec<u8>,
    /// Columns and rows of a shown slice.
    pub(crate) size: [usize; 2],
    /// x0, y0, x1, y1 of the body in shown pixels.
    pub(crate) body: [f32; 4],
    /// Slice before and after, for every slice.
    pub(crate) beside: Vec<[usize; 2]>,
    /// Organs (bit = id) of every slice.
    pub(crate) organs: Vec<u32>,
    /// Ids of the organs that the labels speak of: where one of these is not outlined, it is not there.
    pub(crate) known: Vec<u8>,
}

impl CtVolume {
    pub(crate) fn phantom(seed: u64) -> Result<Self, Error> {
        let mut random = Random::at(&[seed, 77]);
        let plane = f64::from(random.uniform(2.0, 3.0));
        let options =
            CtOptions { spacing_mm: Some([plane, plane, f64::from(random.uniform(2.5, 5.0))]), ..CtOptions::default() };
        let phantom = ct_abdomen(seed, &options).map_err(|e| Error::Data(e.to_string()))?;
        let stack = SliceStack::new(phantom.image.dim(), phantom.image.affine(), Plane::Axial);
        let labels = phantom.labels.voxels();
        let image = Image::new(phantom.image.into());
        Ok(Self::new(&image, &stack, |l| labels[l], (1..CT_ORGANS_END).collect(), usize::MAX))
    }

    /// A CT that was read, with one organ outlined: `inside` is not 0 in its voxels.
    pub(crate) fn of_image(image: &Image, stack: &SliceStack, inside: &[u8], organ: OrganId) -> Self {
        let label = |l: usize| if inside[l] != 0 { organ.get() } else { 0 };
        Self::new(image, stack, label, vec![organ.get()], usize::MAX)
    }

    /// `label` gives the organ id of a voxel by its linear index. Slices wider or higher than `most` pixels are thinned by a
    /// whole number: the mean of the HU, the label in the middle.
    pub(crate) fn new(
        image: &Image,
        stack: &SliceStack,
        label: impl Fn(usize) -> u8,
        known: Vec<u8>,
        most: usize,
    ) -> Self {
        let volume: &AnyVolume = &image.volume;
        let [w, h] = stack.shown_size();
        let by = w.max(h).div_ceil(most).max(1);
        let size @ [tw, th] = [w / by, h / by];
        let mut hu = Vec::with_capacity(tw * th * stack.slices);
        let mut labels = Vec::with_capacity(tw * th * stack.slices);
        let mut organs = Vec::with_capacity(stack.slices);
        for s in 0..stack.slices {
            let (first, column, row) = stack.shown_strides(s);
            let at = |x: usize, y: usize| (first as isize + column * x as isize + row * y as isize) as usize;
            let mut bits = 0u32;
            for (x, y) in (0..tw * th).map(|p| (p % tw * by, p / tw * by)) {
                let block = (0..by * by).map(|n| volume.value(at(x + n % by, y + n / by)));
                let mean = block.sum::<f64>() / (by * by) as f64 * image.slope + image.intercept;
                hu.push(mean.round().clamp(-32768.0, 32767.0) as i16);
                let id = label(at(x + by / 2, y + by / 2));
                bits |= 1 << id;
                labels.push(id);
            }
            organs.push(bits & !1);
        }
        let b = body_box(volume, image.slope, image.intercept, stack, BODY_HU, false);
        let spacing = volume.affine().spacing_mm()[stack.frame.axes[2]];
        let beside = (0..stack.slices).map(|s| neighbours(s, stack.slices, spacing)).collect();
        Self { hu, labels, size, body: [b.x0, b.y0, b.x1, b.y1].map(|v| v / by as f32), beside, organs, known }
    }

    /// HU and labels of a shown slice.
    pub(crate) fn slice(&self, s: usize) -> (Vec<f32>, &[u8]) {
        let pixels = self.size[0] * self.size[1];
        let here = s * pixels..(s + 1) * pixels;
        (self.hu[here.clone()].iter().map(|&v| f32::from(v)).collect(), &self.labels[here])
    }

    /// Slices that show an organ, at most `most` of them, evenly placed.
    pub(crate) fn showing(&self, organ: u8, most: usize) -> Vec<usize> {
        let all: Vec<usize> = (0..self.organs.len()).filter(|&s| self.organs[s] >> organ & 1 == 1).collect();
        let n = all.len().min(most);
        (0..n).map(|k| all[(2 * k + 1) * all.len() / (2 * n)]).collect()
    }
}

/// Makes the phantoms of a set, in parallel.
pub(crate) fn make(set: &PhantomSet) -> Result<Vec<CtVolume>, Error> {
    (0..set.volumes as u64).into_par_iter().map(|n| CtVolume::phantom(set.first_seed + n)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use volseg_geometry::{Affine, Volume};

    #[test]
    fn thinned_slices_keep_means_labels_and_body() {
        // Stored axes run right, anterior, superior: shown slices are turned by half a turn.
        let voxels: Vec<i16> = (0..8 * 8 * 2).map(|n| if n % 8 < 4 { -1000 } else { 100 + (n % 2) as i16 }).collect();
        let image = Image::new(Volume::from_vec(voxels, [8, 8, 2], Affine::from_spacing_mm([1.0; 3])).unwrap().into());
        let stack = SliceStack::new([8, 8, 2], image.volume.affine(), Plane::Axial);
        let label = |l: usize| u8::from(l % 8 >= 6) * 6;
        let whole = CtVolume::new(&image, &stack, label, vec![6], usize::MAX);
        let thin = CtVolume::new(&image, &stack, label, vec![6], 4);
        assert_eq!((whole.size, thin.size), ([8, 8], [4, 4]));
        let (hu, labels) = thin.slice(1);
        assert_eq!(hu[..4].iter().map(|&v| v > 0.0).collect::<Vec<_>>(), [true, true, false, false]);
        assert_eq!((hu[0], hu[3], &labels[..4]), (101.0, -1000.0, &[6, 0, 0, 0][..]));
        assert_eq!(thin.organs, [1 << 6; 2]);
        for (a, b) in thin.body.iter().zip(&whole.body) {
            assert_eq!(2.0 * a, *b);
        }
    }

    #[test]
    fn slices_are_taken_evenly() {
        let v = CtVolume::phantom(5).unwrap();
        let all = v.showing(6, usize::MAX);
        let few = v.showing(6, 4);
        assert!(all.len() > 8 && few.len() == 4 && few.is_sorted() && few.iter().all(|s| all.contains(s)));
        let [gap, ..] = [few[1] - few[0], few[2] - few[1], few[3] - few[2]];
        assert!(gap.abs_diff(all.len() / 4) <= 1 && v.showing(6, 0).is_empty());
    }
}
