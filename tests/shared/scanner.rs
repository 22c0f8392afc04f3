//! A scanner of small patients: DICOM series with a secret in every tag that names somebody.
use std::{fs, path::Path};

/// Stands in every identifying text.
pub(crate) const SECRET: &str = "SECRET";
/// Starts every UID of an instance.
pub(crate) const ROOT_UID: &str = "1.2.826.0.1.3680043.9.7777";
/// Columns and rows.
const SIDE: usize = 48;

/// Identifying tags of PS3.15 Table E.1-1 with a text or a date as value, and a private one.
const NAMES: [(u32, &[u8; 2]); 44] = [
    (0x0008_0012, b"DA"),
    (0x0008_0014, b"UI"),
    (0x0008_0020, b"DA"),
    (0x0008_0021, b"DA"),
    (0x0008_0050, b"SH"),
    (0x0008_0080, b"LO"),
    (0x0008_0081, b"ST"),
    (0x0008_0090, b"PN"),
    (0x0008_0092, b"ST"),
    (0x0008_0094, b"SH"),
    (0x0008_1010, b"SH"),
    (0x0008_1030, b"LO"),
    (0x0008_103e, b"LO"),
    (0x0008_1040, b"LO"),
    (0x0008_1048, b"PN"),
    (0x0008_1050, b"PN"),
    (0x0008_1060, b"PN"),
    (0x0008_1070, b"PN"),
    (0x0008_1080, b"LO"),
    (0x0008_2111, b"ST"),
    (0x0008_4000, b"LT"),
    (0x0009_0010, b"LO"),
    (0x0009_1001, b"LO"),
    (0x0010_0010, b"PN"),
    (0x0010_0020, b"LO"),
    (0x0010_0021, b"LO"),
    (0x0010_0030, b"DA"),
    (0x0010_0032, b"TM"),
    (0x0010_1000, b"LO"),
    (0x0010_1001, b"PN"),
    (0x0010_1005, b"PN"),
    (0x0010_1040, b"LO"),
    (0x0010_1060, b"PN"),
    (0x0010_2154, b"SH"),
    (0x0010_2160, b"SH"),
    (0x0010_2180, b"SH"),
    (0x0010_21b0, b"LT"),
    (0x0010_21f0, b"LO"),
    (0x0010_4000, b"LT"),
    (0x0018_1000, b"LO"),
    (0x0018_1030, b"LO"),
    (0x0020_0010, b"SH"),
    (0x0020_4000, b"LT"),
    (0x0032_1060, b"LO"),
];

fn element(tag: u32, vr: &[u8; 2], value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    if value.len() % 2 == 1 {
        value.push(if vr == b"UI" { 0 } else { b' ' });
    }
    let mut out: Vec<u8> = [(tag >> 16) as u16, tag as u16].iter().flat_map(|v| v.to_le_bytes()).collect();
    out.extend(vr);
    if vr == b"OW" {
        out.extend([0, 0]);
        out.extend((value.len() as u32).to_le_bytes());
    } else {
        out.extend((value.len() as u16).to_le_bytes());
    }
    out.extend(value);
    out
}

/// One slice: a round body of soft tissue with a bright organ on the patient's right.
fn slice(series: usize, z: usize) -> Vec<u8> {
    let text = |t: &str| t.as_bytes().to_vec();
    let us = |v: u16| v.to_le_bytes().to_vec();
    let uid = |kind: &str, n: usize| text(&format!("{ROOT_UID}.{kind}.{series}.{n}"));
    let mut all: Vec<(u32, &[u8; 2], Vec<u8>)> = NAMES
        .iter()
        .map(|&(tag, vr)| match vr {
            b"DA" => (tag, vr, text("19010203")),
            b"TM" => (tag, vr, text("040506")),
            b"UI" => (tag, vr, uid("5", 0)),
            _ => (tag, vr, text(&format!("{SECRET}^{tag:08x}"))),
        })
        .collect();
    let position = format!("-40\\-40\\{}", z * 5);
    all.extend([
        (0x0008_0016, b"UI", text("1.2.840.10008.5.1.4.1.1.2")),
        (0x0008_0018, b"UI", uid("1", z)),
        (0x0008_0060, b"CS", text("CT")),
        (0x0018_0050, b"DS", text("5")),
        (0x0020_000d, b"UI", uid("2", 0)),
        (0x0020_000e, b"UI", uid("3", 0)),
        (0x0020_0011, b"IS", text("7")),
        (0x0020_0013, b"IS", text(&z.to_string())),
        (0x0020_0032, b"DS", text(&position)),
        (0x0020_0037, b"DS", text("1\\0\\0\\0\\1\\0")),
        (0x0020_0052, b"UI", uid("4", 0)),
        (0x0028_0002, b"US", us(1)),
        (0x0028_0004, b"CS", text("MONOCHROME2")),
        (0x0028_0010, b"US", us(SIDE as u16)),
        (0x0028_0011, b"US", us(SIDE as u16)),
        (0x0028_0030, b"DS", text("7\\7")),
        (0x0028_0100, b"US", us(16)),
        (0x0028_0101, b"US", us(16)),
        (0x0028_0102, b"US", us(15)),
        (0x0028_0103, b"US", us(1)),
        (0x0028_1052, b"DS", text("-1024")),
        (0x0028_1053, b"DS", text("1")),
    ]);
    all.sort_by_key(|e| e.0);
    let pixel = |n: usize| {
        let (x, y) = ((n % SIDE) as f64 - 23.5, (n / SIDE) as f64 - 23.5);
        let hu = match () {
            () if (x + 9.0).hypot(y) < 8.0 => 110,
            () if x.hypot(y * 1.3) < 21.0 => 20 + (series % 7) as i16,
            () => -1000,
        };
        (hu + 1024).to_le_bytes()
    };
    all.push((0x7fe0_0010, b"OW", (0..SIDE * SIDE).flat_map(pixel).collect()));
    let mut out = vec![0u8; 128];
    out.extend(b"DICM");
    out.extend(element(0x0002_0010, b"UI", b"1.2.840.10008.1.2.1"));
    all.iter().for_each(|(tag, vr, value)| out.extend(element(*tag, vr, value)));
    out
}

/// Names and bytes of a CT of `slices` slices.
pub(crate) fn ct(series: usize, slices: usize) -> Vec<(String, Vec<u8>)> {
    (0..slices).map(|z| (format!("{SECRET}_{z:03}.dcm"), slice(series, z))).collect()
}

/// Writes a CT into a folder.
pub(crate) fn scan(folder: &Path, series: usize, slices: usize) {
    fs::create_dir_all(folder).unwrap();
    for (name, bytes) in ct(series, slices) {
        fs::write(folder.join(name), bytes).unwrap();
    }
}
