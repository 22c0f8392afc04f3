//! DICOM files, element by element.

use crate::{
    Case,
    dicom_file::{PLAIN, edited, element, file, usual},
    error, image,
};

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

/// A picture without a place, with pixels of its own.
pub(crate) fn without_place(k: u8) -> Vec<u8> {
    let all = usual().into_iter().filter(|e| e.0 != 0x0020_0032);
    file(PLAIN, &all.map(|(t, vr, v)| (t, vr, if t == PIXELS { vec![k; 12] } else { v })).collect())
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

const ROWS: u32 = 0x0028_0010;
const COLUMNS: u32 = 0x0028_0011;
const ALLOCATED: u32 = 0x0028_0100;
const STORED: u32 = 0x0028_0101;
const HIGH: u32 = 0x0028_0102;
const SIGNED: u32 = 0x0028_0103;
pub(crate) const PIXELS: u32 = 0x7fe0_0010;

fn replaced(mut bytes: Vec<u8>, at: usize, by: &[u8]) -> Vec<u8> {
    bytes[at..at + by.len()].copy_from_slice(by);
    bytes
}

/// Group 2 announces fewer bytes than it has.
fn wrong_meta_length() -> Vec<u8> {
    [&good()[..132], &element(0x0002_0000, b"UL", &[3, 0, 0, 0]), &good()[132..]].concat()
}

/// An element that is no sequence, without a length, in an implicit file.
fn endless(vr: &[u8; 2]) -> Vec<u8> {
    let mut b = vec![0u8; 128];
    b.extend(b"DICM");
    b.extend(element(0x0002_0010, b"UI", if vr == b"LT" { b"1.2.840.10008.1.2" } else { PLAIN.as_bytes() }));
    if vr == b"LT" {
        b.extend([0x10, 0x00, 0x00, 0x40, 255, 255, 255, 255]);
    } else {
        b.extend([0x42, 0x00, 0x11, 0x00, b'O', b'B', 0, 0, 255, 255, 255, 255]);
    }
    b.extend(b"words that are no items, and no end");
    b
}

/// The usual file, all numbers turned round.
fn big_endian() -> Vec<u8> {
    let mut b = vec![0u8; 128];
    b.extend(b"DICM");
    b.extend(element(0x0002_0010, b"UI", b"1.2.840.10008.1.2.2"));
    for (tag, vr, value) in usual() {
        let e = element(tag, vr, &value);
        let long = matches!(vr, b"OW");
        b.extend([e[1], e[0], e[3], e[2]]);
        b.extend(&e[4..6]);
        if long {
            b.extend([0, 0]);
            b.extend(e[8..12].iter().rev());
        } else {
            b.extend(e[6..8].iter().rev());
        }
        let value = &e[if long { 12 } else { 8 }..];
        if matches!(vr, b"US" | b"OW") {
            value.chunks(2).for_each(|c| b.extend(c.iter().rev()));
        } else {
            b.extend(value);
        }
    }
    b
}

fn deflated(data: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut b = vec![0u8; 128];
    b.extend(b"DICM");
    b.extend(element(0x0002_0010, b"UI", b"1.2.840.10008.1.2.1.99"));
    let mut e = flate2::write::DeflateEncoder::new(b, flate2::Compression::default());
    e.write_all(data).unwrap();
    e.finish().unwrap()
}

/// 3 x 2 colour pixels.
fn colours(photometric: &'static [u8], bytes: usize) -> Vec<u8> {
    edited(&[
        (0x0008_0060, b"CS", b"US"),
        (0x0028_0002, b"US", &[3, 0]),
        (0x0028_0004, b"CS", photometric),
        (0x0028_0006, b"US", &[0, 0]),
        // Pairs of pixels share their colours where there are 12 bytes.
        (COLUMNS, b"US", if bytes == 12 { &[2, 0] } else { &[3, 0] }),
        (ROWS, b"US", if bytes == 12 { &[3, 0] } else { &[2, 0] }),
        (ALLOCATED, b"US", &[8, 0]),
        (STORED, b"US", &[8, 0]),
        (HIGH, b"US", &[7, 0]),
        (PIXELS, b"OW", &vec![90; bytes]),
    ])
}

fn palette(tables: &[&[u8]]) -> Vec<u8> {
    let mut changes: Vec<(u32, &'static [u8; 2], &[u8])> = vec![
        (0x0028_0004, b"CS", b"PALETTE COLOR"),
        (ALLOCATED, b"US", &[8, 0]),
        (STORED, b"US", &[8, 0]),
        (HIGH, b"US", &[7, 0]),
        (PIXELS, b"OW", &[0, 1, 2, 0, 1, 9]),
    ];
    for (n, table) in (0..).zip(tables) {
        changes.push((0x0028_1101 + n, b"US", &[3, 0, 0, 0, 8, 0]));
        changes.push((0x0028_1201 + n, b"OW", table));
    }
    edited(&changes)
}

/// An item without a length around elements.
fn item(elements: &[Vec<u8>]) -> Vec<u8> {
    let mut b = vec![0xfe, 0xff, 0x00, 0xe0, 255, 255, 255, 255];
    b.extend(elements.concat());
    b.extend([0xfe, 0xff, 0x0d, 0xe0, 0, 0, 0, 0]);
    b
}

/// An enhanced file of frames with a place each.
pub(crate) fn enhanced(frames: usize, groups: usize) -> Vec<u8> {
    let each: Vec<u8> = (0..groups)
        .flat_map(|k| {
            let place = element(0x0020_0032, b"DS", format!("0\\0\\{}", 5 * k).as_bytes());
            item(&[element(0x0020_9113, b"SQ", &item(&[place]))])
        })
        .collect();
    let pixels = vec![1u8; 12 * frames];
    edited(&[
        (0x0028_0008, b"IS", frames.to_string().as_bytes()),
        (0x5200_9230, b"SQ", &each),
        (PIXELS, b"OW", &pixels),
    ])
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
        error("empty.dcm", Vec::new(), "malformed", "empty"),
        image(
            "bare.dcm",
            [&element(0x0008_0016, b"UI", b"1.2.840.10008.5.1.4.1.1.2")[..], &good()[132 + 28..]].concat(),
            "",
        ),
        image("elf.dcm", replaced(good(), 0, b"\x7fELF"), "program"),
        image("mach_o.dcm", replaced(good(), 0, b"\xcf\xfa\xed\xfe"), "program"),
        image("meta_length.dcm", wrong_meta_length(), ""),
        image("no_syntax.dcm", [&good()[..132], &good()[132 + 28..]].concat(), ""),
        error("lt_without_end.dcm", endless(b"LT"), "malformed", ""),
        error("ob_without_end.dcm", endless(b"OB"), "malformed", ""),
        image("big_endian.dcm", big_endian(), ""),
        image("deflated.dcm", deflated(&good()[132 + 28..]), ""),
        error(
            "deflate_bomb.dcm",
            deflated(&[good()[132 + 28..].to_vec(), vec![0; 40 << 20]].concat()),
            "limit",
            "after decompression",
        ),
        error(
            "all_pixels.dcm",
            edited(&[(ROWS, b"US", &[255, 255]), (COLUMNS, b"US", &[255, 255])]),
            "limit",
            "voxels",
        ),
        image(
            "one_bit.dcm",
            edited(&[
                (ALLOCATED, b"US", &[1, 0]),
                (STORED, b"US", &[1, 0]),
                (HIGH, b"US", &[0, 0]),
                (PIXELS, b"OW", &[0b10_1101, 0]),
            ]),
            "",
        ),
        image(
            "eight_bits.dcm",
            edited(&[
                (ALLOCATED, b"US", &[8, 0]),
                (STORED, b"US", &[8, 0]),
                (HIGH, b"US", &[7, 0]),
                (PIXELS, b"OW", &[7; 6]),
            ]),
            "",
        ),
        image(
            "thirty_two_bits.dcm",
            edited(&[
                (ALLOCATED, b"US", &[32, 0]),
                (STORED, b"US", &[32, 0]),
                (HIGH, b"US", &[31, 0]),
                (PIXELS, b"OW", &[7; 24]),
            ]),
            "",
        ),
        error(
            "sixty_four_bits.dcm",
            edited(&[
                (ALLOCATED, b"US", &[64, 0]),
                (STORED, b"US", &[64, 0]),
                (HIGH, b"US", &[63, 0]),
                (PIXELS, b"OW", &[7; 48]),
            ]),
            "unsupported",
            "BitsAllocated 64",
        ),
        image("signed.dcm", edited(&[(SIGNED, b"US", &[1, 0])]), ""),
        error(
            "odd_pixels.dcm",
            edited(&[(PIXELS, b"OW", &[7; 11])]).split_last().map(|(_, b)| b.to_vec()).unwrap(),
            "malformed",
            "fewer pixels",
        ),
        image("private.dcm", edited(&[(0x0009_0010, b"LO", b"ACME"), (0x0009_1001, b"UN", &[1, 2, 3, 4])]), ""),
        image(
            "names.dcm",
            edited(&[(0x0008_0005, b"CS", b"\\ISO 2022 IR 87"), (0x0010_0010, b"PN", b"Yamada=\x1b$B;3ED\x1b(B")]),
            "",
        ),
        image("rgb.dcm", colours(b"RGB", 18), "grey values"),
        image("ybr.dcm", colours(b"YBR_FULL", 18), "grey values"),
        image("ybr_422.dcm", colours(b"YBR_FULL_422", 12), "grey values"),
        error("rgb_short.dcm", colours(b"RGB", 16), "malformed", "fewer pixels"),
        image("palette.dcm", palette(&[&[0, 100, 200][..]; 3]), ""),
        error("palette_missing.dcm", palette(&[]), "malformed", "palette"),
        error("palette_empty.dcm", palette(&[&[], &[], &[]]), "malformed", "palette is empty"),
        error("spacing_negative.dcm", with(0x0028_0030, b"-0.5\\0.75"), "malformed", "PixelSpacing"),
        error("spacing_tiny.dcm", with(0x0028_0030, b"1e-30\\0.75"), "malformed", "PixelSpacing"),
        error("position_nan.dcm", with(0x0020_0032, b"nan\\0\\0"), "malformed", "ImagePositionPatient"),
        image("enhanced.dcm", enhanced(2, 2), ""),
        error("enhanced_short.dcm", enhanced(3, 2), "malformed", "groups of frames"),
        error("report.dcm", file(PLAIN, &vec![(0x0008_0060, b"CS", b"SR".to_vec())]), "unsupported", "without pixels"),
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
        // The file is a CT's, whose numbers are measurements.
        image("mono1.dcm", with(0x0028_0004, b"MONOCHROME1"), "intensities are as stored"),
        image("orientation_long.dcm", with(0x0020_0037, b"2\\0\\0\\0\\2\\0"), "unit vectors"),
        image("orientation_skew.dcm", with(0x0020_0037, b"1\\0\\0\\0.28\\0.96\\0"), "73.7 degrees"),
        error("spacing_0.dcm", with(0x0028_0030, b"0\\0"), "malformed", "PixelSpacing"),
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
            "malformed",
            "NumberOfFrames is 999999999, the pixels have 1",
        ),
    ]
}
