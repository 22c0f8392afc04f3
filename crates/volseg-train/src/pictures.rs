use crate::split::assign;
use crate::{Error, PictureSet, Random};
use std::collections::BTreeMap;
use std::path::Path;
use volseg_geometry::OrganId;

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
    /// Part of the set.
    pub part: Part,
}

/// Reads a set of pictures, sorted by name.
///
/// # Errors
/// [`Error::Data`] for missing masks, sizes that differ, an unknown organ or group column; read errors of the files.
pub fn load_pictures(set: &PictureSet) -> Result<Vec<Picture>, Error> {
    let organ: OrganId = set.organ.parse().map_err(|e: volseg_geometry::Error| Error::Data(e.to_string()))?;
    let groups = match &set.group_column {
        Some(column) => read_groups(&set.path.join("index.csv"), column)?,
        None => BTreeMap::new(),
    };
    let images = set.path.join("images");
    let io = |source| Error::Io { what: format!("list {}", images.display()), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&images).map_err(io)? {
        names.push(entry.map_err(io)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let read = |path: &Path| -> Result<([usize; 2], Vec<f32>), Error> {
        let image = image::open(path).map_err(|e| Error::Data(format!("{}: {e}", path.display())))?.to_luma8();
        Ok(([image.width() as usize, image.height() as usize], image.pixels().map(|p| f32::from(p.0[0])).collect()))
    };
    let mut pictures = Vec::with_capacity(names.len());
    let mut found_groups = Vec::with_capacity(names.len());
    for file in names {
        let (size, grey) = read(&images.join(&file))?;
        let (mask_size, mask) = read(&set.path.join("masks").join(&file))?;
        if size != mask_size {
            return Err(Error::Data(format!("{file}: picture is {size:?}, mask is {mask_size:?}")));
        }
        let name = file.rsplit_once('.').map_or(file.as_str(), |p| p.0).to_owned();
        let group = match &set.group_column {
            Some(column) => {
                groups.get(&name).ok_or_else(|| Error::Data(format!("index.csv has no {column} for {name}")))?.clone()
            }
            None => name.clone(),
        };
        let mask = mask.iter().map(|&v| u8::from(v > 0.5)).collect();
        pictures.push(Picture { part: Part::Unused, name, size, grey, mask, organ });
        found_groups.push(group);
    }
    for (picture, part) in pictures.iter_mut().zip(assign(&found_groups, set)) {
        picture.part = part;
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
