use super::{FORMAT, NiftiHeader, header, names};
use crate::{
    AtomicFile, Error, Header, Result,
    output::{Content, GZIP_LEVEL},
};
use flate2::{Compression, GzBuilder};
use std::{io::Write, path::Path};
use volseg_geometry::Affine;

/// An affine in 32-bit numbers may move a corner by this much before 64-bit numbers (NIfTI-2) are taken.
const MOST_SHIFT_MM: f64 = 5e-5;

/// `.nii`, or `.nii.gz` if `gzip`.
pub(crate) fn write(path: &Path, content: &Content<'_>, gzip: bool) -> Result<()> {
    let cannot = || Error::io("write", path);
    let header = header_bytes(content, true)?;
    let mut file = AtomicFile::create(path)?;
    if gzip {
        // No name and no time in the stream: equal images make equal files.
        let mut stream = GzBuilder::new().write(&mut file, Compression::new(GZIP_LEVEL));
        stream.write_all(&header).and_then(|()| stream.write_all(content.bytes)).map_err(cannot())?;
        stream.finish().map_err(cannot())?;
    } else {
        file.write_all(&header).and_then(|()| file.write_all(content.bytes)).map_err(cannot())?;
    }
    file.commit()
}

/// `.hdr` and `.img`.
pub(crate) fn write_pair(path: &Path, content: &Content<'_>) -> Result<()> {
    let header = header_bytes(content, false)?;
    AtomicFile::write(&path.with_extension("img"), content.bytes)?;
    AtomicFile::write(&path.with_extension("hdr"), &header)
}

fn header_bytes(content: &Content<'_>, single: bool) -> Result<Vec<u8>> {
    let g = geometry(content)?;
    let two = g.version == 2;
    let size = if two { header::LONGEST } else { header::SHORTEST };
    let extension = if single && !content.names.is_empty() { names::write(content.names) } else { Vec::new() };
    let offset = if single { size + 4 + extension.len() } else { 0 };
    let mut bytes = vec![0u8; if single { size + 4 } else { size }];
    let mut put = |at: usize, value: &[u8]| {
        if let Some(slot) = bytes.get_mut(at..at + value.len()) {
            slot.copy_from_slice(value);
        }
    };
    let dim = content.dim.map(|d| d as i64);
    let axes = if content.frames > 1 { 4 } else { 3 };
    let dims = [axes, dim[0], dim[1], dim[2], content.frames as i64, 1, 1, 1];
    let bits = (content.kind.bytes() * 8) as i16;
    put(0, &(size as i32).to_le_bytes());
    let slope =
        if content.slope == 1.0 && content.intercept == 0.0 { (1.0, 0.0) } else { (content.slope, content.intercept) };
    let reals = |put: &mut dyn FnMut(usize, &[u8]), one: usize, second: usize, values: &[f64]| {
        for (n, v) in values.iter().enumerate() {
            if two { put(second + 8 * n, &v.to_le_bytes()) } else { put(one + 4 * n, &(*v as f32).to_le_bytes()) }
        }
    };
    reals(&mut put, 76, 104, &g.pixdim);
    reals(&mut put, 112, 176, &[slope.0, slope.1]);
    reals(&mut put, 256, 352, &g.quatern);
    reals(&mut put, 268, 376, &g.qoffset);
    for (n, row) in g.srow.iter().enumerate() {
        reals(&mut put, 280 + 16 * n, 400 + 32 * n, row);
    }
    if two {
        put(4, if single { b"n+2\0\r\n\x1a\n" } else { b"ni2\0\r\n\x1a\n" });
        put(12, &header::code(content.kind).to_le_bytes());
        put(14, &bits.to_le_bytes());
        for (n, d) in dims.iter().enumerate() {
            put(16 + 8 * n, &d.to_le_bytes());
        }
        put(168, &(offset as i64).to_le_bytes());
        put(240, b"volseg");
        put(344, &i32::from(g.qform_code).to_le_bytes());
        put(348, &i32::from(g.sform_code).to_le_bytes());
        put(500, &i32::from(g.xyzt_units).to_le_bytes());
    } else {
        put(38, b"r");
        for (n, d) in dims.iter().enumerate() {
            put(40 + 2 * n, &(*d as i16).to_le_bytes());
        }
        put(70, &header::code(content.kind).to_le_bytes());
        put(72, &bits.to_le_bytes());
        put(108, &(offset as f32).to_le_bytes());
        put(123, &[g.xyzt_units]);
        put(148, b"volseg");
        put(252, &g.qform_code.to_le_bytes());
        put(254, &g.sform_code.to_le_bytes());
        put(344, if single { b"n+1\0" } else { b"ni1\0" });
    }
    if !extension.is_empty() {
        put(size, &[1]);
        bytes.extend_from_slice(&extension);
    }
    Ok(bytes)
}

