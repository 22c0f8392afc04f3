//! Cost of Dice + NSD@2 + HD95 on a pair of 512 x 512 x 150 label maps of a phantom, from uncompressed memory.
//!
//! `cargo bench --bench metrics -- [labels=15|117] [bits=8|16] [threads=2] [scale=1] [dump=DIR]`: one setting a process, so
//! that the peak memory is that of the setting. `dump` writes the pair as raw voxels for the peers of `scripts/peers`.
#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Instant;
use volseg_geometry::{Affine, AnyVolume, Volume};
use volseg_metrics::{Labels, Selection, Settings, evaluate};

const SPACING: [f64; 3] = [0.75, 0.75, 2.0];

/// Organ-like solids: ellipsoids with bumps, `n` of them on a jittered grid inside the body, sizes as abdominal organs have.
fn solids(n: usize, dim: [usize; 3], shift: f64) -> Vec<u8> {
    let mut voxels = vec![0u8; dim.iter().product()];
    let columns = (n as f64).sqrt().ceil() as usize;
    for id in 0..n {
        // A few large organs, many small ones, as 15 organs of an abdomen; smaller where there are many.
        let size = [0.22, 0.12, 0.12, 0.05, 0.04, 0.17, 0.15, 0.05, 0.05, 0.08, 0.03, 0.03, 0.07, 0.10, 0.06][id % 15];
        let size = size * (15.0 / n as f64).sqrt().min(1.0);
        let at = [(id % columns) as f64 + 0.8, (id / columns) as f64 + 0.8];
        let cell = columns as f64 + 0.6;
        let c = [at[0] / cell, at[1] / cell, 0.5 + 0.2 * ((id * 7 % 11) as f64 / 11.0 - 0.5)].map(|v: f64| v);
        let c: [f64; 3] = std::array::from_fn(|a| c[a] * dim[a] as f64 + shift * [2.0, -1.0, 1.0][a]);
        let r: [f64; 3] = [size * dim[0] as f64, size * 0.8 * dim[1] as f64, (size * 2.0).min(0.45) * dim[2] as f64];
        let span =
            |a: usize| ((c[a] - 1.3 * r[a]).max(0.0) as usize, ((c[a] + 1.3 * r[a]).max(0.0) as usize + 1).min(dim[a]));
        let ((x0, x1), (y0, y1), (z0, z1)) = (span(0), span(1), span(2));
        for z in z0..z1 {
            for y in y0..y1 {
                for x in x0..x1 {
                    let p = [(x as f64 - c[0]) / r[0], (y as f64 - c[1]) / r[1], (z as f64 - c[2]) / r[2]];
                    let bump = 0.12 * ((5.0 + shift) * p[0]).sin() * (4.0 * p[1] + p[2]).cos();
                    if p.iter().map(|v| v * v).sum::<f64>() < 1.0 + bump {
                        voxels[x + dim[0] * (y + dim[1] * z)] = id as u8 + 1;
                    }
                }
            }
        }
    }
    voxels
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

fn main() {
    let option = |name: &str, default: f64| {
        let find = |a: String| a.strip_prefix(&format!("{name}=")).and_then(|v| v.parse().ok());
        std::env::args().find_map(find).unwrap_or(default)
    };
    let (n, bits, threads) = (option("labels", 15.0) as usize, option("bits", 8.0), option("threads", 2.0) as usize);
    let scale = option("scale", 1.0);
    let dim = [512.0, 512.0, 150.0].map(|v: f64| (v * scale) as usize);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().unwrap();
    let make = |shift: f64, file: &str| {
        let voxels = solids(n, dim, shift);
        if let Some(folder) = std::env::args().find_map(|a| a.strip_prefix("dump=").map(ToOwned::to_owned)) {
            std::fs::write(format!("{folder}/{file}.raw"), &voxels).unwrap();
        }
        let affine = Affine::from_spacing_mm(SPACING);
        let volume: AnyVolume = if bits == 16.0 {
            let mut wide = Vec::with_capacity(voxels.len());
            wide.extend(voxels.iter().map(|&v| u16::from(v)));
            drop(voxels);
            Volume::from_vec(wide, dim, affine).unwrap().into()
        } else {
            Volume::from_vec(voxels, dim, affine).unwrap().into()
        };
        Labels::new(volume, 1.0, 0.0, file).unwrap()
    };
    let (gt, pred) = (make(0.0, "gt"), make(1.0, "pred"));
    // Making a 16-bit map holds the 8-bit one for a moment; what counts is the peak from here on.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let settings = Settings { tolerances: vec![2.0], ..Settings::default() };
    let mut best = (f64::INFINITY, f64::INFINITY);
    for _ in 0..5 {
        let (start, cpu) = (Instant::now(), cpu_seconds());
        let case = evaluate(&gt, &pred, &Selection::default(), &settings).unwrap();
        best = (best.0.min(start.elapsed().as_secs_f64()), best.1.min(cpu_seconds() - cpu));
        assert_eq!(case.labels.len(), n);
    }
    println!(
        "{n} labels, {dim:?}, {bits} bits, {threads} threads: {:.3} s wall, {:.2} s CPU (best of 5), peak {:.0} MiB",
        best.0,
        best.1,
        peak_mib()
    );
}
