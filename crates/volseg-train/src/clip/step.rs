use super::captions::{Captions, ORGANS_KNOWN};
use super::view::View;
use crate::Error;
use candle_core::{Device, Tensor, Var};
use std::collections::BTreeMap;
use volseg_model::clip::{ClipConfig, ClipNetwork, Site, normalised};

/// Activations are logits of a patch's organ times this.
const SHARPNESS: f64 = 3.0;

/// Parts of a loss, for the log.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Losses {
    pub(super) total: f32,
    pub(super) presence: f32,
    pub(super) place: f32,
}

impl Losses {
    pub(super) fn add(&mut self, other: &Self, weight: f32) {
        self.total += weight * other.total;
        self.presence += weight * other.presence;
        self.place += weight * other.place;
    }
}

/// What one thread works on.
pub(super) struct Shard<'a> {
    pub(super) views: &'a [View],
    pub(super) captions: &'a Captions,
}

/// Normalised input `[n, 3, side, side]`, behind its cover where it has one.
fn input(views: &[View], model: &ClipConfig) -> Result<Tensor, Error> {
    let side = model.image_size;
    let mut x = Vec::with_capacity(views.len() * 3 * side * side);
    for view in views {
        for c in 0..3 {
            let value = |v: &f32| (v - model.mean[c]) / model.std[c];
            match &view.cover {
                Some(cover) => x.extend(view.grey.iter().zip(cover).map(|(v, m)| value(v) * m)),
                None => x.extend(view.grey.iter().map(value)),
            }
        }
    }
    Ok(Tensor::from_vec(x, (views.len(), 3, side, side), &Device::Cpu)?)
}

/// Cross-entropy of logits and targets in 0..1, weighted mean.
fn cross_entropy(z: &Tensor, target: &Tensor, weight: &Tensor) -> Result<Tensor, Error> {
    let loss = ((z.relu()? - (z * target)?)? + z.abs()?.neg()?.exp()?.affine(1.0, 1.0)?.log()?)?;
    let total = weight.sum_all()?.to_scalar::<f32>()?.max(1e-6);
    Ok((loss * weight)?.sum_all()?.affine(1.0 / f64::from(total), 0.0)?)
}

/// How each organ's text fits each view better than the text of "none", `[n, organs]`, and the activations before the last
/// attention, `[n, patches, width]`.
fn forward(net: &ClipNetwork, x: &Tensor, captions: &Captions) -> Result<(Tensor, Tensor), Error> {
    let split = net.vision.split(x, Site::LastNorm1)?;
    let images = normalised(&net.vision.finish(&split.activation, &split.residual, Site::LastNorm1)?)?;
    let texts = normalised(&net.text.forward(&captions.0)?)?;
    let cosines = images.matmul(&texts.t()?)?;
    let none = cosines.narrow(1, ORGANS_KNOWN, 1)?;
    let above = cosines.narrow(1, 0, ORGANS_KNOWN)?.broadcast_sub(&none)?;
    let patches = split.activation.dim(1)? - 1;
    Ok((above.broadcast_mul(&net.logit_scale.exp()?)?, split.activation.narrow(1, 1, patches)?))
}

/// Channels are dealt out to the organs and to "none of them" in turn; what is left over stays free.
fn rounds(model: &ClipConfig) -> usize {
    model.vision.width / (ORGANS_KNOWN + 1)
}

/// Loss of a shard and its gradient for every variable, by name.
///
/// Presence: the cosine with an organ's text must beat that with the text of "none" if the organ can be seen. Place: each
/// channel of the activations that class activation maps are made of belongs to one organ, and must be positive on the patches
/// that the organ covers. So a map is about as good as its channels, and a masked picture tells which channel a text means.
pub(super) fn gradients(
    net: &ClipNetwork,
    variables: &BTreeMap<String, Var>,
    model: &ClipConfig,
    shard: &Shard<'_>,
    local_weight: f32,
) -> Result<(Losses, Vec<Tensor>), Error> {
    let (n, grid) = (shard.views.len(), model.grid());
    let patches = grid * grid;
    let (above, activation) = forward(net, &input(shard.views, model)?, shard.captions)?;
    let (mut target, mut known) = (Vec::new(), Vec::new());
    let (mut place, mut weight) =
        (vec![0f32; n * patches * (ORGANS_KNOWN + 1)], vec![0f32; n * patches * (ORGANS_KNOWN + 1)]);
    for (i, view) in shard.views.iter().enumerate() {
        let mut rest = vec![1f32; patches];
        for o in 0..ORGANS_KNOWN {
            let presence = view.presence(o);
            target.push(presence.unwrap_or(0.0));
            known.push(f32::from(u8::from(presence.is_some())));
            let (None, Some(occupied)) = (&view.cover, view.occupancy(o, grid)) else { continue };
            let covered: f32 = occupied.iter().sum();
            // Small organs would be lost among empty patches.
            let boost = if covered > 0.2 { (patches as f32 / covered).sqrt().min(10.0) } else { 0.0 };
            for (p, v) in occupied.iter().enumerate() {
                let at = (i * patches + p) * (ORGANS_KNOWN + 1) + o;
                place[at] = *v;
                weight[at] = 0.25 + boost * v;
                rest[p] -= v;
            }
        }
        if view.cover.is_none() {
            for (p, v) in rest.iter().enumerate() {
                let at = (i * patches + p) * (ORGANS_KNOWN + 1) + ORGANS_KNOWN;
                place[at] = v.clamp(0.0, 1.0);
                weight[at] = 0.5;
            }
        }
    }
    let flat = |v: Vec<f32>| Tensor::from_vec(v, (n, ORGANS_KNOWN), &Device::Cpu);
    let presence = cross_entropy(&above, &flat(target)?, &flat(known)?)?;
    let rounds = rounds(model);
    let dealt = (ORGANS_KNOWN + 1) * rounds;
    let logits = activation.narrow(2, 0, dealt)?.affine(SHARPNESS, 0.0)?.contiguous()?;
    let logits = logits.reshape((n, patches, rounds, ORGANS_KNOWN + 1))?;
    let wide = |v: Vec<f32>| -> Result<Tensor, Error> {
        let t = Tensor::from_vec(v, (n, patches, 1, ORGANS_KNOWN + 1), &Device::Cpu)?;
        Ok(t.broadcast_as((n, patches, rounds, ORGANS_KNOWN + 1))?.contiguous()?)
    };
    let place = cross_entropy(&logits, &wide(place)?, &wide(weight)?)?;
    let total = (&presence + place.affine(f64::from(local_weight), 0.0)?)?;
    let losses = Losses { total: total.to_scalar()?, presence: presence.to_scalar()?, place: place.to_scalar()? };
    let grads = total.backward()?;
    let values = variables
        .values()
        .map(|v| match grads.get(v) {
            Some(g) => g.flatten_all(),
            None => v.as_detached_tensor().flatten_all()?.zeros_like(),
        })
        .collect::<Result<Vec<_>, candle_core::Error>>()?;
    Ok((losses, values))
}

