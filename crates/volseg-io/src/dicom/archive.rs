//! A zip of DICOM files, read in memory: nothing is ever extracted to disk.

use super::{FORMAT, has_mark, is_bare, of_several};
use crate::{Error, Image, ReadOptions, Result, source::Shared};
use rayon::prelude::*;
use std::{
    io::{Cursor, Read},
    sync::Arc,
};
use zip::ZipArchive;

const ZIP: &str = "zip";
const MOST_ENTRIES: u64 = 200_000;
const MOST_NAME: usize = 4096;

/// Whether bytes start a zip archive.
pub(crate) fn is_archive(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06")
}

pub(crate) fn read_archive(bytes: &[u8], options: &ReadOptions) -> Result<Image> {
    let mut files: Vec<(Vec<u8>, Shared)> = Vec::new();
    let found = entries(bytes, options, &|_| true, &mut |name, content| {
        if has_mark(&content) || is_bare(&content) {
            files.push((name, Arc::new(content)));
        }
        Ok(())
    })?;
    files.sort_by(|a, b| a.0.cmp(&b.0));
    if files.is_empty() {
        return Err(Error::NothingReadable {
            reason: format!("{found} entries in the archive, none of them {FORMAT}"),
        });
    }
    let mut image = of_several(files.into_iter().map(|f| f.1).collect(), found, options)?;
    if options.digest {
        image.sha256 = crate::sha256(bytes);
    }
    Ok(image)
}

/// Hands over names and contents of the `wanted` files, one at a time and in the order of the archive; gives the number of all
/// entries. Every name is checked, wanted or not; the contents together stay within the limit.
pub(crate) fn entries(
    bytes: &[u8],
    options: &ReadOptions,
    wanted: &dyn Fn(&[u8]) -> bool,
    visit: &mut dyn FnMut(Vec<u8>, Vec<u8>) -> Result<()>,
) -> Result<usize> {
    let stated = stated_entries(bytes)?;
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
    if (archive.len() as u64) < stated {
        return Err(Error::malformed(ZIP, format!("{stated} entries, but {} names: some stand twice", archive.len())));
    }
    let chosen = checked(&mut archive, wanted, options)?;
    let allowed = options.limits.max_inflated_bytes;
    let announced = chosen.iter().map(|c| c.size).fold(0, u64::saturating_add);
    if announced > allowed {
        return Err(Error::Limit { what: "bytes after decompression", found: announced, allowed });
    }
    // Some entries ahead of the visitor, so that all threads have work and few contents wait.
    for part in chosen.chunks(4 * rayon::current_num_threads()) {
        let contents: Vec<Result<(Vec<u8>, Vec<u8>)>> = part.par_iter().map_with(archive.clone(), inflated).collect();
        for content in contents {
            let (name, content) = content?;
            visit(name, content)?;
        }
    }
    Ok(archive.len())
}

/// An archive that cannot be read.
fn broken(e: impl std::fmt::Display) -> Error {
    Error::malformed(ZIP, e.to_string())
}

/// An entry of an archive: its number and how many bytes it announces.
struct Chosen {
    number: usize,
    size: u64,
}

/// Name and content of an entry; one that holds more than it announces is an error of `zip`'s, and no more is read here.
fn inflated(archive: &mut ZipArchive<Cursor<&[u8]>>, chosen: &Chosen) -> Result<(Vec<u8>, Vec<u8>)> {
    let mut entry = archive.by_index(chosen.number).map_err(broken)?;
    let name = entry.name_raw().to_vec();
    let mut content = Vec::new();
    (&mut entry).take(chosen.size.saturating_add(1)).read_to_end(&mut content).map_err(broken)?;
    Ok((name, content))
}

/// The wanted files, after a look at every entry: names, links, encryption, places, announced sizes.
fn checked(
    archive: &mut ZipArchive<Cursor<&[u8]>>,
    wanted: &dyn Fn(&[u8]) -> bool,
    options: &ReadOptions,
) -> Result<Vec<Chosen>> {
    let mut places = Vec::new();
    let mut chosen = Vec::new();
    for n in 0..archive.len() {
        // Only looked at: encrypted entries cannot be opened, but have a name.
        let entry = archive.by_index_raw(n).map_err(broken)?;
        if entry.encrypted() {
            return Err(Error::unsupported(ZIP, "an encrypted archive"));
        }
        let name = entry.name_raw();
        if name.len() > MOST_NAME
            || name.contains(&0)
            || entry.enclosed_name().is_none()
            || name.first() == Some(&b'/')
            || name.contains(&b'\\')
            || name.get(1) == Some(&b':')
        {
            return Err(Error::malformed(ZIP, "the name of an entry leaves the archive or is not usable"));
        }
        if entry.is_symlink() {
            return Err(Error::malformed(ZIP, "an entry is a link"));
        }
        let start = entry.data_start().unwrap_or_else(|| entry.header_start());
        places.push((entry.header_start(), start.saturating_add(entry.compressed_size())));
        if entry.is_dir() || !wanted(name) {
            continue;
        }
        if entry.size() > options.limits.max_inflated_bytes {
            return Err(Error::Limit {
                what: "bytes after decompression",
                found: entry.size(),
                allowed: options.limits.max_inflated_bytes,
            });
        }
        chosen.push(Chosen { number: n, size: entry.size() });
    }
    // Entries that share their bytes make terabytes of kilobytes.
    places.sort_unstable();
    if places.windows(2).any(|w| w[1].0 < w[0].1) {
        return Err(Error::malformed(ZIP, "entries overlap"));
    }
    Ok(chosen)
}

/// The number of entries that an archive announces; too many are refused before its directory is read.
fn stated_entries(bytes: &[u8]) -> Result<u64> {
    let tail = bytes.get(bytes.len().saturating_sub(70_000)..).unwrap_or(bytes);
    let find = |mark: &[u8]| tail.windows(4).rposition(|w| w == mark);
    let at = find(b"PK\x05\x06").ok_or_else(|| Error::malformed(ZIP, "truncated: no end of the directory"))?;
    let short = tail.get(at + 10..at + 12).map_or(0, |b| u64::from(u16::from_le_bytes([b[0], b[1]])));
    // The longer field counts where its locator stands before the end.
    let located = at >= 20 && tail.get(at - 20..at - 16) == Some(b"PK\x06\x07");
    let long = find(b"PK\x06\x06").filter(|_| located).and_then(|at| tail.get(at + 32..at + 40)?.try_into().ok());
    let found = long.map_or(short, u64::from_le_bytes);
    if found > MOST_ENTRIES {
        Err(Error::Limit { what: "entries of an archive", found, allowed: MOST_ENTRIES })
    } else {
        Ok(found)
    }
}
