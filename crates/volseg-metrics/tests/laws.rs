//! Laws that the metrics obey whatever the masks (specs: metrics.md section 8).
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use volseg_geometry::{Affine, Orientation, Volume};
use volseg_metrics::{CaseScores, Labels, Scores, Selection, Settings, Surface, evaluate};

type Mask = (Vec<u8>, [usize; 3], [f64; 3]);

fn labels(m: &Mask) -> Labels {
    Labels::new(Volume::from_vec(m.0.clone(), m.1, Affine::from_spacing_mm(m.2)).unwrap().into(), 1.0, 0.0, "m")
        .unwrap()
}

fn case(a: &Mask, b: &Mask, settings: &Settings) -> CaseScores {
    evaluate(&labels(a), &labels(b), &Selection::default(), settings).unwrap()
}

fn one(a: &Mask, b: &Mask, settings: &Settings) -> Scores {
    case(a, b, settings).labels.remove(&vec![1]).unwrap()
}

fn settings(surface: Surface) -> Settings {
    let hd95 =
        if surface == Surface::Surfel { volseg_metrics::Hd95::SurfelMax } else { volseg_metrics::Hd95::VoxelMax };
    Settings { surface: Some(surface), hd95, tolerances: vec![0.0, 1.0, 2.5], ..Settings::default() }
}

/// Two blobs with rough edges on one grid, neither empty.
fn pair() -> impl Strategy<Value = (Mask, Mask)> {
    let dim = (1usize..12, 1usize..12, 1usize..9);
    let spacing = prop::sample::select(vec![[1.0, 1.0, 1.0], [0.7, 0.7, 5.0], [0.5, 1.5, 2.25]]);
    (dim, spacing, any::<u64>()).prop_map(|((x, y, z), spacing, seed)| {
        let make = |mut state: u64| {
            let mut next = move || {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 33) as usize
            };
            let c = [next() % x, next() % y, next() % z];
            let r = 1 + next() % 5;
            let mut v = vec![0u8; x * y * z];
            for (n, v) in v.iter_mut().enumerate() {
                let p = [n % x, n / x % y, n / x / y];
                let d: usize = (0..3).map(|a| p[a].abs_diff(c[a]).pow(2)).sum();
                *v = u8::from(d == 0 || (d <= r * r && next() % 5 > 0));
            }
            (v, [x, y, z], spacing)
        };
        (make(seed), make(seed ^ 0x9e37_79b9_7f4a_7c15))
    })
}

const SAME: [&str; 10] =
    ["dice", "iou", "nsd@0", "nsd@1", "nsd@2.5", "hd", "hd95", "assd", "masd", "volumetric_similarity"];

fn close(a: &Scores, b: &Scores, scale: f64) -> Result<(), TestCaseError> {
    for name in SAME {
        let factor = if name.starts_with("hd") || name.ends_with("asd") || name == "assd" { scale } else { 1.0 };
        let (x, y) = (a.get(name) * factor, b.get(name));
        prop_assert!((x - y).abs() <= 1e-9 * x.abs().max(1.0), "{name}: {x} {y}");
    }
    Ok(())
}

fn reoriented(m: &Mask, to: Orientation) -> Mask {
    let v = Volume::from_vec(m.0.clone(), m.1, Affine::from_spacing_mm(m.2)).unwrap().reoriented(to);
    (v.voxels().to_vec(), v.dim(), v.affine().spacing_mm())
}

