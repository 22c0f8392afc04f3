//! NIfTI files, byte by byte.

use crate::{Case, error, image};
use flate2::{Compression, write::GzEncoder};
use std::io::Write;

/// A header with changes at byte places, and voxels: 2 x 2 x 2 of 16 bits where nothing else is said.
fn with(changes: &[(usize, &[u8])], voxels: usize) -> Vec<u8> {
    let mut b = vec![0u8; 352];
    let mut put = |at: usize, v: &[u8]| b[at..at + v.len()].copy_from_slice(v);
    put(0, &348i32.to_le_bytes());
    for (n, d) in [3i16, 2, 2, 2, 1, 1, 1, 1].into_iter().enumerate() {
        put(40 + 2 * n, &d.to_le_bytes());
    }
    put(70, &4i16.to_le_bytes());
    put(72, &16i16.to_le_bytes());
    for n in 0..4 {
        put(76 + 4 * n, &1f32.to_le_bytes());
    }
    put(108, &352f32.to_le_bytes());
    put(254, &1i16.to_le_bytes());
    for row in 0..3 {
        put(280 + 20 * row, &1f32.to_le_bytes());
    }
    put(344, b"n+1\0");
    for (at, v) in changes {
        put(*at, v);
    }
    b.extend((0..voxels).map(|v| v as u8));
    b
}

pub(crate) fn good() -> Vec<u8> {
    with(&[], 16)
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut e = GzEncoder::new(Vec::new(), Compression::default());
    e.write_all(bytes).unwrap();
    e.finish().unwrap()
}

