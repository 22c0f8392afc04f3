//! Times of reading and writing, for `scripts/peers/io_peers.py`: `time_io FILE [LABELS_OUT]` reads a file, folder or zip three times
//! and, if asked, writes a label map on its grid three times. One JSON line: least seconds, and the peak memory of the process.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;
use std::time::Instant;
use volseg_geometry::{LabelMap, Volume};
use volseg_io::ReadOptions;

fn least(mut f: impl FnMut()) -> f64 {
    let once = |()| {
        let start = Instant::now();
        f();
        start.elapsed().as_secs_f64()
    };
    [(); 3].map(once).into_iter().fold(f64::INFINITY, f64::min)
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let path = Path::new(&args[1]);
    let read = || volseg_io::read(path, &ReadOptions::default()).unwrap();
    let read_s = least(|| drop(std::hint::black_box(read())));
    let peak = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kib =
            status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.unwrap_or(0) >> 10
    };
    let read_peak = peak();
    let image = read();
    let dim = image.volume.dim();
    let write_s = args.get(2).map(|out| {
        let voxels: usize = dim.iter().product();
        // Soft tissue: large smooth regions with ragged edges.
        let labels = (0..voxels).map(|n| {
            let hu = image.volume.value(n) * image.slope + image.intercept;
            u8::from(hu > 0.0) + u8::from(hu > 60.0) + u8::from(hu > 120.0)
        });
        let labels: LabelMap = Volume::from_vec(labels.collect(), dim, *image.volume.affine()).unwrap();
        least(|| volseg_io::write_labels(Path::new(out), &labels, &image, &[]).unwrap())
    });
    println!(
        "{{\"dim\": {dim:?}, \"kind\": \"{:?}\", \"read_s\": {read_s:.3}, \"read_peak_mib\": {read_peak}, \"write_s\": {}, \"peak_mib\": {}}}",
        image.volume.kind(),
        write_s.map_or("null".into(), |s| format!("{s:.3}")),
        peak()
    );
}
