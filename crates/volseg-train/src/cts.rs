//! Labelled CTs with several organs each, in the layout of AMOS22 and nnU-Net: a `dataset.json` that names organs and files.

use crate::dataset::{self, Case};
use crate::pictures::{Part, is_amos_mr};
use crate::split::assign;
use crate::volumes::{CT_ORGANS_END, CtVolume};
use crate::{CtSet, Error};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use volseg_geometry::{LabelMap, OrganId, Plane, SliceStack, Volume};
use volseg_io::Image;
use volseg_metrics::Labels;

/// Slices are kept at no more than this many pixels a side: about twice what networks see of them.
const KEPT_SIDE: usize = 320;

/// What a `dataset.json` says, and the part of every case. Images stay on disk until they are asked for.
pub(crate) struct Cts {
    /// Organs that are learned and scored, by id.
    pub(crate) organs: Vec<OrganId>,
    cases: Vec<(Case, Part)>,
    /// Organ of a stored label.
    ids: BTreeMap<u16, u8>,
}

impl Cts {
    /// Reads the file and draws the parts. Cases that the file lists with labels outside `training` are the test part; without
    /// any the test part is drawn as well. MR cases of AMOS22 are left out.
    ///
    /// # Errors
    /// [`Error::Data`] for a file that is none, organs that it does not have, or no CT case.
    pub(crate) fn find(set: &CtSet) -> Result<Self, Error> {
        let file = if set.path.is_dir() { set.path.join("dataset.json") } else { set.path.clone() };
        let json = dataset::read_json(&file)?;
        let bad = |text: String| Error::Data(format!("{}: {text}", file.display()));
        let mut ids = names(&json).map_err(bad)?;
        if !set.organs.is_empty() {
            let wanted = set.organs.iter().map(|o| o.parse().map(OrganId::get)).collect::<Result<BTreeSet<u8>, _>>();
            let wanted = wanted.map_err(|e: volseg_geometry::Error| Error::Config(e.to_string()))?;
            if let Some(missing) = wanted.iter().find(|o| !ids.values().any(|id| id == *o)) {
                let name = OrganId::new(*missing).map_or(String::new(), |o| o.to_string());
                return Err(bad(format!("no label of a CT's organ is called {name}")));
            }
            ids.retain(|_, organ| wanted.contains(organ));
        }
        let organs: Vec<OrganId> =
            ids.values().copied().collect::<BTreeSet<u8>>().into_iter().filter_map(OrganId::new).collect();
        if organs.is_empty() {
            return Err(bad("`labels` names no organ of a CT".into()));
        }
        let is_ct = |c: &Case| !is_amos_mr(&c.name);
        dataset::refuse_mr(&json)?;
        let mut training = dataset::training(&file, &json)?;
        training.retain(is_ct);
        training.sort_by(|a, b| a.name.cmp(&b.name));
        if training.is_empty() {
            return Err(bad("`training` lists no CT".into()));
        }
        let mut test = dataset::test(&file, &json)?;
        test.retain(is_ct);
        let mut rule = set.split;
        if !test.is_empty() {
            rule.test = 0.0;
        }
        let groups: Vec<String> = training.iter().map(|c| c.name.clone()).collect();
        let parts = assign(&groups, Some(rule), set.labelled, set.unannotated)?;
        let cases = training.into_iter().zip(parts).chain(test.into_iter().map(|c| (c, Part::Test))).collect();
        Ok(Self { organs, cases, ids })
    }

    /// Cases of a part.
    pub(crate) fn of(&self, part: Part) -> impl Iterator<Item = &Case> {
        self.cases.iter().filter(move |(_, p)| *p == part).map(|(c, _)| c)
    }

    /// Name of every case and its part, as `split.json` has them.
    pub(crate) fn parts(&self) -> BTreeMap<String, String> {
        self.cases.iter().map(|(c, p)| (c.name.clone(), format!("{p:?}"))).collect()
    }

    /// An image and its labels as organ ids, on one grid.
    ///
    /// # Errors
    /// Files that cannot be read, voxels that are no labels, another shape.
    pub(crate) fn read(&self, case: &Case) -> Result<(Image, LabelMap), Error> {
        let image = dataset::open(&case.image)?;
        let dim = image.volume.dim();
        let mut labels: LabelMap =
            Volume::zeros(dim, *image.volume.affine()).map_err(|e| Error::Data(e.to_string()))?;
        for file in &case.masks {
            let stored = dataset::open(file)?;
            let stored = Labels::new(stored.volume, stored.slope, stored.intercept, &dataset::file_name(file))?;
            if stored.dim() != dim {
                return Err(Error::Data(format!("{}: image is {dim:?}, labels are {:?}", case.name, stored.dim())));
            }
            dataset::same_place(&case.name, image.volume.affine(), stored.affine(), dim)?;
            for (l, id) in labels.voxels_mut().iter_mut().enumerate() {
                if let Some(organ) = self.ids.get(&stored.view().id(l)) {
                    *id = *organ;
                }
            }
        }
        Ok((image, labels))
    }

    /// The cases of a part, in memory.
    pub(crate) fn load(&self, part: Part) -> Result<Vec<CtVolume>, Error> {
        let cases: Vec<&Case> = self.of(part).collect();
        cases.into_par_iter().map(|c| self.volume(c)).collect()
    }

