//! NRRD, MetaImage and pictures.

use crate::{Case, error, image};
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};

fn nrrd(lines: &str) -> Vec<u8> {
    let mut b = format!("NRRD0004\n{lines}\n\n").into_bytes();
    b.extend(0..16u8);
    b
}

const HEAD: &str = "type: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 2 2 2\nspace directions: (1,0,0) (0,1,0) (0,0,1)\nendian: little\nencoding: raw\nspace origin: (0,0,0)";

pub(crate) fn good_nrrd() -> Vec<u8> {
    nrrd(HEAD)
}

const META: &str = "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nDimSize = 2 2 2\nElementSpacing = 1 1 1\nElementType = MET_SHORT\nElementDataFile = LOCAL\n";

fn meta(text: &str) -> Vec<u8> {
    let mut b = text.as_bytes().to_vec();
    b.extend(0..16u8);
    b
}

pub(crate) fn good_mha() -> Vec<u8> {
    meta(META)
}

fn png(width: u32, height: u32, color: ExtendedColorType, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    PngEncoder::new(&mut out).write_image(bytes, width, height, color).unwrap();
    out
}

pub(crate) fn cases() -> Vec<Case> {
    let n = |from: &str, to: &str| nrrd(&HEAD.replace(from, to));
    let m = |from: &str, to: &str| meta(&META.replace(from, to));
    let small = png(3, 2, ExtendedColorType::L8, &[0, 1, 2, 3, 4, 5]);
    // Width and height in the header chunk; its check sum no longer fits either.
    let mut wide = small.clone();
    wide[16..24].copy_from_slice(&[0, 1, 0x86, 0xa0, 0, 1, 0x86, 0xa0]);
    vec![
        image("good.nrrd", good_nrrd(), ""),
        error("no_end.nrrd", b"NRRD0004\ntype: short\n".to_vec(), "malformed", "no end"),
        error("version.nrrd", b"NRRD0099\n\n".to_vec(), "malformed", "NRRD0001 to NRRD0005"),
        error("no_type.nrrd", n("type: short\n", ""), "malformed", "\"type\" is missing"),
        error("block.nrrd", n("type: short", "type: block"), "unsupported", "block"),
        error("sizes.nrrd", n("sizes: 2 2 2", "sizes: 2 2"), "malformed", "2 sizes for dimension 3"),
        error("negative.nrrd", n("sizes: 2 2 2", "sizes: 2 -2 2"), "malformed", "a size is -2"),
        error("huge.nrrd", n("sizes: 2 2 2", "sizes: 999999 999999 999999"), "limit", "voxels"),
        error("short.nrrd", n("sizes: 2 2 2", "sizes: 2 2 3"), "malformed", "truncated"),
        error("endian.nrrd", n("endian: little\n", ""), "malformed", "\"endian\" is missing"),
        error("bzip2.nrrd", n("encoding: raw", "encoding: bzip2"), "unsupported", "bzip2"),
        error("gzip.nrrd", n("encoding: raw", "encoding: gzip"), "malformed", "damaged"),
        error("flat.nrrd", n("(0,0,1)", "(0,1,0)"), "malformed", "dependent"),
        error("directions.nrrd", n(" (0,0,1)", ""), "malformed", "2 space directions"),
        error("bracket.nrrd", n("(0,0,1)", "(0,0,1"), "malformed", "closing bracket"),
        error("nan.nrrd", n("(0,0,1)", "(0,0,nan)"), "malformed", "NaN"),
        error("twice.nrrd", n("type: short", "type: short\ntype: short"), "malformed", "stands twice"),
        error("escape.nhdr", n("encoding: raw", "encoding: raw\ndata file: ../../etc/passwd"), "malformed", "outside"),
        error("absolute.nhdr", n("encoding: raw", "encoding: raw\ndata file: /etc/passwd"), "malformed", "outside"),
        error("absent.nhdr", n("encoding: raw", "encoding: raw\ndata file: absent.raw"), "io", "cannot read"),
        error("list.nhdr", nrrd(&format!("{HEAD}\ndata file: LIST\n../a.raw")), "malformed", "outside"),
        error(
            "pattern.nhdr",
            n("encoding: raw", "encoding: raw\ndata file: a%d.raw 1 9999999999 1"),
            "malformed",
            "pattern",
        ),
        error(
            "rgb.nrrd",
            n("dimension: 3", "dimension: 4")
                .tap("sizes: 2 2 2", "sizes: 3 2 2 2")
                .tap("directions: (", "directions: none ("),
            "unsupported",
            "3 volumes or channels",
        ),
        image("ras.nrrd", n("left-posterior-superior", "RAS"), ""),
        image(
            "no_space.nrrd",
            n("space: left-posterior-superior\n", "")
                .tap("space directions: (1,0,0) (0,1,0) (0,0,1)\n", "")
                .tap("space origin: (0,0,0)", "spacings: 1 2 3"),
            "no orientation",
        ),
        image(
            "ascii.nrrd",
            b"NRRD0004\ntype: short\ndimension: 3\nsizes: 2 1 1\nspacings: 1 1 1\nencoding: ascii\n\n1 -2\n".to_vec(),
            "",
        ),
        error(
            "ascii_range.nrrd",
            b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 1 1\nspacings: 1 1 1\nencoding: ascii\n\n1 300\n".to_vec(),
            "malformed",
            "300",
        ),
        image(
            "trailing.nrrd",
            {
                let mut b = good_nrrd();
                b.push(0);
                b
            },
            "after the voxels",
        ),
        image("good.mha", good_mha(), ""),
        error("short.mha", m("DimSize = 2 2 2", "DimSize = 2 2 3"), "malformed", "truncated"),
        error("huge.mha", m("DimSize = 2 2 2", "DimSize = 99999 99999 99999"), "limit", "voxels"),
        error("type.mha", m("MET_SHORT", "MET_ASCII"), "unsupported", "MET_ASCII"),
        error("zlib.mha", m("BinaryData = True", "BinaryData = True\nCompressedData = True"), "malformed", "damaged"),
        error("escape.mhd", m("LOCAL", "../a.raw"), "malformed", "outside"),
        error("no_file.mha", m("ElementDataFile = LOCAL\n", ""), "malformed", ""),
        error("zero.mha", m("ElementSpacing = 1 1 1", "ElementSpacing = 1 1 0"), "malformed", "spacing of axis 2"),
        error("object.mha", m("ObjectType = Image", "ObjectType = Tube"), "unsupported", "Tube"),
        image("grey.png", small.clone(), ""),
        image("sixteen.png", png(1, 1, ExtendedColorType::L16, &[1, 2]), ""),
        image("alpha.png", png(1, 1, ExtendedColorType::Rgba8, &[9, 9, 9, 0]), "transparency"),
        image("colour.png", png(1, 1, ExtendedColorType::Rgb8, &[9, 8, 7]), "grey values"),
        error("cut.png", small[..small.len() - 20].to_vec(), "malformed", ""),
        error("wide.png", wide, "malformed", ""),
        error("nothing.bin", b"just some words that no reader knows".to_vec(), "unsupported", "this content"),
    ]
}

trait Tap {
    fn tap(self, from: &str, to: &str) -> Self;
}

impl Tap for Vec<u8> {
    /// A text replaced in bytes that are text up to their voxels.
    fn tap(self, from: &str, to: &str) -> Self {
        let text: String = self.iter().map(|&b| char::from(b)).collect();
        text.replace(from, to).chars().map(|c| c as u8).collect()
    }
}
