//! DICOM files, element by element.

use crate::{Case, error, image};

/// An element with explicit value representation, little-endian.
fn element(tag: u32, vr: &[u8; 2], value: &[u8]) -> Vec<u8> {
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

type Elements = Vec<(u32, &'static [u8; 2], Vec<u8>)>;

fn usual() -> Elements {
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

fn file(syntax: &str, elements: &Elements) -> Vec<u8> {
    let mut b = vec![0u8; 128];
    b.extend(b"DICM");
    b.extend(element(0x0002_0010, b"UI", syntax.as_bytes()));
    elements.iter().for_each(|(t, vr, v)| b.extend(element(*t, vr, v)));
    b
}

const PLAIN: &str = "1.2.840.10008.1.2.1";

pub(crate) fn good() -> Vec<u8> {
    file(PLAIN, &usual())
}

fn with(tag: u32, value: &[u8]) -> Vec<u8> {
    let mut all = usual();
    for e in all.iter_mut().filter(|e| e.0 == tag) {
        e.2 = value.to_vec();
    }
    file(PLAIN, &all)
}

fn without(tag: u32) -> Vec<u8> {
    file(PLAIN, &usual().into_iter().filter(|e| e.0 != tag).collect())
}

/// A sequence in a sequence in a sequence.
fn nested(depth: usize) -> Vec<u8> {
    let mut b = vec![0u8; 128];
    b.extend(b"DICM");
    b.extend(element(0x0002_0010, b"UI", PLAIN.as_bytes()));
    for _ in 0..depth {
        b.extend([
            0x08, 0, 0x40, 0x11, b'S', b'Q', 0, 0, 255, 255, 255, 255, 0xfe, 0xff, 0x00, 0xe0, 255, 255, 255, 255,
        ]);
    }
    b
}

/// Compressed pixels: an empty offset table and one fragment.
fn encapsulated(syntax: &str, code: &[u8]) -> Vec<u8> {
    let mut b = file(syntax, &usual().into_iter().filter(|e| e.0 != 0x7fe0_0010).collect());
    b.extend([0xe0, 0x7f, 0x10, 0, b'O', b'B', 0, 0, 255, 255, 255, 255]);
    for part in [&[][..], code] {
        b.extend([0xfe, 0xff, 0x00, 0xe0]);
        b.extend((part.len() as u32).to_le_bytes());
        b.extend(part);
    }
    b.extend([0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0]);
    b
}

pub(crate) fn cases() -> Vec<Case> {
    let mut program = good();
    program[..2].copy_from_slice(b"MZ");
    let mut beyond = good();
    beyond.truncate(303);
    let mut big_jpeg = vec![0xff, 0xd8, 0xff, 0xc0, 0, 11, 8];
    big_jpeg.extend([0xff, 0xff, 0xff, 0xff, 1, 1, 0x11, 0]);
    let rle = {
        let mut r = vec![0u8; 64];
        r[0] = 200;
        r
    };
    vec![
        image("good.dcm", good(), ""),
        error("131.dcm", vec![0; 131], "unsupported", "this content"),
        error("mark_only.dcm", good()[..132].to_vec(), "unsupported", "without pixels"),
        image("program.dcm", program, "program"),
        error("beyond.dcm", beyond, "malformed", "truncated"),
        error("nested.dcm", nested(10_000), "malformed", "nested deeper"),
        error("syntax.dcm", file("1.2.3.4.5", &usual()), "unsupported", "transfer syntax"),
        error("jpeg_ls.dcm", encapsulated("1.2.840.10008.1.2.4.80", &[0; 16]), "unsupported", "JPEG-LS"),
        error("deflate.dcm", file("1.2.840.10008.1.2.1.99", &usual()), "malformed", "damaged"),
        error("rle.dcm", encapsulated("1.2.840.10008.1.2.5", &rle), "malformed", "damaged"),
        error(
            "jpeg_size.dcm",
            encapsulated("1.2.840.10008.1.2.4.70", &big_jpeg),
            "malformed",
            "65535 x 65535, but the header says 3 x 2",
        ),
        error("j2k_cut.dcm", encapsulated("1.2.840.10008.1.2.4.90", &[0xff, 0x4f, 0xff, 0x51]), "malformed", "damaged"),
        error("huge.dcm", with(0x0028_0010, &[255, 255]), "malformed", "truncated"),
        error("zero_rows.dcm", with(0x0028_0010, &[0, 0]), "malformed", "0 rows"),
        error("bits_13.dcm", with(0x0028_0100, &[13, 0]), "unsupported", "BitsAllocated 13"),
        error("stored.dcm", with(0x0028_0101, &[40, 0]), "malformed", "BitsStored 40"),
        error("high.dcm", with(0x0028_0102, &[3, 0]), "malformed", "HighBit 3"),
        error("no_pixels.dcm", without(0x7fe0_0010), "unsupported", "without pixels"),
        error("short_pixels.dcm", with(0x7fe0_0010, &[1, 2, 3]), "malformed", "fewer pixels"),
        image("long_pixels.dcm", with(0x7fe0_0010, &[1; 20]), ""),
        image("slope_0.dcm", with(0x0028_1053, b"0"), "RescaleSlope"),
        image("slope_nan.dcm", with(0x0028_1053, b"nan"), "RescaleSlope"),
        image("slope_1e308.dcm", with(0x0028_1053, b"1e308"), "RescaleSlope"),
        image("mono1.dcm", with(0x0028_0004, b"MONOCHROME1"), "MONOCHROME1"),
        error("spacing_0.dcm", with(0x0028_0030, b"0\\0"), "malformed", "spacing"),
        error(
            "orientation.dcm",
            with(0x0020_0037, b"1\\0\\0\\1\\0\\0"),
            "malformed",
            "position, orientation or spacing",
        ),
        image("no_position.dcm", without(0x0020_0032), ""),
        image("no_thickness.dcm", without(0x0018_0050), "SliceThickness is missing"),
        error(
            "frames.dcm",
            {
                let mut all = usual();
                all.insert(9, (0x0028_0008, b"IS", b"999999999".to_vec()));
                file(PLAIN, &all)
            },
            "limit",
            "voxels",
        ),
    ]
}
