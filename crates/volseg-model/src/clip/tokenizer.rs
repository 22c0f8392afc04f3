use crate::Error;
use ahash::AHashMap;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::bert::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{Model as _, NormalizedString, Normalizer as _, OffsetType, PreTokenizedString, PreTokenizer as _};

/// No vocabulary file is longer, nor has more entries.
const MAX_BYTES: usize = 8 << 20;

/// BERT's word pieces over a model's own vocabulary (specs: biomedclip.md section 4).
pub struct WordPieces {
    model: WordPiece,
    first: u32,
    last: u32,
}

impl WordPieces {
    /// From the text of a `vocab.txt`: one piece a line, numbered from 0.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a vocabulary without `[PAD]`, `[UNK]`, `[CLS]` and `[SEP]`, or an absurd size.
    pub fn new(vocabulary: &str) -> Result<Self, Error> {
        let malformed = |reason: String| Error::Malformed { reason: format!("vocabulary: {reason}") };
        if vocabulary.len() > MAX_BYTES {
            return Err(malformed(format!("{} bytes, at most {MAX_BYTES}", vocabulary.len())));
        }
        let pieces: AHashMap<String, u32> =
            vocabulary.lines().zip(0u32..).map(|(l, n)| (l.trim_end().to_owned(), n)).collect();
        let id = |piece: &str| pieces.get(piece).copied().ok_or_else(|| malformed(format!("no {piece}")));
        let (first, last, pad) = (id("[CLS]")?, id("[SEP]")?, id("[PAD]")?);
        id("[UNK]")?;
        if pad != 0 {
            return Err(malformed(format!("[PAD] is {pad}, expected 0")));
        }
        let model = WordPiece::builder().vocab(pieces).build().map_err(|e| malformed(e.to_string()))?;
        Ok(Self { model, first, last })
    }

    /// Token ids of a text, `[CLS]` first and `[SEP]` last, cut to `most` tokens. No padding.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the text cannot be cut into pieces.
    pub fn ids(&self, text: &str, most: usize) -> Result<Vec<u32>, Error> {
        let failed = |e: tokenizers::Error| Error::InvalidArgument {
            what: "text",
            found: e.to_string(),
            expected: "words".into(),
        };
        let clean = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut normalised = NormalizedString::from(clean);
        BertNormalizer::default().normalize(&mut normalised).map_err(failed)?;
        let mut words = PreTokenizedString::from(normalised);
        BertPreTokenizer.pre_tokenize(&mut words).map_err(failed)?;
        words.tokenize(|word| self.model.tokenize(word.get())).map_err(failed)?;
        let encoding = words.into_encoding(None, 0, OffsetType::None).map_err(failed)?;
        let mut ids = vec![self.first];
        ids.extend(encoding.get_ids().iter().take(most.saturating_sub(2)));
        ids.push(self.last);
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vocabularies_and_texts() {
        let v = "[PAD]\n[UNK]\n[CLS]\n[SEP]\nleft\nkid\n##ney\n-\nx\n";
        let w = WordPieces::new(v).unwrap();
        assert_eq!(w.ids(" Left\tKÍDNEY x-x 人", 32).unwrap(), [2, 4, 5, 6, 8, 7, 8, 1, 3]);
        assert_eq!(w.ids("left left left", 4).unwrap(), [2, 4, 4, 3]);
        assert_eq!(w.ids("", 4).unwrap(), [2, 3]);
        for bad in ["", "[PAD]\n[UNK]\n[CLS]", "[UNK]\n[PAD]\n[CLS]\n[SEP]"] {
            assert!(WordPieces::new(bad).is_err());
        }
    }
}
