use crate::Error;
use serde::{Deserialize, Serialize};

/// Sizes of the embedded network; stored in the metadata of its weights file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Side of the square input and of the masks, pixels; a multiple of 32.
    pub side: usize,
    /// Input channels: the slice before, the slice, the slice after.
    pub channels: usize,
    /// Channels of the stages at stride 1, 2, 4, 8, 16, 32.
    pub stages: [usize; 6],
    /// Residual blocks of those stages.
    pub blocks: [usize; 6],
    /// Width of the embedding (stride 8), of tokens and prompts.
    pub width: usize,
    /// Channels of the dense decoder's features at stride 4, 2 and 1.
    pub dense: [usize; 3],
    /// Channels of the prompted decoder's last features, at stride 1: they exist once a row, so they are few.
    pub fine: usize,
    /// Number of organ tokens; organ `id` has token `id - 1`.
    pub organs: usize,
    /// Attention heads.
    pub heads: usize,
    /// Inner width of the attentions between tokens and pixels.
    pub cross_width: usize,
    /// Hidden width of the token MLP.
    pub mlp: usize,
    /// Length of a text's feature, for networks that read one in place of the organ token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<usize>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            side: 128,
            channels: 3,
            stages: [16, 32, 64, 128, 192, 256],
            blocks: [0, 1, 1, 2, 2, 2],
            width: 128,
            dense: [64, 32, 16],
            fine: 8,
            organs: 20,
            heads: 8,
            cross_width: 64,
            mlp: 512,
            text: None,
        }
    }
}

impl Config {
    /// Side of the embedding in pixels.
    #[must_use]
    pub fn grid(&self) -> usize {
        self.side / 8
    }

    /// Refuses sizes that cannot work or that no honest file has.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] naming the field.
    pub fn check(&self) -> Result<(), Error> {
        let bad = |what: &'static str, found: String, expected: &str| {
            Err(Error::InvalidArgument { what, found, expected: expected.into() })
        };
        if !self.side.is_multiple_of(32) || !(32..=1024).contains(&self.side) {
            return bad("side", self.side.to_string(), "a multiple of 32 in 32..=1024");
        }
        let widths = self.stages.iter().chain(&self.dense).chain([&self.width, &self.cross_width, &self.fine]);
        for &w in widths {
            if w % 8 != 0 || !(8..=2048).contains(&w) {
                return bad("channels of a stage", w.to_string(), "a multiple of 8 in 8..=2048");
            }
        }
        if self.heads == 0 || !self.width.is_multiple_of(self.heads) || !self.cross_width.is_multiple_of(self.heads) {
            return bad("heads", self.heads.to_string(), "a divisor of width and cross_width");
        }
        if self.blocks.iter().any(|&b| b > 16) || self.channels == 0 || self.channels > 16 {
            return bad("blocks or channels", format!("{:?}, {}", self.blocks, self.channels), "at most 16");
        }
        if self.organs == 0 || self.organs > 255 || self.mlp == 0 || self.mlp > 8192 {
            return bad("organs or mlp", format!("{}, {}", self.organs, self.mlp), "1..=255, 1..=8192");
        }
        if self.text.is_some_and(|t| t == 0 || t > 8192) {
            return bad("text", format!("{:?}", self.text), "1..=8192, or absent");
        }
        Ok(())
    }
}
