use crate::Error;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Sizes of MedVInT, as they stand in a weights file and in `--config` files. What is left out has the published value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MedVintConfig {
    /// Side of the square picture, pixels.
    pub image_size: usize,
    /// Residual network.
    pub vision: VisionConfig,
    /// Query transformer.
    pub queries: QueryConfig,
    /// LLaMA.
    pub language: LanguageConfig,
    /// Factor of the low-rank updates: alpha / rank.
    pub lora_scale: f32,
    /// What is asked; `{question}` is replaced.
    pub template: String,
    /// Most tokens of an answer.
    pub most_tokens: usize,
    /// Tokens that end an answer. The training code took 1 for the end, LLaMA's own is 2.
    pub stop: Vec<u32>,
}

/// Sizes of the residual network, cut behind its third stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VisionConfig {
    /// Channels of the stem; stage `n` puts out 4, 8, 16 times as many.
    pub width: usize,
    /// Blocks of the three stages.
    pub blocks: [usize; 3],
}

/// Sizes of the query transformer, whose width is that of the residual network's output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueryConfig {
    /// Tokens that it makes of a picture.
    pub count: usize,
    /// Layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the feed-forward parts.
    pub hidden: usize,
}

/// Sizes of LLaMA.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LanguageConfig {
    /// Tokens it knows.
    pub vocab: usize,
    /// Width.
    pub width: usize,
    /// Layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the feed-forward parts.
    pub hidden: usize,
    /// Epsilon of the norms.
    pub eps: f32,
    /// Base of the rotary positions.
    pub rope_theta: f32,
    /// Most positions.
    pub positions: usize,
}

impl Default for MedVintConfig {
    /// The released model.
    fn default() -> Self {
        Self {
            image_size: 512,
            vision: VisionConfig::default(),
            queries: QueryConfig::default(),
            language: LanguageConfig::default(),
            lora_scale: 4.0,
            template: "Question: {question}The Answer is:".into(),
            most_tokens: 50,
            stop: vec![1, 2],
        }
    }
}

impl Default for VisionConfig {
    fn default() -> Self {
        Self { width: 64, blocks: [3, 4, 6] }
    }
}

impl Default for QueryConfig {
    fn default() -> Self {
        Self { count: 32, layers: 12, heads: 8, hidden: 1024 }
    }
}

impl Default for LanguageConfig {
    fn default() -> Self {
        Self {
            vocab: 32000,
            width: 4096,
            layers: 32,
            heads: 32,
            hidden: 11008,
            eps: 1e-6,
            rope_theta: 10000.0,
            positions: 2048,
        }
    }
}

impl MedVintConfig {
    /// Channels of the residual network's output, and width of the query transformer.
    #[must_use]
    pub fn seen_width(&self) -> usize {
        16 * self.vision.width
    }

