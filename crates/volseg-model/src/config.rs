//! Sizes of a network of SAM's family, as they stand in a weights file's metadata and in `--config` files.

use crate::Error;
use serde::{Deserialize, Serialize};

/// Which network a weights file holds; says how pictures go in and masks come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arch {
    /// SAM with adapters at 256 x 256 (specs: sam-med2d.md).
    SamMed2d,
    /// Meta's SAM.
    Sam,
    /// SAM fine-tuned on medical pictures, one box, one mask.
    #[serde(rename = "medsam")]
    MedSam,
}

impl Arch {
    /// The name on the command line and in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SamMed2d => "sam-med2d",
            Self::Sam => "sam",
            Self::MedSam => "medsam",
        }
    }
}

impl std::fmt::Display for Arch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Arch {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self, Error> {
        [Self::SamMed2d, Self::Sam, Self::MedSam].into_iter().find(|a| a.name() == s).ok_or_else(|| {
            Error::InvalidArgument {
                what: "architecture",
                found: s.into(),
                expected: "sam-med2d, sam or medsam".into(),
            }
        })
    }
}

/// Name of the linear map from text features to prompt tokens, which published checkpoints lack.
pub const TEXT_PROJECTION: &str = "prompt_encoder.text_proj";

/// Sizes of encoder, prompt encoder and decoder. Field names are those of the published configurations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamConfig {
    /// Side of the square input, pixels.
    pub image_size: usize,
    /// Side of a patch, pixels.
    pub patch_size: usize,
    /// Width of the image encoder.
    pub encoder_embed_dim: usize,
    /// Blocks of the image encoder.
    pub encoder_depth: usize,
    /// Attention heads of the image encoder.
    pub encoder_num_heads: usize,
    /// Hidden width of the encoder's MLP, in widths.
    pub encoder_mlp_ratio: usize,
    /// Side of the attention windows, tokens.
    pub window_size: usize,
    /// Blocks (from 0) whose attention is over the whole picture.
    pub global_attn_indexes: Vec<usize>,
    /// An adapter in every block.
    pub encoder_adapter: bool,
    /// Width of embeddings and prompts.
    pub prompt_embed_dim: usize,
    /// Channels of the mask prompt before the last convolution.
    pub mask_in_chans: usize,
    /// Two-way layers.
    pub decoder_depth: usize,
    /// Heads of the decoder's attentions.
    pub decoder_num_heads: usize,
    /// Hidden width of the decoder's MLP.
    pub decoder_mlp_dim: usize,
    /// The width of cross-attention is `prompt_embed_dim` divided by this.
    #[serde(default = "two", skip_serializing_if = "is_two")]
    pub attention_downsample_rate: usize,
    /// Layers of the IoU head.
    pub iou_head_depth: usize,
    /// Hidden width of the IoU head.
    pub iou_head_hidden_dim: usize,
    /// Masks beside the single one.
    pub num_multimask_outputs: usize,
    /// The texts of prompts that the network reads; published checkpoints read none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TextSource>,
}

/// Where the text features come from that a network learnt to read as prompt tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextSource {
    /// Length of a feature.
    pub embed_dim: usize,
    /// SHA-256 of the weights file of the image-text model, hex: features of another one mean nothing to the network.
    pub sha256: String,
}

