//! Cost of Dice + NSD@2 + HD95 on a pair of 512 x 512 x 150 label maps from uncompressed memory.
//!
//! ```text
//! cargo bench --workspace --bench metrics                  the pair of a CT phantom, 15 organs, 8 bits, two threads
//! ... -- [labels=117] [bits=16] [threads=1] [scale=0.5]          another setting (ellipsoids where labels is not 15)
//! ... -- growth                                                  a table over labels, voxels, threads
//! ... -- dump=DIR [labels=117] [bits=16]                         writes gt.nii and pred.nii for scripts/peers/metrics_peers.py
//! ```
//!
//! One setting a process, so that the peak memory is that of the setting.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{path::Path, process::Command, time::Instant};
use volseg_geometry::{Affine, AnyVolume, Volume};
use volseg_io::Image;
use volseg_metrics::{Labels, Selection, Settings, evaluate};
use volseg_phantom::{CtOptions, ct_abdomen};

const SPACING: [f64; 3] = [0.75, 0.75, 3.0];
const DIM: [usize; 3] = [512, 512, 150];
const RUNS: usize = 7;

/// Organs of a CT phantom, ids 1 to 15, on the grid of a CT.
fn organs(dim: [usize; 3]) -> Vec<u8> {
    let scale = DIM[0] as f64 / dim[0] as f64;
    let spacing = SPACING.map(|s| s * scale);
    let options = CtOptions { dim: Some(dim), spacing_mm: Some(spacing), oversample: Some(1), ..CtOptions::default() };
    ct_abdomen(7, &options).unwrap().labels.voxels().to_vec()
}

/// `n` organ-like solids: ellipsoids with bumps on a jittered grid, a few large ones and many small ones.
fn solids(n: usize, dim: [usize; 3]) -> Vec<u8> {
    const SIZES: [f64; 15] = [0.22, 0.12, 0.12, 0.05, 0.04, 0.17, 0.15, 0.05, 0.05, 0.08, 0.03, 0.03, 0.07, 0.10, 0.06];
    let mut voxels = vec![0u8; dim.iter().product()];
    let columns = (n as f64).sqrt().ceil() as usize;
    for id in 0..n {
        let size = SIZES[id % 15] * (15.0 / n as f64).sqrt().min(1.0);
        let cell = columns as f64 + 0.6;
        let at = [((id % columns) as f64 + 0.8) / cell, ((id / columns) as f64 + 0.8) / cell];
        let height = 0.5 + 0.2 * ((id * 7 % 11) as f64 / 11.0 - 0.5);
        let c: [f64; 3] = std::array::from_fn(|a| [at[0], at[1], height][a] * dim[a] as f64);
        let r = [size * dim[0] as f64, size * 0.8 * dim[1] as f64, (size * 2.0).min(0.45) * dim[2] as f64];
        let span = |a: usize| (c[a] - 1.3 * r[a]).max(0.0) as usize..((c[a] + 1.3 * r[a]) as usize + 1).min(dim[a]);
        for z in span(2) {
            for y in span(1) {
                for x in span(0) {
                    let p: [f64; 3] = std::array::from_fn(|a| ([x, y, z][a] as f64 - c[a]) / r[a]);
                    let bump = 0.12 * (5.0 * p[0]).sin() * (4.0 * p[1] + p[2]).cos();
                    if p.iter().map(|v| v * v).sum::<f64>() < 1.0 + bump {
                        voxels[x + dim[0] * (y + dim[1] * z)] = id as u8 + 1;
                    }
                }
            }
        }
    }
    voxels
}

/// A fair prediction: the truth bent by smooth waves of a few voxels.
fn bent(truth: &[u8], dim: [usize; 3]) -> Vec<u8> {
    let wave = |a: f64, b: f64| (2.2 * (a / 23.0).sin() + 1.6 * (b / 31.0 + 1.0).cos()).round() as isize;
    let mut out = Vec::with_capacity(truth.len());
    for z in 0..dim[2] {
        for y in 0..dim[1] {
            for x in 0..dim[0] {
                let [u, v, w] = [x, y, z].map(|c| c as f64);
                let shift = [wave(v, w * 3.0), wave(u, w * 3.0), wave(u, v) / 2];
                let from: [usize; 3] =
                    std::array::from_fn(|a| [x, y, z][a].saturating_add_signed(shift[a]).min(dim[a] - 1));
                out.push(truth[from[0] + dim[0] * (from[1] + dim[1] * from[2])]);
            }
        }
    }
    out
}

