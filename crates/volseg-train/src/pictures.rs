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
    let organ: OrganId = set.organ.parse().map_err(|e: volseg_geometry::Error| Error::Data(e.to_string()))?;
    let groups = match &set.group_column {
        Some(column) => read_groups(&set.path.join("index.csv"), column)?,
        None => BTreeMap::new(),
    };
    let mut pictures = Vec::new();
    let mut found_groups = Vec::new();
    for case in dataset::find(&set.path, organ)? {
        if set.modality == Modality::Ct && is_amos_mr(&case.name) {
            continue;
        }
        let group = match &set.group_column {
            Some(column) => groups
                .get(&case.name)
                .ok_or_else(|| Error::Data(format!("index.csv has no {column} for {}", case.name)))?
                .clone(),
            None => case.name.clone(),
        };
        let read = read_case(&case, set, organ)?;
        found_groups.extend(std::iter::repeat_n(group, read.len()));
        pictures.extend(read);
    }
    for (picture, part) in pictures.iter_mut().zip(assign(&found_groups, set.split, set.labelled, set.unannotated)?) {
        picture.part = part;
    }
    if let Some(path) = &set.boxes {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Io { what: format!("read {}", path.display()), source })?;
        let boxes: BTreeMap<String, [f32; 4]> =
            serde_json::from_str(&text).map_err(|e| Error::Data(format!("{}: {e}", path.display())))?;
        for p in &mut pictures {
            let found = boxes.get(&p.name).filter(|b| b.iter().all(|v| v.is_finite()));
            let missing = || Error::Data(format!("{} has no box of {}", path.display(), p.name));
            p.bounds = Some(*found.ok_or_else(missing)?);
        }
    }
    Ok(pictures)
}

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
    let mut inside = vec![false; w * h * slices];
    for file in &case.masks {
        let mask = dataset::open(file)?;
        let found = mask.volume.dim();
        if found != image.volume.dim() {
            return Err(Error::Data(format!("{}: image is {:?}, mask is {found:?}", case.name, image.volume.dim())));
        }
        // A picture's mask shows the organ alone unless told otherwise; a volume's holds ids.
        let wanted = set.label.or(if plain { None } else { Some(organ.get()) }).map(f64::from);
        for (n, v) in inside.iter_mut().enumerate() {
            let value = mask.volume.value(n);
            *v |= wanted.map_or(value > 0.5, |w| value == w);
        }
    }
    let size = stack.shown_size();
    // The network's organs of a CT end before the lungs and the tumours of pictures.
    let ct = !plain && set.modality == Modality::Ct && organ.get() < CT_ORGANS_END;
    let ct = ct.then(|| Arc::new(CtVolume::of_image(&image, &stack, &inside, organ)));
    let mut pictures = Vec::new();
    for s in 0..stack.slices {
        let (mut grey, mut mask) = (vec![0f32; size[0] * size[1]], vec![0u8; size[0] * size[1]]);
        stack.for_each_shown(s, |p, l| {
            grey[p] = (image.volume.value(l) * image.slope + image.intercept) as f32;
            mask[p] = u8::from(inside[l]);
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
    let mut lines = text.lines().map(|l| l.split(',').collect::<Vec<_>>());
    let head = lines.next().unwrap_or_default();
    let find = |c: &str| {
        head.iter().position(|h| *h == c).ok_or_else(|| Error::Data(format!("{} has no column {c}", path.display())))
    };
    let (name, group) = (find("name")?, find(column)?);
    Ok(lines.filter_map(|l| Some(((*l.get(name)?).to_owned(), (*l.get(group)?).to_owned()))).collect())
}
