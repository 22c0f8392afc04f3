//! MedVInT against torch and transformers: the fixture is the output of scripts/parity/medvint.py.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use candle_core::{Device, Tensor, safetensors};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use volseg_model::Error;
use volseg_model::medvint::{MedVint, MedVintConfig, Precision, SentencePieces};
use volseg_model::picture::Picture;
use volseg_model::weights::{MedVintImportOptions, WeightsFile, holds_medvint, import_medvint};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/medvint_tiny").join(name)
}

fn config() -> MedVintConfig {
    MedVintConfig::from_json(&std::fs::read_to_string(fixture("config.json")).unwrap()).unwrap()
}

fn pieces() -> SentencePieces {
    SentencePieces::from_model(&std::fs::read(fixture("tokenizer.model")).unwrap()).unwrap()
}

fn imported(folder: &Path) -> PathBuf {
    let to = folder.join("medvint.safetensors");
    let options = MedVintImportOptions { config: Some(config()), tokenizer: Some(pieces()), licence: None };
    let done = import_medvint(&fixture("pytorch_model.bin"), &to, &options).unwrap();
    assert!(done.fit.extra.is_empty(), "{}", done.fit);
    to
}

fn expected() -> HashMap<String, Tensor> {
    safetensors::load(fixture("expected.safetensors"), &Device::Cpu).unwrap()
}

fn picture() -> Picture {
    let image = &expected()["image_u8"];
    let (height, width, _) = image.dims3().unwrap();
    Picture::rgb(width, height, image.flatten_all().unwrap().to_vec1().unwrap()).unwrap()
}

struct Asked {
    question: String,
    prompt: Vec<u32>,
    tokens: Vec<u32>,
}

fn asked() -> Vec<Asked> {
    let list: serde_json::Value = serde_json::from_slice(&std::fs::read(fixture("questions.json")).unwrap()).unwrap();
    let numbers = |v: &serde_json::Value| v.as_array().unwrap().iter().map(|t| t.as_u64().unwrap() as u32).collect();
    let one = |q: &serde_json::Value| Asked {
        question: q["question"].as_str().unwrap().into(),
        prompt: numbers(&q["prompt"]),
        tokens: numbers(&q["tokens"]),
    };
    list.as_array().unwrap().iter().map(one).collect()
}

fn off(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn flat(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn it_sees_and_answers_what_torch_does() {
    let folder = tempfile::tempdir().unwrap();
    let model = MedVint::load(&imported(folder.path()), Precision::Full).unwrap();
    let expected = expected();
    let seen = model.see(&picture()).unwrap();
    let difference = off(&flat(&seen), &flat(&expected["seen"]));
    assert!(difference < 1e-4, "{difference:.1e}");
    for (n, q) in asked().iter().enumerate() {
        let answer = model.generate(&seen, &q.prompt).unwrap();
        assert_eq!(answer.tokens, q.tokens, "{}", q.question);
        let difference = off(&answer.logits.concat(), &flat(&expected[&format!("logits.{n}")]));
        assert!(difference < 1e-3, "{difference:.1e}");
        assert_eq!(model.answer(&picture(), &q.question).unwrap(), pieces().decode(&q.tokens));
    }
    assert!(asked().iter().any(|q| q.tokens.len() < config().most_tokens), "no answer of the fixture ends by itself");
}

#[test]
fn short_matrices_say_nearly_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = imported(folder.path());
    let q = &asked()[0];
    for (precision, most) in [(Precision::Eight, 0.2), (Precision::Four, 3.0)] {
        let model = MedVint::load(&path, precision).unwrap();
        let answer = model.generate(&model.see(&picture()).unwrap(), &q.prompt).unwrap();
        let first = flat(&expected()["logits.0"].narrow(0, 0, 1).unwrap());
        let difference = off(&answer.logits[0], &first);
        assert!(difference > 0.0 && difference < most, "{precision:?}: {difference}");
    }
}

#[test]
fn words_are_cut_as_sentencepiece_cuts_them() {
    let pieces = pieces();
    for q in asked() {
        assert_eq!(pieces.encode(&format!("Question: {}The Answer is:", q.question)), q.prompt);
    }
    for text in ["", " ", "a  b", " leading", "Gefäß 肝臓 \u{1f600}\n", "<s></s><0x41>", "▁"] {
        assert_eq!(pieces.decode(&pieces.encode(text)), text.replace('▁', " "), "{text:?}");
    }
    let again = SentencePieces::from_json(&pieces.to_json().unwrap()).unwrap();
    assert_eq!(again.encode("the liver"), pieces.encode("the liver"));
}

#[test]
fn broken_tokenizers_are_errors() {
    let bytes = std::fs::read(fixture("tokenizer.model")).unwrap();
    for length in (0..bytes.len()).step_by(97) {
        // Whatever is cut off, nothing panics; at a field's border it may even be a smaller tokenizer.
        let _ = SentencePieces::from_model(&bytes[..length]);
    }
    for n in 0..bytes.len().min(2000) {
        let mut damaged = bytes.clone();
        damaged[n] ^= 0xff;
        let _ = SentencePieces::from_model(&damaged);
    }
    assert!(matches!(SentencePieces::from_model(b"PK\x03\x04"), Err(Error::Malformed { .. })));
    assert!(matches!(SentencePieces::from_json("{}"), Err(Error::Malformed { .. })));
}

#[test]
fn an_import_is_checked_and_can_be_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let path = imported(folder.path());
    let from = fixture("pytorch_model.bin");
    assert!(holds_medvint(&from).unwrap() && holds_medvint(&path).unwrap());
    let again = folder.path().join("again.safetensors");
    let done = import_medvint(&path, &again, &MedVintImportOptions::default()).unwrap();
    assert_eq!(Some(&done.sha256), WeightsFile::open(&path).unwrap().metadata().get("sha256"));
    assert!(WeightsFile::open(&again).unwrap().fit().unwrap().is_complete());

    let none = folder.path().join("none.safetensors");
    let run = |config: Option<MedVintConfig>, tokenizer| {
        import_medvint(&from, &none, &MedVintImportOptions { config, tokenizer, licence: None }).unwrap_err()
    };
    assert!(run(Some(config()), None).to_string().contains("--vocab"));
    assert!(matches!(run(None, Some(pieces())), Error::Unfit { .. }));
    let mut small = config();
    small.language.vocab = 300;
    assert!(matches!(run(Some(small), Some(pieces())), Error::Unfit { .. }));
    assert!(!none.exists());
}

#[test]
fn prompts_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = MedVint::load(&imported(folder.path()), Precision::Full).unwrap();
    let seen = model.see(&picture()).unwrap();
    for prompt in [vec![], vec![320], vec![3; 160]] {
        assert!(matches!(model.generate(&seen, &prompt), Err(Error::InvalidArgument { .. })));
    }
    assert!(model.answer(&picture(), &"why ".repeat(2000)).is_err());
}