fn volume(voxels: Vec<u8>, dim: [usize; 3], bits: usize) -> AnyVolume {
    let affine = Affine::from_spacing_mm(SPACING.map(|s| s * DIM[0] as f64 / dim[0] as f64));
    if bits == 16 {
        let mut wide = Vec::with_capacity(voxels.len());
        wide.extend(voxels.iter().map(|&v| u16::from(v)));
        return Volume::from_vec(wide, dim, affine).unwrap().into();
    }
    Volume::from_vec(voxels, dim, affine).unwrap().into()
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> =
        stat.rsplit(')').next().unwrap_or("").split_whitespace().map(|f| f.parse().unwrap_or(0.0)).collect();
    fields.get(11..13).map_or(0.0, |t| (t[0] + t[1]) / 100.0)
}

fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap_or("");
    line.split_whitespace().nth(1).and_then(|v| v.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
}

/// A table of one row a setting, each in a process of its own.
fn growth() {
    println!(
        "| labels | voxels | bits | threads | wall | CPU | peak memory |\n| --- | --- | --- | --- | --- | --- | --- |"
    );
    for setting in [
        ["labels=15", "bits=8", "threads=1", "scale=1"],
        ["labels=15", "bits=8", "threads=2", "scale=1"],
        ["labels=15", "bits=16", "threads=2", "scale=1"],
        ["labels=15", "bits=8", "threads=1", "scale=0.5"],
        ["labels=15", "bits=8", "threads=1", "scale=0.25"],
        ["labels=1", "bits=8", "threads=1", "scale=1"],
        ["labels=30", "bits=8", "threads=1", "scale=1"],
        ["labels=60", "bits=8", "threads=1", "scale=1"],
        ["labels=117", "bits=8", "threads=1", "scale=1"],
        ["labels=117", "bits=8", "threads=2", "scale=1"],
        ["labels=117", "bits=16", "threads=2", "scale=1"],
    ] {
        let done = Command::new(std::env::current_exe().unwrap()).args(setting).output().unwrap();
        print!("{}", String::from_utf8_lossy(&done.stdout));
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|a| a == "growth") {
        return growth();
    }
    let option = |name: &str| arguments.iter().find_map(|a| a.strip_prefix(name)?.strip_prefix('='));
    let number = |name: &str, default: f64| option(name).and_then(|v| v.parse().ok()).unwrap_or(default);
    let (n, bits) = (number("labels", 15.0) as usize, number("bits", 8.0) as usize);
    let (threads, scale) = (number("threads", 2.0) as usize, number("scale", 1.0));
    let dim = DIM.map(|v| (v as f64 * scale) as usize);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().unwrap();
    let truth = if n == 15 { organs(dim) } else { solids(n, dim) };
    let guess = bent(&truth, dim);
    let pair = [("gt", truth), ("pred", guess)].map(|(name, voxels)| (name, volume(voxels, dim, bits)));
    if let Some(folder) = option("dump") {
        for (name, volume) in pair {
            volseg_io::write(&Path::new(folder).join(format!("{name}.nii")), &Image::from_volume(volume)).unwrap();
        }
        return;
    }
    let [gt, pred] = pair.map(|(name, volume)| Labels::new(volume, 1.0, 0.0, name).unwrap());
    // Making the pair takes more memory than scoring it; what counts is the peak from here on.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let settings = Settings { tolerances: vec![2.0], ..Settings::default() };
    let mut best = (f64::INFINITY, f64::INFINITY);
    for _ in 0..RUNS {
        let (start, cpu) = (Instant::now(), cpu_seconds());
        let case = evaluate(&gt, &pred, &Selection::default(), &settings).unwrap();
        best = (best.0.min(start.elapsed().as_secs_f64()), best.1.min(cpu_seconds() - cpu));
        assert!(case.labels.len() <= n && case.labels.len() + 3 >= n, "{} labels", case.labels.len());
    }
    println!(
        "| {n} | {} x {} x {} | {bits} | {threads} | {:.3} s | {:.2} s | {:.0} MiB |",
        dim[0],
        dim[1],
        dim[2],
        best.0,
        best.1,
        peak_mib()
    );
}
