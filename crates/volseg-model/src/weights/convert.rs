use crate::config::SamConfig;
use crate::{Error, Init, Params};
use candle_core::{Device, Tensor};
use std::collections::BTreeMap;
use volseg_geometry::resize_bilinear;

/// Tensors that the official conversion leaves at fresh random values although SAM has them; adapters it lacks.
pub(super) fn fresh(name: &str) -> bool {
    let parts =
        ["mask_decoder.mask_tokens", "mask_decoder.output_hypernetworks_mlps", "mask_decoder.iou_prediction_head"];
    name.contains(".Adapter.") || parts.iter().any(|p| name.starts_with(p))
}

/// Tensors that the conversion brings to another size.
pub(super) fn resized(name: &str) -> bool {
    name.ends_with("pos_embed") || name.contains(".rel_pos_")
}

/// One tensor of a SAM checkpoint at the size of another configuration, as SAM-Med2D's builder takes it over
/// (specs: sam-med2d.md section 8): the position table resized bilinearly, relative tables linearly along their length.
/// `None` where the official code starts afresh; such tensors are drawn from `seed`.
///
/// # Errors
/// [`Error::TensorShape`] if the tensor can not be brought to that shape.
pub fn convert_from_sam(name: &str, source: &Tensor, expected: &[usize]) -> Result<Option<Tensor>, Error> {
    if fresh(name) {
        return Ok(None);
    }
    if source.dims() == expected {
        return Ok(Some(source.clone()));
    }
    let misshaped =
        || Error::TensorShape { name: name.to_owned(), found: source.dims().to_vec(), expected: expected.to_vec() };
    match (source.dims(), expected) {
        (&[1, h, w, d], &[1, to_h, to_w, to_d]) if name.ends_with("pos_embed") && d == to_d => {
            let planes = source.permute((0, 3, 1, 2))?.contiguous()?.flatten_all()?.to_vec1::<f32>()?;
            let resized: Vec<f32> =
                planes.chunks_exact(h * w).flat_map(|p| resize_bilinear(p, w, h, to_w, to_h)).collect();
            let t = Tensor::from_vec(resized, (1, d, to_h, to_w), &Device::Cpu)?;
            Ok(Some(t.permute((0, 2, 3, 1))?.contiguous()?))
        }
        (&[n, d], &[to, to_d]) if name.contains(".rel_pos_") && d == to_d => {
            let rows = source.flatten_all()?.to_vec1::<f32>()?;
            Ok(Some(Tensor::from_vec(resize_bilinear(&rows, d, n, d, to), (to, d), &Device::Cpu)?))
        }
        _ => Err(misshaped()),
    }
}

/// A tensor that the conversion starts afresh.
pub(super) fn start(config: &SamConfig, seed: u64, name: &str, shape: &[usize]) -> Result<Tensor, Error> {
    let init = match *shape {
        [_] if name.ends_with("norm.weight") => Init::One,
        [_] => Init::Zero,
        [_, d] if name.contains("mask_tokens") && d == config.prompt_embed_dim => Init::Normal(1.0),
        // Kaiming normal with fan-out for adapters, deviation 1 / sqrt(inputs) for linear maps.
        [out, inputs] => Init::Normal(if name.contains("Adapter") {
            (2.0 / out as f32).sqrt()
        } else {
            (1.0 / inputs as f32).sqrt()
        }),
        [out, _, h, w] => Init::Normal((2.0 / (out * h * w) as f32).sqrt()),
        _ => Init::Zero,
    };
    Ok(Params::trainable(seed, BTreeMap::new()).get(name, shape, init)?.detach())
}