/// The geometry to write: that of the file the image came from if it still holds, else a new one.
fn geometry(content: &Content<'_>) -> Result<NiftiHeader> {
    let dim = content.dim.map(|d| d as u64);
    let long = dim.iter().chain([&(content.frames as u64)]).any(|&d| d > 32767);
    if let Header::Nifti(old) = content.header
        && old.affine().0 == content.affine
        && old.dim == dim
        && (old.version == 2 || !long)
    {
        let mut kept = (**old).clone();
        kept.xyzt_units = if kept.xyzt_units & 7 == 0 { 2 } else { kept.xyzt_units & 7 };
        return Ok(kept);
    }
    let narrow = Affine { rows: content.affine.rows.map(|r| r.map(|v| f64::from(v as f32))) };
    let fits = narrow.largest_corner_shift_mm(&content.affine, content.dim) <= MOST_SHIFT_MM;
    let slope_fits = [content.slope, content.intercept].iter().all(|&v| f64::from(v as f32) == v);
    let (quatern, sign) = quaternion(&content.affine);
    let s = content.affine.spacing_mm();
    content.affine.check().map_err(|e| Error::CannotHold { format: FORMAT, what: e.to_string() })?;
    Ok(NiftiHeader {
        version: if long || !fits || !slope_fits { 2 } else { 1 },
        dim,
        pixdim: [sign, s[0], s[1], s[2], 1.0, 1.0, 1.0, 1.0],
        xyzt_units: 2,
        // A sheared grid is no turn; readers then take the sform alone.
        qform_code: i16::from(content.affine.shear() < 1e-5),
        sform_code: 1,
        quatern,
        qoffset: content.affine.origin(),
        srow: content.affine.rows,
    })
}

/// The turn of the axes as a quaternion (b, c, d with a >= 0) and the sign of the third axis.
fn quaternion(affine: &Affine) -> ([f64; 3], f64) {
    let s = affine.spacing_mm();
    let sign = if affine.determinant() < 0.0 { -1.0 } else { 1.0 };
    let m = |r: usize, c: usize| affine.rows[r][c] / s[c] * if c == 2 { sign } else { 1.0 };
    // The largest of the four squares, for the least rounding.
    let square = [
        1.0 + m(0, 0) + m(1, 1) + m(2, 2),
        1.0 + m(0, 0) - m(1, 1) - m(2, 2),
        1.0 - m(0, 0) + m(1, 1) - m(2, 2),
        1.0 - m(0, 0) - m(1, 1) + m(2, 2),
    ];
    let largest = (0..4).fold(0, |best, n| if square[n] > square[best] + 1e-12 { n } else { best });
    let [x, y, z] = [m(2, 1) - m(1, 2), m(0, 2) - m(2, 0), m(1, 0) - m(0, 1)];
    let [xy, xz, yz] = [m(0, 1) + m(1, 0), m(0, 2) + m(2, 0), m(1, 2) + m(2, 1)];
    let twice = square[largest].max(1e-30).sqrt();
    let part = |v: f64| v / (2.0 * twice);
    let own = twice / 2.0;
    let (a, q) = match largest {
        0 => (own, [part(x), part(y), part(z)]),
        1 => (part(x), [own, part(xy), part(xz)]),
        2 => (part(y), [part(xy), own, part(yz)]),
        _ => (part(z), [part(xz), part(yz), own]),
    };
    (if a < 0.0 { q.map(|v| -v) } else { q }, sign)
}
