use crate::Error;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// No axis of a tensor is longer.
const MOST: usize = 1 << 17;

/// Sizes of both towers, in the form of `--config` files (`config.json` of the published fixtures). Unknown keys are passed
/// over, since such files also list texts and maps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClipConfig {
    /// Side of the square input, pixels.
    pub image_size: usize,
    /// Side of a patch, pixels.
    pub patch: usize,
    /// Image tower.
    pub vision: VisionConfig,
    /// Text tower.
    pub text: TextConfig,
    /// Width of the joint space.
    pub embed_dim: usize,
    /// Mean of red, green, blue, on 0..1 values.
    #[serde(default = "mean")]
    pub mean: [f32; 3],
    /// Deviation of red, green, blue, on 0..1 values.
    #[serde(default = "deviation")]
    pub std: [f32; 3],
}

/// Sizes of the image tower.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VisionConfig {
    /// Numbers in a token.
    pub width: usize,
    /// Blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the MLP, in widths.
    pub mlp_ratio: usize,
    /// Epsilon of the norms.
    pub ln_eps: f32,
}

/// Sizes of the text tower.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextConfig {
    /// Rows of the word table.
    pub vocab: usize,
    /// Numbers in a token.
    pub width: usize,
    /// Layers.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the MLP.
    pub intermediate: usize,
    /// Rows of the position table.
    pub max_pos: usize,
    /// Longest text in tokens, the two special ones included.
    pub context: usize,
    /// Epsilon of the norms.
    pub ln_eps: f32,
    /// Hidden width of the projection.
    pub proj_hidden: usize,
}

fn mean() -> [f32; 3] {
    [0.481_454_66, 0.457_827_5, 0.408_210_73]
}

fn deviation() -> [f32; 3] {
    [0.268_629_54, 0.261_302_6, 0.275_777_1]
}

impl ClipConfig {
    /// The released BiomedCLIP: ViT-B/16 at 224 pixels and BiomedBERT.
    #[must_use]
    pub fn biomedclip() -> Self {
        Self {
            image_size: 224,
            patch: 16,
            vision: VisionConfig { width: 768, depth: 12, heads: 12, mlp_ratio: 4, ln_eps: 1e-6 },
            text: TextConfig {
                vocab: 30522,
                width: 768,
                depth: 12,
                heads: 12,
                intermediate: 3072,
                max_pos: 512,
                context: 256,
                ln_eps: 1e-12,
                proj_hidden: 640,
            },
            embed_dim: 512,
            mean: mean(),
            std: deviation(),
        }
    }

    /// Patches along a side.
    #[must_use]
    pub fn grid(&self) -> usize {
        self.image_size / self.patch.max(1)
    }

