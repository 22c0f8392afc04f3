use super::MedVintConfig;
use crate::Error;
use crate::weights::Checkpoint;
use candle_core::Tensor;
use std::collections::{BTreeMap, BTreeSet};

/// The architecture's name in files and on the command line.
pub const ARCH: &str = "medvint";

/// A checkpoint whose tensors are asked for by the names of our files. LLaMA lies behind the wrappers of its training, and some
/// of its matrices have a low-rank update beside them, which is added here.
pub(crate) struct MedVintSource {
    checkpoint: Checkpoint,
    own: BTreeMap<String, Vec<usize>>,
}

/// Whether these are MedVInT's tensors.
pub(crate) fn is_medvint(shapes: &BTreeMap<String, Vec<usize>>) -> bool {
    shapes.contains_key("query_embed.weight") && shapes.contains_key("fc_l2.weight")
}

impl MedVintSource {
    pub(crate) fn new(checkpoint: Checkpoint) -> Self {
        Self { own: checkpoint.shapes(), checkpoint }
    }

    pub(crate) fn metadata(&self) -> BTreeMap<String, String> {
        self.checkpoint.metadata()
    }

    /// Shapes by the names of our files; what the checkpoint has beside them keeps its name.
    pub(crate) fn shapes(&self, config: &MedVintConfig) -> BTreeMap<String, Vec<usize>> {
        let mut shapes = BTreeMap::new();
        let mut used = BTreeSet::new();
        for name in config.tensors().into_keys() {
            let Some(own) = self.stored(&name) else { continue };
            if let Some(shape) = self.own.get(&own) {
                shapes.insert(name, shape.clone());
            }
            used.extend(self.update(&own).into_iter().flatten());
            used.insert(own);
        }
        // Buffers that nothing reads.
        let silent = |name: &str| name.ends_with("rotary_emb.inv_freq") || name.ends_with("num_batches_tracked");
        shapes.extend(
            self.own.iter().filter(|(k, _)| !used.contains(*k) && !silent(k)).map(|(k, s)| (k.clone(), s.clone())),
        );
        shapes
    }

    /// A tensor by the name of our files, its low-rank update added.
    pub(crate) fn read(&self, name: &str, scale: f32) -> Result<Tensor, Error> {
        let own = self.stored(name).ok_or_else(|| Error::MissingTensor { name: name.to_owned() })?;
        let weight = self.checkpoint.read(&own)?;
        let Some([a, b]) = self.update(&own) else { return Ok(weight) };
        let (down, up) = (self.checkpoint.read(&a)?, self.checkpoint.read(&b)?);
        let expected =
            [weight.dims().first().copied().unwrap_or_default(), down.dims().first().copied().unwrap_or_default()];
        if up.dims() != expected || down.dims().get(1) != weight.dims().get(1) {
            return Err(Error::TensorShape { name: b, found: up.dims().to_vec(), expected: expected.to_vec() });
        }
        Ok((weight + (up.matmul(&down)? * f64::from(scale))?)?)
    }

    /// The name under which the checkpoint has a tensor.
    fn stored(&self, name: &str) -> Option<String> {
        let Some(inner) = name.strip_prefix("language.") else {
            return self.own.contains_key(name).then(|| name.to_owned());
        };
        let stem = inner.strip_suffix(".weight").unwrap_or(inner);
        ["llamacasual.base_model.model.", "llamacasual.", "language."]
            .into_iter()
            .flat_map(|wrapper| [format!("{wrapper}{inner}"), format!("{wrapper}{stem}.base_layer.weight")])
            .find(|name| self.own.contains_key(name))
    }

    /// The two factors of a matrix's low-rank update.
    fn update(&self, own: &str) -> Option<[String; 2]> {
        let stem = own.strip_suffix(".base_layer.weight").or_else(|| own.strip_suffix(".weight"))?;
        ["", ".default"]
            .map(|adapter| ["A", "B"].map(|part| format!("{stem}.lora_{part}{adapter}.weight")))
            .into_iter()
            .find(|[a, b]| self.own.contains_key(a) && self.own.contains_key(b))
    }
}
