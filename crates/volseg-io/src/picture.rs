//! PNG, JPEG, BMP, TIFF as volumes of one slice: columns towards the patient's left, rows towards posterior, 1 mm.

use crate::{AtomicFile, Error, Image, ReadOptions, Result, output::Content};
use image::{
    DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageFormat, ImageReader, codecs::png::PngEncoder,
    metadata::Orientation,
};
use std::{io::Cursor, path::Path};
use volseg_geometry::{Affine, AnyVolume, Volume, Voxel, VoxelKind};

const FORMAT: &str = "picture";

/// What a colour picture that is read as an image warns of.
pub(crate) const GREYED: &str = "colours were turned into grey values";

/// The grid of a picture.
pub(crate) const GRID: Affine = Affine { rows: [[-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]] };

/// Whether bytes start a picture that this crate reads.
pub(crate) fn is_picture(bytes: &[u8]) -> bool {
    format(bytes).is_some()
}

fn format(bytes: &[u8]) -> Option<ImageFormat> {
    image::guess_format(bytes)
        .ok()
        .filter(|f| matches!(f, ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::Bmp | ImageFormat::Tiff))
}

pub(crate) fn read(bytes: &[u8], options: &ReadOptions) -> Result<Image> {
    let kind = format(bytes).ok_or_else(|| Error::unsupported(FORMAT, "this format"))?;
    let mut reader = ImageReader::with_format(Cursor::new(bytes), kind);
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(most_bytes(kind, bytes).min(options.limits.max_inflated_bytes).min(2 << 30));
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(fault)?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(Error::malformed(FORMAT, "a side has no pixels"));
    }
    options.limits.voxels(&[width.into(), height.into()])?;
    let mut warnings = Vec::new();
    let turned = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(fault)?;
    if turned != Orientation::NoTransforms {
        picture.apply_orientation(turned);
        warnings.push("the picture was turned as its EXIF orientation says".into());
    }
    let mut lost = None;
    if transparent(&picture) {
        warnings.push("transparency was ignored".into());
        lost = Some("transparency");
    }
    if several(kind, bytes) {
        warnings.push("the first of several pictures in the file was read".into());
    }
    let dim = [picture.width() as usize, picture.height() as usize, 1];
    let mut rgb = None;
    let mut coloured = false;
    let volume: AnyVolume = match picture {
        DynamicImage::ImageLuma8(p) => slice(p.into_raw(), dim)?,
        DynamicImage::ImageLumaA8(p) => slice(p.pixels().map(|p| p.0[0]).collect::<Vec<u8>>(), dim)?,
        DynamicImage::ImageLuma16(p) => slice(p.into_raw(), dim)?,
        DynamicImage::ImageLumaA16(p) => slice(p.pixels().map(|p| p.0[0]).collect::<Vec<u16>>(), dim)?,
        DynamicImage::ImageRgb16(_) | DynamicImage::ImageRgba16(_) => {
            let p = picture.into_rgb16();
            coloured = p.pixels().any(|p| p.0[0] != p.0[1] || p.0[1] != p.0[2]);
            slice(p.pixels().map(|p| grey(p.0.map(u32::from)) as u16).collect::<Vec<u16>>(), dim)?
        }
        DynamicImage::ImageRgb32F(_) | DynamicImage::ImageRgba32F(_) => {
            let p = picture.into_rgb32f();
            coloured = p.pixels().any(|p| p.0[0] != p.0[1] || p.0[1] != p.0[2]);
            let grey = |[r, g, b]: [f32; 3]| if r == g && g == b { r } else { 0.299 * r + 0.587 * g + 0.114 * b };
            slice(p.pixels().map(|p| grey(p.0)).collect::<Vec<f32>>(), dim)?
        }
        other => {
            let p = other.into_rgb8();
            let grey = p.pixels().map(|p| grey(p.0.map(u32::from)) as u8).collect::<Vec<u8>>();
            if p.pixels().any(|p| p.0[0] != p.0[1] || p.0[1] != p.0[2]) {
                warnings.push(GREYED.into());
                rgb = Some(p.into_raw());
            }
            slice(grey, dim)?
        }
    };
    if coloured {
        warnings.push(GREYED.into());
        lost = Some("colours of more than 8 bits");
    }
    let mut image = Image::from_volume(volume);
    image.lost = lost;
    image.picture = true;
    if rgb.is_some() && kind == ImageFormat::Png && turned == Orientation::NoTransforms {
        image.indices = palette_indices(bytes, options);
    }
    image.rgb = rgb;
    image.warnings = warnings;
    image.format = Some(FORMAT);
    Ok(image)
}

