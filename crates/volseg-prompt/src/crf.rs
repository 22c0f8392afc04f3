//! Dense conditional random field over a slice: every pixel pulls every other towards its own label, the more so the nearer
//! and the more alike they are (Krähenbühl and Koltun 2011, 2013; filter of Adams, Baek and Davis 2010; specs: densecrf.md).
//!
//! The lattices are built once a slice; all organs of the slice then run through them together.

mod keys;
mod lattice;
mod settings;
mod simplex;
mod unary;

pub use settings::CrfSettings;
pub use unary::saliency_energies;

use crate::Error;
use lattice::{BAND, Lattice};
use rayon::prelude::*;
use std::sync::Arc;

/// Most pixels of a picture: 4096 x 4096.
const MAX_PIXELS: usize = 1 << 24;

/// Most labels of [`DenseCrf::marginals`].
const MAX_LABELS: usize = 32;

/// Organs that run together through the lattices.
const GROUP: usize = 16;

/// The picture that edges are taken from, row by row, 8 bits: windowed for CT, so that soft tissue has contrast.
#[derive(Clone, Copy, Debug)]
pub enum Guide<'a> {
    /// One byte a pixel; stands for three equal colours.
    Grey(&'a [u8]),
    /// Three bytes a pixel.
    Rgb(&'a [u8]),
}

impl Guide<'_> {
    fn pixels(&self) -> usize {
        match self {
            Self::Grey(g) => g.len(),
            Self::Rgb(c) if c.len() % 3 == 0 => c.len() / 3,
            Self::Rgb(_) => 0,
        }
    }

    fn colour(&self, pixel: usize) -> [f32; 3] {
        match self {
            Self::Grey(g) => [f32::from(g[pixel]); 3],
            Self::Rgb(c) => [0, 1, 2].map(|n| f32::from(c[3 * pixel + n])),
        }
    }
}

/// A dense CRF over one slice.
///
/// ```
/// use volseg_prompt::crf::{CrfSettings, DenseCrf, Guide};
/// // A bright square, and a saliency map that has seen a part of it.
/// let inside = |n: usize, from: usize| (from..22).contains(&(n % 32)) && (from..22).contains(&(n / 32));
/// let picture: Vec<u8> = (0..1024).map(|n| if inside(n, 10) { 200 } else { 20 }).collect();
/// let saliency: Vec<f32> = (0..1024).map(|n| if inside(n, 12) { 0.9 } else { 0.4 }).collect();
/// let crf = DenseCrf::new(32, 32, Guide::Grey(&picture), &"medclip-sam-v1,iterations=5".parse()?)?;
/// let target = &crf.refine(&[&saliency])?[0];
/// assert!((0..1024).all(|n| (target[n] > 0.5) == inside(n, 10)));
/// # Ok::<(), volseg_prompt::Error>(())
/// ```
pub struct DenseCrf {
    width: usize,
    height: usize,
    settings: CrfSettings,
    smoothness: Option<Arc<Lattice>>,
    appearance: Option<Lattice>,
}

impl std::fmt::Debug for DenseCrf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DenseCrf")
            .field("width", &self.width)
            .field("height", &self.height)
            .field("settings", &self.settings)
            .field("vertices", &self.vertices())
            .finish()
    }
}

impl DenseCrf {
    /// Builds the lattices of a picture of `width` x `height` pixels.
    ///
    /// # Errors
    /// [`Error::Request`] for settings that cannot work, [`Error::Input`] for a picture of another size than stated, without
    /// pixels or beyond 4096 x 4096 pixels.
    pub fn new(width: usize, height: usize, guide: Guide<'_>, settings: &CrfSettings) -> Result<Self, Error> {
        let pixels = width.saturating_mul(height);
        if pixels == 0 || pixels > MAX_PIXELS {
            return Err(Error::Input(format!("CRF picture is {width} x {height}, expected 1 to {MAX_PIXELS} pixels")));
        }
        settings.check()?;
        let settings = settings.for_size(width, height);
        settings.check()?;
        let smoothness = (settings.smooth_compat > 0.0).then(|| {
            let s = settings.smooth_sxy;
            Arc::new(Lattice::new(pixels, |n| [(n % width) as f32 / s, (n / width) as f32 / s]))
        });
        let mut crf = Self { width, height, settings, smoothness, appearance: None };
        crf.appearance = crf.appearance_of(guide)?;
        Ok(crf)
    }

