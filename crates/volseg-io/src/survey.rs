//! Everything in an archive that can be segmented: DICOM series in folders and zips, and volumes and pictures in files.

use crate::{
    Error, Image, Locator, ReadOptions, Result,
    dicom::{self, Contents, Group},
    locator, source,
};
use rayon::prelude::*;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use volseg_geometry::Modality;

/// Endings of single files that are volumes or pictures.
const ENDINGS: [&str; 13] =
    [".nii", ".nii.gz", ".hdr", ".nrrd", ".nhdr", ".mha", ".mhd", ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"];

/// A case in an archive. Holds paths and UIDs: as sensitive as the archive itself.
#[derive(Clone, Debug)]
pub struct Found {
    /// What makes it this case and no other: its SeriesInstanceUID, or `path:PATH` below the archive where there is none.
    pub identity: String,
    /// Where it lies.
    pub locator: Locator,
    /// Names below the locator, in the locator's spelling; `None` if all slices directly there belong to it.
    pub files: Option<Vec<String>>,
    /// As the header says, or guessed from the values.
    pub modality: Option<Modality>,
    /// Slices; 0 for what cannot be read.
    pub slices: usize,
    /// Voxels; 0 for what cannot be read.
    pub voxels: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Digest of its files ([`crate::sha256_files`]).
    pub sha256: String,
}

/// What [`survey`] found.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Cases, sorted by identity.
    pub cases: Vec<Found>,
    /// How many files were left out, by reason.
    pub left_out: BTreeMap<&'static str, usize>,
}

/// Why folders were left out that nobody may look into.
pub const CLOSED: &str = "folders that cannot be listed";

/// Files of one series in one folder. Names are kept only where the folder holds more than this series.
struct Place {
    folder: PathBuf,
    alone: bool,
    sha256: String,
    group: Group,
}

#[derive(Default)]
struct Part {
    cases: Vec<Found>,
    places: Vec<Place>,
    left_out: Vec<(&'static str, usize)>,
}

/// Looks at every file of an archive: a folder with all below it, or a single file such as a zip. Reads every byte once (for
/// the digests), in parallel, one file at a time. Hidden files, links to folders and folders of results are left out.
///
/// # Errors
/// [`Error::Io`] if a folder cannot be listed. Files that cannot be read become cases without slices.
pub fn survey(archive: &Path, options: &ReadOptions) -> Result<Survey> {
    let root = std::fs::canonicalize(archive).map_err(Error::io("read", archive))?;
    let mut out = Survey::default();
    let parts: Vec<Part> = if root.is_dir() {
        let (folders, closed) = folders_below(&root)?;
        out.left_out.insert(CLOSED, closed);
        folders.into_par_iter().map(|f| folder(&root, f, options)).collect::<Result<_>>()?
    } else {
        let parent = root.parent().unwrap_or(Path::new("/")).to_owned();
        let mut part = Part::default();
        file(&parent, &root, &mut part, options);
        vec![part]
    };
    let mut series: BTreeMap<String, Vec<Place>> = BTreeMap::new();
    for part in parts {
        out.cases.extend(part.cases);
        part.left_out.into_iter().for_each(|(why, n)| *out.left_out.entry(why).or_default() += n);
        for place in part.places {
            if place.group.uid.is_empty() {
                let identity = format!("path:{}", below(&root, &place.folder));
                out.cases.push(one_folder(identity, place));
            } else {
                series.entry(place.group.uid.clone()).or_default().push(place);
            }
        }
    }
    let joined = series.into_par_iter().map(|(uid, mut places)| match places.pop() {
        Some(one) if places.is_empty() => Ok(one_folder(uid, one)),
        Some(last) => several_folders(uid, places, last, options),
        None => Err(Error::Changed),
    });
    out.cases.extend(joined.collect::<Result<Vec<_>>>()?);
    out.cases.sort_by(|a, b| (&a.identity, &a.locator).cmp(&(&b.identity, &b.locator)));
    out.left_out.retain(|_, n| *n > 0);
    Ok(out)
}

/// Reads the case of a survey. Only its own files are opened.
///
/// # Errors
/// [`Error::Changed`] if its digest is another by now; all errors of [`crate::read`].
pub fn read_found(locator: &Locator, files: Option<&[String]>, sha256: &str, options: &ReadOptions) -> Result<Image> {
    let name = |text: &String| locator::unescaped(text).ok_or(Error::Changed);
    match locator {
        Locator::File(path) => {
            let image = crate::read(path, options)?;
            if image.sha256 == sha256 { Ok(image) } else { Err(Error::Changed) }
        }
        Locator::Folder(folder) => {
            let paths = match files {
                None => visible_files(folder)?,
                Some(list) => list
                    .iter()
                    .map(|t| Ok(folder.join(name(t).and_then(|n| locator::os_string(n).ok_or(Error::Changed))?)))
                    .collect::<Result<_>>()?,
            };
            let bytes = paths.par_iter().map(|p| source::open(p, &options.limits)).collect::<Result<Vec<_>>>()?;
            options.limits.file(bytes.iter().map(|b| (**b).as_ref().len() as u64).sum())?;
            dicom::read_listed(bytes, sha256, options)
        }
        Locator::Archive { path, prefix } => {
            let archive = source::open(path, &options.limits)?;
            let wanted: Option<Vec<Vec<u8>>> = files.map(|l| l.iter().map(name).collect()).transpose()?;
            let mut contents: Vec<source::Shared> = Vec::new();
            let is_wanted = |entry: &[u8]| match (entry.strip_prefix(prefix.as_slice()), &wanted) {
                (Some(rest), Some(list)) => list.iter().any(|n| n == rest),
                (Some(rest), None) => !rest.contains(&b'/') && !rest.starts_with(b"."),
                (None, _) => false,
            };
            dicom::archive_entries((*archive).as_ref(), options, &is_wanted, &mut |_, content| {
                contents.push(std::sync::Arc::new(content));
                Ok(())
            })?;
            dicom::read_listed(contents, sha256, options)
        }
        Locator::Objects(_) => Err(Error::unsupported("locator", "an object store")),
    }
}

/// The folder itself and all below it, sorted, and how many cannot be listed; links and hidden ones are left out.
fn folders_below(root: &Path) -> Result<(Vec<PathBuf>, usize)> {
    let below = |folder: &Path| -> std::io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() && !is_hidden(&entry.file_name()) {
                found.push(entry.path());
            }
        }
        Ok(found)
    };
    let mut next = below(root).map_err(Error::io("read", root))?;
    let (mut all, mut closed) = (vec![root.to_owned()], 0);
    while let Some(folder) = next.pop() {
        match below(&folder) {
            Ok(found) => {
                next.extend(found);
                all.push(folder);
            }
            Err(_) => closed += 1,
        }
    }
    all.sort();
    Ok((all, closed))
}