fn two() -> usize {
    2
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_two(n: &usize) -> bool {
    *n == 2
}

impl SamConfig {
    /// The released SAM-Med2D: ViT-B with adapters at 256 x 256.
    #[must_use]
    pub fn sam_med2d() -> Self {
        Self { image_size: 256, encoder_adapter: true, ..Self::sam_vit_b() }
    }

    /// SAM ViT-B, also MedSAM.
    #[must_use]
    pub fn sam_vit_b() -> Self {
        Self {
            image_size: 1024,
            patch_size: 16,
            encoder_embed_dim: 768,
            encoder_depth: 12,
            encoder_num_heads: 12,
            encoder_mlp_ratio: 4,
            window_size: 14,
            global_attn_indexes: vec![2, 5, 8, 11],
            encoder_adapter: false,
            prompt_embed_dim: 256,
            mask_in_chans: 16,
            decoder_depth: 2,
            decoder_num_heads: 8,
            decoder_mlp_dim: 2048,
            attention_downsample_rate: 2,
            iou_head_depth: 3,
            iou_head_hidden_dim: 256,
            num_multimask_outputs: 3,
            text: None,
        }
    }

    /// SAM ViT-L.
    #[must_use]
    pub fn sam_vit_l() -> Self {
        Self {
            encoder_embed_dim: 1024,
            encoder_depth: 24,
            encoder_num_heads: 16,
            global_attn_indexes: vec![5, 11, 17, 23],
            ..Self::sam_vit_b()
        }
    }

    /// SAM ViT-H.
    #[must_use]
    pub fn sam_vit_h() -> Self {
        Self {
            encoder_embed_dim: 1280,
            encoder_depth: 32,
            encoder_num_heads: 16,
            global_attn_indexes: vec![7, 15, 23, 31],
            ..Self::sam_vit_b()
        }
    }

    /// Tokens along a side of the picture.
    #[must_use]
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Side of low-resolution masks and of the mask prompt.
    #[must_use]
    pub fn mask_side(&self) -> usize {
        4 * self.grid()
    }

    /// Side of the attention windows of a block.
    #[must_use]
    pub fn window(&self, block: usize) -> usize {
        if self.window_size == 0 || self.global_attn_indexes.contains(&block) { self.grid() } else { self.window_size }
    }

    /// Inner width of the attentions between tokens and pixels.
    #[must_use]
    pub fn cross_width(&self) -> usize {
        self.prompt_embed_dim / self.attention_downsample_rate
    }

    /// Reads a configuration file.
    ///
    /// # Errors
    /// [`Error::Malformed`] for text that is no such configuration, else as [`SamConfig::check`].
    pub fn from_json(text: &str) -> Result<Self, Error> {
        let config: Self = serde_json::from_str(text)
            .map_err(|e| Error::Malformed { reason: format!("the configuration is not usable: {e}") })?;
        config.check()?;
        Ok(config)
    }

    /// Refuses sizes that cannot work or that no honest file has.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] naming the field.
    pub fn check(&self) -> Result<(), Error> {
        let within = |what: &'static str, value: usize, low: usize, high: usize| {
            if (low..=high).contains(&value) { Ok(()) } else { refuse(what, value, format!("{low}..={high}")) }
        };
        let divides = |what: &'static str, value: usize, whole: usize| {
            if value > 0 && whole.is_multiple_of(value) {
                Ok(())
            } else {
                refuse(what, value, format!("a divisor of {whole}"))
            }
        };
        within("image_size", self.image_size, 16, 4096)?;
        within("patch_size", self.patch_size, 1, 256)?;
        divides("patch_size", self.patch_size, self.image_size)?;
        within("tokens along a side (image_size / patch_size)", self.grid(), 1, 128)?;
        within("encoder_embed_dim", self.encoder_embed_dim, 4, 4096)?;
        within("encoder_depth", self.encoder_depth, 1, 128)?;
        divides("encoder_num_heads", self.encoder_num_heads, self.encoder_embed_dim)?;
        within("encoder_mlp_ratio", self.encoder_mlp_ratio, 1, 16)?;
        within("window_size", self.window_size, 0, 128)?;
        within("prompt_embed_dim", self.prompt_embed_dim, 8, 4096)?;
        divides("8 (a part of prompt_embed_dim)", 8, self.prompt_embed_dim)?;
        within("mask_in_chans", self.mask_in_chans, 4, 1024)?;
        divides("4 (a part of mask_in_chans)", 4, self.mask_in_chans)?;
        within("decoder_depth", self.decoder_depth, 1, 32)?;
        divides("attention_downsample_rate", self.attention_downsample_rate, self.prompt_embed_dim)?;
        divides("decoder_num_heads", self.decoder_num_heads, self.cross_width())?;
        within("decoder_mlp_dim", self.decoder_mlp_dim, 1, 16384)?;
        within("iou_head_depth", self.iou_head_depth, 1, 16)?;
        within("iou_head_hidden_dim", self.iou_head_hidden_dim, 1, 8192)?;
        within("num_multimask_outputs", self.num_multimask_outputs, 1, 64)?;
        if let Some(text) = &self.text {
            within("text.embed_dim", text.embed_dim, 1, 8192)?;
        }
        if let Some(&block) = self.global_attn_indexes.iter().find(|&&b| b >= self.encoder_depth) {
            return refuse("global_attn_indexes", block, format!("below encoder_depth = {}", self.encoder_depth));
        }
        if self.encoder_adapter && !self.grid().is_multiple_of(2) {
            return refuse("tokens along a side", self.grid(), "an even number, since adapters halve the grid".into());
        }
        Ok(())
    }

    /// Every tensor of such a network, by its official name, with its shape.
    #[must_use]
    pub fn tensors(&self) -> std::collections::BTreeMap<String, Vec<usize>> {
        let mut list = Names::default();
        self.encoder_tensors(&mut list);
        self.prompt_tensors(&mut list);
        self.decoder_tensors(&mut list);
        list.0
    }

    fn encoder_tensors(&self, list: &mut Names) {
        let (d, p, g, out) = (self.encoder_embed_dim, self.patch_size, self.grid(), self.prompt_embed_dim);
        let hidden = d * self.encoder_mlp_ratio;
        let encoder = "image_encoder";
        list.add(format!("{encoder}.pos_embed"), &[1, g, g, d]);
        list.with_bias(format!("{encoder}.patch_embed.proj"), &[d, 3, p, p], d);
        for n in 0..self.encoder_depth {
            let block = format!("{encoder}.blocks.{n}");
            let table = [2 * self.window(n) - 1, d / self.encoder_num_heads];
            list.add(format!("{block}.attn.rel_pos_h"), &table);
            list.add(format!("{block}.attn.rel_pos_w"), &table);
            list.linear(format!("{block}.attn.qkv"), 3 * d, d);
            list.linear(format!("{block}.attn.proj"), d, d);
            list.linear(format!("{block}.mlp.lin1"), hidden, d);
            list.linear(format!("{block}.mlp.lin2"), d, hidden);
            list.norm(format!("{block}.norm1"), d);
            list.norm(format!("{block}.norm2"), d);
            if self.encoder_adapter {
                let adapter = format!("{block}.Adapter");
                list.norm(format!("{adapter}.norm"), d);
                list.add(format!("{adapter}.channel.0.weight"), &[d / 4, d]);
                list.add(format!("{adapter}.channel.2.weight"), &[d, d / 4]);
                list.add(format!("{adapter}.spatial.0.weight"), &[d, d, 3, 3]);
                list.add(format!("{adapter}.spatial.2.weight"), &[d, d, 4, 4]);
            }
        }
        list.add(format!("{encoder}.neck.0.weight"), &[out, d, 1, 1]);
        list.norm(format!("{encoder}.neck.1"), out);
        list.add(format!("{encoder}.neck.2.weight"), &[out, out, 3, 3]);
        list.norm(format!("{encoder}.neck.3"), out);
    }

    fn prompt_tensors(&self, list: &mut Names) {
        let (d, c) = (self.prompt_embed_dim, self.mask_in_chans);
        let prompt = "prompt_encoder";
        list.add(format!("{prompt}.pe_layer.positional_encoding_gaussian_matrix"), &[2, d / 2]);
        (0..4).for_each(|n| list.add(format!("{prompt}.point_embeddings.{n}.weight"), &[1, d]));
        list.add(format!("{prompt}.not_a_point_embed.weight"), &[1, d]);
        list.add(format!("{prompt}.no_mask_embed.weight"), &[1, d]);
        let down = format!("{prompt}.mask_downscaling");
        list.with_bias(format!("{down}.0"), &[c / 4, 1, 2, 2], c / 4);
        list.norm(format!("{down}.1"), c / 4);
        list.with_bias(format!("{down}.3"), &[c, c / 4, 2, 2], c);
        list.norm(format!("{down}.4"), c);
        list.with_bias(format!("{down}.6"), &[d, c, 1, 1], d);
        if let Some(text) = &self.text {
            list.linear(TEXT_PROJECTION.into(), d, text.embed_dim);
        }
    }

    fn decoder_tensors(&self, list: &mut Names) {
        let (d, inner, mlp) = (self.prompt_embed_dim, self.cross_width(), self.decoder_mlp_dim);
        let decoder = "mask_decoder";
        let attention = |list: &mut Names, name: String, inner: usize| {
            ["q", "k", "v"].iter().for_each(|p| list.linear(format!("{name}.{p}_proj"), inner, d));
            list.linear(format!("{name}.out_proj"), d, inner);
        };
        for n in 0..self.decoder_depth {
            let layer = format!("{decoder}.transformer.layers.{n}");
            attention(list, format!("{layer}.self_attn"), d);
            attention(list, format!("{layer}.cross_attn_token_to_image"), inner);
            attention(list, format!("{layer}.cross_attn_image_to_token"), inner);
            (1..=4).for_each(|i| list.norm(format!("{layer}.norm{i}"), d));
            list.linear(format!("{layer}.mlp.lin1"), mlp, d);
            list.linear(format!("{layer}.mlp.lin2"), d, mlp);
        }
        attention(list, format!("{decoder}.transformer.final_attn_token_to_image"), inner);
        list.norm(format!("{decoder}.transformer.norm_final_attn"), d);
        list.add(format!("{decoder}.iou_token.weight"), &[1, d]);
        let masks = self.num_multimask_outputs + 1;
        list.add(format!("{decoder}.mask_tokens.weight"), &[masks, d]);
        list.with_bias(format!("{decoder}.output_upscaling.0"), &[d, d / 4, 2, 2], d / 4);
        list.norm(format!("{decoder}.output_upscaling.1"), d / 4);
        list.with_bias(format!("{decoder}.output_upscaling.3"), &[d / 4, d / 8, 2, 2], d / 8);
        for n in 0..masks {
            list.mlp(&format!("{decoder}.output_hypernetworks_mlps.{n}"), 3, [d, d, d / 8]);
        }
        let sizes = [d, self.iou_head_hidden_dim, masks];
        list.mlp(&format!("{decoder}.iou_prediction_head"), self.iou_head_depth, sizes);
    }
}

