//! Time and size of the deflate levels on the voxels of a file: `cargo run --release -p volseg-io --example gzip_levels FILE`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]
use flate2::{Compression, write::GzEncoder};
use std::{io::Write, path::Path, time::Instant};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("a file is needed")?;
    let began = Instant::now();
    let image = volseg_io::read(Path::new(&path), &volseg_io::ReadOptions::default())?;
    let bytes = image.volume.bytes();
    println!("{} bytes of voxels, read in {:?}", bytes.len(), began.elapsed());
    for level in 1..=6 {
        let began = Instant::now();
        let mut stream = GzEncoder::new(Vec::new(), Compression::new(level));
        stream.write_all(bytes)?;
        println!("level {level}: {} bytes, {:?}", stream.finish()?.len(), began.elapsed());
    }
    Ok(())
}