/// Where surfels lie (specs: metrics.md section 3): corners of voxels whose neighbours are partly inside. Masks that differ may
/// have the same ones, such as 101 and 111 in a picture of one row.
fn mixed_corners(m: &Mask, flat: bool) -> Vec<[usize; 3]> {
    let [nx, ny, nz] = m.1;
    let deep = if flat { 1 } else { 2 };
    let inside = |x: usize, y: usize, z: usize| x < nx && y < ny && z < nz && m.0[x + nx * (y + ny * z)] == 1;
    let mut corners = Vec::new();
    for (z, y, x) in (0..nz + deep - 1).flat_map(|z| (0..=ny).flat_map(move |y| (0..=nx).map(move |x| (z, y, x)))) {
        let around = (0..4 * deep).filter(|n| {
            let z = z.wrapping_sub((deep - 1) * (1 - n / 4 % 2));
            inside(x.wrapping_sub(n % 2), y.wrapping_sub(n / 2 % 2), z)
        });
        if !matches!(around.count(), n if n == 0 || n == 4 * deep) {
            corners.push([x, y, z]);
        }
    }
    corners
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn laws((a, b) in pair(), surfel in any::<bool>(), turn in 0usize..48, pad in 0usize..70) {
        let mut s = settings(if surfel { Surface::Surfel } else { Surface::Voxel });
        let base = one(&a, &b, &s);
        // Swapped.
        close(&base, &one(&b, &a, &s), 1.0)?;
        // Turned and mirrored.
        let to = Orientation::all().nth(turn).unwrap();
        close(&base, &one(&reoriented(&a, to), &reoriented(&b, to), &s), 1.0)?;
        // More background around.
        let padded = |m: &Mask| {
            let dim = [m.1[0] + pad, m.1[1] + 3, m.1[2] + 2];
            let mut v = vec![0; dim.iter().product()];
            for (n, &x) in m.0.iter().enumerate() {
                let p = [n % m.1[0], n / m.1[0] % m.1[1], n / m.1[0] / m.1[1]];
                v[p[0] + pad / 2 + dim[0] * (p[1] + 1 + dim[1] * (p[2] + 2))] = x;
            }
            (v, dim, m.2)
        };
        prop_assert_eq!(&base.metrics, &one(&padded(&a), &padded(&b), &s).metrics);
        // One label of many.
        let with_more = |m: &Mask| (m.0.iter().enumerate().map(|(n, &v)| if v == 1 { 1 } else { (n % 3) as u8 * 100 }).collect(), m.1, m.2);
        prop_assert_eq!(&base.metrics, &one(&with_more(&a), &with_more(&b), &s).metrics);
        // Order of the metrics.
        prop_assert!(base.get("hd95") <= base.get("hd") && base.get("assd") <= base.get("hd") * (1.0 + 1e-12));
        prop_assert_eq!(base.get("dice") == 1.0, a.0 == b.0);
        if surfel {
            prop_assert_eq!(base.get("nsd@0") == 1.0, mixed_corners(&a, false) == mixed_corners(&b, false));
        }
        // Threads.
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            prop_assert_eq!(&base, &pool.install(|| one(&a, &b, &s)));
        }
        // Larger voxels.
        let scaled = |m: &Mask| (m.0.clone(), m.1, m.2.map(|v| v * 3.0));
        s.tolerances = vec![0.0, 3.0, 7.5];
        let mut big = one(&scaled(&a), &scaled(&b), &s);
        for (name, _) in &mut big.metrics {
            *name = name.replace("@3", "@1").replace("@7.5", "@2.5");
        }
        close(&base, &big, 3.0)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn laws_of_pictures((a, b) in pair(), turn in 0usize..8, pad in 0usize..70) {
        // The first slice alone, by its contours.
        let flat = |m: &Mask| (m.0[..m.1[0] * m.1[1]].to_vec(), [m.1[0], m.1[1], 1], [m.2[0], m.2[1], 1.0]);
        let (a, b) = (flat(&a), flat(&b));
        prop_assume!(a.0.contains(&1) && b.0.contains(&1));
        let s = Settings { flat: true, ..settings(Surface::Surfel) };
        let base = one(&a, &b, &s);
        close(&base, &one(&b, &a, &s), 1.0)?;
        // Axes 0 and 1 exchanged, each in both directions.
        let turned = |m: &Mask| {
            let [nx, ny, _] = m.1;
            let (w, h) = if turn & 4 == 4 { (ny, nx) } else { (nx, ny) };
            let voxels = (0..w * h)
                .map(|n| {
                    let (i, j) = (n % w, n / w);
                    let (i, j) = (if turn & 1 == 1 { w - 1 - i } else { i }, if turn & 2 == 2 { h - 1 - j } else { j });
                    let (x, y) = if turn & 4 == 4 { (j, i) } else { (i, j) };
                    m.0[x + nx * y]
                })
                .collect();
            let spacing = if turn & 4 == 4 { [m.2[1], m.2[0], 1.0] } else { m.2 };
            (voxels, [w, h, 1], spacing)
        };
        close(&base, &one(&turned(&a), &turned(&b), &s), 1.0)?;
        let padded = |m: &Mask| {
            let dim = [m.1[0] + pad, m.1[1] + 2, 1];
            let mut v = vec![0; dim[0] * dim[1]];
            for (n, &x) in m.0.iter().enumerate() {
                v[n % m.1[0] + pad / 3 + dim[0] * (n / m.1[0] + 1)] = x;
            }
            (v, dim, m.2)
        };
        prop_assert_eq!(&base.metrics, &one(&padded(&a), &padded(&b), &s).metrics);
        prop_assert_eq!(base.get("nsd@0") == 1.0, mixed_corners(&a, true) == mixed_corners(&b, true));
    }
}