/// What a PNG needs: four channels of 16 bits, and room for its other chunks, which may unpack to anything.
fn most_bytes(kind: ImageFormat, bytes: &[u8]) -> u64 {
    let side =
        |at: usize| bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |&b| u64::from(u32::from_be_bytes(b)));
    if kind == ImageFormat::Png { (16 << 20) + 8 * side(16).saturating_mul(side(20)).min(1 << 40) } else { u64::MAX }
}

/// Whether any pixel is not opaque.
fn transparent(picture: &DynamicImage) -> bool {
    match picture {
        DynamicImage::ImageLumaA8(p) => p.pixels().any(|p| p.0[1] < u8::MAX),
        DynamicImage::ImageRgba8(p) => p.pixels().any(|p| p.0[3] < u8::MAX),
        DynamicImage::ImageLumaA16(p) => p.pixels().any(|p| p.0[1] < u16::MAX),
        DynamicImage::ImageRgba16(p) => p.pixels().any(|p| p.0[3] < u16::MAX),
        DynamicImage::ImageRgba32F(p) => p.pixels().any(|p| p.0[3] < 1.0),
        _ => false,
    }
}

/// The numbers of the colours of a PNG with a palette, pixel by pixel; `None` for any other.
fn palette_indices(bytes: &[u8], options: &ReadOptions) -> Option<Vec<u8>> {
    let limit = usize::try_from(options.limits.max_inflated_bytes).unwrap_or(usize::MAX).min(2 << 30);
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), png::Limits { bytes: limit });
    decoder.set_transformations(png::Transformations::IDENTITY);
    let mut reader = decoder.read_info().ok()?;
    if reader.info().color_type != png::ColorType::Indexed {
        return None;
    }
    let mut packed = vec![0; reader.output_buffer_size()?];
    let info = reader.next_frame(&mut packed).ok()?;
    let bits = info.bit_depth as usize;
    let (width, mask) = (info.width as usize, ((1u16 << bits) - 1) as u8);
    let lines = packed.chunks_exact(info.line_size).take(info.height as usize);
    // The first pixel of a byte has its highest bits.
    let number = |line: &[u8], x: usize| line[x * bits / 8] >> (8 - bits - x * bits % 8) & mask;
    Some(lines.flat_map(|line| (0..width).map(|x| number(line, x)).collect::<Vec<u8>>()).collect())
}

/// Whether a file holds more than one picture: frames of a PNG, pages of a TIFF.
fn several(kind: ImageFormat, bytes: &[u8]) -> bool {
    match kind {
        // The chunk of animations stands before the pixels.
        ImageFormat::Png => {
            let end = bytes.windows(4).position(|w| w == b"IDAT").unwrap_or(bytes.len());
            bytes.get(..end).is_some_and(|head| head.windows(4).any(|w| w == b"acTL"))
        }
        // The offset of the next page stands behind the entries of the first, which are 12 bytes each.
        ImageFormat::Tiff => {
            let big = bytes.first() == Some(&b'M');
            let number = |at: usize, n: usize| -> Option<usize> {
                let part = bytes.get(at..at.checked_add(n)?)?;
                let byte = |i: usize| usize::from(part[if big { i } else { n - 1 - i }]);
                Some((0..n).fold(0, |v, i| v << 8 | byte(i)))
            };
            let next = || number(4, 4).and_then(|at| number(at.checked_add(2 + 12 * number(at, 2)?)?, 4));
            number(2, 2) == Some(42) && next().is_some_and(|offset| offset != 0)
        }
        _ => false,
    }
}

