use crate::Error;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Pieces of LLaMA's vocabulary at most.
const MOST_PIECES: usize = 1 << 18;

/// What stands for a blank.
const BLANK: &str = "\u{2581}";

/// LLaMA's tokenizer: byte-pair pieces of a SentencePiece model, blanks as `▁`, characters without a piece as bytes.
#[derive(Clone, Debug)]
pub struct SentencePieces {
    model: Model,
    numbers: HashMap<String, u32>,
    unknown: u32,
    start: Option<u32>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Model {
    /// Text, score, kind.
    pieces: Vec<(String, f32, u8)>,
    /// A blank is put before the text.
    blank_first: bool,
}

/// Kinds of pieces in SentencePiece's format.
const UNKNOWN: u8 = 2;
const CONTROL: u8 = 3;
const BYTE: u8 = 6;

impl SentencePieces {
    /// Reads a `tokenizer.model`.
    ///
    /// # Errors
    /// [`Error::Malformed`] for bytes that are none, or for a model that is no byte-pair model without a normaliser, as LLaMA's is.
    pub fn from_model(bytes: &[u8]) -> Result<Self, Error> {
        let broken = || Error::Malformed { reason: "the tokenizer is no SentencePiece model".into() };
        let mut model = Model { pieces: Vec::new(), blank_first: true };
        // Unigram if the file does not say.
        let mut kind = 1;
        for (field, value) in Fields(bytes) {
            match (field, value.ok_or_else(broken)?) {
                (1, Value::Bytes(piece)) if model.pieces.len() < MOST_PIECES => {
                    model.pieces.push(read_piece(piece).ok_or_else(broken)?);
                }
                (1, _) => return Err(broken()),
                (2, Value::Bytes(trainer)) => {
                    for (field, value) in Fields(trainer) {
                        if let (3, Value::Number(n)) = (field, value.ok_or_else(broken)?) {
                            kind = n;
                        }
                    }
                }
                (3, Value::Bytes(normalizer)) => {
                    for (field, value) in Fields(normalizer) {
                        match (field, value.ok_or_else(broken)?) {
                            (2, Value::Bytes(map)) if !map.is_empty() => return Err(unlike("it changes characters")),
                            (3, Value::Number(n)) => model.blank_first = n != 0,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        if model.pieces.is_empty() {
            return Err(broken());
        }
        if kind != 2 {
            return Err(unlike("it is no byte-pair model"));
        }
        Self::new(model)
    }

    /// Reads what [`SentencePieces::to_json`] wrote.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn from_json(text: &str) -> Result<Self, Error> {
        let model: Model =
            serde_json::from_str(text).map_err(|e| Error::Malformed { reason: format!("tokenizer: {e}") })?;
        Self::new(model)
    }

    /// The pieces as text, for a weights file's metadata.
    ///
    /// # Errors
    /// [`Error::Malformed`] if a score is no number.
    pub fn to_json(&self) -> Result<String, Error> {
        serde_json::to_string(&self.model).map_err(|e| Error::Malformed { reason: format!("tokenizer: {e}") })
    }

    fn new(model: Model) -> Result<Self, Error> {
        let first =
            |wanted: &dyn Fn(&(String, f32, u8)) -> bool| model.pieces.iter().position(wanted).map(|n| n as u32);
        let unknown = first(&|p| p.2 == UNKNOWN).ok_or_else(|| unlike("it has no unknown piece"))?;
        let start = first(&|p| p.2 == CONTROL && p.0 == "<s>");
        // Control pieces are no text.
        let spoken = model.pieces.iter().enumerate().filter(|(_, p)| p.2 != CONTROL && p.2 != UNKNOWN);
        let numbers = spoken.map(|(n, p)| (p.0.clone(), n as u32)).collect();
        Ok(Self { numbers, unknown, start, model })
    }

    /// Pieces of the vocabulary.
    #[must_use]
    pub fn count(&self) -> usize {
        self.model.pieces.len()
    }

    /// The start token and the tokens of a text.
    #[must_use]
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut tokens: Vec<u32> = self.start.into_iter().collect();
        if text.is_empty() {
            return tokens;
        }
        let text = format!("{}{}", if self.model.blank_first { BLANK } else { "" }, text.replace(' ', BLANK));
        for part in self.merge(&text) {
            match self.piece(part) {
                Some((number, _)) => tokens.push(number),
                None => tokens.extend(
                    part.bytes().map(|b| self.numbers.get(&format!("<0x{b:02X}>")).copied().unwrap_or(self.unknown)),
                ),
            }
        }
        tokens
    }

    /// Number and score of the piece of a text. Byte pieces have names, not texts.
    fn piece(&self, text: &str) -> Option<(u32, f32)> {
        let number = *self.numbers.get(text)?;
        let (_, score, kind) = self.model.pieces.get(number as usize)?;
        (*kind != BYTE).then_some((number, *score))
    }

    /// Joins neighbours, those of the best score first and the left of two equal ones, until no two make up a piece.
    fn merge<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let mut starts: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let score = |starts: &[usize], n: usize| Some(self.piece(text.get(*starts.get(n)?..*starts.get(n + 2)?)?)?.1);
        let mut scores: Vec<Option<f32>> = (0..starts.len()).map(|n| score(&starts, n)).collect();
        loop {
            let mut best: Option<(usize, f32)> = None;
            for (n, s) in scores.iter().enumerate() {
                if let Some(s) = *s
                    && best.is_none_or(|(_, b)| s > b)
                {
                    best = Some((n, s));
                }
            }
            let Some((n, _)) = best else { break };
            starts.remove(n + 1);
            scores.remove(n + 1);
            for near in n.saturating_sub(1)..=n {
                scores[near] = score(&starts, near);
            }
        }
        starts.windows(2).filter_map(|w| text.get(w[0]..w[1])).collect()
    }

    /// The text of tokens; control tokens are silent.
    #[must_use]
    pub fn decode(&self, tokens: &[u32]) -> String {
        let mut bytes = Vec::new();
        for (text, _, kind) in tokens.iter().filter_map(|&t| self.model.pieces.get(t as usize)) {
            let byte = text.strip_prefix("<0x").and_then(|t| u8::from_str_radix(t.strip_suffix('>')?, 16).ok());
            match (*kind, byte) {
                (CONTROL | UNKNOWN, _) => {}
                (BYTE, Some(byte)) => bytes.push(byte),
                _ => bytes.extend_from_slice(text.as_bytes()),
            }
        }
        let text = String::from_utf8_lossy(&bytes).replace(BLANK, " ");
        if self.model.blank_first { text.strip_prefix(' ').map_or(text.clone(), str::to_owned) } else { text }
    }
}

fn unlike(why: &str) -> Error {
    Error::Malformed { reason: format!("the tokenizer is not like LLaMA's: {why}") }
}

fn read_piece(bytes: &[u8]) -> Option<(String, f32, u8)> {
    let mut piece = (String::new(), 0.0, 1);
    for (field, value) in Fields(bytes) {
        match (field, value?) {
            (1, Value::Bytes(text)) => piece.0 = std::str::from_utf8(text).ok()?.to_owned(),
            (2, Value::Four(bits)) => piece.1 = f32::from_le_bytes(bits),
            (3, Value::Number(n)) => piece.2 = u8::try_from(n).ok()?,
            _ => {}
        }
    }
    piece.1.is_finite().then_some(piece)
}

/// Fields of a protocol buffer: number and value, `None` for what is none (then it ends).
struct Fields<'a>(&'a [u8]);

enum Value<'a> {
    Number(u64),
    Four([u8; 4]),
    Bytes(&'a [u8]),
    Other,
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Option<Value<'a>>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let key = self.number();
        let value = key.and_then(|key| match key & 7 {
            0 => self.number().map(Value::Number),
            1 => self.take(8).map(|_| Value::Other),
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                self.take(length).map(Value::Bytes)
            }
            5 => self.take(4)?.try_into().ok().map(Value::Four),
            _ => None,
        });
        if value.is_none() {
            self.0 = &[];
        }
        Some((key.unwrap_or_default() >> 3, value))
    }
}

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}