/// An image full of one label has its edge as surface.
#[test]
fn masks_that_fill_the_image_are_closed_at_its_edge() {
    let (full, less) =
        (cuboid([8, 9, 10], [1.0; 3], [0; 3], [8, 9, 10]), cuboid([8, 9, 10], [1.0; 3], [0; 3], [8, 9, 9]));
    for surface in [Surface::Surfel, Surface::Voxel] {
        let same = one(&full, &full, &settings(surface));
        assert_eq!((same.get("dice"), same.get("nsd@0"), same.get("hd"), same.get("assd")), (1.0, 1.0, 0.0, 0.0));
        assert!(same.metrics.iter().all(|m| m.1 != 0.0 || m.1.is_sign_positive()), "a zero is negative");
        let s = one(&full, &less, &settings(surface));
        assert_eq!((s.get("nsd@1"), s.get("hd"), s.get("hd95")), (1.0, 1.0, 1.0), "{surface:?}");
        assert!(s.get("nsd@0") < 1.0);
    }
}

fn cuboid(dim: [usize; 3], spacing: [f64; 3], low: [usize; 3], high: [usize; 3]) -> Mask {
    let inside = |n: usize| {
        let p = [n % dim[0], n / dim[0] % dim[1], n / dim[0] / dim[1]];
        u8::from((0..3).all(|a| (low[a]..high[a]).contains(&p[a])))
    };
    ((0..dim.iter().product()).map(inside).collect(), dim, spacing)
}

/// The worked examples A to D of the definitions, surfel and voxel.
#[test]
fn worked_examples() {
    let near = |s: &Scores, name: &str, expected: f64| {
        assert!((s.get(name) - expected).abs() < 6e-5, "{name}: {} is not {expected}", s.get(name));
    };
    let (a, b) =
        (cuboid([14; 3], [1.0; 3], [1, 2, 2], [11, 12, 12]), cuboid([14; 3], [1.0; 3], [2, 2, 2], [12, 12, 12]));
    let (surfel, voxel) = (settings(Surface::Surfel), settings(Surface::Voxel));
    for (set, nsd, assd) in [(&surfel, 0.6662, 0.3338), (&voxel, 0.6639, 0.3361)] {
        let s = one(&a, &b, set);
        near(&s, "dice", 0.9);
        near(&s, "nsd@0", nsd);
        near(&s, "nsd@1", 1.0);
        near(&s, "hd95", 1.0);
        near(&s, "assd", assd);
    }
    // Surfaces without width: the surface-distance package says 1 and 0.8 too.
    let row = |v: [u8; 3]| (v.to_vec(), [3, 1, 1], [1.0; 3]);
    let flat = Settings { flat: true, ..settings(Surface::Surfel) };
    let s = one(&row([1, 0, 1]), &row([1, 1, 1]), &flat);
    near(&s, "dice", 0.8);
    near(&s, "nsd@0", 1.0);
    let spacing = [0.7f32, 0.7, 5.0].map(f64::from);
    let (a, b) =
        (cuboid([16, 16, 6], spacing, [2, 2, 1], [14, 14, 5]), cuboid([16, 16, 6], spacing, [2, 2, 1], [14, 14, 4]));
    for (set, nsd, assd) in [(&surfel, 0.8699, 0.5776), (&voxel, 0.7062, 1.2345)] {
        let s = one(&a, &b, set);
        near(&s, "dice", 0.8571);
        near(&s, "nsd@1", nsd);
        near(&s, "hd95", 5.0);
        near(&s, "assd", assd);
    }
    // In the corner of the image: the edge is closed.
    let (a, b) = (cuboid([9; 3], [1.0; 3], [0; 3], [5; 3]), cuboid([9; 3], [1.0; 3], [0; 3], [5, 5, 6]));
    near(&one(&a, &b, &surfel), "nsd@0", 0.8434);
    near(&one(&a, &b, &voxel), "nsd@0", 0.8396);
    let (a, b) = (cuboid([12; 3], [1.0; 3], [2; 3], [3; 3]), cuboid([12; 3], [1.0; 3], [5, 6, 2], [6, 7, 3]));
    let exact = |surface, t| Settings { tolerances: vec![t], ..settings(surface) };
    near(&one(&a, &b, &exact(Surface::Surfel, 4.0)), "nsd@4", 0.25);
    near(&one(&a, &b, &exact(Surface::Surfel, 5.0)), "nsd@5", 1.0);
    near(&one(&a, &b, &exact(Surface::Voxel, 4.0)), "nsd@4", 0.0);
    near(&one(&a, &b, &surfel), "assd", 4.3301);
}

