//! A process that is told to stop leaves no unfinished files. Alone in its process, since nothing can be written afterwards.
#![allow(missing_docs, clippy::unwrap_used)]

use std::io::Write;
use volseg_io::{AtomicFile, ScratchFolder, abandon_outputs};

#[test]
fn unfinished_files_are_removed_and_finished_ones_stay() {
    let folder = tempfile::tempdir().unwrap();
    AtomicFile::write(&folder.path().join("whole"), b"1").unwrap();
    let mut half = AtomicFile::create(&folder.path().join("half")).unwrap();
    half.write_all(b"2").unwrap();
    drop(AtomicFile::create(&folder.path().join("dropped")).unwrap());
    let scratch = ScratchFolder::create(folder.path()).unwrap();
    std::fs::write(scratch.path().join("inside"), b"3").unwrap();
    drop(ScratchFolder::create(folder.path()).unwrap());
    let names = || -> Vec<_> {
        let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names().len(), 3);
    abandon_outputs();
    assert_eq!(names(), ["whole"]);
    // Their ends would wait for the end of the process.
    std::mem::forget((half, scratch));
}
