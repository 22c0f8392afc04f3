use crate::dataset::{self, Case};
use crate::split::assign;
use crate::volumes::{CT_ORGANS_END, CtVolume};
use crate::{Error, PictureSet, Random};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use volseg_geometry::{Modality, OrganId, Plane, SliceStack, Window};

/// Which part of a data set a group belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// 70 %: weights are fitted to it.
    Train,
    /// 10 %: decides when to stop.
    Validation,
    /// 20 %: looked at when all is decided.
    Test,
    /// Training pictures whose masks only a simulated annotator sees.
    Unannotated,
    /// Training pictures that this run leaves alone.
    Unused,
}

/// Part of a group, by a hash of its name alone: a group never stands on two sides, whatever else the set holds.
#[must_use]
pub fn part_of(group: &str) -> Part {
    let place: Vec<u64> = group.bytes().map(u64::from).collect();
    match Random::at(&place).below(100) {
        0..20 => Part::Test,
        20..30 => Part::Validation,
        _ => Part::Train,
    }
}

/// A picture with the mask of one organ.
#[derive(Clone, Debug)]
pub struct Picture {
    /// File name without extension.
    pub name: String,
    /// Columns and rows.
    pub size: [usize; 2],
    /// Grey values, row by row.
    pub grey: Vec<f32>,
    /// 0 or 1, row by row.
    pub mask: Vec<u8>,
    /// Organ of the mask.
    pub organ: OrganId,
    /// How it was taken.
    pub modality: Modality,
    /// The CT that this is a slice of: networks that know CTs look at the body and at the slices around.
    pub(crate) ct: Option<(Arc<CtVolume>, usize)>,
    /// Feature of the organ's description, for networks that read texts.
    pub(crate) text: Option<Arc<[f32]>>,
    /// Box of [`PictureSet::boxes`].
    pub(crate) bounds: Option<[f32; 4]>,
    /// Part of the set.
    pub part: Part,
}

/// Reads a set, sorted by name. Volumes give one picture for each axial slice that shows the organ, all of one group.
///
/// # Errors
/// [`Error::Data`] for missing masks, sizes that differ, an unknown organ or group column; read errors of the files.
pub fn load_pictures(set: &PictureSet) -> Result<Vec<Picture>, Error> {
    let (mut pictures, groups) = read_pictures(set)?;
    for (picture, part) in pictures.iter_mut().zip(assign(&groups, set.split, set.labelled, set.unannotated)?) {
        picture.part = part;
    }
    Ok(pictures)
}

/// The pictures of a set, of no part yet, and the group of each.
pub(crate) fn read_pictures(set: &PictureSet) -> Result<(Vec<Picture>, Vec<String>), Error> {
    let organ: OrganId = set.organ.parse().map_err(|e: volseg_geometry::Error| Error::Data(e.to_string()))?;
    let groups = match &set.group_column {
        Some(column) => read_groups(&set.path.join("index.csv"), column)?,
        None => BTreeMap::new(),
    };
    let mut pictures = Vec::new();
    let mut found_groups = Vec::new();
    let cases = dataset::find(&set.path, organ)?;
    for case in &cases {
        if set.modality == Modality::Ct && is_amos_mr(&case.name) {
            continue;
        }
        let group = match &set.group_column {
            // A picture whose cell is empty stands alone.
            Some(column) => Some(
                groups
                    .get(&case.name)
                    .ok_or_else(|| Error::Data(format!("index.csv has no {column} for {}", case.name)))?,
            ),
            None => None,
        };
        let group = group.filter(|g| !g.is_empty()).unwrap_or(&case.name).clone();
        let read = read_case(case, set, organ)?;
        found_groups.extend(std::iter::repeat_n(group, read.len()));
        pictures.extend(read);
    }
    if pictures.is_empty() {
        return Err(Error::Data(format!(
            "{}: no slice of {} cases shows {organ}, whose id in labels of volumes is {}; set `label` to the value that they have",
            set.path.display(),
            cases.len(),
            set.label.unwrap_or(organ.get())
        )));
    }
    if set.label.is_none() {
        to_masks(&mut pictures, set, organ)?;
    }
    if let Some(path) = &set.boxes {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Io { what: format!("read {}", path.display()), source })?;
        let boxes: BTreeMap<String, [f32; 4]> =
            serde_json::from_str(&text).map_err(|e| Error::Data(format!("{}: {e}", path.display())))?;
        for p in &mut pictures {
            let missing = || Error::Data(format!("{} has no box of {}", path.display(), p.name));
            let found @ [x0, y0, x1, y1] = *boxes.get(&p.name).ok_or_else(missing)?;
            let [w, h] = p.size.map(|n| n as f32);
            if !(x0 < x1 && y0 < y1 && x1 > 0.0 && y1 > 0.0 && x0 < w && y0 < h && found.iter().all(|v| v.is_finite()))
            {
                return Err(Error::Data(format!(
                    "{}: {} has {found:?}, expected x0 < x1, y0 < y1 within its {w} x {h} pixels",
                    path.display(),
                    p.name
                )));
            }
            p.bounds = Some(found);
        }
    }
    Ok((pictures, found_groups))
}

