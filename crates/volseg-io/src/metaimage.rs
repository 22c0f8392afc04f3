//! MetaImage: `.mha`, `.mhd` with its data. World axes are LPS.

use crate::{
    AtomicFile, Error, Header, Image, Limits, ReadOptions, Result,
    digest::sha256_files,
    number_text,
    output::Content,
    side_file,
    source::{Shared, stream_error},
    voxels::Layout,
};
use flate2::{Compression, bufread::ZlibDecoder, write::ZlibEncoder};
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    path::Path,
};
use volseg_geometry::{Affine, VoxelKind};

const FORMAT: &str = "MetaImage";
const MOST_HEADER_BYTES: usize = 1 << 20;

/// The geometry of a MetaImage in its own terms.
#[derive(Clone, Debug, PartialEq)]
pub struct MetaHeader {
    /// `ElementSpacing`, mm.
    pub spacing: [f64; 3],
    /// `TransformMatrix`: direction cosines of the first axis, then the second, the third (LPS).
    pub matrix: [f64; 9],
    /// `Offset`: place of the first voxel (LPS mm).
    pub offset: [f64; 3],
}

impl MetaHeader {
    /// Index to RAS mm.
    #[must_use]
    pub fn affine(&self) -> Affine {
        let column = |a: usize| {
            let d = [0, 1, 2].map(|r| self.matrix[3 * a + r] * self.spacing[a]);
            [0.0 - d[0], 0.0 - d[1], d[2]]
        };
        Affine::from_columns(
            [column(0), column(1), column(2)],
            [0.0 - self.offset[0], 0.0 - self.offset[1], self.offset[2]],
        )
    }

    fn of(affine: &Affine) -> Self {
        let spacing = affine.spacing_mm();
        let mut matrix = [0.0; 9];
        for a in 0..3 {
            let c = affine.column(a);
            for (r, v) in [0.0 - c[0], 0.0 - c[1], c[2]].into_iter().enumerate() {
                matrix[3 * a + r] = v / spacing[a];
            }
        }
        let o = affine.origin();
        Self { spacing, matrix, offset: [0.0 - o[0], 0.0 - o[1], o[2]] }
    }
}

/// Whether bytes start a MetaImage header.
pub(crate) fn is_header(bytes: &[u8]) -> bool {
    let text = bytes.get(..bytes.len().min(400)).unwrap_or(&[]);
    let start = text.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(0);
    let text = &text[start..];
    [&b"ObjectType"[..], b"NDims", b"Comment"].iter().any(|k| text.starts_with(k))
}

