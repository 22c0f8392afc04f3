//! Numbers of each organ on the input's grid.

use serde::{Deserialize, Serialize};
use volseg_geometry::{AnyVolume, LabelMap, OrganId};

/// What can be measured of one organ.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OrganStatistics {
    /// Label id.
    pub id: u8,
    /// Organ name.
    pub name: String,
    /// Voxels.
    pub voxels: u64,
    /// Volume in ml (area in pixels times the voxel size for pictures).
    pub volume_ml: f64,
    /// Mean of the rescaled intensities (HU for CT).
    pub mean: Option<f64>,
    /// Their standard deviation (n).
    pub sd: Option<f64>,
    /// First and one past the last voxel index along each axis.
    pub bounding_box: Option<[[usize; 2]; 3]>,
    /// Centre in RAS mm.
    pub centroid_mm: Option<[f64; 3]>,
}

/// One pass over the voxels; organs without a voxel are listed with zeros.
#[must_use]
pub fn statistics(
    labels: &LabelMap,
    volume: &AnyVolume,
    slope: f64,
    intercept: f64,
    organs: &[OrganId],
) -> Vec<OrganStatistics> {
    #[derive(Clone, Copy)]
    struct Sums {
        n: u64,
        sum: f64,
        square: f64,
        at: [u64; 3],
        low: [usize; 3],
        high: [usize; 3],
    }
    let none = Sums { n: 0, sum: 0.0, square: 0.0, at: [0; 3], low: [usize::MAX; 3], high: [0; 3] };
    let mut sums = [none; 256];
    let [nx, ny, _] = labels.dim();
    for (row, line) in labels.voxels().chunks(nx.max(1)).enumerate() {
        let (y, z) = (row % ny.max(1), row / ny.max(1));
        for (x, &id) in line.iter().enumerate() {
            if id == 0 {
                continue;
            }
            let s = &mut sums[usize::from(id)];
            let v = volume.value(row * nx + x) * slope + intercept;
            s.n += 1;
            s.sum += v;
            s.square += v * v;
            for (a, i) in [x, y, z].into_iter().enumerate() {
                s.at[a] += i as u64;
                s.low[a] = s.low[a].min(i);
                s.high[a] = s.high[a].max(i + 1);
            }
        }
    }
    let voxel_ml = labels.affine().determinant().abs() / 1000.0;
    organs
        .iter()
        .map(|o| {
            let s = sums[usize::from(o.get())];
            let n = s.n as f64;
            let there = s.n > 0;
            OrganStatistics {
                id: o.get(),
                name: o.to_string(),
                voxels: s.n,
                volume_ml: n * voxel_ml,
                mean: there.then(|| s.sum / n),
                sd: there.then(|| (s.square / n - (s.sum / n).powi(2)).max(0.0).sqrt()),
                bounding_box: there.then(|| [0, 1, 2].map(|a| [s.low[a], s.high[a]])),
                centroid_mm: there.then(|| labels.affine().apply(s.at.map(|v| v as f64 / n))),
            }
        })
        .collect()
}
