//! Which series lie in a folder or a zip, file by file, and one of them read back.

use super::{archive, file::File, has_mark, is_bare, series};
use crate::{
    Error, Image, Limits, ReadOptions, Result,
    digest::{of_digests, sha256},
    source::Shared,
};
use std::{collections::BTreeMap, sync::Arc};
use volseg_geometry::Modality;

/// What a file is to a survey.
enum Look {
    /// A slice, or several, of a series.
    Slice(Slice),
    /// DICOM that cannot be parsed; its digest and size.
    Broken(String, u64),
    /// DICOM without pixels, a segmentation or a localizer.
    Other,
    /// Something else.
    NotDicom,
}

/// One file of a series.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    uid: String,
    modality: Option<Modality>,
    frames: usize,
    voxels: u64,
    bytes: u64,
    pub(crate) sha256: String,
}

fn look(bytes: &Shared, limits: &Limits) -> Look {
    let held: &[u8] = (**bytes).as_ref();
    if !has_mark(held) && !is_bare(held) {
        return Look::NotDicom;
    }
    let file = File::parse(bytes.clone(), limits).and_then(|f| Ok((f.frames()?, f)));
    match file {
        Ok((frames, file)) if is_slice(&file) => {
            let side = |tag| file.short(tag).map_or(0, u64::from);
            Look::Slice(Slice {
                uid: file.text(0x0020_000e),
                modality: series::modality(&file.modality()),
                frames,
                voxels: side(0x0028_0010).saturating_mul(side(0x0028_0011)).saturating_mul(frames as u64),
                bytes: held.len() as u64,
                sha256: sha256(held),
            })
        }
        Ok(_) => Look::Other,
        // Without the mark, two bytes are all that made it look like DICOM.
        Err(_) if !has_mark(held) => Look::NotDicom,
        Err(_) => Look::Broken(sha256(held), held.len() as u64),
    }
}

/// Whether a file belongs to what is segmented: pixels, but no segmentation and no localizer.
fn is_slice(file: &File) -> bool {
    file.is_image() && !file.is_segmentation() && !file.text(0x0008_0008).split('\\').any(|t| t == "LOCALIZER")
}

/// Files of one series in one folder (or below one prefix of a zip).
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// SeriesInstanceUID; empty where files have none, and for broken files.
    pub(crate) uid: String,
    pub(crate) modality: Option<Modality>,
    pub(crate) slices: usize,
    pub(crate) voxels: u64,
    pub(crate) bytes: u64,
    /// Name and digest of each file, sorted by name.
    pub(crate) files: Vec<(Vec<u8>, String)>,
}

impl Group {
    /// Digest of the files, as [`read`] compares it.
    pub(crate) fn sha256(&self) -> String {
        of_digests(self.files.iter().map(|f| f.1.clone()).collect())
    }

    /// Takes in more files of the same series.
    pub(crate) fn join(&mut self, other: Self) {
        self.slices += other.slices;
        self.voxels += other.voxels;
        self.bytes += other.bytes;
        self.modality = self.modality.or(other.modality);
        self.files.extend(other.files);
    }
}

/// What lies in one folder.
#[derive(Default)]
pub(crate) struct Contents {
    groups: BTreeMap<String, Group>,
    broken: Vec<(Vec<u8>, String, u64)>,
    /// DICOM files that are no slices.
    pub(crate) others: usize,
    /// Files that are no DICOM.
    pub(crate) not_dicom: Vec<Vec<u8>>,
}

impl Contents {
    /// Looks at one more file.
    pub(crate) fn add(&mut self, name: Vec<u8>, bytes: &Shared, limits: &Limits) {
        match look(bytes, limits) {
            Look::Slice(s) => {
                let Slice { uid, modality, frames, voxels, bytes, sha256 } = s;
                let files = vec![(name, sha256)];
                let group = Group { uid: uid.clone(), modality, slices: frames, voxels, bytes, files };
                match self.groups.get_mut(&uid) {
                    Some(g) => g.join(group),
                    None => {
                        self.groups.insert(uid, group);
                    }
                }
            }
            Look::Broken(sha256, bytes) => self.broken.push((name, sha256, bytes)),
            Look::Other => self.others += 1,
            Look::NotDicom => self.not_dicom.push(name),
        }
    }

    /// The series; broken files count as one (without UID and slices) if nothing else is there. Then the number of broken
    /// files beside good ones.
    pub(crate) fn groups(self) -> (Vec<Group>, usize) {
        let mut groups: Vec<Group> = self.groups.into_values().collect();
        groups.iter_mut().for_each(|g| g.files.sort());
        if !groups.is_empty() || self.broken.is_empty() {
            return (groups, self.broken.len());
        }
        let bytes = self.broken.iter().map(|b| b.2).sum();
        let mut files: Vec<_> = self.broken.into_iter().map(|(name, sha256, _)| (name, sha256)).collect();
        files.sort();
        (vec![Group { uid: String::new(), modality: None, slices: 0, voxels: 0, bytes, files }], 0)
    }
}

/// Folders of a zip (their names end with `/`; the top is empty) and what lies directly in each.
pub(crate) fn of_archive(bytes: &[u8], options: &ReadOptions) -> Result<BTreeMap<Vec<u8>, Contents>> {
    let mut folders: BTreeMap<Vec<u8>, Contents> = BTreeMap::new();
    archive::entries(bytes, options, &|_| true, &mut |name, content| {
        let cut = name.iter().rposition(|&b| b == b'/').map_or(0, |n| n + 1);
        let (folder, file) = name.split_at(cut);
        if file != b"DICOMDIR" && !file.starts_with(b".") {
            folders.entry(folder.to_vec()).or_default().add(
                file.to_vec(),
                &(Arc::new(content) as Shared),
                &options.limits,
            );
        }
        Ok(())
    })?;
    Ok(folders)
}

/// Reads the series with this digest out of files that may hold others too.
///
/// # Errors
/// [`Error::Changed`] if no series there has the digest; everything that makes a series unreadable.
pub(crate) fn read(files: Vec<Shared>, sha256: &str, options: &ReadOptions) -> Result<Image> {
    let mut series: BTreeMap<String, Vec<File>> = BTreeMap::new();
    let mut first_broken = None;
    let (mut broken, found) = (0usize, files.len());
    for bytes in files {
        if !has_mark((*bytes).as_ref()) && !is_bare((*bytes).as_ref()) {
            continue;
        }
        match File::parse(bytes, &options.limits) {
            Ok(file) if is_slice(&file) => series.entry(file.text(0x0020_000e)).or_default().push(file),
            Ok(_) => {}
            Err(e) => {
                broken += 1;
                first_broken.get_or_insert(e);
            }
        }
    }
    let nothing = series.is_empty();
    let chosen = series.into_values().find(|files| series::digest(files) == sha256);
    let mut image = match (chosen, first_broken) {
        (Some(files), _) => series::read(files, options)?,
        (None, Some(e @ (Error::Malformed { .. } | Error::Unsupported { .. } | Error::Limit { .. }))) if nothing => {
            return Err(e);
        }
        (None, _) if nothing && found == 0 => {
            return Err(Error::NothingReadable { reason: "the files are gone".into() });
        }
        (None, _) => return Err(Error::Changed),
    };
    if broken > 0 {
        image.warnings.push(format!("{broken} files beside this series could not be read"));
    }
    image.sha256 = sha256.to_owned();
    Ok(image)
}
