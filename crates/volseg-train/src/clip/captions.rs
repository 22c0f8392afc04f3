use crate::{Error, Random};
use std::collections::BTreeSet;
use volseg_geometry::ORGANS;
use volseg_model::clip::WordPieces;

/// Organs with captions: ids 1 to this.
pub(super) const ORGANS_KNOWN: usize = 17;
/// The text that stands for "none of the organs".
pub(super) const NONE: &str = "background";

/// Ways to say an organ in a picture; `{}` is the organ.
const FORMS: [&str; 6] = ["{}", "{}", "the {}", "a picture of the {}", "{} of a human", "where is the {} located?"];

/// What is also said for an organ, beside its own name.
fn synonyms(id: usize) -> &'static [&'static str] {
    match id {
        4 => &["gall bladder", "a pear-shaped fluid-filled sac of low density under the right lobe of the liver"],
        1 => &["a wedge-shaped soft tissue organ in the left upper abdomen behind the stomach"],
        2 => &["kidney on the right side", "the right kidney beside the spine below the liver"],
        3 => &["kidney on the left side", "the left kidney beside the spine below the spleen"],
        5 => &["oesophagus", "a small round muscular tube in front of the spine near the aorta"],
        6 => &["the largest solid abdominal organ in the right upper abdomen under the diaphragm"],
        7 => &["a hollow organ in the left upper abdomen filled with fluid, food or gas"],
        8 => &["abdominal aorta", "a round bright vessel directly in front of the spine"],
        9 => &["postcava", "an oval vessel in front of the spine to the right of the aorta"],
        10 => &["an elongated lobulated gland lying across the upper abdomen behind the stomach"],
        11 => &["right adrenal", "a thin structure above the right kidney behind the inferior vena cava"],
        12 => &["left adrenal", "a thin structure in front of the upper pole of the left kidney"],
        13 => &["a c-shaped tube of small bowel that surrounds the head of the pancreas"],
        14 => &["bladder", "a round midline pelvic organ of low density, filled with urine"],
        15 => &["prostate", "uterus", "a round soft tissue gland below the bladder"],
        16 => &["lung", "lung fields", "two large air-filled dark regions on both sides of the heart"],
        17 => &[
            "breast tumour",
            "benign breast tumor",
            "malignant breast tumor",
            "an irregular dark breast mass on ultrasound",
        ],
        _ => &[],
    }
}

/// Other words that descriptions and questions use, so that few of them fall apart into letters.
const MORE: &str = "pathology pathologies disease patient chest x ray ct ultrasound computed tomography image scan slice \
    shape what is it and which where located location briefly describe condition of in one line no not or by men women size \
    border margins smooth irregular oval round homogeneous heterogeneous enhancing cortex wall normal abnormal above below \
    anterior posterior superior inferior lateral medial upper lower middle quadrant pelvis thorax abdomen vein artery bowel bean \
    retroperitoneal central fatty sinus solid collapsed air bone muscle fat organ body y v j spiculated blurred shadowing taller wide \
    wider than tall often portal venous phase fluid";

/// The vocabulary of the model that is trained: special tokens, letters, digits and signs (also as continuations, so that
/// any word can be written), and the words of all captions, sorted.
#[must_use]
pub(super) fn vocabulary() -> String {
    let mut words: BTreeSet<String> = BTreeSet::new();
    let texts = (1..=ORGANS_KNOWN).flat_map(all_names).chain(FORMS.map(str::to_owned));
    for text in texts.chain([MORE.to_owned(), NONE.to_owned()]) {
        words.extend(
            text.to_ascii_lowercase()
                .split(|c: char| !c.is_ascii_alphanumeric())
                .filter(|w| w.len() > 1)
                .map(str::to_owned),
        );
    }
    let mut lines: Vec<String> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned).into();
    lines.extend((b'!'..=b'~').filter(|b| !b.is_ascii_uppercase()).map(|b| char::from(b).to_string()));
    lines.extend((b'0'..=b'9').chain(b'a'..=b'z').map(|b| format!("##{}", char::from(b))));
    lines.extend(words);
    lines.join("\n") + "\n"
}

fn all_names(id: usize) -> Vec<String> {
    let organ = &ORGANS[id - 1];
    std::iter::once(organ.prompt.to_owned()).chain(synonyms(id).iter().map(|&s| s.to_owned())).collect()
}

/// One text an organ, by id from 1, and the text of "none" last, as token ids.
pub(super) struct Captions(pub(super) Vec<Vec<u32>>);

impl Captions {
    /// Captions of a step, drawn at random.
    pub(super) fn draw(words: &WordPieces, random: &mut Random) -> Result<Self, Error> {
        let text = |id: usize, random: &mut Random| {
            let names = all_names(id);
            // The plain name is what prompts use, so it is half of all captions.
            if random.chance(0.5) {
                return names[0].clone();
            }
            let name = &names[random.below(names.len())];
            FORMS[random.below(FORMS.len())].replace("{}", name)
        };
        let texts: Vec<String> = (1..=ORGANS_KNOWN).map(|id| text(id, random)).collect();
        Self::new(words, &texts)
    }

    /// Plain names.
    pub(super) fn plain(words: &WordPieces) -> Result<Self, Error> {
        let texts: Vec<String> = (1..=ORGANS_KNOWN).map(|id| ORGANS[id - 1].prompt.to_owned()).collect();
        Self::new(words, &texts)
    }

    fn new(words: &WordPieces, texts: &[String]) -> Result<Self, Error> {
        let none = [NONE.to_owned()];
        let ids = texts.iter().chain(&none).map(|t| words.ids(t, 96)).collect::<Result<_, _>>()?;
        Ok(Self(ids))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_caption_holds_an_unknown_word() {
        let words = WordPieces::new(&vocabulary()).unwrap();
        for n in 0..50 {
            let captions = Captions::draw(&words, &mut Random::at(&[n])).unwrap();
            assert_eq!(captions.0.len(), ORGANS_KNOWN + 1);
            assert!(captions.0.iter().flatten().all(|&id| id != 1));
        }
    }
}
