use super::captions::ORGANS_KNOWN;
use crate::Random;
use crate::augment::{Reach, Warp, add_noise};
use crate::pictures::Picture;
use crate::volumes::CtVolume;
use volseg_geometry::{Window, resize_area, resize_bilinear};

/// Pictures are brought to this side once, by averaging, so that drawing views from them does not alias.
const KEPT: usize = 144;

/// A picture, or a CT volume of which one slice is taken.
pub(super) enum Source {
    Picture { grey: Vec<f32>, mask: Vec<u8>, organ: usize },
    Ct(CtVolume),
}

/// A slice as the network sees it and what is known of it.
pub(super) struct View {
    /// `side * side` grey values in 0..1.
    pub(super) grey: Vec<f32>,
    pub(super) side: usize,
    /// For organ id - 1: soft mask of `side * side`, empty where the organ is absent; `None` where nobody knows.
    pub(super) masks: Vec<Option<Vec<f32>>>,
    /// The factor that hides parts of the normalised picture, if any.
    pub(super) cover: Option<Vec<f32>>,
}

impl Source {
    pub(super) fn picture(p: &Picture) -> Self {
        let [w, h] = p.size;
        let grey = resize_area(&p.grey, w, h, KEPT, KEPT).iter().map(|v| v / 255.0).collect();
        let mask: Vec<f32> = p.mask.iter().map(|&m| f32::from(m)).collect();
        let mask = resize_area(&mask, w, h, KEPT, KEPT).iter().map(|&m| u8::from(m > 0.5)).collect();
        Self::Picture { grey, mask, organ: usize::from(p.organ.get()) }
    }

    pub(super) fn slices(&self) -> usize {
        match self {
            Self::Picture { .. } => 1,
            Self::Ct(v) => v.organs.len(),
        }
    }

    pub(super) fn draw_slice(&self, random: &mut Random) -> usize {
        let Self::Ct(v) = self else { return 0 };
        let mut slice = random.below(v.organs.len());
        // About one slice in ten is empty: the network must know those too.
        for _ in 0..3 {
            if v.organs[slice] == 0 && random.chance(0.7) {
                slice = random.below(v.organs.len());
            }
        }
        slice
    }

    pub(super) fn view(&self, slice: usize, side: usize, augment: bool, random: &mut Random) -> View {
        let mut reach = Reach::NONE;
        match self {
            Self::Picture { grey: source, mask, organ } => {
                if augment {
                    reach = Reach { rotation: 12.0, scale: 0.18, aspect: 0.1, shift: 0.06, bend: 0.0, mirror: true };
                }
                let whole = [0.0, 0.0, KEPT as f32, KEPT as f32];
                let (mut grey, mut soft) = (vec![0f32; side * side], vec![0f32; side * side]);
                Warp::random(whole, side, &reach, random).for_each([KEPT, KEPT], |o, taps| {
                    for (i, w) in taps {
                        if let Some(i) = i {
                            grey[o] += w * source[i];
                            soft[o] += w * f32::from(mask[i]);
                        }
                    }
                });
                if augment {
                    disturb(&mut grey, side, random);
                }
                // A picture of one kind shows none of the other organs.
                let mut masks = vec![Some(Vec::new()); ORGANS_KNOWN];
                if soft.iter().any(|&m| m > 0.5) {
                    masks[organ - 1] = Some(soft);
                }
                View { grey, side, masks, cover: None }
            }
            Self::Ct(v) => {
                if augment {
                    reach = Reach { rotation: 8.0, scale: 0.12, aspect: 0.06, shift: 0.04, bend: 0.0, mirror: false };
                }
                let (hu, labels) = v.slice(slice);
                let mut masks = vec![Some(Vec::new()); ORGANS_KNOWN];
                // Lung bases are seen but not labelled.
                masks[15] = None;
                let (gain, level) =
                    if augment { (random.uniform(0.9, 1.1), random.uniform(-20.0, 20.0)) } else { (1.0, 0.0) };
                let sigma = if augment { random.uniform(0.0, 22.0) } else { 0.0 };
                let mut grey = vec![0f32; side * side];
                Warp::random(v.body, side, &reach, random).for_each(v.size, |o, taps| {
                    let mut sum = 0.0;
                    for (i, w) in taps {
                        sum += w * i.map_or(-1000.0, |i| hu[i]);
                        let organ = i.map_or(0, |i| usize::from(labels[i]));
                        if let Some(Some(mask)) = organ.checked_sub(1).and_then(|o| masks.get_mut(o)) {
                            mask.resize(side * side, 0.0);
                            mask[o] += w;
                        }
                    }
                    grey[o] = sum * gain + level;
                });
                add_noise(&mut grey, side, sigma, random);
                Window::SOFT_TISSUE.apply(&mut grey);
                View { grey, side, masks, cover: None }
            }
        }
    }
}