/// Values of the masks of a set, 0 to 255, to 0 and 1. One value beside 0 is the organ; several are organ ids (specs: cli.md), or grey
/// edges of white masks.
fn to_masks(pictures: &mut [Picture], set: &PictureSet, organ: OrganId) -> Result<(), Error> {
    let mut seen = [false; 256];
    pictures.iter().flat_map(|p| &p.mask).for_each(|&v| seen[usize::from(v)] = true);
    let values: Vec<u8> = (1..=255).filter(|&v| seen[usize::from(v)]).collect();
    let greatest = values.last().copied().unwrap_or(0);
    let id = organ.get();
    let inside: &dyn Fn(u8) -> bool = if values.len() <= 1 || values == [1, 255] {
        &|v| v != 0
    } else if values.contains(&id) && OrganId::new(greatest).is_some() {
        &|v| v == id
    } else if greatest >= 128 && values.len() > MOST_LABELS {
        &|v| v >= 128
    } else {
        let few: Vec<String> = values.iter().take(6).map(u8::to_string).collect();
        let more = if values.len() > few.len() { ", ..." } else { "" };
        return Err(Error::Data(format!(
            "{}: the masks hold {}{more}, and none is the id of {organ} ({id}); set `label` to the value that shows it",
            set.path.display(),
            few.join(", ")
        )));
    };
    pictures.iter_mut().flat_map(|p| &mut p.mask).for_each(|v| *v = u8::from(inside(*v)));
    Ok(())
}

/// More values than this beside 0 are grey edges, not labels.
const MOST_LABELS: usize = 32;

/// In AMOS22 numbers of 500 and more are MR.
pub(crate) fn is_amos_mr(name: &str) -> bool {
    name.strip_prefix("amos_").and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n >= 500)
}

/// Slices of an image that is a volume, or the image itself.
fn read_case(case: &Case, set: &PictureSet, organ: OrganId) -> Result<Vec<Picture>, Error> {
    let image = dataset::open(&case.image)?;
    let [w, h, slices] = image.volume.dim();
    let plain = image.is_picture();
    let stack = if plain {
        SliceStack::picture(w, h)
    } else {
        SliceStack::new([w, h, slices], image.volume.affine(), Plane::Axial)
    };
    // A volume's mask holds ids. What a picture's holds the whole set tells: its values are kept for now.
    let wanted = set.label.or((!plain).then_some(organ.get())).map(f64::from);
    let mut values = vec![0u8; w * h * slices];
    for file in &case.masks {
        let mask = dataset::open(file)?;
        let found = mask.volume.dim();
        if found != image.volume.dim() {
            return Err(Error::Data(format!("{}: image is {:?}, mask is {found:?}", case.name, image.volume.dim())));
        }
        if !plain {
            dataset::same_place(&case.name, image.volume.affine(), mask.volume.affine(), found)?;
        }
        for (n, v) in values.iter_mut().enumerate() {
            let value = mask.volume.value(n);
            *v = (*v).max(wanted.map_or(value.round() as u8, |w| u8::from(value == w)));
        }
    }
    let size = stack.shown_size();
    // The network's organs of a CT end before the lungs and the tumours of pictures.
    let ct = !plain && set.modality == Modality::Ct && organ.get() < CT_ORGANS_END;
    let ct = ct.then(|| Arc::new(CtVolume::of_image(&image, &stack, &values, organ)));
    let mut pictures = Vec::new();
    for s in 0..stack.slices {
        let (mut grey, mut mask) = (vec![0f32; size[0] * size[1]], vec![0u8; size[0] * size[1]]);
        stack.for_each_shown(s, |p, l| {
            grey[p] = (image.volume.value(l) * image.slope + image.intercept) as f32;
            mask[p] = values[l];
        });
        if !plain && !mask.contains(&1) {
            continue;
        }
        if !plain {
            let window = if set.modality == Modality::Ct {
                Window::SOFT_TISSUE
            } else {
                Window::Percentile { low: 0.5, high: 99.5 }
            };
            window.apply(&mut grey);
            grey.iter_mut().for_each(|v| *v *= 255.0);
        }
        let name = if plain { case.name.clone() } else { format!("{}/{s}", case.name) };
        pictures.push(Picture {
            name,
            size,
            grey,
            mask,
            organ,
            modality: set.modality,
            ct: ct.clone().map(|v| (v, s)),
            text: None,
            bounds: None,
            part: Part::Unused,
        });
    }
    Ok(pictures)
}

