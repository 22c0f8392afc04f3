use super::ClipConfig;
use crate::picture::Picture;
use crate::resample::{Filter, resize_antialiased};

/// How a picture becomes square.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// Stretched: the whole picture is seen, and a map lies on it after stretching back.
    #[default]
    Squash,
    /// Black margins around the whole picture, then resized.
    Pad,
    /// The shorter side resized, the middle cut out: what the model was trained with. Borders are lost.
    Crop,
}

/// A picture as the image tower takes it: `[3, side, side]`, resized by the antialiased cubic filter, normalised.
#[must_use]
pub fn fit_picture(picture: &Picture, config: &ClipConfig, fit: Fit) -> Vec<f32> {
    let side = config.image_size;
    let (w, h) = (picture.width(), picture.height());
    let resize = |values: &[u8], from: [usize; 2], to| resize_antialiased(values, 3, from, to, Filter::Cubic);
    let square = match fit {
        Fit::Squash => resize(picture.values(), [w, h], [side, side]),
        Fit::Pad => {
            let long = w.max(h);
            let (left, top) = ((long - w) / 2, (long - h) / 2);
            let mut padded = vec![0u8; 3 * long * long];
            for (line, row) in padded.chunks_exact_mut(3 * long).skip(top).zip(picture.values().chunks_exact(3 * w)) {
                line[3 * left..3 * (left + w)].copy_from_slice(row);
            }
            resize(&padded, [long, long], [side, side])
        }
        Fit::Crop => {
            let long = |n: usize, short: usize| (side as f64 * n as f64 / short as f64) as usize;
            let (tw, th) = if w <= h { (side, long(h, w)) } else { (long(w, h), side) };
            let whole = resize(picture.values(), [w, h], [tw, th]);
            // Python rounds halves to the even number.
            let offset = |n: usize| ((n - side) as f64 / 2.0).round_ties_even() as usize;
            let (left, top) = (offset(tw), offset(th));
            let lines = whole.chunks_exact(3 * tw).skip(top).take(side);
            lines.flat_map(|l| l[3 * left..3 * (left + side)].iter().copied()).collect()
        }
    };
    let channel = |c: usize| {
        let (mean, std) = (config.mean[c], config.std[c]);
        square.iter().skip(c).step_by(3).map(move |&v| (f32::from(v) / 255.0 - mean) / std)
    };
    (0..3).flat_map(channel).collect()
}