    /// Reads a configuration.
    ///
    /// # Errors
    /// [`Error::Malformed`] for other text, [`Error::InvalidArgument`] for sizes that cannot work.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        let config: Self =
            serde_json::from_str(text).map_err(|e| Error::Malformed { reason: format!("configuration: {e}") })?;
        config.check()?;
        Ok(config)
    }

    /// Refuses sizes that cannot work or that no honest file has.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] naming the field.
    pub fn check(&self) -> Result<(), Error> {
        let refuse =
            |what: &'static str, found: String, expected: String| Err(Error::InvalidArgument { what, found, expected });
        let (v, q, l) = (&self.vision, &self.queries, &self.language);
        let sizes = [
            ("image_size", self.image_size, 2048),
            ("vision.width", v.width, 512),
            ("vision.blocks", v.blocks[0].min(v.blocks[1]).min(v.blocks[2]), 64),
            ("vision.blocks", v.blocks[0].max(v.blocks[1]).max(v.blocks[2]), 64),
            ("queries.count", q.count, 1024),
            ("queries.layers", q.layers, 128),
            ("queries.hidden", q.hidden, 1 << 15),
            ("language.vocab", l.vocab, 1 << 18),
            ("language.width", l.width, 1 << 14),
            ("language.layers", l.layers, 256),
            ("language.hidden", l.hidden, 1 << 16),
            ("language.positions", l.positions, 1 << 16),
            ("most_tokens", self.most_tokens, 4096),
        ];
        if let Some((what, found, most)) = sizes.into_iter().find(|&(_, n, most)| n == 0 || n > most) {
            return refuse(what, found.to_string(), format!("1 to {most}"));
        }
        if !self.image_size.is_multiple_of(16) {
            return refuse("image_size", self.image_size.to_string(), "a multiple of 16".into());
        }
        if !v.width.is_multiple_of(2) {
            return refuse("vision.width", v.width.to_string(), "an even number".into());
        }
        if q.heads == 0 || !self.seen_width().is_multiple_of(q.heads) {
            return refuse("queries.heads", q.heads.to_string(), format!("a divisor of {}", self.seen_width()));
        }
        if l.heads == 0 || !l.width.is_multiple_of(2 * l.heads) {
            return refuse("language.heads", l.heads.to_string(), format!("a divisor of half of {}", l.width));
        }
        let positive = [l.eps, l.rope_theta].iter().all(|x| x.is_finite() && *x > 0.0);
        if !positive || !self.lora_scale.is_finite() {
            return refuse("eps, rope_theta or lora_scale", format!("{l:?}"), "positive finite numbers".into());
        }
        if !self.template.contains("{question}") {
            return refuse("template", self.template.clone(), "a text with {question} in it".into());
        }
        Ok(())
    }

    /// Every tensor of such a model by its name in our files, with its shape: the published names, but LLaMA's behind
    /// `language.` and with the low-rank updates merged.
    #[must_use]
    pub fn tensors(&self) -> BTreeMap<String, Vec<usize>> {
        let mut names = Names::default();
        self.vision_tensors(&mut names);
        let (w, q, l) = (self.seen_width(), &self.queries, &self.language);
        names.add("query_embed.weight", &[q.count, w]);
        for n in 0..q.layers {
            let layer = format!("decoder.layers.{n}");
            for attention in ["self_attn", "multihead_attn"] {
                names.add(format!("{layer}.{attention}.in_proj_weight"), &[3 * w, w]);
                names.add(format!("{layer}.{attention}.in_proj_bias"), &[3 * w]);
                names.linear(format!("{layer}.{attention}.out_proj"), w, w);
            }
            names.linear(format!("{layer}.linear1"), q.hidden, w);
            names.linear(format!("{layer}.linear2"), w, q.hidden);
            (1..=3).for_each(|i| names.pair(format!("{layer}.norm{i}"), w));
        }
        names.pair("decoder.norm".into(), w);
        names.linear("fc_l1".into(), w, w);
        names.linear("fc_l2".into(), l.width, w);
        names.add("language.model.embed_tokens.weight", &[l.vocab, l.width]);
        for n in 0..l.layers {
            let layer = format!("language.model.layers.{n}");
            for part in ["q", "k", "v", "o"] {
                names.add(format!("{layer}.self_attn.{part}_proj.weight"), &[l.width, l.width]);
            }
            names.add(format!("{layer}.mlp.gate_proj.weight"), &[l.hidden, l.width]);
            names.add(format!("{layer}.mlp.up_proj.weight"), &[l.hidden, l.width]);
            names.add(format!("{layer}.mlp.down_proj.weight"), &[l.width, l.hidden]);
            names.add(format!("{layer}.input_layernorm.weight"), &[l.width]);
            names.add(format!("{layer}.post_attention_layernorm.weight"), &[l.width]);
        }
        names.add("language.model.norm.weight", &[l.width]);
        names.add("language.lm_head.weight", &[l.vocab, l.width]);
        names.0
    }

    fn vision_tensors(&self, names: &mut Names) {
        let w = self.vision.width;
        for (n, (out, inputs)) in [(w / 2, 3), (w / 2, w / 2), (w, w / 2)].into_iter().enumerate() {
            names.add(format!("vision_model.{}.weight", 3 * n), &[out, inputs, 3, 3]);
            names.batch_norm(format!("vision_model.{}", 3 * n + 1), out);
        }
        let mut inputs = w;
        for (stage, &blocks) in self.vision.blocks.iter().enumerate() {
            let inner = w << stage;
            for b in 0..blocks {
                let block = format!("vision_model.{}.{b}", 10 + stage);
                names.add(format!("{block}.conv1.weight"), &[inner, inputs, 1, 1]);
                names.add(format!("{block}.conv2.weight"), &[inner, inner, 3, 3]);
                names.add(format!("{block}.conv3.weight"), &[4 * inner, inner, 1, 1]);
                names.batch_norm(format!("{block}.bn1"), inner);
                names.batch_norm(format!("{block}.bn2"), inner);
                names.batch_norm(format!("{block}.bn3"), 4 * inner);
                if b == 0 {
                    names.add(format!("{block}.downsample.0.weight"), &[4 * inner, inputs, 1, 1]);
                    names.batch_norm(format!("{block}.downsample.1"), 4 * inner);
                }
                inputs = 4 * inner;
            }
        }
    }
}

#[derive(Default)]
struct Names(BTreeMap<String, Vec<usize>>);

impl Names {
    fn add(&mut self, name: impl Into<String>, shape: &[usize]) {
        self.0.insert(name.into(), shape.to_vec());
    }
    fn linear(&mut self, name: String, out: usize, inputs: usize) {
        self.add(format!("{name}.weight"), &[out, inputs]);
        self.add(format!("{name}.bias"), &[out]);
    }
    fn pair(&mut self, name: String, width: usize) {
        self.add(format!("{name}.weight"), &[width]);
        self.add(format!("{name}.bias"), &[width]);
    }
    fn batch_norm(&mut self, name: String, width: usize) {
        self.add(format!("{name}.running_mean"), &[width]);
        self.add(format!("{name}.running_var"), &[width]);
        self.pair(name, width);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts of specs/medvint.md section 1; LLaMA-7B has 6.74 G numbers.
    #[test]
    fn the_released_model_has_its_published_size() {
        let tensors = MedVintConfig::default().tensors();
        let millions = |part: &str| {
            let numbers: usize =
                tensors.iter().filter(|(k, _)| k.starts_with(part)).map(|(_, s)| s.iter().product::<usize>()).sum();
            (numbers as f64 / 1e5).round() / 10.0
        };
        assert_eq!(millions("vision_model."), 8.6);
        assert_eq!(millions("decoder."), 126.0);
        assert_eq!(millions("language."), 6738.4);
    }

    #[test]
    fn configurations_are_checked() {
        assert_eq!(MedVintConfig::from_json("{}").unwrap(), MedVintConfig::default());
        for wrong in [
            "3",
            r#"{"image_size": 100}"#,
            r#"{"queries": {"heads": 12}}"#,
            r#"{"language": {"layers": 100000}}"#,
            r#"{"vision": {"blocks": [3, 0, 6]}}"#,
            r#"{"template": "What?"}"#,
            r#"{"sizes": 3}"#,
        ] {
            assert!(MedVintConfig::from_json(wrong).is_err(), "{wrong}");
        }
    }
}
