//! Judgements by people as items: images found by their digest, masks brought to the network's grid.

use super::AlignConfig;
use super::item::{Item, Judged, read_slice};
use crate::pictures::{Part, Picture};
use crate::preference::{Answer, CANDIDATES};
use crate::{Error, Progress};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use volseg_engine::{Judgement, PromptFile, View, prompt_row};
use volseg_geometry::{Plane, SliceStack, decode_run_length};
use volseg_io::{ReadOptions, read, sha256_file};
use volseg_model::embedded::Network;

/// Answers left out whose cause is said one by one; of more only the number.
const CAUSES_SAID: usize = 10;

/// Judgements of one prompt on one slice, in the file's order.
type Group<'a> = Vec<&'a Judgement>;

/// What people judged, and of pictures (not of volumes) the picture itself, its mask still empty. For `retrain` a picture has one
/// mask of an organ: of several prompts the one that was judged last counts.
pub(crate) fn load(
    config: &AlignConfig,
    file: &Path,
    first: &Network,
    progress: &mut dyn Progress,
) -> Result<Vec<(Item, Option<Picture>)>, Error> {
    // Whether it is there, before its lines are judged. One that does not fit its image is left out and said: hours of work by
    // people are not lost for one line.
    std::fs::metadata(file).map_err(|source| Error::Io { what: format!("read {}", file.display()), source })?;
    let all = Judgement::read_all(file)?;
    // Who comes back to a slice replaces the own earlier line, also by skipping it.
    let mut last = BTreeMap::new();
    for (n, j) in all.iter().enumerate() {
        let place = format!(
            "{} {:?} {:?} {} {:?} {:?} {}",
            j.image_sha256, j.plane, j.slice, j.organ, j.tile, j.prompt, j.rater
        );
        last.insert(place, n);
    }
    let kept: BTreeSet<usize> = last.into_values().collect();
    let all: Vec<&Judgement> = kept.into_iter().filter_map(|n| all.get(n)).collect();
    let judged: Vec<&Judgement> = all.iter().copied().filter(|j| !j.skipped).collect();
    let images = by_digest(&config.images)?;
    let mut groups: BTreeMap<(String, String), Group<'_>> = BTreeMap::new();
    for j in &judged {
        // Judgements of tiles of one answer belong to one item; another prompt is another item.
        let prompt = serde_json::to_string(&j.prompt).map_err(|e| Error::Data(e.to_string()))?;
        let place = format!("{:?} {:?} {} {prompt}", j.plane, j.slice, j.organ);
        groups.entry((j.image_sha256.clone(), place)).or_default().push(j);
    }
    if config.retrain > 0 {
        let mut latest: BTreeMap<(String, String), Group<'_>> = BTreeMap::new();
        let time = |g: &Group<'_>| g.iter().map(|j| j.time.clone()).max();
        for ((sha, place), g) in groups {
            let organ = g.first().map(|j| format!("{:?} {:?} {}", j.plane, j.slice, j.organ)).unwrap_or(place);
            let kept = latest.entry((sha, organ)).or_default();
            if time(kept) <= time(&g) {
                *kept = g;
            }
        }
        groups = latest;
    }
    let found: Vec<(&PathBuf, Group<'_>)> =
        groups.into_iter().filter_map(|((sha, _), g)| Some((images.get(&sha)?, g))).collect();
    let used: usize = found.iter().map(|(_, g)| g.len()).sum();
    progress.line(&format!(
        "{used} judgements of {} answers ({} skipped by the rater, {} of images that are not in `images`)",
        found.len(),
        all.len() - judged.len(),
        judged.len() - used
    ));
    if judged.is_empty() {
        return Err(Error::Data(format!(
            "{} holds no judgement (lines that raters skipped do not count)",
            file.display()
        )));
    }
    if found.is_empty() {
        return Err(Error::Data("no judgement's image is in the folders of `images`".into()));
    }
    let read: Vec<_> = found.par_iter().map(|(path, group)| item(config, path, group, first)).collect();
    let (mut items, mut unfit) = (Vec::with_capacity(read.len()), Vec::new());
    for outcome in read {
        match outcome {
            Ok(item) => items.push(item),
            Err(cause) => unfit.push(cause),
        }
    }
    for cause in unfit.iter().take(CAUSES_SAID) {
        progress.line(&format!("an answer is left out: {cause}"));
    }
    if unfit.len() > CAUSES_SAID {
        progress.line(&format!("{} answers are left out in all", unfit.len()));
    }
    match unfit.into_iter().next() {
        Some(cause) if items.is_empty() => Err(cause),
        _ => Ok(items),
    }
}

/// Files of the folders, by SHA-256. Of equal files the first in sorted order stands.
fn by_digest(folders: &[PathBuf]) -> Result<BTreeMap<String, PathBuf>, Error> {
    let mut files = Vec::new();
    let mut open: Vec<PathBuf> = folders.to_vec();
    while let Some(folder) = open.pop() {
        let io = |source| Error::Io { what: format!("list {}", folder.display()), source };
        for entry in std::fs::read_dir(&folder).map_err(io)? {
            let entry = entry.map_err(io)?;
            let kind = entry.file_type().map_err(io)?;
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    let digests = files.par_iter().map(|f| Ok(sha256_file(f)?)).collect::<Result<Vec<String>, Error>>()?;
    Ok(digests.into_iter().zip(files).rev().collect())
}

fn item(
    config: &AlignConfig,
    path: &Path,
    group: &[&Judgement],
    first: &Network,
) -> Result<(Item, Option<Picture>), Error> {
    let image = read(path, &ReadOptions::default())?;
    let bad = |text: String| Error::Data(format!("judgement of image {}...: {text}", &image.sha256[..8]));
    let head = group.first().ok_or_else(|| Error::Data("no judgement".into()))?;
    let modality = config
        .modality
        .or(image.modality)
        .or_else(|| image.modality_guess())
        .or_else(|| config.pictures.first().map(|p| p.modality))
        .ok_or_else(|| bad("its modality is unknown; set `modality`".into()))?;
    let plane = head.plane.unwrap_or(Plane::Axial);
    let view = View::of_image(&image, plane, modality, first.config.side);
    let slice = head.slice.unwrap_or(0);
    if slice >= view.stack().slices {
        return Err(bad(format!("slice {slice}, the image has 0..{}", view.stack().slices)));
    }
    let mut entry = head.prompt.clone().unwrap_or_default();
    entry.organ = Some(head.organ.clone());
    (entry.plane, entry.slice) = (Some(plane), Some(slice));
    let stack: SliceStack = *view.stack();
    let prompts = PromptFile { version: 1, prompts: vec![entry] }.resolve(|_| stack, image.is_picture(), None)?;
    let prompt = prompts.iter().flat_map(|set| &set.prompts).next().ok_or_else(|| bad("no prompt".into()))?;
    let mut item = read_slice(first, view.input(&image.volume, slice), None, |dense| prompt_row(&view, prompt, dense))?;
    let pixels: Vec<Option<[usize; 2]>> = view.stored_pixels().collect();
    let width = stack.size[0];
    for j in group {
        let mut masks: [Vec<u8>; CANDIDATES] = Default::default();
        for (mask, shown) in masks.iter_mut().zip(&j.candidates) {
            let stored = decode_run_length(&shown.rle, stack.size).map_err(|e| bad(e.to_string()))?;
            *mask = pixels.iter().map(|p| p.map_or(0, |[x, y]| stored[y * width + x])).collect();
        }
        let ranks: [u8; CANDIDATES] =
            j.ranks.as_slice().try_into().map_err(|_| bad(format!("{} ranks", j.ranks.len())))?;
        let [width, height] = stack.size.map(|n| n as f64);
        if let Some([x0, y0, x1, y1]) = j.tile.filter(|t| t[0] < 0.0 || t[1] < 0.0 || t[2] > width || t[3] > height) {
            return Err(bad(format!("tile {x0}, {y0}, {x1}, {y1}, the image has {width} x {height} pixels")));
        }
        let judged = j.tile.map(|t| {
            let inside = |p: &[usize; 2]| {
                let (x, y) = (p[0] as f64 + 0.5, p[1] as f64 + 0.5);
                x >= t[0] && x < t[2] && y >= t[1] && y < t[3]
            };
            (0..).zip(&pixels).filter(|(_, p)| p.as_ref().is_some_and(inside)).map(|(i, _)| i).collect()
        });
        item.judged.push(Judged { pixels: judged, masks, answer: Answer::from_ranks(ranks)? });
    }
    let picture = image.is_picture().then(|| {
        let size = stack.shown_size();
        let mut grey = vec![0f32; size[0] * size[1]];
        let value = |l: usize| (image.volume.value(l) * image.slope + image.intercept) as f32;
        stack.for_each_shown(slice, |p, l| grey[p] = value(l));
        Picture {
            name: head.case.clone(),
            mask: vec![0; grey.len()],
            size,
            grey,
            organ: prompt.organ,
            modality,
            ct: None,
            text: None,
            bounds: None,
            part: Part::Unannotated,
        }
    });
    Ok((item, picture))
}
