//! What a CT phantom promises: sizes of organs, sides, equal bits, labels where the body is.
#![allow(clippy::unwrap_used)]

use volseg_geometry::{LabelMap, ORGANS};
use volseg_phantom::{Coverage, CtOptions, CtPhantom, Error, Phase, ct_abdomen};

const COARSE: [f64; 3] = [3.4; 3];

fn whole(seed: u64, spacing: [f64; 3]) -> CtPhantom {
    let options =
        CtOptions { spacing_mm: Some(spacing), coverage: Some(Coverage::AbdomenPelvis), ..CtOptions::default() };
    ct_abdomen(seed, &options).unwrap()
}

fn millilitres(labels: &LabelMap) -> [f64; 16] {
    let mut counts = [0f64; 16];
    for &l in labels.voxels() {
        counts[usize::from(l)] += 1.0;
    }
    counts.map(|n| n * labels.affine().determinant().abs() / 1000.0)
}

/// Centre of a label in world mm.
fn centre(labels: &LabelMap, id: u8) -> Option<[f64; 3]> {
    let [nx, ny, _] = labels.dim();
    let (mut sum, mut n) = ([0f64; 3], 0f64);
    for (at, _) in labels.voxels().iter().enumerate().filter(|(_, l)| **l == id) {
        let p = labels.affine().apply([(at % nx) as f64, (at / nx % ny) as f64, (at / nx / ny) as f64]);
        (0..3).for_each(|a| sum[a] += p[a]);
        n += 1.0;
    }
    (n > 0.0).then(|| sum.map(|s| s / n))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Ranges of means in the literature on CT volumetry of adults, ml. The vessels' and the oesophagus' depend on how much
/// of them is scanned: from the domes of the diaphragm down.
const PUBLISHED: [(u8, f64, f64); 15] = [
    (1, 130.0, 260.0),
    (2, 120.0, 200.0),
    (3, 120.0, 210.0),
    (4, 20.0, 50.0),
    (5, 10.0, 40.0),
    (6, 1200.0, 1750.0),
    (7, 150.0, 450.0),
    (8, 55.0, 130.0),
    (9, 50.0, 120.0),
    (10, 60.0, 100.0),
    (11, 3.0, 6.0),
    (12, 3.0, 6.0),
    (13, 45.0, 110.0),
    (14, 80.0, 300.0),
    (15, 20.0, 90.0),
];

#[test]
fn median_volumes_of_30_patients_are_those_of_people() {
    let all: Vec<[f64; 16]> = (1000..1030).map(|seed| millilitres(&whole(seed, COARSE).labels)).collect();
    for (id, low, high) in PUBLISHED {
        let present: Vec<f64> = all.iter().map(|v| v[usize::from(id)]).filter(|v| *v > 0.0).collect();
        let name = ORGANS[usize::from(id) - 1].name;
        // The gallbladder may have been taken out; all else is in every patient.
        assert!(present.len() == 30 || (id == 4 && present.len() >= 20), "{name}: in {} of 30", present.len());
        let m = median(present);
        assert!((low..=high).contains(&m), "{name}: median {m:.1} ml, expected {low} to {high}");
    }
}

#[test]
fn left_and_right_are_the_patients() {
    for seed in 1..8 {
        let labels = whole(seed, [4.0; 3]).labels;
        let x = |id| centre(&labels, id).unwrap()[0];
        let z = |id| centre(&labels, id).unwrap()[2];
        // RAS: right is positive.
        assert!(x(2) > x(8) + 20.0 && x(3) < x(8) - 20.0, "kidneys, seed {seed}");
        assert!(x(11) > x(12) + 20.0, "adrenals, seed {seed}");
        assert!(x(6) > 20.0 && x(1) < -40.0, "liver and spleen, seed {seed}");
        assert!(x(9) > x(8), "vena cava and aorta, seed {seed}");
        assert!(x(7) < x(6), "stomach and liver, seed {seed}");
        assert!(z(14) < z(2) - 100.0 && z(6) > z(2), "bladder below, liver above the kidneys, seed {seed}");
    }
}

#[test]
fn one_seed_gives_the_same_bits_on_any_number_of_threads() {
    let options = CtOptions { spacing_mm: Some([5.0; 3]), ..CtOptions::default() };
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| ct_abdomen(42, &options).unwrap())
    };
    let (a, b) = (on(1), on(3));
    assert_eq!(a.image.voxels(), b.image.voxels());
    assert_eq!(a.labels.voxels(), b.labels.voxels());
    let other = ct_abdomen(43, &options).unwrap();
    assert_ne!(a.labels.voxels(), other.labels.voxels());
}