pub(crate) fn cases() -> Vec<Case> {
    let f = |v: f32| v.to_le_bytes();
    let h = |v: i16| v.to_le_bytes();
    let dims = |d: [i16; 8]| d.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let mut damaged = gzip(&with(&[], 16));
    let crc = damaged.len() - 6;
    damaged[crc] ^= 1;
    let mut cut = gzip(&with(&[], 16));
    cut.truncate(cut.len() - 12);
    let members = {
        let whole = good();
        let mut both = gzip(&whole[..355]);
        both.extend(gzip(&whole[355..]));
        both
    };
    let mut trailing = gzip(&good());
    trailing.extend_from_slice(b"junk");
    let bomb = gzip(&{
        let mut b = good();
        b.resize(40 << 20, 0);
        b
    });
    let big = {
        let mut b = good();
        b[0..4].copy_from_slice(&348i32.to_be_bytes());
        for at in (40..56).step_by(2).chain([70, 72, 254]) {
            b[at..at + 2].reverse();
        }
        for at in (76..92).step_by(4).chain([108]).chain((280..328).step_by(4)) {
            b[at..at + 4].reverse();
        }
        b
    };
    let extension = |size: i32| {
        let mut b = with(&[(348, &[1, 0, 0, 0]), (108, &f(384.0))], 0);
        b.extend(size.to_le_bytes());
        b.resize(384 + 16, 0);
        b
    };
    vec![
        image("good.nii", good(), ""),
        error("empty.nii", Vec::new(), "malformed", "empty"),
        error("short.nii", good()[..347].to_vec(), "malformed", "truncated: header of 347 bytes"),
        error("text.nii", b"hello world, this is no header".to_vec(), "malformed", "no header"),
        error(
            "huge_dims.nii",
            with(&[(40, &dims([7, 32767, 32767, 32767, 32767, 32767, 32767, 32767]))], 16),
            "limit",
            "voxels",
        ),
        error(
            "huge_dims.nii.gz",
            gzip(&with(&[(40, &dims([3, 32767, 32767, 32767, 1, 1, 1, 1]))], 16)),
            "limit",
            "voxels",
        ),
        error(
            "more_than_there_is.nii",
            with(&[(40, &dims([3, 100, 100, 100, 1, 1, 1, 1]))], 16),
            "malformed",
            "truncated",
        ),
        error(
            "more_than_there_can_be.nii.gz",
            gzip(&with(&[(40, &dims([3, 100, 100, 100, 1, 1, 1, 1]))], 16)),
            "malformed",
            "truncated",
        ),
        error("dim0_0.nii", with(&[(40, &h(0))], 16), "malformed", "dim[0] is 0"),
        error("dim0_8.nii", with(&[(40, &h(8))], 16), "malformed", "dim[0] is 8"),
        error("negative_dim.nii", with(&[(42, &h(-2))], 16), "malformed", "dim[1] is -2"),
        error("zero_dim.nii", with(&[(44, &h(0))], 16), "malformed", "dim[2] is 0"),
        image("negative_pixdim.nii", with(&[(80, &f(-1.0))], 16), "pixdim"),
        error("nan_affine.nii", with(&[(280, &f(f32::NAN))], 16), "malformed", "NaN"),
        error("inf_affine.nii", with(&[(292, &f(f32::INFINITY))], 16), "malformed", "inf"),
        error("flat_affine.nii", with(&[(300, &f(0.0))], 16), "malformed", "spacing of axis 1 is 0"),
        image("mirrored.nii", with(&[(280, &f(-1.0))], 16), ""),
        image("two_forms.nii", with(&[(252, &h(1)), (268, &f(50.0))], 16), "sform and qform differ"),
        image("no_form.nii", with(&[(254, &h(0))], 16), "no orientation"),
        error("offset_inf.nii", with(&[(108, &f(f32::INFINITY))], 16), "malformed", "vox_offset is inf"),
        error("offset_1e30.nii", with(&[(108, &f(1e30))], 16), "malformed", "vox_offset"),
        error("offset_negative.nii", with(&[(108, &f(-5.0))], 16), "malformed", "vox_offset is -5"),
        error("offset_nan.nii", with(&[(108, &f(f32::NAN))], 16), "malformed", "vox_offset is NaN"),
        error("offset_far.nii", with(&[(108, &f(1e9))], 16), "malformed", "truncated"),
        image("padded.nii", with(&[(108, &f(368.0))], 32), ""),
        image("slope_0.nii", with(&[(112, &f(0.0)), (116, &f(7.0))], 16), ""),
        image("slope_nan.nii", with(&[(112, &f(f32::NAN))], 16), ""),
        error("intercept_nan.nii", with(&[(112, &f(2.0)), (116, &f(f32::NAN))], 16), "malformed", "scl_inter is NaN"),
        image("swapped.nii", big, ""),
        error("rgb.nii", with(&[(70, &h(128))], 24), "unsupported", "colours"),
        error("complex.nii", with(&[(70, &h(32))], 64), "unsupported", "complex"),
        error("float128.nii", with(&[(70, &h(1536))], 128), "unsupported", "128-bit"),
        error("bits.nii", with(&[(70, &h(1))], 16), "unsupported", "one bit"),
        error("datatype_77.nii", with(&[(70, &h(77))], 16), "malformed", "datatype is 77"),
        error("analyze.hdr", with(&[(344, b"\0\0\0\0")], 16), "unsupported", "Analyze"),
        error("lonely.hdr", with(&[(344, b"ni1\0")], 0), "io", "cannot read"),
        error("four_d.nii", with(&[(40, &dims([4, 2, 2, 2, 3, 1, 1, 1]))], 48), "unsupported", "3 volumes"),
        image("trailing.nii", with(&[], 20), "4 bytes after the voxels"),
        image("trailing.nii.gz", trailing, "bytes after the voxels"),
        image("members.nii.gz", members, ""),
        error("checksum.nii.gz", damaged, "malformed", "damaged"),
        error("cut.nii.gz", cut, "malformed", "truncated"),
        error("bomb.nii.gz", bomb, "limit", "after decompression"),
        error("not_gzip.nii.gz", vec![0x1f, 0x8b, 8, 0, 0], "malformed", ""),
        error("extension_huge.nii", extension(2_000_000_000), "malformed", "header extension of 2000000000"),
        error("extension_negative.nii", extension(-16), "malformed", "header extension of -16"),
    ]
}