#[test]
fn empty_masks_follow_the_stated_rule() {
    let (full, none) = (cuboid([6; 3], [1.0; 3], [1; 3], [4; 3]), cuboid([6; 3], [1.0; 3], [0; 3], [0; 3]));
    let missed = one(&full, &none, &settings(Surface::Surfel));
    assert_eq!(
        (missed.status.name(), missed.get("dice"), missed.get("nsd@1"), missed.get("hd95")),
        ("missed", 0.0, 0.0, f64::INFINITY)
    );
    let invented = one(&none, &full, &settings(Surface::Surfel));
    assert_eq!((invented.status.name(), invented.get("dice"), invented.get("assd")), ("invented", 0.0, f64::INFINITY));
    let absent = case(&none, &none, &settings(Surface::Surfel)).absent;
    assert!(absent.get("dice").is_nan() && absent.get("hd95").is_nan() && absent.get("volume_gt_mm3") == 0.0);
}

#[test]
fn wide_float_and_scaled_labels_are_the_same_labels() {
    let ids: Vec<u16> =
        (0..6 * 5 * 4).map(|n| if n % 7 < 3 { 0 } else { 300 + 64000 * u16::from(n % 2 == 0) }).collect();
    let affine = Affine::from_spacing_mm([1.0, 2.0, 3.0]);
    let whole = Volume::from_vec(ids.clone(), [6, 5, 4], affine).unwrap();
    let float =
        Volume::from_vec(ids.iter().map(|&v| f32::from(v) + 4e-4 * f32::from(v < 1000)).collect(), [6, 5, 4], affine)
            .unwrap();
    let halves = Volume::from_vec(ids.iter().map(|&v| f64::from(v) / 2.0).collect(), [6, 5, 4], affine).unwrap();
    let make = |v: volseg_geometry::AnyVolume, slope| Labels::new(v, slope, 0.0, "x").unwrap();
    let (a, b, c) = (make(whole.into(), 1.0), make(float.into(), 1.0), make(halves.into(), 2.0));
    for other in [&b, &c] {
        let s = evaluate(&a, other, &Selection::default(), &Settings::default()).unwrap();
        assert_eq!(s.labels.keys().cloned().collect::<Vec<_>>(), [vec![300], vec![64300]]);
        assert!(s.labels.values().all(|l| l.counts.dice() == 1.0 && l.get("nsd@1") == 1.0));
    }
    for bad in [0.4, f64::NAN, f64::INFINITY, -1.0, 65536.0, 0.9] {
        let v = Volume::from_vec(vec![0.0, bad, 0.0], [1, 3, 1], affine).unwrap();
        let error = Labels::new(v.into(), 1.0, 0.0, "x").unwrap_err().to_string();
        assert!(error.contains("[0, 1, 0]") && error.contains("65535"), "{error}");
    }
}
