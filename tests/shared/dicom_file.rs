//! DICOM files, element by element: what tests of several programs build their series of.

pub(crate) type Elements = Vec<(u32, &'static [u8; 2], Vec<u8>)>;

/// Explicit little-endian.
pub(crate) const PLAIN: &str = "1.2.840.10008.1.2.1";

/// An element with explicit value representation, little-endian.
pub(crate) fn element(tag: u32, vr: &[u8; 2], value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    if value.len() % 2 == 1 {
        value.push(if vr == b"UI" || vr == b"OB" { 0 } else { b' ' });
    }
    let mut b = [(tag >> 16) as u16, tag as u16].iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    b.extend(vr);
    if matches!(vr, b"OB" | b"OW" | b"SQ" | b"UN") {
        b.extend([0, 0]);
        b.extend((value.len() as u32).to_le_bytes());
    } else {
        b.extend((value.len() as u16).to_le_bytes());
    }
    b.extend(value);
    b
}

pub(crate) fn usual() -> Elements {
    let us = |v: u16| v.to_le_bytes().to_vec();
    let text = |t: &str| t.as_bytes().to_vec();
    vec![
        (0x0008_0060, b"CS", text("CT")),
        (0x0010_0010, b"PN", text("SECRET^NAME")),
        (0x0018_0050, b"DS", text("2.5")),
        (0x0020_000e, b"UI", text("1.2.3")),
        (0x0020_0013, b"IS", text("1")),
        (0x0020_0032, b"DS", text("0\\0\\0")),
        (0x0020_0037, b"DS", text("1\\0\\0\\0\\1\\0")),
        (0x0028_0002, b"US", us(1)),
        (0x0028_0004, b"CS", text("MONOCHROME2")),
        (0x0028_0010, b"US", us(2)),
        (0x0028_0011, b"US", us(3)),
        (0x0028_0030, b"DS", text("0.5\\0.75")),
        (0x0028_0100, b"US", us(16)),
        (0x0028_0101, b"US", us(12)),
        (0x0028_0102, b"US", us(11)),
        (0x0028_0103, b"US", us(0)),
        (0x0028_1052, b"DS", text("-1024")),
        (0x0028_1053, b"DS", text("1")),
        (0x7fe0_0010, b"OW", (0..12).collect()),
    ]
}

pub(crate) fn file(syntax: &str, elements: &Elements) -> Vec<u8> {
    let mut b = vec![0u8; 128];
    b.extend(b"DICM");
    b.extend(element(0x0002_0010, b"UI", syntax.as_bytes()));
    elements.iter().for_each(|(t, vr, v)| b.extend(element(*t, vr, v)));
    b
}

/// The usual file with elements put in or replaced, in the order of their tags.
pub(crate) fn edited(changes: &[(u32, &'static [u8; 2], &[u8])]) -> Vec<u8> {
    let mut all: std::collections::BTreeMap<u32, (&'static [u8; 2], Vec<u8>)> =
        usual().into_iter().map(|(t, vr, v)| (t, (vr, v))).collect();
    all.extend(changes.iter().map(|(t, vr, v)| (*t, (*vr, v.to_vec()))));
    file(PLAIN, &all.into_iter().map(|(t, (vr, v))| (t, vr, v)).collect())
}