    /// One case, in memory.
    pub(crate) fn volume(&self, case: &Case) -> Result<CtVolume, Error> {
        let (image, labels) = self.read(case)?;
        let stack = SliceStack::new(image.volume.dim(), image.volume.affine(), Plane::Axial);
        let known = self.organs.iter().map(|o| o.get()).collect();
        Ok(CtVolume::new(&image, &stack, |l| labels.voxels()[l], known, KEPT_SIDE))
    }
}

/// Stored label -> organ id, of the organs that networks know of CTs: `{"6": "liver"}` (AMOS22, nnU-Net 1) or
/// `{"liver": 6}` (nnU-Net 2).
fn names(json: &serde_json::Value) -> Result<BTreeMap<u16, u8>, String> {
    let labels = json["labels"].as_object().ok_or("`labels` is no table of names")?;
    let mut ids = BTreeMap::new();
    for (key, value) in labels {
        let id = |v: &serde_json::Value| v.as_u64().and_then(|id| u16::try_from(id).ok());
        // A region of nnU-Net 2 is a list: an organ with the lesion in it.
        let pair: Option<(Vec<u16>, &String)> = match value {
            serde_json::Value::String(name) => key.parse().ok().map(|id| (vec![id], name)),
            serde_json::Value::Array(several) => several.iter().map(id).collect::<Option<_>>().map(|ids| (ids, key)),
            _ => id(value).map(|id| (vec![id], key)),
        };
        let (several, name) = pair.ok_or_else(|| format!("`labels`: {key}: {value} is no id with a name"))?;
        let Ok(organ) = name.parse::<OrganId>() else { continue };
        if organ.get() >= CT_ORGANS_END {
            continue;
        }
        for id in several {
            if ids.insert(id, organ.get()).is_some_and(|before| before != organ.get()) {
                return Err(format!("`labels`: {id} belongs to {name} and to another organ"));
            }
        }
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SplitRule;
    use serde_json::json;

    fn set(folder: &std::path::Path, organs: &[&str]) -> CtSet {
        CtSet {
            path: folder.to_owned(),
            organs: organs.iter().map(|o| (*o).to_owned()).collect(),
            batch: 4,
            split: SplitRule { seed: 1, test: 0.25, validation: 0.1, ..SplitRule::default() },
            labelled: 0.1,
            unannotated: 0.4,
            slices: 8,
        }
    }

    fn entries(numbers: &[u32], kind: &str) -> Vec<serde_json::Value> {
        let file = |n: &u32| json!({"image": format!("./images{kind}/amos_{n:04}.nii.gz"), "label": format!("./labels{kind}/amos_{n:04}.nii.gz")});
        numbers.iter().map(file).collect()
    }

    #[test]
    fn listed_cases_are_the_test_part_and_mr_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let write = |json: &serde_json::Value| {
            std::fs::write(folder.path().join("dataset.json"), json.to_string()).unwrap();
        };
        let mut numbers: Vec<u32> = (1..=20).collect();
        numbers.extend([500, 507]);
        let labels =
            json!({"0": "background", "3": "left kidney", "8": "arota", "15": "prostate/uterus", "16": "lesion"});
        let mut json =
            json!({"labels": labels, "training": entries(&numbers, "Tr"), "validation": entries(&[31, 32, 578], "Va")});
        write(&json);
        let count = |cts: &Cts, part| cts.of(part).count();
        let cts = Cts::find(&set(folder.path(), &[])).unwrap();
        assert_eq!(cts.organs.iter().map(|o| o.get()).collect::<Vec<_>>(), [3, 8, 15]);
        assert_eq!(cts.of(Part::Test).map(|c| c.name.as_str()).collect::<Vec<_>>(), ["amos_0031", "amos_0032"]);
        let counts = [Part::Validation, Part::Train, Part::Unannotated, Part::Unused].map(|p| count(&cts, p));
        assert_eq!(counts, [2, 2, 7, 9]);
        // Without listed cases the test part is drawn.
        json["validation"] = json!([]);
        json["test"] = json!(["./imagesTs/amos_0090.nii.gz"]);
        write(&json);
        assert_eq!(count(&Cts::find(&set(folder.path(), &[])).unwrap(), Part::Test), 5);
        // nnU-Net 2 has names first; organs may be chosen, and must be there.
        json["labels"] = json!({"background": 0, "liver": 1, "Spleen": 2, "tumor": 3});
        write(&json);
        let liver = Cts::find(&set(folder.path(), &["liver"])).unwrap();
        assert_eq!((liver.organs.len(), liver.ids.get(&1)), (1, Some(&6)));
        let error = Cts::find(&set(folder.path(), &["liver", "aorta"])).err().unwrap().to_string();
        assert!(error.contains("aorta"), "{error}");
        json["labels"] = json!({"background": 0, "liver": [1, 2], "tumor": 2});
        write(&json);
        assert_eq!(Cts::find(&set(folder.path(), &[])).unwrap().ids, BTreeMap::from([(1, 6), (2, 6)]));
        json["labels"] = json!({"liver": [1, 2], "spleen": 2});
        write(&json);
        assert!(Cts::find(&set(folder.path(), &[])).err().unwrap().to_string().contains("another organ"));
        json["labels"] = json!({"1": "lungs"});
        write(&json);
        assert!(Cts::find(&set(folder.path(), &[])).err().unwrap().to_string().contains("no organ"));
        json["training"] = json!(entries(&[501], "Tr"));
        json["labels"] = json!({"1": "liver"});
        write(&json);
        assert!(Cts::find(&set(folder.path(), &[])).err().unwrap().to_string().contains("no CT"));
    }
}
