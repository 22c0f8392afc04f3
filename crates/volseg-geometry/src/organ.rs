use crate::{Error, Result};
use std::{fmt, str::FromStr};

/// A code of SNOMED CT (scheme `SCT`): value and meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// Code value, such as `10200004`.
    pub value: &'static str,
    /// Code meaning, such as `Liver`.
    pub meaning: &'static str,
}

/// What is known of an organ: names, codes, colour (specs: organs.md section 1).
#[derive(Clone, Copy, Debug)]
pub struct Organ {
    /// Label id in our label maps.
    pub id: OrganId,
    /// Name on the command line: lower case with `_`.
    pub name: &'static str,
    /// Name in prompts: with blanks.
    pub prompt: &'static str,
    /// Other accepted names: AMOS, TotalSegmentator.
    pub aliases: &'static [&'static str],
    /// Category of the segmented property.
    pub category: Code,
    /// Type of the segmented property.
    pub code: Code,
    /// Side, for paired organs.
    pub laterality: Option<Code>,
    /// Display colour, red green blue.
    pub rgb: [u8; 3],
}

/// Id of an organ: 1–15 as AMOS22, 16 lungs, 17 breast tumour, 18/19 hippocampus, 20 kidney of unknown side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrganId(u8);

impl OrganId {
    /// The id of a known organ.
    #[must_use]
    pub fn new(id: u8) -> Option<Self> {
        (1..=ORGANS.len() as u8).contains(&id).then_some(Self(id))
    }

    /// The value in label maps.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }

    /// The organ that a text names. Words around its name may say what kind of image it is (`AROUND`), no more: "kidney stone" and
    /// "brain tumour" are neither a kidney nor a breast tumour. `None` if it names none or several.
    ///
    /// ```
    /// # use volseg_geometry::OrganId;
    /// assert_eq!(OrganId::named_in("CT of the right kidney").map(OrganId::get), Some(2));
    /// assert_eq!(OrganId::named_in("liver and spleen"), None);
    /// assert_eq!(OrganId::named_in("kidney stone"), None);
    /// ```
    #[must_use]
    pub fn named_in(text: &str) -> Option<Self> {
        let words: String =
            text.chars().map(|c| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
        let mut rest = format!("_{words}_");
        let mut names: Vec<(&str, Self)> =
            ORGANS.iter().flat_map(|o| o.aliases.iter().chain([&o.name]).map(|&name| (name, o.id))).collect();
        // Long names first: a right kidney is not also a kidney.
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        let mut found = None;
        for (name, id) in names {
            let name = format!("_{name}_");
            if rest.contains(&name) {
                if found.is_some_and(|f| f != id) {
                    return None;
                }
                found = Some(id);
                rest = rest.replace(&name, "_ _");
            }
        }
        let around = |word: &str| word.is_empty() || AROUND.contains(&word);
        found.filter(|_| rest.split(['_', ' ']).all(around))
    }

    /// What is known of it.
    #[must_use]
    pub fn organ(self) -> &'static Organ {
        &ORGANS[usize::from(self.0) - 1]
    }
}

impl fmt::Display for OrganId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.organ().name)
    }
}

/// Words that may stand around an organ's name in a text.
#[rustfmt::skip]
const AROUND: [&str; 44] = [
    "a", "abdomen", "abdominal", "an", "and", "anatomy", "axial", "both", "breast", "chest", "computed", "contrast", "coronal", "ct",
    "enhanced", "frontal", "human", "image", "in", "is", "medical", "mr", "mri", "of", "on", "organ", "patient", "photo", "picture",
    "radiograph", "ray", "sagittal", "scan", "shows", "slice", "the", "this", "thoracic", "tomography", "ultrasound", "view", "with", "x",
    "xray",
];

impl FromStr for OrganId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let key: String = text.trim().to_ascii_lowercase().replace([' ', '-', '/'], "_");
        ORGANS
            .iter()
            .find(|o| o.name == key || o.prompt.replace(' ', "_") == key || o.aliases.contains(&key.as_str()))
            .map(|o| o.id)
            .ok_or_else(|| Error::InvalidArgument {
                what: "organ",
                found: text.into(),
                expected: ORGANS.iter().map(|o| o.name).collect::<Vec<_>>().join(", "),
            })
    }
}

/// Ids that change places when a picture is mirrored left to right: kidneys and adrenal glands.
pub const LATERAL_PAIRS: [(u8, u8); 2] = [(2, 3), (11, 12)];

const ANATOMY: Code = Code { value: "123037004", meaning: "Anatomical Structure" };
const ALTERED: Code = Code { value: "49755003", meaning: "Morphologically Altered Structure" };
const RIGHT: Option<Code> = Some(Code { value: "24028007", meaning: "Right" });
const LEFT: Option<Code> = Some(Code { value: "7771000", meaning: "Left" });

