use super::{Cam, Layer, Saliency};
use crate::Error;
use candle_core::{Device, Tensor, Var};
use volseg_model::clip::{ClipModel, normalised};

/// What a layer makes of a picture, and how much each channel matters to each text.
#[derive(Clone, Debug)]
pub struct Activations {
    /// Channels.
    pub channels: usize,
    /// Patches along a side.
    pub grid: usize,
    /// `channels` maps of `grid * grid` values, row by row.
    pub maps: Vec<f32>,
    /// For each text the signed importance of each channel: the gradient of the scaled cosine.
    pub importance: Vec<Vec<f32>>,
    /// For each text the scaled cosine of the whole picture.
    pub scores: Vec<f32>,
}

/// Runs the network to the layer without, and from there on with, a gradient: one backward pass a text.
///
/// # Errors
/// [`Error::Degenerate`] if the gradient is zero everywhere; whatever the network meets.
pub fn activations(model: &ClipModel, image: &[f32], texts: &[Vec<f32>], layer: Layer) -> Result<Activations, Error> {
    let side = model.config.image_size;
    let x = Tensor::from_slice(image, (1, 3, side, side), &Device::Cpu)?;
    let site = layer.site();
    let split = model.network.vision.split(&x, site)?;
    let start = Var::from_tensor(&split.activation.detach())?;
    let features = normalised(&model.network.vision.finish(start.as_tensor(), &split.residual.detach(), site)?)?;
    let (grid, channels) = (model.config.grid(), model.config.vision.width);
    let (mut importance, mut scores) = (Vec::new(), Vec::new());
    for text in texts {
        let t = Tensor::from_slice(text, (1, text.len()), &Device::Cpu)?;
        let score = (&features * &t)?.sum_all()?.affine(f64::from(model.scale), 0.0)?;
        let gradients = score.backward()?;
        let gradient = match gradients.get(&start) {
            Some(g) => g.squeeze(0)?.to_vec2::<f32>()?,
            None => return Err(Error::Degenerate(layer.name())),
        };
        let mut mean = vec![0f64; channels];
        let rows = if layer == Layer::Norm2Cls { &gradient[..1] } else { &gradient[1..] };
        for row in rows {
            mean.iter_mut().zip(row).for_each(|(m, g)| *m += f64::from(*g) / rows.len() as f64);
        }
        let mean: Vec<f32> = mean.into_iter().map(|m| m as f32).collect();
        if mean.iter().all(|&m| m == 0.0) {
            return Err(Error::Degenerate(layer.name()));
        }
        importance.push(mean);
        scores.push(score.to_scalar()?);
    }
    let patches = split.activation.squeeze(0)?.narrow(0, 1, grid * grid)?;
    let maps = patches.t()?.contiguous()?.flatten_all()?.to_vec1()?;
    Ok(Activations { channels, grid, maps, importance, scores })
}

/// Weighted sum of channels.
pub(super) fn combine(a: &Activations, weights: &[f32]) -> Vec<f32> {
    let patches = a.grid * a.grid;
    let mut sum = vec![0f32; patches];
    for (w, map) in weights.iter().zip(a.maps.chunks_exact(patches)) {
        if *w != 0.0 {
            sum.iter_mut().zip(map).for_each(|(s, v)| *s += w * v);
        }
    }
    sum
}

/// Grad-CAM: channels weighted by their importance. One forward pass a picture and a small backward pass a text.
#[derive(Clone, Copy, Debug, Default)]
pub struct GradCam {
    /// Whose activations.
    pub layer: Layer,
}

impl Saliency for GradCam {
    fn maps(&self, model: &ClipModel, image: &[f32], texts: &[Vec<f32>]) -> Result<Vec<Cam>, Error> {
        let a = activations(model, image, texts, self.layer)?;
        Ok(a.importance.iter().zip(&a.scores).map(|(w, s)| Cam::new(combine(&a, w), a.grid, *s)).collect())
    }
}