    /// Reads the JSON of `--config` or of a weights file. An `open_clip_config.json` of the released model is understood too.
    ///
    /// # Errors
    /// [`Error::Malformed`] for other text, [`Error::InvalidArgument`] for sizes that cannot work.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        let malformed = |e: serde_json::Error| Error::Malformed { reason: format!("configuration: {e}") };
        let value: serde_json::Value = serde_json::from_str(text).map_err(malformed)?;
        let config = if let Some(model) = value.get("model_cfg") {
            let trunk = model["vision_cfg"]["timm_model_name"].as_str().unwrap_or("not stated");
            if trunk != "vit_base_patch16_224" {
                return Err(Error::Malformed {
                    reason: format!("configuration: timm_model_name is {trunk}, expected vit_base_patch16_224"),
                });
            }
            Self::biomedclip()
        } else {
            serde_json::from_value(value).map_err(malformed)?
        };
        config.check()?;
        Ok(config)
    }

    /// Refuses sizes that cannot work.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`].
    pub fn check(&self) -> Result<(), Error> {
        let (v, t) = (&self.vision, &self.text);
        let sizes = [
            ("image_size", self.image_size, 2048),
            ("patch", self.patch, 256),
            ("embed_dim", self.embed_dim, 8192),
            ("vision.width", v.width, 8192),
            ("vision.depth", v.depth, 128),
            ("vision.heads", v.heads, 256),
            ("vision.mlp_ratio", v.mlp_ratio, 16),
            ("text.vocab", t.vocab, MOST),
            ("text.width", t.width, 8192),
            ("text.depth", t.depth, 128),
            ("text.heads", t.heads, 256),
            ("text.intermediate", t.intermediate, 32768),
            ("text.max_pos", t.max_pos, 8192),
            ("text.proj_hidden", t.proj_hidden, 8192),
        ];
        for (what, found, most) in sizes {
            if found == 0 || found > most {
                return refuse(what, found, format!("1 to {most}"));
            }
        }
        if !self.image_size.is_multiple_of(self.patch) {
            return refuse("image_size", self.image_size, format!("a multiple of patch = {}", self.patch));
        }
        if !v.width.is_multiple_of(v.heads) || !t.width.is_multiple_of(t.heads) {
            return refuse("heads", v.heads, "a divisor of the tower's width".into());
        }
        if !(2..=t.max_pos).contains(&t.context) {
            return refuse("text.context", t.context, format!("2 to text.max_pos = {}", t.max_pos));
        }
        if v.depth < 2 {
            return refuse("vision.depth", v.depth, "at least 2, since saliency reads the last but one block".into());
        }
        let positive = |x: f32| x.is_finite() && x > 0.0;
        if !self.std.iter().chain([&v.ln_eps, &t.ln_eps]).all(|&x| positive(x))
            || !self.mean.iter().all(|x| x.is_finite())
        {
            return refuse("mean, std or ln_eps", 0, "finite numbers, deviations and epsilons above 0".into());
        }
        Ok(())
    }

    /// Every tensor of such a model, by its official name, with its shape.
    #[must_use]
    pub fn tensors(&self) -> BTreeMap<String, Vec<usize>> {
        let (v, t, e) = (&self.vision, &self.text, self.embed_dim);
        let mut map = BTreeMap::new();
        let mut add = |name: String, shape: &[usize]| {
            map.insert(name, shape.to_vec());
        };
        add("logit_scale".into(), &[]);
        let trunk = "visual.trunk";
        add(format!("{trunk}.cls_token"), &[1, 1, v.width]);
        add(format!("{trunk}.pos_embed"), &[1, self.grid() * self.grid() + 1, v.width]);
        add(format!("{trunk}.patch_embed.proj.weight"), &[v.width, 3, self.patch, self.patch]);
        add(format!("{trunk}.patch_embed.proj.bias"), &[v.width]);
        let mut linear = |name: String, out: usize, inputs: usize| {
            add(format!("{name}.weight"), &[out, inputs]);
            add(format!("{name}.bias"), &[out]);
        };
        let hidden = v.width * v.mlp_ratio;
        for i in 0..v.depth {
            let block = format!("{trunk}.blocks.{i}");
            linear(format!("{block}.attn.qkv"), 3 * v.width, v.width);
            linear(format!("{block}.attn.proj"), v.width, v.width);
            linear(format!("{block}.mlp.fc1"), hidden, v.width);
            linear(format!("{block}.mlp.fc2"), v.width, hidden);
        }
        let bert = "text.transformer";
        for i in 0..t.depth {
            let layer = format!("{bert}.encoder.layer.{i}");
            for part in ["query", "key", "value"] {
                linear(format!("{layer}.attention.self.{part}"), t.width, t.width);
            }
            linear(format!("{layer}.attention.output.dense"), t.width, t.width);
            linear(format!("{layer}.intermediate.dense"), t.intermediate, t.width);
            linear(format!("{layer}.output.dense"), t.width, t.intermediate);
        }
        let mut norm = |name: String, width: usize| {
            add(format!("{name}.weight"), &[width]);
            add(format!("{name}.bias"), &[width]);
        };
        for i in 0..v.depth {
            norm(format!("{trunk}.blocks.{i}.norm1"), v.width);
            norm(format!("{trunk}.blocks.{i}.norm2"), v.width);
        }
        norm(format!("{trunk}.norm"), v.width);
        norm(format!("{bert}.embeddings.LayerNorm"), t.width);
        for i in 0..t.depth {
            norm(format!("{bert}.encoder.layer.{i}.attention.output.LayerNorm"), t.width);
            norm(format!("{bert}.encoder.layer.{i}.output.LayerNorm"), t.width);
        }
        add("visual.head.proj.weight".into(), &[e, v.width]);
        add(format!("{bert}.embeddings.word_embeddings.weight"), &[t.vocab, t.width]);
        add(format!("{bert}.embeddings.position_embeddings.weight"), &[t.max_pos, t.width]);
        add(format!("{bert}.embeddings.token_type_embeddings.weight"), &[2, t.width]);
        add("text.proj.0.weight".into(), &[t.proj_hidden, t.width]);
        add("text.proj.2.weight".into(), &[e, t.proj_hidden]);
        map
    }
}

fn refuse(what: &'static str, found: usize, expected: String) -> Result<(), Error> {
    Err(Error::InvalidArgument { what, found: found.to_string(), expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 195.9 M numbers (specs: biomedclip.md).
    #[test]
    fn the_released_model_has_its_published_size() {
        let tensors = ClipConfig::biomedclip().tensors();
        let numbers: usize = tensors.values().map(|s| s.iter().product::<usize>()).sum();
        assert_eq!((numbers as f64 / 1e5).round() / 10.0, 195.9);
        assert_eq!(tensors["visual.trunk.pos_embed"], [1, 197, 768]);
    }

    #[test]
    fn configurations_are_checked() {
        let good = serde_json::to_string(&ClipConfig::biomedclip()).unwrap();
        assert_eq!(ClipConfig::from_json(&good).unwrap(), ClipConfig::biomedclip());
        for (from, to) in [
            ("\"patch\":16", "\"patch\":0"),
            ("\"patch\":16", "\"patch\":15"),
            ("\"depth\":12", "\"depth\":1000000000"),
            ("\"heads\":12", "\"heads\":7"),
            ("\"context\":256", "\"context\":600"),
            ("\"image_size\":224", "\"image_size\":-1"),
        ] {
            assert!(good.contains(from));
            assert!(ClipConfig::from_json(&good.replacen(from, to, 1)).is_err(), "{to}");
        }
        let open_clip = r#"{"model_cfg":{"vision_cfg":{"timm_model_name":"vit_base_patch16_224"}}}"#;
        assert_eq!(ClipConfig::from_json(open_clip).unwrap(), ClipConfig::biomedclip());
    }
}