    /// The CRF of another picture of the same size with the same settings: the lattice of the smoothness term, which only
    /// knows the size, is shared.
    ///
    /// # Errors
    /// [`Error::Input`] if the picture is of another size.
    pub fn for_picture(&self, guide: Guide<'_>) -> Result<Self, Error> {
        let appearance = self.appearance_of(guide)?;
        Ok(Self { settings: self.settings.clone(), smoothness: self.smoothness.clone(), appearance, ..*self })
    }

    fn appearance_of(&self, guide: Guide<'_>) -> Result<Option<Lattice>, Error> {
        let (width, pixels) = (self.width, self.width * self.height);
        if guide.pixels() != pixels {
            return Err(Error::Input(format!("CRF picture has {} pixels, expected {pixels}", guide.pixels())));
        }
        let (sxy, srgb) = (self.settings.sxy, self.settings.srgb);
        Ok((self.settings.compat > 0.0).then(|| {
            Lattice::new(pixels, |n| {
                let [r, g, b] = guide.colour(n).map(|c| c / srgb);
                [(n % width) as f32 / sxy, (n / width) as f32 / sxy, r, g, b]
            })
        }))
    }

    /// The settings, with position deviations in pixels of this picture.
    #[must_use]
    pub fn settings(&self) -> &CrfSettings {
        &self.settings
    }

    /// Vertices of the lattices of smoothness and appearance; 0 for a term that is left out.
    #[must_use]
    pub fn vertices(&self) -> [usize; 2] {
        let count = |l: Option<&Lattice>| l.map_or(0, Lattice::vertices);
        [count(self.smoothness.as_deref()), count(self.appearance.as_ref())]
    }

    /// Probability of the target at each pixel for each saliency map (values in 0..1, clipped, row by row). The maps do not
    /// see each other: each has the bits that it would have alone.
    ///
    /// # Errors
    /// [`Error::Input`] for a map of another size or with a value that is no number.
    pub fn refine(&self, saliency: &[&[f32]]) -> Result<Vec<Vec<f32>>, Error> {
        let tau = self.settings.tau;
        let energies: Vec<Vec<f32>> = saliency
            .par_iter()
            .map(|map| {
                self.check_size("saliency map", map, 1)?;
                let gain = |&a: &f32| {
                    let [background, target] = saliency_energies(a.clamp(0.0, 1.0), tau);
                    background - target
                };
                Ok(map.iter().map(gain).collect())
            })
            .collect::<Result<_, Error>>()?;
        Ok(self.targets(&energies))
    }

    /// Probability of each label at each pixel from energies, both as (label, row, column).
    ///
    /// # Errors
    /// [`Error::Input`] if the energies are not `labels` pictures of numbers or there are not 1 to 32 labels.
    pub fn marginals(&self, energies: &[f32], labels: usize) -> Result<Vec<f32>, Error> {
        if !(1..=MAX_LABELS).contains(&labels) {
            return Err(Error::Input(format!("CRF has {labels} labels, expected 1 to {MAX_LABELS}")));
        }
        self.check_size("energies", energies, labels)?;
        let pixels = self.width * self.height;
        Ok(match labels {
            1 => vec![1.0; pixels],
            2 => {
                let gain = energies[..pixels].iter().zip(&energies[pixels..]).map(|(b, t)| b - t).collect();
                let target = self.targets(&[gain]).swap_remove(0);
                target.iter().map(|q| 1.0 - q).chain(target.iter().copied()).collect()
            }
            3..=4 => self.labels::<4>(energies, labels),
            5..=8 => self.labels::<8>(energies, labels),
            9..=16 => self.labels::<16>(energies, labels),
            _ => self.labels::<MAX_LABELS>(energies, labels),
        })
    }

    fn check_size(&self, what: &str, values: &[f32], planes: usize) -> Result<(), Error> {
        let expected = planes * self.width * self.height;
        if values.len() != expected {
            return Err(Error::Input(format!("CRF {what} has {} values, expected {expected}", values.len())));
        }
        match values.iter().find(|v| !v.is_finite()) {
            Some(v) => Err(Error::Input(format!("CRF {what} holds {v}"))),
            None => Ok(()),
        }
    }

