use super::{FORMAT, segments};
use crate::{
    AtomicFile, Error, Result, number_text,
    output::{Content, GZIP_LEVEL},
};
use flate2::{Compression, GzBuilder};
use std::{fmt::Write as _, io::Write, path::Path};
use volseg_geometry::VoxelKind;

/// Which kind of NRRD.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Form {
    Plain,
    Segmentation,
    /// Header (`.nhdr`) and gzip data (`.raw.gz`) apart.
    Detached,
}

pub(crate) fn write(path: &Path, content: &Content<'_>, form: Form) -> Result<()> {
    let cannot = || Error::io("write", path);
    let mut header = header(content, "gzip")?;
    if form == Form::Segmentation {
        header += &segment_lines(content)?;
    }
    let gzip = |file: &mut AtomicFile| {
        let mut stream = GzBuilder::new().write(file, Compression::new(GZIP_LEVEL));
        stream.write_all(content.bytes).and_then(|()| stream.finish().map(|_| ())).map_err(cannot())
    };
    if form == Form::Detached {
        let data = path.with_extension("raw.gz");
        let name = data.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let mut file = AtomicFile::create(&data)?;
        gzip(&mut file)?;
        file.commit()?;
        return AtomicFile::write(path, format!("{header}data file: {name}\n").as_bytes());
    }
    let mut file = AtomicFile::create(path)?;
    file.write_all(header.as_bytes()).and_then(|()| file.write_all(b"\n")).map_err(cannot())?;
    gzip(&mut file)?;
    file.commit()
}

/// The whole file in memory, voxels uncompressed.
pub(crate) fn raw(content: &Content<'_>) -> Result<Vec<u8>> {
    let header = header(content, "raw")?;
    let mut out = Vec::with_capacity(header.len() + 1 + content.bytes.len());
    out.extend_from_slice(header.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(content.bytes);
    Ok(out)
}

fn header(content: &Content<'_>, encoding: &str) -> Result<String> {
    content.affine.check().map_err(|e| Error::CannotHold { format: FORMAT, what: e.to_string() })?;
    let [x, y, z] = content.dim;
    let lps = |v: [f64; 3]| format!("({})", number_text::join(&[0.0 - v[0], 0.0 - v[1], v[2]]).replace(' ', ","));
    let directions = [0, 1, 2].map(|a| lps(content.affine.column(a))).join(" ");
    let several = content.frames > 1;
    let mut out = format!(
        "NRRD0005\ntype: {}\ndimension: {}\nspace: left-posterior-superior\n",
        name(content.kind),
        if several { 4 } else { 3 }
    );
    let (size, none, list) =
        if several { (format!(" {}", content.frames), " none", " list") } else { (String::new(), "", "") };
    let _ = write!(
        out,
        "sizes: {x} {y} {z}{size}\nspace directions: {directions}{none}\nkinds: domain domain domain{list}\n"
    );
    if content.kind.bytes() > 1 {
        let _ = writeln!(out, "endian: {}", if cfg!(target_endian = "big") { "big" } else { "little" });
    }
    let _ = write!(out, "encoding: {encoding}\nspace origin: {}\n", lps(content.affine.origin()));
    Ok(out)
}

fn segment_lines(content: &Content<'_>) -> Result<String> {
    let labels: Vec<u32> = match content.kind {
        _ if content.frames > 1 => {
            return Err(Error::CannotHold { format: ".seg.nrrd", what: "several volumes".into() });
        }
        VoxelKind::U8 => content.bytes.iter().map(|&v| u32::from(v)).collect(),
        VoxelKind::U16 => content.bytes.chunks_exact(2).map(|b| u32::from(u16::from_ne_bytes([b[0], b[1]]))).collect(),
        other => return Err(Error::CannotHold { format: ".seg.nrrd", what: format!("{} voxels", other.name()) }),
    };
    let extents = segments::extents(&labels, content.dim);
    let present: Vec<u32> = extents.keys().copied().collect();
    if present.len() > 1000 {
        return Err(Error::CannotHold {
            format: ".seg.nrrd",
            what: format!("{} different values: this is no label map (use .nrrd)", present.len()),
        });
    }
    Ok(segments::lines(content.organs, content.names, &|v| extents.get(&v).copied(), &present))
}

fn name(kind: VoxelKind) -> &'static str {
    match kind {
        VoxelKind::U8 => "uint8",
        VoxelKind::I8 => "int8",
        VoxelKind::U16 => "uint16",
        VoxelKind::I16 => "int16",
        VoxelKind::U32 => "uint32",
        VoxelKind::I32 => "int32",
        VoxelKind::U64 => "uint64",
        VoxelKind::I64 => "int64",
        VoxelKind::F32 => "float",
        VoxelKind::F64 => "double",
    }
}
