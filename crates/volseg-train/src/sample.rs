//! One augmented slice with its truth, ready for the network.

use crate::augment::{Reach, Warp, add_noise, vary_contrast, vary_sharpness, vary_ultrasound};
use crate::pictures::Picture;
use crate::volumes::CtVolume;
use crate::{Asked, Random};
use std::sync::Arc;
use volseg_geometry::{Modality, PixelBox, Window};
use volseg_model::embedded::{normalise_grey, normalise_hu};

/// A slice as the network sees it, and the truth of every organ that its data set labels.
#[derive(Default)]
pub(crate) struct Sample {
    /// `[side, side, 3]`.
    pub(crate) input: Vec<f32>,
    /// Organ id and soft mask of `side * side`; an all-zero mask means the organ is known to be absent.
    pub(crate) truth: Vec<(u8, Vec<f32>)>,
    /// Whether this is a slice of a CT.
    pub(crate) ct: bool,
    /// The organ for which this slice was drawn; the decoder always gets a row for it.
    pub(crate) focus: Option<u8>,
    /// The one kind of prompt of its rows; they are mixed without one.
    pub(crate) asked: Option<Asked>,
    /// Feature of the organ's description.
    pub(crate) text: Option<Arc<[f32]>>,
    /// A given box, x0, y0, x1, y1 in pixels of the input.
    pub(crate) bounds: Option<[f32; 4]>,
}

impl Sample {
    pub(crate) fn picture(p: &Picture, side: usize, augment: bool, random: &mut Random) -> Self {
        if let Some((volume, slice)) = &p.ct {
            let mut sample = Self::ct(volume, *slice, side, augment, random);
            // Nothing is known of the other organs of this slice.
            sample.truth.retain(|(organ, _)| *organ == p.organ.get());
            sample.ct = false;
            return sample;
        }
        let ultrasound = p.modality == Modality::Ultrasound;
        // A lesion may be anywhere and of any size; a chest is not.
        let reach = match (augment, ultrasound) {
            (true, true) => Reach { rotation: 20.0, scale: 0.35, aspect: 0.25, shift: 0.15, bend: 0.03, mirror: true },
            (true, false) => Reach { rotation: 20.0, scale: 0.25, aspect: 0.12, shift: 0.08, bend: 0.0, mirror: true },
            (false, _) => Reach::NONE,
        };
        let whole = [0.0, 0.0, p.size[0] as f32, p.size[1] as f32];
        let (mut grey, mut mask) = (vec![0f32; side * side], vec![0f32; side * side]);
        let [across, down] = [0, 1].map(|n| side as f32 / p.size[n].max(1) as f32);
        let mut bounds = p.bounds.map(|[x0, y0, x1, y1]| [x0 * across, y0 * down, x1 * across, y1 * down]);
        if augment {
            let warp = Warp::random(whole, side, &reach, random);
            let within = |i: usize| {
                let (x, y) = ((i % p.size[0]) as f32 + 0.5, (i / p.size[0]) as f32 + 0.5);
                p.bounds.is_some_and(|[x0, y0, x1, y1]| (x0..x1).contains(&x) && (y0..y1).contains(&y))
            };
            let mut cover = vec![0f32; if p.bounds.is_some() { side * side } else { 0 }];
            warp.for_each(p.size, |o, taps| {
                for (i, w) in taps {
                    if let Some(i) = i {
                        grey[o] += w * p.grey[i];
                        mask[o] += w * f32::from(p.mask[i]);
                        if let Some(c) = cover.get_mut(o) {
                            *c += if within(i) { w } else { 0.0 };
                        }
                    }
                }
            });
            let cover: Vec<u8> = cover.iter().map(|&v| u8::from(v > 0.5)).collect();
            bounds = PixelBox::of_mask(&cover, side).map(|b| [b.x0, b.y0, b.x1, b.y1]);
            if ultrasound {
                vary_ultrasound(&mut grey, side, random);
            }
        } else {
            grey = volseg_model::embedded::stretch(&p.grey, p.size, side);
            let m: Vec<f32> = p.mask.iter().map(|&v| f32::from(v)).collect();
            mask = volseg_model::embedded::stretch(&m, p.size, side);
        }
        normalise_grey(&mut grey);
        if augment {
            let low = grey.iter().copied().fold(f32::INFINITY, f32::min);
            let high = grey.iter().copied().fold(f32::NEG_INFINITY, f32::max).max(low + 1e-3);
            let gamma = random.uniform(-0.5, 0.5).exp();
            for v in &mut grey {
                *v = low + (high - low) * ((*v - low) / (high - low)).powf(gamma);
            }
            let sigma = random.uniform(0.0, 0.12);
            add_noise(&mut grey, side, sigma, random);
            let (gain, level) = (random.uniform(-0.15, 0.15).exp(), random.uniform(-0.2, 0.2));
            for v in &mut grey {
                *v = *v * gain + level;
            }
        }
        let input = grey.iter().flat_map(|&v| [v, v, v]).collect();
        // A picture of one kind shows none of the other organs: the network learns to say so for a wrong modality.
        let absent = (1..=17u8).filter(|&o| o != p.organ.get()).map(|o| (o, vec![0f32; side * side]));
        let truth = std::iter::once((p.organ.get(), mask)).chain(absent).collect();
        Self { input, truth, text: p.text.clone(), bounds, ..Self::default() }
    }

