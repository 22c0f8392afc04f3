//! NIfTI-1 files written byte by byte, so that no reader of ours checks itself.

use std::{fs, path::Path};

/// What a file says; all of it may be wrong.
#[derive(Clone)]
pub(crate) struct File {
    pub(crate) dim: [i16; 3],
    pub(crate) affine: [[f32; 4]; 3],
    /// Of the three axes; `None`: the norms of the affine's columns.
    pub(crate) pixdim: Option<[f32; 3]>,
    pub(crate) slope: f32,
    pub(crate) units: u8,
    pub(crate) big_endian: bool,
}

/// Voxels of one of the types that label maps come in.
pub(crate) enum Voxels<'a> {
    U8(&'a [u8]),
    I16(&'a [i16]),
    I32(&'a [i32]),
    F32(&'a [f32]),
}

impl File {
    /// An RAS grid of `spacing`.
    pub(crate) fn new(dim: [i16; 3], [x, y, z]: [f32; 3]) -> Self {
        let affine = [[x, 0.0, 0.0, 0.0], [0.0, y, 0.0, 0.0], [0.0, 0.0, z, 0.0]];
        Self { dim, affine, pixdim: None, slope: 1.0, units: 2, big_endian: false }
    }

    pub(crate) fn bytes(&self, voxels: &Voxels<'_>) -> Vec<u8> {
        let mut out = vec![0u8; 352];
        let mut put = |at: usize, value: &[u8]| {
            let mut value = value.to_vec();
            if self.big_endian {
                value.reverse();
            }
            out[at..at + value.len()].copy_from_slice(&value);
        };
        put(0, &348i32.to_le_bytes());
        for (n, d) in [3, self.dim[0], self.dim[1], self.dim[2], 1, 1, 1, 1].into_iter().enumerate() {
            put(40 + 2 * n, &d.to_le_bytes());
        }
        let (code, bits) = match voxels {
            Voxels::U8(_) => (2i16, 8i16),
            Voxels::I16(_) => (4, 16),
            Voxels::I32(_) => (8, 32),
            Voxels::F32(_) => (16, 32),
        };
        put(70, &code.to_le_bytes());
        put(72, &bits.to_le_bytes());
        let norm = |a: usize| self.affine.iter().map(|row| row[a] * row[a]).sum::<f32>().sqrt();
        let pixdim = self.pixdim.unwrap_or([norm(0), norm(1), norm(2)]);
        put(76, &1f32.to_le_bytes());
        for (a, length) in pixdim.iter().enumerate() {
            put(80 + 4 * a, &length.to_le_bytes());
        }
        put(108, &352f32.to_le_bytes());
        put(112, &self.slope.to_le_bytes());
        put(254, &1i16.to_le_bytes());
        for (r, row) in self.affine.iter().enumerate() {
            for (c, v) in row.iter().enumerate() {
                put(280 + 16 * r + 4 * c, &v.to_le_bytes());
            }
        }
        out[123] = self.units;
        out[344..348].copy_from_slice(b"n+1\0");
        let mut all = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            if self.big_endian {
                bytes.reverse();
            }
            out.extend(bytes);
        };
        match voxels {
            Voxels::U8(v) => v.iter().for_each(|x| all(&[*x])),
            Voxels::I16(v) => v.iter().for_each(|x| all(&x.to_le_bytes())),
            Voxels::I32(v) => v.iter().for_each(|x| all(&x.to_le_bytes())),
            Voxels::F32(v) => v.iter().for_each(|x| all(&x.to_le_bytes())),
        }
        out
    }

    pub(crate) fn write(&self, path: &Path, voxels: &Voxels<'_>) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, self.bytes(voxels)).unwrap();
    }
}

/// Unsigned bytes on a grid of `spacing`.
pub(crate) fn write(path: &Path, dim: [i16; 3], spacing: [f32; 3], voxels: &[u8]) {
    File::new(dim, spacing).write(path, &Voxels::U8(voxels));
}

/// Boxes of labels, half-open: `(id, low, high)`; later ones lie above earlier ones.
pub(crate) fn boxes(dim: [i16; 3], boxes: &[(u8, [i16; 3], [i16; 3])]) -> Vec<u8> {
    let mut out = Vec::new();
    for z in 0..dim[2] {
        for y in 0..dim[1] {
            for x in 0..dim[0] {
                let p = [x, y, z];
                let inside = |low: &[i16; 3], high: &[i16; 3]| (0..3).all(|a| (low[a]..high[a]).contains(&p[a]));
                out.push(boxes.iter().rev().find(|(_, low, high)| inside(low, high)).map_or(0, |b| b.0));
            }
        }
    }
    out
}
