use super::ClipConfig;
use crate::Error;
use crate::weights::Checkpoint;
use candle_core::Tensor;
use std::collections::BTreeMap;

/// A checkpoint whose tensors are asked for by their official names, whatever its own layout.
pub(crate) struct ClipSource {
    checkpoint: Checkpoint,
    prefix: &'static str,
    converted: bool,
}

/// Whether these are the tensors of an image-text model.
pub(crate) fn is_clip(shapes: &BTreeMap<String, Vec<usize>>) -> bool {
    shapes
        .keys()
        .any(|k| k.ends_with("visual.trunk.cls_token") || k.ends_with("vision_model.embeddings.class_embedding"))
}

impl ClipSource {
    pub(crate) fn new(checkpoint: Checkpoint) -> Self {
        let shapes = checkpoint.shapes();
        let prefix = ["model.", "module.", "clip_model."]
            .into_iter()
            .find(|p| shapes.contains_key(&format!("{p}logit_scale")))
            .unwrap_or_default();
        let converted = shapes.contains_key(&format!("{prefix}vision_model.embeddings.class_embedding"));
        Self { checkpoint, prefix, converted }
    }

    /// Shapes by official names.
    pub(crate) fn shapes(&self, config: &ClipConfig) -> BTreeMap<String, Vec<usize>> {
        let own = self.checkpoint.shapes();
        if !self.converted {
            // An index that older versions stored; nothing is lost without it.
            let strip = |k: String| k.strip_prefix(self.prefix).map_or(k.clone(), str::to_owned);
            let names = own.into_iter().map(|(k, s)| (strip(k), s));
            return names.filter(|(k, _)| !k.ends_with(".position_ids")).collect();
        }
        let mut shapes = BTreeMap::new();
        for (name, expected) in config.tensors() {
            let parts: Option<Vec<&Vec<usize>>> =
                converted(&name).iter().map(|p| own.get(&format!("{}{p}", self.prefix))).collect();
            let Some(parts) = parts else { continue };
            let numbers: usize = parts.iter().map(|s| s.iter().product::<usize>()).sum();
            // Joined and reshaped tensors are judged by their count, others as they are.
            let found = match parts[..] {
                [one] if numbers != expected.iter().product::<usize>() => one.clone(),
                _ if numbers == expected.iter().product::<usize>() => expected,
                _ => vec![numbers],
            };
            shapes.insert(name, found);
        }
        shapes
    }

    /// A tensor by its official name.
    pub(crate) fn read(&self, name: &str, shape: &[usize]) -> Result<Tensor, Error> {
        if !self.converted {
            return self.checkpoint.read(&format!("{}{name}", self.prefix));
        }
        let parts = converted(name)
            .iter()
            .map(|p| self.checkpoint.read(&format!("{}{p}", self.prefix)))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(if let [one] = &parts[..] { one.clone() } else { Tensor::cat(&parts, 0)? }.reshape(shape)?)
    }

    pub(crate) fn metadata(&self) -> BTreeMap<String, String> {
        self.checkpoint.metadata()
    }
}

/// Names of the tensors that make up an official one in the layout of the Hugging Face conversion; several are joined along
/// their first axis.
fn converted(name: &str) -> Vec<String> {
    let one = |s: String| vec![s];
    let fixed = match name {
        "logit_scale" => Some("logit_scale"),
        "visual.trunk.cls_token" => Some("vision_model.embeddings.class_embedding"),
        "visual.trunk.pos_embed" => Some("vision_model.embeddings.position_embedding.weight"),
        "visual.trunk.norm.weight" => Some("vision_model.post_layernorm.weight"),
        "visual.trunk.norm.bias" => Some("vision_model.post_layernorm.bias"),
        "visual.head.proj.weight" => Some("visual_projection.weight"),
        "text.proj.0.weight" => Some("text_projection.fc1.weight"),
        "text.proj.2.weight" => Some("text_projection.fc2.weight"),
        _ => None,
    };
    if let Some(name) = fixed {
        return one(name.to_owned());
    }
    if let Some(rest) = name.strip_prefix("visual.trunk.patch_embed.proj.") {
        return one(format!("vision_model.embeddings.patch_embedding.{rest}"));
    }
    if let Some(rest) = name.strip_prefix("text.transformer.embeddings.") {
        let rest = rest
            .replace("word_embeddings", "token_embedding")
            .replace("position_embeddings", "position_embedding")
            .replace("token_type_embeddings", "token_type_embedding")
            .replace("LayerNorm", "layer_norm");
        return one(format!("text_model.embeddings.{rest}"));
    }
    if let Some(rest) = name.strip_prefix("visual.trunk.blocks.") {
        let rest = rest.replace("norm1", "layer_norm1").replace("norm2", "layer_norm2");
        let rest = rest.replace("attn.proj", "self_attn.out_proj");
        let layer = format!("vision_model.encoder.layers.{rest}");
        return match layer.contains("attn.qkv") {
            true => ["q", "k", "v"].map(|p| layer.replace("attn.qkv", &format!("self_attn.{p}_proj"))).to_vec(),
            false => one(layer),
        };
    }
    let rest = name.strip_prefix("text.transformer.encoder.layer.").unwrap_or(name);
    // The norms of this layout's text layers are BERT's, which come after the residual.
    let rest = rest
        .replace("attention.output.LayerNorm", "layer_norm1")
        .replace("attention.output.dense", "self_attn.out_proj")
        .replace("attention.self.query", "self_attn.q_proj")
        .replace("attention.self.key", "self_attn.k_proj")
        .replace("attention.self.value", "self_attn.v_proj")
        .replace("intermediate.dense", "mlp.fc1")
        .replace("output.LayerNorm", "layer_norm2")
        .replace("output.dense", "mlp.fc2");
    one(format!("text_model.encoder.layers.{rest}"))
}