fn is_hidden(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// Files directly in a folder, sorted.
fn visible_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let cannot = || Error::io("read", folder);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(cannot())? {
        let entry = entry.map_err(cannot())?;
        let name = entry.file_name();
        if !is_hidden(&name) && name != "DICOMDIR" && entry.path().is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

fn folder(root: &Path, folder: PathBuf, options: &ReadOptions) -> Result<Part> {
    let mut part = Part::default();
    let (contents, unread) = look_into(&folder, options)?;
    part.left_out.push(("DICOM without pixels, segmentation or localizer", contents.others));
    let named = |n: &[u8]| contents.not_dicom.iter().any(|f| f == n);
    if named(b"result.json") && named(b"qa.json") {
        part.left_out.push(("results of a batch", contents.not_dicom.len()));
        return Ok(part);
    }
    for name in contents.not_dicom.iter().filter_map(|n| locator::os_string(n.clone())) {
        file(root, &folder.join(name), &mut part, options);
    }
    for path in unread {
        part.cases.push(unreadable(root, Locator::File(path)));
    }
    let (groups, broken) = contents.groups();
    part.left_out.push(("broken DICOM file beside a series", broken));
    let alone = groups.len() == 1;
    for mut group in groups {
        let sha256 = group.sha256();
        if alone {
            group.files = Vec::new();
        }
        part.places.push(Place { folder: folder.clone(), alone, sha256, group });
    }
    Ok(part)
}

/// Contents of a folder, and the files that could not even be opened.
fn look_into(folder: &Path, options: &ReadOptions) -> Result<(Contents, Vec<PathBuf>)> {
    let mut contents = Contents::default();
    let mut unread = Vec::new();
    for path in visible_files(folder)? {
        let name = path.file_name().map(|n| n.as_encoded_bytes().to_vec()).unwrap_or_default();
        match source::open(&path, &options.limits) {
            Ok(bytes) => contents.add(name, &bytes, &options.limits),
            Err(_) => unread.push(path),
        }
    }
    Ok((contents, unread))
}

/// A file that is no DICOM: a zip, a volume, a picture, or nothing of ours.
fn file(root: &Path, path: &Path, part: &mut Part, options: &ReadOptions) {
    let name = path.file_name().map(|n| n.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let start = || source::open(path, &options.limits).ok();
    if name.ends_with(".seg.nrrd") {
        part.left_out.push(("label map", 1));
    } else if ENDINGS.iter().any(|e| name.ends_with(e)) {
        part.cases.push(single(root, path, options));
    } else if let Some(bytes) = start().filter(|b| dicom::is_archive((**b).as_ref())) {
        zip(root, path, (*bytes).as_ref(), part, options);
    } else if start().is_some_and(|b| dicom::has_mark((*b).as_ref())) {
        part.cases.push(single(root, path, options));
    } else {
        part.left_out.push(("file of no known kind", 1));
    }
}

fn single(root: &Path, path: &Path, options: &ReadOptions) -> Found {
    let mut found = unreadable(root, Locator::File(path.to_owned()));
    if let Ok(image) = crate::read(path, options) {
        let dim = image.volume.dim();
        found.modality = image.modality_guess();
        found.slices = dim[2];
        found.voxels = dim.iter().product::<usize>() as u64;
        found.sha256 = image.sha256;
    }
    found
}

/// A case that a reader will say more about.
fn unreadable(root: &Path, locator: Locator) -> Found {
    let path = locator.path().unwrap_or(root);
    Found {
        identity: format!("path:{}", below(root, path)),
        files: None,
        modality: None,
        slices: 0,
        voxels: 0,
        bytes: std::fs::metadata(path).map_or(0, |m| m.len()),
        sha256: crate::sha256_file(path).unwrap_or_default(),
        locator,
    }
}

fn zip(root: &Path, path: &Path, bytes: &[u8], part: &mut Part, options: &ReadOptions) {
    let archive = |prefix: Vec<u8>| Locator::Archive { path: path.to_owned(), prefix };
    let Ok(folders) = dicom::survey_archive(bytes, options) else {
        part.cases.push(unreadable(root, archive(Vec::new())));
        return;
    };
    // A series may lie in several folders of the zip.
    let mut series: BTreeMap<String, Vec<(Vec<u8>, bool, Group)>> = BTreeMap::new();
    for (prefix, contents) in folders {
        part.left_out.push(("DICOM without pixels, segmentation or localizer", contents.others));
        part.left_out.push(("file of no known kind", contents.not_dicom.len()));
        let (groups, broken) = contents.groups();
        part.left_out.push(("broken DICOM file beside a series", broken));
        let alone = groups.len() == 1;
        for group in groups {
            let identity = match group.uid.as_str() {
                "" => format!("path:{}!{}", below(root, path), locator::escaped(&prefix)),
                uid => uid.to_owned(),
            };
            series.entry(identity).or_default().push((prefix.clone(), alone, group));
        }
    }
    for (identity, mut places) in series {
        let Some((prefix, alone, mut group)) = places.pop() else { continue };
        if places.is_empty() {
            let sha256 = group.sha256();
            part.cases.push(found(identity, archive(prefix), (!alone).then(|| names(&group, b"")), sha256, &group));
            continue;
        }
        let mut list = names(&group, &prefix);
        for (prefix, _, other) in places {
            list.extend(names(&other, &prefix));
            group.join(other);
        }
        list.sort();
        let sha256 = group.sha256();
        part.cases.push(found(identity, archive(Vec::new()), Some(list), sha256, &group));
    }
}

fn names(group: &Group, prefix: &[u8]) -> Vec<String> {
    group.files.iter().map(|f| locator::escaped(&[prefix, &f.0].concat())).collect()
}

fn one_folder(identity: String, place: Place) -> Found {
    let files = (!place.alone).then(|| names(&place.group, b""));
    found(identity, Locator::Folder(place.folder), files, place.sha256, &place.group)
}

/// A series in several folders: names below what the folders have in common.
fn several_folders(identity: String, places: Vec<Place>, last: Place, options: &ReadOptions) -> Result<Found> {
    let mut common = last.folder.clone();
    while !places.iter().all(|p| p.folder.starts_with(&common)) && common.pop() {}
    let mut list = Vec::new();
    let mut whole: Option<Group> = None;
    for place in places.into_iter().chain([last]) {
        let Place { folder, alone, group, .. } = place;
        let group = if alone {
            // Its names were dropped to keep memory small; this is the rare case.
            let again = look_into(&folder, options)?.0.groups().0;
            again.into_iter().find(|g| g.uid == group.uid).ok_or(Error::Changed)?
        } else {
            group
        };
        let below = folder.strip_prefix(&common).unwrap_or(&folder);
        let prefix = if below.as_os_str().is_empty() { PathBuf::new() } else { below.join("") };
        list.extend(names(&group, prefix.as_os_str().as_encoded_bytes()));
        match &mut whole {
            Some(g) => g.join(group),
            None => whole = Some(group),
        }
    }
    list.sort();
    let group = whole.ok_or(Error::Changed)?;
    let sha256 = group.sha256();
    Ok(found(identity, Locator::Folder(common), Some(list), sha256, &group))
}

fn found(identity: String, locator: Locator, files: Option<Vec<String>>, sha256: String, group: &Group) -> Found {
    let &Group { modality, slices, voxels, bytes, .. } = group;
    Found { identity, locator, files, modality, slices, voxels, bytes, sha256 }
}

/// A path below the archive, so that an archive may move as a whole.
fn below(root: &Path, path: &Path) -> String {
    locator::escaped(path.strip_prefix(root).unwrap_or(path).as_os_str().as_encoded_bytes())
}