macro_rules! organ {
    ($id:literal $name:literal $prompt:literal $aliases:expr, $category:ident $value:literal $meaning:literal $side:expr, $rgb:expr) => {
        Organ {
            id: OrganId($id),
            name: $name,
            prompt: $prompt,
            aliases: &$aliases,
            category: $category,
            code: Code { value: $value, meaning: $meaning },
            laterality: $side,
            rgb: $rgb,
        }
    };
}

/// All organs, by id from 1. Colours: TotalSegmentator's mapping for sided organs, 3D Slicer's generic anatomy otherwise.
pub const ORGANS: [Organ; 20] = [
    organ!(1 "spleen" "spleen" [], ANATOMY "78961009" "Spleen" None, [157, 108, 162]),
    organ!(2 "right_kidney" "right kidney" ["kidney_right"], ANATOMY "64033007" "Kidney" RIGHT, [34, 102, 136]),
    organ!(3 "left_kidney" "left kidney" ["kidney_left"], ANATOMY "64033007" "Kidney" LEFT, [46, 138, 184]),
    organ!(4 "gallbladder" "gallbladder" ["gall_bladder"], ANATOMY "28231008" "Gallbladder" None, [139, 150, 98]),
    organ!(5 "esophagus" "esophagus" ["oesophagus"], ANATOMY "32849002" "Esophagus" None, [211, 171, 143]),
    organ!(6 "liver" "liver" [], ANATOMY "10200004" "Liver" None, [221, 130, 101]),
    organ!(7 "stomach" "stomach" [], ANATOMY "69695003" "Stomach" None, [216, 132, 105]),
    organ!(8 "aorta" "aorta" ["arota"], ANATOMY "15825003" "Aorta" None, [224, 97, 76]),
    organ!(9 "inferior_vena_cava" "inferior vena cava" ["postcava", "ivc"], ANATOMY "64131007" "Inferior vena cava" None, [0, 151, 206]),
    organ!(10 "pancreas" "pancreas" [], ANATOMY "15776009" "Pancreas" None, [249, 180, 111]),
    organ!(11 "right_adrenal_gland" "right adrenal gland" ["adrenal_gland_right"], ANATOMY "23451007" "Adrenal gland" RIGHT, [178, 128, 26]),
    organ!(12 "left_adrenal_gland" "left adrenal gland" ["adrenal_gland_left"], ANATOMY "23451007" "Adrenal gland" LEFT, [241, 172, 34]),
    organ!(13 "duodenum" "duodenum" [], ANATOMY "38848004" "Duodenum" None, [255, 253, 229]),
    organ!(14 "urinary_bladder" "urinary bladder" ["bladder"], ANATOMY "89837001" "Urinary bladder" None, [54, 94, 216]),
    organ!(15 "prostate_or_uterus" "prostate or uterus" ["prostate", "uterus", "prostate_uterus"], ANATOMY "41216001" "Prostate" None, [230, 158, 140]),
    organ!(16 "lungs" "lungs" ["lung"], ANATOMY "39607008" "Lung" None, [197, 165, 145]),
    organ!(17 "breast_tumor" "breast tumor" ["breast_tumour", "tumor", "tumour"], ALTERED "108369006" "Neoplasm" None, [255, 196, 0]),
    organ!(18 "hippocampus_anterior" "anterior hippocampus" [], ANATOMY "5366008" "Hippocampus" None, [90, 180, 120]),
    organ!(19 "hippocampus_posterior" "posterior hippocampus" [], ANATOMY "5366008" "Hippocampus" None, [60, 120, 200]),
    organ!(20 "kidney" "kidney" [], ANATOMY "64033007" "Kidney" None, [185, 102, 83]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_find_their_organ() {
        for (n, organ) in ORGANS.iter().enumerate() {
            assert_eq!(usize::from(organ.id.get()), n + 1);
            for name in organ.aliases.iter().chain([&organ.name, &organ.prompt]) {
                assert_eq!(name.parse::<OrganId>().unwrap(), organ.id);
            }
        }
        assert_eq!("Kidney Right".parse::<OrganId>().unwrap().get(), 2);
        for (text, id) in [
            ("A photo of the Liver.", Some(6)),
            ("the urinary bladder in an axial CT", Some(14)),
            ("urinary bladder stone", None),
            ("brain tumour", None),
            ("left lung", None),
            ("gall bladder", Some(4)),
            ("breast tumor", Some(17)),
            ("liver tumor", None),
            ("delivery", None),
        ] {
            assert_eq!(OrganId::named_in(text).map(OrganId::get), id, "{text}");
        }
        assert!("spline".parse::<OrganId>().unwrap_err().to_string().contains("spleen"));
    }
}