/// Another exposure, and noise.
fn disturb(grey: &mut [f32], side: usize, random: &mut Random) {
    let gamma = random.uniform(-0.5, 0.5).exp();
    let (gain, level) = (random.uniform(-0.2, 0.2).exp(), random.uniform(-0.1, 0.1));
    for v in grey.iter_mut() {
        *v = v.max(0.0).powf(gamma) * gain + level;
    }
    add_noise(grey, side, random.uniform(0.0, 0.04), random);
    for v in grey {
        *v = v.clamp(0.0, 1.0);
    }
}

impl View {
    /// Share of each of `grid * grid` patches that the organ of `masks[n]` covers; `None` where nobody knows.
    pub(super) fn occupancy(&self, n: usize, grid: usize) -> Option<Vec<f32>> {
        let mask = self.masks[n].as_ref()?;
        Some(if mask.is_empty() { vec![0.0; grid * grid] } else { resize_area(mask, self.side, self.side, grid, grid) })
    }

    /// Hides what is outside one organ of the view (or outside a random spot), as a class activation map's mask will: soft,
    /// and never completely.
    pub(super) fn mask(&mut self, grid: usize, random: &mut Random) {
        let present: Vec<usize> =
            (0..ORGANS_KNOWN).filter(|&n| self.masks[n].as_ref().is_some_and(|m| !m.is_empty())).collect();
        let mut low = vec![0f32; grid * grid];
        if !present.is_empty() && random.chance(0.8) {
            low = self.occupancy(present[random.below(present.len())], grid).unwrap_or(low);
            let high = low.iter().copied().fold(1e-6, f32::max);
            low.iter_mut().for_each(|v| *v /= high);
        } else {
            let (x, y) = (random.uniform(0.0, grid as f32), random.uniform(0.0, grid as f32));
            let radius = random.uniform(0.1, 0.35) * grid as f32;
            for (p, v) in low.iter_mut().enumerate() {
                let (dx, dy) = ((p % grid) as f32 - x, (p / grid) as f32 - y);
                *v = (-(dx * dx + dy * dy) / (radius * radius)).exp();
            }
        }
        let floor = random.uniform(0.0, 0.35);
        let wobble = random.uniform(0.0, 0.2);
        for v in &mut low {
            *v = (floor + (1.0 - floor) * *v + wobble * random.uniform(-0.5, 0.5)).clamp(0.0, 1.0);
        }
        self.cover = Some(resize_bilinear(&low, grid, grid, self.side, self.side));
    }

    /// How much of an organ can be seen, 0..1; `None` where nobody knows.
    pub(super) fn presence(&self, n: usize) -> Option<f32> {
        let mask = self.masks[n].as_ref()?;
        let whole: f32 = mask.iter().sum();
        // Less than about two pixels is not seen by anybody.
        if whole < 2.0 {
            return Some(0.0);
        }
        let Some(cover) = &self.cover else { return Some(1.0) };
        let seen = mask.iter().zip(cover).map(|(m, c)| m * c).sum::<f32>() / whole;
        Some(((seen - 0.35) / 0.4).clamp(0.0, 1.0))
    }
}
