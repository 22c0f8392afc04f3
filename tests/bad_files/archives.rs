//! Zip archives, byte by byte (stored, without check sums of their own making where they do not matter).

use crate::{Case, dicom, error, image};

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

pub(crate) fn cases() -> Vec<Case> {
    let good = dicom::good();
    let one = |name: &str| stored(&[(name, &good)]);
    let mut cut = one("a.dcm");
    cut.truncate(cut.len() - 30);
    let mut lie = one("a.dcm");
    let at = lie.len() - 22 - 46 - 5 + 24;
    lie[at..at + 4].copy_from_slice(&0xf000_0000u32.to_le_bytes());
    vec![
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
