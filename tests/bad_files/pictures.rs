//! Pictures of every kind. Those in `fixtures` are made by `scripts/make-bad-pictures.py`.

use crate::{Case, error, image};
use image::{ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder, codecs::png::PngEncoder};
use volseg_io::{ReadOptions, read};

fn png(width: u32, height: u32, color: ExtendedColorType, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    PngEncoder::new(&mut out).write_image(bytes, width, height, color).unwrap();
    out
}

/// A JPEG, 16 x 8, left half dark, with an EXIF orientation.
fn turned(orientation: u8) -> Vec<u8> {
    let pixels: Vec<u8> = (0..128).map(|n| if n % 16 < 8 { 0 } else { 255 }).collect();
    let mut jpeg = Vec::new();
    JpegEncoder::new(&mut jpeg).write_image(&pixels, 16, 8, ExtendedColorType::L8).unwrap();
    let mut exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    let mut segment = vec![0xff, 0xe1];
    segment.extend((exif.len() as u16 + 2).to_be_bytes());
    segment.extend(exif);
    jpeg.splice(2..2, segment);
    jpeg
}

pub(crate) fn cases() -> Vec<Case> {
    let cmyk = include_bytes!("fixtures/cmyk.jpg").to_vec();
    let jpeg = turned(1);
    vec![
        image("cmyk.jpg", cmyk.clone(), ""),
        error("cmyk_cut.jpg", cmyk[..cmyk.len() / 2].to_vec(), "malformed", ""),
        image("upright.jpg", jpeg.clone(), ""),
        image("turned.jpg", turned(6), "EXIF orientation"),
        image("turned_by_nonsense.jpg", turned(77), ""),
        error("header.jpg", jpeg[..40].to_vec(), "malformed", ""),
        image("animated.png", include_bytes!("fixtures/animated.png").to_vec(), "first of several pictures"),
        error("animated.gif", include_bytes!("fixtures/animated.gif").to_vec(), "unsupported", "this content"),
        image("pages.tif", include_bytes!("fixtures/pages.tif").to_vec(), "first of several pictures"),
        image("one_pixel.png", png(1, 1, ExtendedColorType::L8, &[7]), ""),
        image("line.png", png(65535, 1, ExtendedColorType::L8, &[7; 65535]), ""),
        image("grey_alpha.png", png(1, 1, ExtendedColorType::La8, &[9, 0]), "transparency"),
        image("rgb16.png", png(1, 1, ExtendedColorType::Rgb16, &[1, 2, 3, 4, 5, 6]), "grey values"),
        error("too_many.png", png(4096, 1025, ExtendedColorType::L8, &[0; 4096 * 1025]), "limit", "voxels"),
        error("nothing.png", b"\x89PNG\r\n\x1a\n".to_vec(), "malformed", ""),
        error(
            "half.bmp",
            b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\xff\xff\0\0\xff\xff\0\0".to_vec(),
            "malformed",
            "",
        ),
    ]
}

/// Every orientation of EXIF puts the dark half where a viewer shows it.
#[test]
fn exif_turns_pictures() {
    let folder = tempfile::tempdir().unwrap();
    for (orientation, size, dark) in [
        (1, [16, 8], [0, 0]),
        (2, [16, 8], [15, 0]),
        (3, [16, 8], [15, 7]),
        (4, [16, 8], [0, 7]),
        (5, [8, 16], [0, 0]),
        (6, [8, 16], [7, 0]),
        (7, [8, 16], [7, 15]),
        (8, [8, 16], [0, 15]),
    ] {
        let path = folder.path().join("a.jpg");
        std::fs::write(&path, turned(orientation)).unwrap();
        let image = read(&path, &ReadOptions::default()).unwrap();
        assert_eq!(image.volume.dim(), [size[0], size[1], 1], "{orientation}");
        let at = |[x, y]: [usize; 2]| image.volume.value(x + size[0] * y);
        assert!(at(dark) < 64.0, "{orientation}");
        assert!(at([size[0] - 1 - dark[0], size[1] - 1 - dark[1]]) > 192.0, "{orientation}");
    }
}

/// Ink is not light: 155 of 255 black is a grey of 100, however the file stores it.
#[test]
fn inks_become_grey_values() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jpg");
    std::fs::write(&path, include_bytes!("fixtures/cmyk.jpg")).unwrap();
    let image = read(&path, &ReadOptions::default()).unwrap();
    assert!((image.volume.value(0) - 100.0).abs() < 3.0, "{}", image.volume.value(0));
}