/// `name` -> value of a column of a simple comma-separated table.
fn read_groups(path: &Path, column: &str) -> Result<BTreeMap<String, String>, Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| Error::Io { what: format!("read {}", path.display()), source })?;
    // Spreadsheets write a byte order mark.
    let mut lines =
        text.trim_start_matches('\u{feff}').lines().map(|l| l.split(',').map(str::trim).collect::<Vec<_>>());
    let head = lines.next().unwrap_or_default();
    let find = |c: &str| {
        head.iter().position(|h| *h == c).ok_or_else(|| Error::Data(format!("{} has no column {c}", path.display())))
    };
    let (name, group) = (find("name")?, find(column)?);
    let mut groups = BTreeMap::new();
    for line in lines {
        let (Some(name), Some(group)) = (line.get(name), line.get(group)) else { continue };
        if groups.insert((*name).to_owned(), (*group).to_owned()).is_some_and(|before| before != *group) {
            return Err(Error::Data(format!("{}: {name} stands there twice, in two groups", path.display())));
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::split::Parts;

    /// A set of pictures of 4 x 4 pixels, whose masks hold `values` from the first pixel on.
    fn set(folder: &Path, masks: &[&[u8]]) -> PictureSet {
        for (n, values) in masks.iter().enumerate() {
            let mut pixels = vec![0u8; 16];
            pixels[..values.len()].copy_from_slice(values);
            for (kind, pixels) in [("images", &vec![7u8; 16]), ("masks", &pixels)] {
                std::fs::create_dir_all(folder.join(kind)).unwrap();
                let picture = image::GrayImage::from_raw(4, 4, pixels.clone()).unwrap();
                picture.save(folder.join(kind).join(format!("p{n}.png"))).unwrap();
            }
        }
        let text = format!("path = {folder:?}\nmodality = \"ultrasound\"\norgan = \"liver\"\n");
        toml::from_str(&text).unwrap()
    }

    fn masks(set: &PictureSet) -> Result<Vec<Vec<u8>>, String> {
        let read = load_pictures(set).map_err(|e| e.to_string())?;
        Ok(read.into_iter().map(|p| p.mask[..4].to_vec()).collect())
    }

    #[test]
    fn masks_hold_one_organ_or_ids() {
        let load = |of: &[&[u8]], label: Option<u8>| {
            let folder = tempfile::tempdir().unwrap();
            masks(&PictureSet { label, ..set(folder.path(), of) })
        };
        let both = vec![vec![1, 1, 0, 0], vec![0, 1, 0, 0]];
        let yes: Result<Vec<Vec<u8>>, String> = Ok(both.clone());
        assert_eq!(load(&[&[255, 255], &[0, 255]], None), yes);
        assert_eq!(load(&[&[1, 1], &[0, 255]], None), yes);
        // Liver has the id 6, spleen 1, a left kidney 3.
        assert_eq!(load(&[&[6, 6, 1], &[3, 6]], None), yes);
        assert_eq!(load(&[&[2, 2, 1], &[0, 2, 6]], Some(2)), yes);
        let grey: Vec<u8> = [255, 130].into_iter().chain((0..14).map(|n| 9 * n)).collect();
        let more: Vec<u8> = [90, 200].into_iter().chain((0..14).map(|n| 4 * n + 1)).collect();
        let third: Vec<u8> = (0..16).map(|n| 7 * n + 2).collect();
        assert_eq!(load(&[&grey, &more, &third], None).unwrap()[..2], both);
        let said = load(&[&[1, 2], &[3]], None).unwrap_err();
        assert!(said.contains("1, 2, 3") && said.contains("(6)") && said.contains("label"), "{said}");
    }

    #[test]
    fn groups_boxes_and_parts_of_odd_tables() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let one = set(&at("a"), &[&[1], &[1], &[1], &[1]]);
        let grouped = |table: &str| {
            std::fs::write(at("a/index.csv"), table).unwrap();
            let split = toml::from_str("seed = 1\nvalidation = 0.0\nfold = 0\nfolds = 3\n").ok();
            load_pictures(&PictureSet { group_column: Some("patient".into()), split, ..one.clone() })
                .map_err(|e| e.to_string())
        };
        // A byte order mark, blanks, and cells that name no group: three groups, so three folds.
        assert!(grouped("\u{feff}name,patient\np0, x\np1,x\np2,\np3,\n").is_ok());
        assert!(grouped("name,patient\np0,x\np0,y\np1,x\np2,x\np3,x\n").unwrap_err().contains("p0 stands there twice"));
        for (given, fits) in [("[0, 0, 2, 2]", true), ("[2, 0, 1, 2]", false), ("[5, 0, 9, 2]", false)] {
            let all: Vec<String> = (0..4).map(|n| format!("\"p{n}\": {given}")).collect();
            std::fs::write(at("boxes.json"), format!("{{{}}}", all.join(", "))).unwrap();
            let boxed = load_pictures(&PictureSet { boxes: Some(at("boxes.json")), ..one.clone() });
            assert_eq!(boxed.is_ok(), fits, "{given}");
        }
        let other = set(&at("b"), &[&[1], &[1], &[1], &[1], &[1]]);
        let mut parts = Parts::default();
        parts.add(&one, &load_pictures(&one).unwrap());
        parts.add(&other, &load_pictures(&other).unwrap());
        let json = serde_json::to_value(&parts).unwrap();
        let names: Vec<&String> = json["liver"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["b/p0", "b/p1", "b/p2", "b/p3", "p0", "p1", "p2", "p3", "p4"]);
    }
}