/// Luma of BT.601, in whole numbers as Pillow counts it; grey stays what it is.
pub(crate) fn grey([r, g, b]: [u32; 3]) -> u32 {
    (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16
}

fn slice<T: Voxel>(voxels: Vec<T>, dim: [usize; 3]) -> Result<AnyVolume>
where
    AnyVolume: From<Volume<T>>,
{
    Ok(Volume::from_vec(voxels, dim, GRID)?.into())
}

fn fault(error: image::ImageError) -> Error {
    match error {
        image::ImageError::Limits(e) => Error::malformed(FORMAT, format!("too large for the limits ({e})")),
        image::ImageError::Unsupported(e) => Error::unsupported(FORMAT, e.to_string()),
        other => Error::malformed(FORMAT, other.to_string()),
    }
}

/// One slice of 8 or 16 unsigned bits as PNG. Place and spacing are lost, as everybody expects of a PNG.
pub(crate) fn write(path: &Path, content: &Content<'_>) -> Result<()> {
    let refuse = |what: String| Err(Error::CannotHold { format: "PNG", what });
    if content.dim[2] != 1 || content.frames != 1 {
        return refuse(format!("{} slices (only one)", content.dim[2] * content.frames));
    }
    let color = match content.kind {
        VoxelKind::U8 => ExtendedColorType::L8,
        VoxelKind::U16 => ExtendedColorType::L16,
        other => return refuse(format!("{} voxels (only u8 and u16)", other.name())),
    };
    encode(path, content.bytes, content.dim, color)
}

/// A picture with colours as PNG.
pub(crate) fn write_rgb(path: &Path, rgb: &[u8], dim: [usize; 3]) -> Result<()> {
    encode(path, rgb, dim, ExtendedColorType::Rgb8)
}

fn encode(path: &Path, bytes: &[u8], dim: [usize; 3], color: ExtendedColorType) -> Result<()> {
    let mut png = Vec::new();
    let (Ok(width), Ok(height)) = (u32::try_from(dim[0]), u32::try_from(dim[1])) else {
        return Err(Error::CannotHold { format: "PNG", what: format!("{} x {} pixels", dim[0], dim[1]) });
    };
    PngEncoder::new(&mut png)
        .write_image(bytes, width, height, color)
        .map_err(|e| Error::CannotHold { format: "PNG", what: e.to_string() })?;
    AtomicFile::write(path, &png)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mask of 5 x 2 pixels with a palette of colours.
    fn paletted(depth: png::BitDepth, packed: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 5, 2);
        encoder.set_color(png::ColorType::Indexed);
        encoder.set_depth(depth);
        encoder.set_palette(vec![0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]);
        encoder.write_header().unwrap().write_image_data(packed).unwrap();
        bytes
    }

    #[test]
    fn a_palette_holds_labels() {
        let expected = [0, 1, 2, 3, 1, 3, 0, 0, 2, 1];
        for (depth, packed) in [
            (png::BitDepth::Eight, expected.to_vec()),
            (png::BitDepth::Four, vec![0x01, 0x23, 0x10, 0x30, 0x02, 0x10]),
            (png::BitDepth::Two, vec![0b0001_1011, 0b0100_0000, 0b1100_0010, 0b0100_0000]),
        ] {
            let image = read(&paletted(depth, &packed), &ReadOptions::default()).unwrap();
            assert!(image.rgb().is_some());
            let labels = image.into_labels();
            assert!(labels.rgb().is_none() && labels.warnings.is_empty());
            assert_eq!((0..10).map(|n| labels.volume.value(n) as u8).collect::<Vec<_>>(), expected, "{depth:?}");
        }
        // One bit: a colour for the background, one for the organ.
        let image = read(&paletted(png::BitDepth::One, &[0b0100_1000, 0b1000_0000]), &ReadOptions::default()).unwrap();
        let labels = image.into_labels();
        assert_eq!((0..10).map(|n| labels.volume.value(n) as u8).sum::<u8>(), 3);
    }
}