pub(crate) fn read(path: &Path, bytes: &Shared, options: &ReadOptions) -> Result<Image> {
    let held: &[u8] = (**bytes).as_ref();
    let (fields, end) = fields(held)?;
    let get = |names: &[&str]| names.iter().find_map(|n| fields.get(&n.to_ascii_lowercase()).map(String::as_str));
    let yes = |names: &[&str]| get(names).is_some_and(|v| v.eq_ignore_ascii_case("true") || v == "1");
    let required =
        |name: &str| get(&[name]).ok_or_else(|| Error::malformed(FORMAT, format!("field {name:?} is missing")));
    if let Some(kind) = get(&["ObjectType"]).filter(|k| !k.eq_ignore_ascii_case("image")) {
        return Err(Error::unsupported(FORMAT, format!("object {kind:?}")));
    }
    let axes: usize = required("NDims")?.parse().map_err(|_| Error::malformed(FORMAT, "NDims is no number"))?;
    let sizes = number_text::numbers(FORMAT, "DimSize", required("DimSize")?)?;
    if sizes.len() != axes || !(1..=4).contains(&axes) {
        return Err(Error::malformed(FORMAT, format!("{} sizes for NDims {axes} (1 to 4)", sizes.len())));
    }
    if let Some(bad) = sizes.iter().find(|&&s| !(1.0..9e15).contains(&s) || s.fract() != 0.0) {
        return Err(Error::malformed(FORMAT, format!("a size is {bad}")));
    }
    let size = |n: usize| sizes.get(n).map_or(1, |&s| s as u64);
    let channels: u64 = get(&["ElementNumberOfChannels"])
        .map_or(Ok(1), str::parse)
        .map_err(|_| Error::malformed(FORMAT, "ElementNumberOfChannels is no number"))?;
    if channels > 1 && size(3) > 1 {
        return Err(Error::unsupported(FORMAT, "channels and a 4th axis together"));
    }
    let header = geometry(axes, &get)?;
    let big = yes(&["BinaryDataByteOrderMSB", "ElementByteOrderMSB"]);
    let kind = kind(required("ElementType")?)?;
    let frames = channels.max(1) * size(3);
    let mut layout = Layout::new(FORMAT, kind, big, [size(0), size(1), size(2)], frames, header.affine(), options)?;
    layout.interleaved = channels > 1;
    layout.frame(options.frame)?;
    let file = required("ElementDataFile")?;
    let mut sha256 = String::new();
    let (data, mut start) = if file.eq_ignore_ascii_case("LOCAL") {
        (bytes.clone(), end)
    } else if file.starts_with("LIST") || file.contains('%') {
        return Err(Error::unsupported(FORMAT, "voxels in a list of files"));
    } else {
        let real = side_file::resolve(FORMAT, path, file)?;
        if options.digest {
            sha256 = sha256_files(&[path, &real])?;
        }
        (side_file::open(FORMAT, path, file, &options.limits)?, 0)
    };
    let stored: &[u8] = (*data).as_ref();
    let skip = get(&["HeaderSize"])
        .map_or(Ok(0), str::parse::<i64>)
        .map_err(|_| Error::malformed(FORMAT, "HeaderSize is no number"))?;
    let compressed = yes(&["CompressedData"]);
    if skip == -1 && !compressed {
        start = stored
            .len()
            .checked_sub(layout.bytes() as usize)
            .ok_or_else(|| Error::malformed(FORMAT, "truncated: the data end too early"))?;
    } else {
        start = start.saturating_add(usize::try_from(skip).unwrap_or(0));
    }
    let region = stored.get(start..).unwrap_or(&[]);
    let volume = if get(&["BinaryData"]).is_some() && !yes(&["BinaryData"]) {
        number_text::voxels(region, &layout, options.frame)?
    } else if compressed {
        inflate(region, &layout, options)?
    } else {
        layout.share(&data, start, options.frame)?
    };
    let mut image = Image::from_volume(volume);
    image.frames = layout.frames;
    image.format = Some(FORMAT);
    image.header = Header::Meta(header);
    image.sha256 = sha256;
    image.sides_known = get(&["TransformMatrix", "Rotation", "Orientation", "AnatomicalOrientation"]).is_some();
    if layout.affine.shear() > 1e-3 {
        image.warnings.push("the axes are not at right angles".into());
    }
    Ok(image)
}

fn inflate(region: &[u8], layout: &Layout, options: &ReadOptions) -> Result<volseg_geometry::AnyVolume> {
    let Limits { max_inflated_bytes, .. } = options.limits;
    options.limits.inflated(FORMAT, layout.bytes(), region.len() as u64)?;
    let mut stream = ZlibDecoder::new(region).take(max_inflated_bytes);
    let volume = layout.read(&mut stream, options.frame)?;
    // To the end, where the check sum stands.
    std::io::copy(&mut stream, &mut std::io::sink()).map_err(|e| stream_error(FORMAT, e))?;
    Ok(volume)
}

fn fields(bytes: &[u8]) -> Result<(BTreeMap<String, String>, usize)> {
    let mut out = BTreeMap::new();
    let mut at = 0usize;
    loop {
        let rest = bytes.get(at..).unwrap_or(&[]);
        let length = rest.iter().take(MOST_HEADER_BYTES).position(|&b| b == b'\n').unwrap_or(rest.len());
        if rest.is_empty() || at > MOST_HEADER_BYTES || length >= MOST_HEADER_BYTES {
            return Err(Error::malformed(FORMAT, "the header does not name its data (ElementDataFile)"));
        }
        let line = String::from_utf8_lossy(&rest[..length]);
        at = (at + length + 1).min(bytes.len());
        let Some((key, value)) = line.split_once('=') else {
            if line.trim().is_empty() {
                continue;
            }
            return Err(Error::malformed(FORMAT, "a header line has no \"=\""));
        };
        let key = key.trim().to_ascii_lowercase();
        let last = key == "elementdatafile";
        out.insert(key, value.trim().to_owned());
        if last {
            return Ok((out, at));
        }
    }
}

