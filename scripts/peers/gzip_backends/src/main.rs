//! Time to decompress a `.nii.gz` file by each decoder: CPU and wall seconds, the least of seven runs.
//!
//! `cargo run --release --manifest-path scripts/peers/gzip_backends/Cargo.toml -- FILE.nii.gz`

use std::time::Instant;

/// Start and end of the deflate stream of a one-member gzip file.
fn stream(bytes: &[u8]) -> &[u8] {
    assert_eq!(bytes[..3], [0x1f, 0x8b, 8]);
    let flags = bytes[3];
    let mut at = 10;
    if flags & 4 != 0 {
        at += 2 + usize::from(bytes[at]) + 256 * usize::from(bytes[at + 1]);
    }
    for flag in [8, 16] {
        if flags & flag != 0 {
            at += 1 + bytes[at..].iter().position(|&b| b == 0).unwrap();
        }
    }
    &bytes[at..bytes.len() - 8]
}

fn main() {
    let path = std::env::args().nth(1).expect("a .nii.gz file");
    let bytes = std::fs::read(&path).unwrap();
    let size = u32::from_le_bytes(bytes[bytes.len() - 4..].try_into().unwrap()) as usize;
    println!("{} bytes, {size} when decompressed", bytes.len());
    let mut out = vec![0u8; size];
    let deflated = stream(&bytes);
    let mut time = |name: &str, run: &mut dyn FnMut(&mut [u8])| {
        let mut best = f64::INFINITY;
        for _ in 0..7 {
            let start = Instant::now();
            run(&mut out);
            best = best.min(start.elapsed().as_secs_f64());
        }
        println!("| {name} | {:.3} s | {:.0} MB/s |", best, size as f64 / best / 1e6);
    };
    time("zlib-rs 0.6 (Rust)", &mut |out| {
        let config = zlib_rs::InflateConfig { window_bits: -15 };
        let (done, code) = zlib_rs::decompress_slice(out, deflated, config);
        assert_eq!((done.len(), code), (size, zlib_rs::ReturnCode::Ok));
    });
    time("miniz_oxide 0.8 (Rust)", &mut |out| {
        let flags = miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let mut state = Box::<miniz_oxide::inflate::core::DecompressorOxide>::default();
        let (_, _, n) = miniz_oxide::inflate::core::decompress(&mut state, deflated, out, 0, flags);
        assert_eq!(n, size);
    });
    time("libdeflate (C, measured only)", &mut |out| {
        assert_eq!(libdeflater::Decompressor::new().deflate_decompress(deflated, out), Ok(size));
    });
}
