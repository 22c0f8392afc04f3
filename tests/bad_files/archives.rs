//! Zip archives, byte by byte (stored, without check sums of their own making where they do not matter).

use crate::{Case, dicom, error, image};
use std::io::Write;

/// An archive of stored files.
pub(crate) fn stored(files: &[(&str, &[u8])]) -> Vec<u8> {
    build(files, 0, 0, None)
}

/// `flags` and `attributes` for each entry; `count` entries announced where it differs.
fn build(files: &[(&str, &[u8])], flags: u16, attributes: u32, count: Option<u16>) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in files {
        let at = out.len() as u32;
        let mut common = Vec::new();
        common.extend(flags.to_le_bytes());
        common.extend([0; 2]); // stored
        common.extend([0; 4]); // time
        common.extend(crc(bytes).to_le_bytes());
        common.extend((bytes.len() as u32).to_le_bytes());
        common.extend((bytes.len() as u32).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0; 2]);
        out.extend(b"PK\x03\x04\x14\0");
        out.extend(&common);
        out.extend(name.as_bytes());
        out.extend(*bytes);
        directory.extend(b"PK\x01\x02\x14\x03\x14\0");
        directory.extend(&common);
        directory.extend([0; 6]);
        directory.extend(attributes.to_le_bytes());
        directory.extend(at.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (start, length) = (out.len() as u32, directory.len() as u32);
    out.extend(directory);
    let count = count.unwrap_or(files.len() as u16);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend(count.to_le_bytes());
    out.extend(count.to_le_bytes());
    out.extend(length.to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0; 2]);
    out
}

fn crc(bytes: &[u8]) -> u32 {
    let mut c = flate2::Crc::new();
    c.update(bytes);
    c.sum()
}

/// A link, and a file that would be written through it.
fn link_then_file(good: &[u8]) -> Vec<u8> {
    let mut b = stored(&[("a", b"/tmp"), ("a/b.dcm", good)]);
    let at = b.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    b[at + 38..at + 42].copy_from_slice(&(0o120_777u32 << 16).to_le_bytes());
    b
}

fn renamed(mut b: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    while let Some(at) = b.windows(from.len()).position(|w| w == from) {
        b[at..at + to.len()].copy_from_slice(to);
    }
    b
}

/// A tar archive of one file that climbs.
fn tar(good: &[u8]) -> Vec<u8> {
    let mut b = vec![0u8; 512];
    b[..8].copy_from_slice(b"../a.dcm");
    b[257..262].copy_from_slice(b"ustar");
    b.extend(good);
    b.resize(2048, 0);
    b
}

pub(crate) fn cases() -> Vec<Case> {
    let good = dicom::good();
    let one = |name: &str| stored(&[(name, &good)]);
    let mut cut = one("a.dcm");
    cut.truncate(cut.len() - 30);
    let mut lie = one("a.dcm");
    let at = lie.len() - 22 - 46 - 5 + 24;
    lie[at..at + 4].copy_from_slice(&0xf000_0000u32.to_le_bytes());
    // An entry more in the directory that points at the first one's bytes.
    let overlap = {
        let mut b = stored(&[("a.dcm", &good), ("b.dcm", &good)]);
        let directory = b.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
        let second = directory + 46 + 5;
        b[second + 42..second + 46].copy_from_slice(&0u32.to_le_bytes());
        b
    };
    let zip64 = |entries: u64, real: bool| {
        let mut b = one("a.dcm");
        let end = b.len() - 22;
        let tail = b.split_off(end);
        let (size, start) = (&tail[12..16], &tail[16..20]);
        let here = b.len() as u64;
        b.extend(b"PK\x06\x06");
        b.extend(44u64.to_le_bytes());
        b.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        b.extend(entries.to_le_bytes());
        b.extend(entries.to_le_bytes());
        b.extend(size);
        b.extend([0; 4]);
        b.extend(if real { start } else { &[255; 4] });
        b.extend(if real { [0; 4] } else { [255; 4] });
        b.extend(b"PK\x06\x07\0\0\0\0");
        b.extend(here.to_le_bytes());
        b.extend([1, 0, 0, 0]);
        b.extend(b"PK\x05\x06\0\0\0\0");
        b.extend([255; 12]);
        b.extend([0, 0]);
        b
    };
    let bomb = {
        let mut w = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        w.start_file("a.dcm", options).unwrap();
        w.write_all(&[good.clone(), vec![0; 40 << 20]].concat()).unwrap();
        w.finish().unwrap().into_inner()
    };
    let mut real_size = bomb.clone();
    // Announces 100 bytes in both places, but inflates to 40 MiB.
    for mark in [&b"PK\x03\x04"[..], b"PK\x01\x02"] {
        let at = real_size.windows(4).position(|w| w == mark).unwrap() + if mark[2] == 3 { 22 } else { 24 };
        real_size[at..at + 4].copy_from_slice(&100u32.to_le_bytes());
    }
    vec![
        error("twice.zip", stored(&[("a.dcm", &good), ("a.dcm", &good)]), "malformed", "stand twice"),
        error("million.zip", zip64(1_000_000, true), "limit", "entries of an archive"),
        error("overlap.zip", overlap, "malformed", "overlap"),
        error("bomb.zip", bomb, "limit", "after decompression"),
        error("size_lies.zip", real_size, "malformed", ""),
        image("zip64.zip", zip64(1, true), ""),
        error("zip64_lie.zip", zip64(1, false), "malformed", ""),
        error("zip64_count.zip", zip64(7, true), "malformed", ""),
        error(
            "nested.zip",
            stored(&[("inner.zip", &stored(&[("a.dcm", &good)]))]),
            "nothing_readable",
            "none of them DICOM",
        ),
        error("link_then_file.zip", link_then_file(&good), "malformed", "link"),
        error("up_within.zip", one("a/../../b.dcm"), "malformed", "leaves the archive"),
        image("not_utf8.zip", renamed(one("aaaaa.dcm"), b"aaaaa", b"a\xff\xfe\x80a"), ""),
        error("tar.tar", tar(&good), "unsupported", "this content"),
        image("good.zip", one("a.dcm"), ""),
        error("empty.zip", stored(&[]), "nothing_readable", "0 entries"),
        error("words.zip", stored(&[("a.txt", b"words")]), "nothing_readable", "none of them DICOM"),
        error("up.zip", one("../a.dcm"), "malformed", "leaves the archive"),
        error("absolute.zip", one("/a.dcm"), "malformed", ""),
        error("drive.zip", one("C:\\a.dcm"), "malformed", "leaves the archive"),
        error("nul.zip", one("a\0.dcm"), "malformed", ""),
        error("long_name.zip", one(&"a".repeat(5000)), "malformed", "leaves the archive or is not usable"),
        error("link.zip", build(&[("a.dcm", &good)], 0, 0o120_777 << 16, None), "malformed", "link"),
        error("encrypted.zip", build(&[("a.dcm", &good)], 1, 0, None), "unsupported", "encrypted"),
        error("cut.zip", cut, "malformed", ""),
        error("size_lie.zip", lie, "limit", "after decompression"),
    ]
}