fn geometry<'a>(axes: usize, get: &dyn Fn(&[&str]) -> Option<&'a str>) -> Result<MetaHeader> {
    let mut header =
        MetaHeader { spacing: [1.0; 3], matrix: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0], offset: [0.0; 3] };
    let list = |field: &'static str, text: &str, expected: usize| {
        let v = number_text::numbers(FORMAT, field, text)?;
        if v.len() == expected {
            Ok(v)
        } else {
            Err(Error::malformed(FORMAT, format!("{field} has {} numbers, expected {expected}", v.len())))
        }
    };
    if let Some(text) = get(&["ElementSpacing", "ElementSize"]) {
        for (slot, v) in header.spacing.iter_mut().zip(list("ElementSpacing", text, axes)?) {
            *slot = v;
        }
    }
    if let Some(text) = get(&["Offset", "Position", "Origin"]) {
        for (slot, v) in header.offset.iter_mut().zip(list("Offset", text, axes)?) {
            *slot = v;
        }
    }
    if let Some(text) = get(&["TransformMatrix", "Rotation", "Orientation"]) {
        let m = list("TransformMatrix", text, axes * axes)?;
        for a in 0..axes.min(3) {
            for r in 0..axes.min(3) {
                header.matrix[3 * a + r] = m[axes * a + r];
            }
        }
    }
    Ok(header)
}

const KINDS: [(&str, VoxelKind); 14] = [
    ("MET_UCHAR", VoxelKind::U8),
    ("MET_CHAR", VoxelKind::I8),
    ("MET_USHORT", VoxelKind::U16),
    ("MET_SHORT", VoxelKind::I16),
    ("MET_UINT", VoxelKind::U32),
    ("MET_INT", VoxelKind::I32),
    ("MET_ULONG_LONG", VoxelKind::U64),
    ("MET_LONG_LONG", VoxelKind::I64),
    ("MET_FLOAT", VoxelKind::F32),
    ("MET_DOUBLE", VoxelKind::F64),
    ("MET_ULONG", VoxelKind::U32),
    ("MET_LONG", VoxelKind::I32),
    ("MET_UCHAR_ARRAY", VoxelKind::U8),
    ("MET_FLOAT_ARRAY", VoxelKind::F32),
];

fn kind(text: &str) -> Result<VoxelKind> {
    KINDS
        .iter()
        .find(|(n, _)| *n == text)
        .map(|&(_, k)| k)
        .ok_or_else(|| Error::unsupported(FORMAT, format!("ElementType {text:?}")))
}

/// `.mha`, or `.mhd` with `.zraw` if `detached`.
pub(crate) fn write(path: &Path, content: &Content<'_>, detached: bool) -> Result<()> {
    let cannot = || Error::io("write", path);
    content.affine.check().map_err(|e| Error::CannotHold { format: FORMAT, what: e.to_string() })?;
    let header = match content.header {
        Header::Meta(old) if old.affine() == content.affine => old.clone(),
        _ => MetaHeader::of(&content.affine),
    };
    let four = content.frames > 1;
    let mut voxels = ZlibEncoder::new(Vec::new(), Compression::new(crate::output::GZIP_LEVEL));
    voxels.write_all(content.bytes).map_err(cannot())?;
    let voxels = voxels.finish().map_err(cannot())?;
    let [x, y, z] = content.dim;
    let name = KINDS.iter().find(|(_, k)| *k == content.kind).map_or("MET_UCHAR", |k| k.0);
    let matrix = if four {
        let m = header.matrix;
        format!(
            "{} 0 {} 0 {} 0 0 0 0 1",
            number_text::join(&m[..3]),
            number_text::join(&m[3..6]),
            number_text::join(&m[6..])
        )
    } else {
        number_text::join(&header.matrix)
    };
    let (extra, one, zero) = if four { (format!(" {}", content.frames), " 1", " 0") } else { (String::new(), "", "") };
    let data = path.with_extension("zraw");
    let file = if detached {
        data.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
    } else {
        "LOCAL".into()
    };
    let text = format!(
        "ObjectType = Image\nNDims = {}\nBinaryData = True\nBinaryDataByteOrderMSB = {}\nCompressedData = True\nCompressedDataSize = {}\n\
         TransformMatrix = {matrix}\nOffset = {}{zero}\nCenterOfRotation = 0 0 0{zero}\nElementSpacing = {}{one}\nDimSize = {x} {y} {z}{extra}\n\
         ElementType = {name}\nElementDataFile = {file}\n",
        if four { 4 } else { 3 },
        if cfg!(target_endian = "big") { "True" } else { "False" },
        voxels.len(),
        number_text::join(&header.offset),
        number_text::join(&header.spacing),
    );
    if detached {
        AtomicFile::write(&data, &voxels)?;
        return AtomicFile::write(path, text.as_bytes());
    }
    let mut file = AtomicFile::create(path)?;
    file.write_all(text.as_bytes()).and_then(|()| file.write_all(&voxels)).map_err(cannot())?;
    file.commit()
}