    pub(crate) fn ct(v: &CtVolume, slice: usize, side: usize, augment: bool, random: &mut Random) -> Self {
        let reach = if augment {
            Reach { rotation: 12.0, scale: 0.2, aspect: 0.12, shift: 0.06, bend: 0.03, mirror: false }
        } else {
            Reach::NONE
        };
        let phase = (augment && random.chance(0.5)).then(|| (random.uniform(-15.0, 15.0), random.uniform(0.35, 1.25)));
        let sharpness = if augment && random.chance(0.4) { random.uniform(-0.5, 0.8) } else { 0.0 };
        let size = v.size;
        let mut source = v.body;
        if augment && random.chance(0.1) {
            source = [0.0, 0.0, size[0] as f32, size[1] as f32];
        }
        let warp = Warp::random(source, side, &reach, random);
        let mut beside = v.beside[slice];
        if augment && random.chance(0.15) {
            // A single slice, such as a picture of a CT, has no neighbours: it stands in for them.
            beside = [slice, slice];
        }
        let [before, after] = beside;
        let mut input = vec![0f32; side * side * 3];
        let mut masks: Vec<Option<Vec<f32>>> = (0..16).map(|_| None).collect();
        let (gain, level) = if augment { (random.uniform(0.9, 1.1), random.uniform(-20.0, 20.0)) } else { (1.0, 0.0) };
        let sigma = if augment { random.uniform(0.0, 22.0) } else { 0.0 };
        // A picture of a CT was made with a window that nobody knows; it is read as if it were the soft-tissue window.
        let picture = (augment && random.chance(0.25)).then(|| {
            let low = random.uniform(-220.0, 20.0);
            Window::Range { low, high: low + random.uniform(180.0, 450.0) }
        });
        for (channel, s) in [before, slice, after].into_iter().enumerate() {
            let (mut hu, labels) = v.slice(s);
            if let Some((shift, slope)) = phase {
                vary_contrast(&mut hu, shift, slope);
            }
            let mut plane = vec![0f32; side * side];
            warp.for_each(size, |o, taps| {
                let mut sum = 0.0;
                for (i, w) in taps {
                    sum += w * i.map_or(-1000.0, |i| hu[i]);
                    if let (1, Some(i)) = (channel, i) {
                        let organ = usize::from(labels[i]);
                        if organ != 0 {
                            masks[organ].get_or_insert_with(|| vec![0f32; side * side])[o] += w;
                        }
                    }
                }
                plane[o] = sum * gain + level;
            });
            if sharpness != 0.0 {
                vary_sharpness(&mut plane, side, sharpness);
            }
            add_noise(&mut plane, side, sigma, random);
            if let Some(picture) = &picture {
                picture.apply(&mut plane);
                plane.iter_mut().for_each(|v| *v = *v * 400.0 - 160.0);
            }
            normalise_hu(&mut plane);
            for (p, v) in input.chunks_exact_mut(3).zip(&plane) {
                p[channel] = *v;
            }
        }
        let truth = v
            .known
            .iter()
            .copied()
            .chain([17])
            .map(|organ| {
                let mask = masks.get_mut(usize::from(organ)).and_then(Option::take);
                (organ, mask.unwrap_or_else(|| vec![0f32; side * side]))
            })
            .collect();
        Self { input, truth, ct: true, ..Self::default() }
    }
}