    /// Two labels need one number a pixel: from g = Q1 - Q0 the filter gives the difference of both messages.
    fn targets(&self, gains: &[Vec<f32>]) -> Vec<Vec<f32>> {
        gains
            .chunks(GROUP)
            .flat_map(|group| match group.len() {
                1 => self.group::<1>(group),
                2 => self.group::<2>(group),
                3..=4 => self.group::<4>(group),
                5..=8 => self.group::<8>(group),
                _ => self.group::<GROUP>(group),
            })
            .collect()
    }

    fn group<const W: usize>(&self, gains: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let start = interleave::<W>(gains.iter().map(Vec::as_slice), self.width * self.height);
        let end = self.mean_field(&start, |row| row.iter_mut().for_each(|v| *v = 1.0 - 2.0 / (1.0 + v.exp())));
        (0..gains.len()).map(|c| end.iter().map(|row| 1.0 / (1.0 + (-row[c]).exp())).collect()).collect()
    }

    fn labels<const W: usize>(&self, energies: &[f32], labels: usize) -> Vec<f32> {
        let pixels = self.width * self.height;
        let mut start = interleave::<W>(energies.chunks_exact(pixels), pixels);
        start.iter_mut().flatten().for_each(|v| *v = -*v);
        let mut end = self.mean_field(&start, |row| softmax(&mut row[..labels]));
        end.iter_mut().for_each(|row| softmax(&mut row[..labels]));
        (0..labels).flat_map(|c| end.iter().map(move |row| row[c])).collect()
    }

    /// Updates `start` (minus energies) with the messages of both terms, as often as the settings say; all pixels at once.
    fn mean_field<const W: usize>(&self, start: &[[f32; W]], activate: impl Fn(&mut [f32; W]) + Sync) -> Vec<[f32; W]> {
        let terms: Vec<(&Lattice, f32)> = [
            self.smoothness.as_deref().map(|l| (l, self.settings.smooth_compat)),
            self.appearance.as_ref().map(|l| (l, self.settings.compat)),
        ]
        .into_iter()
        .flatten()
        .collect();
        let mut now = start.to_vec();
        let mut field = vec![[0f32; W]; now.len()];
        let mut left: Vec<Vec<Vec<[f32; W]>>> = vec![vec![Vec::new(); terms.len()]; now.len().div_ceil(BAND)];
        for _ in 0..self.settings.iterations {
            let bands = now.par_chunks(BAND).zip(field.par_chunks_mut(BAND)).zip(&mut left).enumerate();
            bands.for_each(|(b, ((now, field), left))| {
                field.copy_from_slice(now);
                field.iter_mut().for_each(&activate);
                for ((lattice, _), sums) in terms.iter().zip(left) {
                    lattice.splat(b, field, sums);
                }
            });
            let blurred: Vec<Vec<[f32; W]>> = (0..terms.len())
                .into_par_iter()
                .map(|t| terms[t].0.gather(left.iter().map(|sums| sums[t].as_slice())))
                .collect();
            now.par_chunks_mut(BAND).zip(start.par_chunks(BAND)).enumerate().for_each(|(b, (now, start))| {
                now.copy_from_slice(start);
                for ((lattice, compat), blurred) in terms.iter().zip(&blurred) {
                    lattice.slice(b, blurred, *compat, now);
                }
            });
        }
        now
    }
}

/// Planes to one row a pixel; channels beyond the planes are zero.
fn interleave<'a, const W: usize>(planes: impl Iterator<Item = &'a [f32]>, pixels: usize) -> Vec<[f32; W]> {
    let mut rows = vec![[0f32; W]; pixels];
    for (c, plane) in planes.enumerate() {
        rows.iter_mut().zip(plane).for_each(|(row, v)| row[c] = *v);
    }
    rows
}

fn softmax(row: &mut [f32]) {
    let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut().for_each(|v| *v = (*v - top).exp());
    let sum: f32 = row.iter().sum();
    row.iter_mut().for_each(|v| *v /= sum);
}