#[test]
fn the_patient_does_not_depend_on_the_grid() {
    let (coarse, fine) = (whole(5, [6.0; 3]), whole(5, [3.0; 3]));
    let (a, b) = (millilitres(&coarse.labels), millilitres(&fine.labels));
    for id in [1, 2, 3, 6, 7] {
        assert!((a[id] / b[id] - 1.0).abs() < 0.08, "label {id}: {:.1} and {:.1} ml", a[id], b[id]);
        let (p, q) = (centre(&coarse.labels, id as u8).unwrap(), centre(&fine.labels, id as u8).unwrap());
        assert!((0..3).all(|k| (p[k] - q[k]).abs() < 3.0), "label {id}: {p:?} and {q:?}");
    }
}

#[test]
fn organs_lie_in_the_body_and_look_like_their_tissue() {
    for seed in [3, 11, 27] {
        let options = CtOptions {
            spacing_mm: Some(COARSE),
            phase: Some(Phase::PortalVenous),
            noise_hu: Some(4.0),
            ..CtOptions::default()
        };
        let p = ct_abdomen(seed, &options).unwrap();
        let mean = |id: u8| {
            let hu: Vec<f64> = p
                .image
                .voxels()
                .iter()
                .zip(p.labels.voxels())
                .filter_map(|(h, l)| (*l == id).then_some(f64::from(*h)))
                .collect();
            hu.iter().sum::<f64>() / hu.len() as f64
        };
        for (id, low, high) in
            [(1, 55.0, 200.0), (2, 75.0, 320.0), (3, 75.0, 320.0), (6, 20.0, 180.0), (8, 85.0, 250.0)]
        {
            let m = mean(id);
            assert!((low..high).contains(&m), "seed {seed}, label {id}: {m:.0} HU");
        }
        // No label on the border of the slices' body: at least one voxel of other tissue around it in the plane.
        let [nx, ny, nz] = p.labels.dim();
        let labelled = |i, j, k| p.labels.get([i, j, k]).is_some_and(|l| l > 0);
        for k in 0..nz {
            for j in 0..ny {
                assert!(!labelled(0, j, k) || p.image.get([0, j, k]).unwrap() > -500, "seed {seed}");
            }
        }
        let outside = p
            .image
            .voxels()
            .iter()
            .zip(p.labels.voxels())
            .filter(|(h, l)| **h < -900 && ![0, 5, 7, 13].contains(*l))
            .count();
        let all = p.labels.voxels().iter().filter(|l| ![0, 5, 7, 13].contains(*l)).count();
        assert!(outside * 2000 < all, "seed {seed}: {outside} of {all} labelled voxels are air");
        assert!(nx > 50);
    }
}

#[test]
fn the_options_decide() {
    let options = CtOptions {
        dim: Some([40, 30, 20]),
        spacing_mm: Some([9.0, 9.0, 12.0]),
        phase: Some(Phase::Native),
        oversample: Some(2),
        ..CtOptions::default()
    };
    let p = ct_abdomen(1, &options).unwrap();
    assert_eq!(p.image.dim(), [40, 30, 20]);
    assert_eq!(p.labels.affine(), p.image.affine());
    assert_eq!(p.image.affine().spacing_mm(), [9.0, 9.0, 12.0]);
    assert_eq!(p.phase, Phase::Native);
    assert_eq!(p.image.affine().orientation().to_string(), "RAS");
}

#[test]
fn grids_that_cannot_be_filled_are_refused_before_anything_is_allocated() {
    for (dim, spacing) in [
        ([0, 10, 10], [3.0; 3]),
        ([usize::MAX, 2, 2], [3.0; 3]),
        ([4096, 4096, 4096], [3.0; 3]),
        ([10, 10, 10], [0.0, 3.0, 3.0]),
        ([10, 10, 10], [f64::NAN, 3.0, 3.0]),
    ] {
        let options = CtOptions { dim: Some(dim), spacing_mm: Some(spacing), ..CtOptions::default() };
        assert!(matches!(ct_abdomen(1, &options), Err(Error::Grid { .. })), "{dim:?} {spacing:?}");
    }
}
