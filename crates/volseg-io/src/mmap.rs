//! Files as bytes without a copy. The only unsafe code of this crate.
#![allow(unsafe_code)]

use memmap2::{Mmap, MmapOptions};
use std::{fs::File, io};

/// Maps a whole file for reading.
///
/// Somebody who changes the file meanwhile changes our voxels; somebody who truncates it ends the process (SIGBUS). The
/// writers of this crate never do either: they write beside and rename, which leaves a mapped file as it was.
pub(crate) fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is read-only and only ever seen as bytes, for which every bit pattern is valid; voxels are numbers,
    // for which the same holds. What remains is a change of the file by another process, said above.
    unsafe { MmapOptions::new().map(file) }
}