fn refuse<T>(what: &'static str, found: usize, expected: String) -> Result<T, Error> {
    Err(Error::InvalidArgument { what, found: found.to_string(), expected })
}

#[derive(Default)]
struct Names(std::collections::BTreeMap<String, Vec<usize>>);

impl Names {
    fn add(&mut self, name: String, shape: &[usize]) {
        self.0.insert(name, shape.to_vec());
    }
    fn with_bias(&mut self, name: String, shape: &[usize], bias: usize) {
        self.add(format!("{name}.weight"), shape);
        self.add(format!("{name}.bias"), &[bias]);
    }
    fn linear(&mut self, name: String, out: usize, inputs: usize) {
        self.with_bias(name, &[out, inputs], out);
    }
    fn norm(&mut self, name: String, width: usize) {
        self.with_bias(name, &[width], width);
    }
    /// Layers of widths input, hidden, output.
    fn mlp(&mut self, name: &str, layers: usize, [input, hidden, output]: [usize; 3]) {
        for n in 0..layers {
            let from = if n == 0 { input } else { hidden };
            let to = if n + 1 == layers { output } else { hidden };
            self.linear(format!("{name}.layers.{n}"), to, from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts of the table in specs/sam-med2d.md sections 1 and 8.
    #[test]
    fn the_released_model_has_its_published_size() {
        let tensors = SamConfig::sam_med2d().tensors();
        let count = |part: &str| -> usize {
            tensors.iter().filter(|(k, _)| k.contains(part)).map(|(_, s)| s.iter().product::<usize>()).sum()
        };
        assert_eq!(tensors.len(), 386);
        assert_eq!(count(""), 271_242_032);
        assert_eq!(count("Adapter"), 180_504_576);
        assert_eq!(count("prompt_encoder"), 6_476);
        assert_eq!(count("mask_decoder"), 4_058_340);
        assert_eq!(tensors["image_encoder.blocks.2.attn.rel_pos_h"], [31, 64]);
    }

    #[test]
    fn configurations_are_checked() {
        for config in [SamConfig::sam_med2d(), SamConfig::sam_vit_b(), SamConfig::sam_vit_l(), SamConfig::sam_vit_h()] {
            let text = serde_json::to_string(&config).unwrap();
            assert_eq!(SamConfig::from_json(&text).unwrap(), config);
        }
        let good = serde_json::to_string(&SamConfig::sam_med2d()).unwrap();
        for (from, to) in [
            ("\"encoder_depth\":12", "\"encoder_depth\":1000000000"),
            ("\"encoder_num_heads\":12", "\"encoder_num_heads\":7"),
            ("\"encoder_num_heads\":12", "\"encoder_num_heads\":0"),
            ("\"patch_size\":16", "\"patch_size\":0"),
            ("\"patch_size\":16", "\"threads\":1000000000,\"patch_size\":16"),
            ("[2,5,8,11]", "[2,5,8,12]"),
            ("\"image_size\":256", "\"image_size\":-1"),
            ("\"image_size\":256", "\"image_size\":240"),
        ] {
            assert!(good.contains(from));
            assert!(SamConfig::from_json(&good.replace(from, to)).is_err(), "{to}");
        }
    }
}
