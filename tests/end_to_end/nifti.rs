//! Small NIfTI-1 files for the tests, written byte by byte so that no reader of ours checks itself.
use std::{fs, path::Path};

/// Writes unsigned bytes on an RAS grid of 2 mm voxels, uncompressed.
pub(crate) fn write_u8(path: &Path, dim: [i16; 3], voxels: &[u8]) {
    assert_eq!(voxels.len(), dim.iter().map(|&d| d as usize).product::<usize>());
    let mut bytes = vec![0u8; 352];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &348i32.to_le_bytes());
    for (n, d) in [3, dim[0], dim[1], dim[2], 1, 1, 1, 1].into_iter().enumerate() {
        put(40 + 2 * n, &d.to_le_bytes());
    }
    put(70, &2i16.to_le_bytes()); // unsigned bytes
    put(72, &8i16.to_le_bytes());
    for n in 0..4 {
        put(76 + 4 * n, &(if n == 0 { 1f32 } else { 2.0 }).to_le_bytes());
    }
    put(108, &352f32.to_le_bytes()); // where voxels start
    put(112, &1f32.to_le_bytes()); // slope
    put(254, &1i16.to_le_bytes()); // sform code
    for row in 0..3 {
        put(280 + 16 * row + 4 * row, &2f32.to_le_bytes());
    }
    put(344, b"n+1\0");
    bytes.extend_from_slice(voxels);
    fs::write(path, bytes).unwrap();
}