/// Means over the validation views: `presence` (share of right answers), and for the organs of each kind of picture the IoU of
/// the mean of an organ's channels, cut at zero, with the patches that it covers.
pub(super) fn validate(
    net: &ClipNetwork,
    model: &ClipConfig,
    views: &[View],
    captions: &Captions,
) -> Result<BTreeMap<String, f32>, Error> {
    let (grid, rounds) = (model.grid(), rounds(model));
    let mut sums: BTreeMap<String, (f32, usize)> = BTreeMap::new();
    for view in views {
        let (above, activation) = forward(net, &input(std::slice::from_ref(view), model)?, captions)?;
        let (above, activation) = (above.squeeze(0)?.to_vec1::<f32>()?, activation.squeeze(0)?.to_vec2::<f32>()?);
        let mut add = |key: &str, value: f32| {
            let e = sums.entry(key.to_owned()).or_default();
            *e = (e.0 + value, e.1 + 1);
        };
        for (o, above) in above.iter().enumerate() {
            let Some(presence) = view.presence(o) else { continue };
            add("presence", f32::from(u8::from((*above > 0.0) == (presence > 0.5))));
            if presence < 0.5 {
                continue;
            }
            let truth = view.occupancy(o, grid).unwrap_or_default();
            let (mut both, mut either) = (0.0, 0.0);
            for (t, a) in truth.iter().zip(&activation) {
                let mean: f32 = (0..rounds).map(|r| a[r * (ORGANS_KNOWN + 1) + o]).sum();
                let (a, b) = (mean > 0.0, *t > 0.5);
                both += f32::from(u8::from(a && b));
                either += f32::from(u8::from(a || b));
            }
            let kind = match o + 1 {
                16 => "iou.lungs",
                17 => "iou.tumour",
                _ => "iou.ct",
            };
            add(kind, if either > 0.0 { both / either } else { 1.0 });
        }
    }
    Ok(sums.into_iter().map(|(k, (s, n))| (k, s / n as f32)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::ClipTrainConfig;
    use crate::clip::captions::vocabulary;
    use volseg_model::Params;
    use volseg_model::clip::WordPieces;

    /// Every variable learns, but the row of the token-type table that no text uses.
    #[test]
    fn every_variable_receives_a_gradient() {
        let vocabulary = vocabulary();
        let mut model = ClipTrainConfig::default().model;
        (model.image_size, model.vision.depth) = (32, 2);
        model.text.vocab = vocabulary.lines().count();
        let params = Params::trainable(3, BTreeMap::new());
        let net = ClipNetwork::new(&model, &params).unwrap();
        let side = 32;
        let grey: Vec<f32> = (0..side * side).map(|i| (i * 37 % 101) as f32 / 100.0).collect();
        let mut masks = vec![Some(Vec::new()); ORGANS_KNOWN];
        masks[5] = Some((0..side * side).map(|i| f32::from(u8::from(i % side < 12))).collect());
        let views = [View { grey, side, masks, cover: None }];
        let captions = Captions::plain(&WordPieces::new(&vocabulary).unwrap()).unwrap();
        let variables = params.variables();
        let shard = Shard { views: &views, captions: &captions };
        let (losses, grads) = gradients(&net, &variables, &model, &shard, 2.0).unwrap();
        assert!(losses.total.is_finite() && losses.place > 0.0 && losses.presence > 0.0);
        for (name, g) in variables.keys().zip(&grads) {
            let g = g.to_vec1::<f32>().unwrap();
            assert!(g.iter().any(|v| *v != 0.0) && g.iter().all(|v| v.is_finite()), "{name}");
        }
    }
}
