//! What the X-ray and ultrasound phantoms promise.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use volseg_phantom::{Error, PicturePhantom, breast_ultrasound, chest_xray};

/// Mean grey where the label is `id`, and elsewhere; and the label's share of the picture.
fn contrast(p: &PicturePhantom, id: u8) -> (f64, f64, f64) {
    let (mut inside, mut outside) = ((0.0, 0.0), (0.0, 0.0));
    for (v, l) in p.image.voxels().iter().zip(p.labels.voxels()) {
        let part = if *l == id { &mut inside } else { &mut outside };
        *part = (part.0 + f64::from(*v), part.1 + 1.0);
    }
    (inside.0 / f64::max(inside.1, 1.0), outside.0 / outside.1, inside.1 / (inside.1 + outside.1))
}

#[test]
fn xrays_have_two_dark_lungs_the_right_one_on_the_left() {
    for seed in 0..20 {
        let p = chest_xray(seed, 128).unwrap();
        let (_, _, share) = contrast(&p, 16);
        assert!((0.1..0.45).contains(&share), "seed {seed}: lungs cover {share:.2}");
        let halves = [0..64, 64..128].map(|columns| {
            columns.map(|x| (0..128).filter(|y| p.labels.get([x, *y, 0]) == Some(16)).count()).sum::<usize>()
        });
        assert!(halves.iter().all(|n| *n > 500), "seed {seed}: {halves:?}");
        // Dark lungs beside a bright middle.
        let column = |x: usize| (48..80).map(|y| f64::from(p.image.get([x, y, 0]).unwrap())).sum::<f64>() / 32.0;
        let brightest = (52..76).map(column).fold(0.0, f64::max);
        let (inside, _, _) = contrast(&p, 16);
        assert!(inside + 20.0 < brightest, "seed {seed}: lungs {inside:.0}, middle {brightest:.0}");
    }
}

/// Beside it in the same rows, since depth darkens too. A lesion may be as bright as its surroundings, as in people.
#[test]
fn most_lesions_are_darker_than_what_lies_beside_and_some_pictures_have_none() {
    let (mut without, mut bright) = (0, 0);
    for seed in 0..60 {
        let p = breast_ultrasound(seed, 128).unwrap();
        assert!(p.labels.voxels().iter().all(|l| [0, 17].contains(l)));
        let lesion = |x: usize, y: usize| p.labels.get([x, y, 0]) == Some(17);
        let (mut inside, mut beside) = ((0.0, 0.0), (0.0, 0.0));
        for y in 0..128 {
            let Some(first) = (0..128).find(|x| lesion(*x, y)) else { continue };
            let last = (0..128).rfind(|x| lesion(*x, y)).unwrap();
            for x in first.saturating_sub(12)..(last + 13).min(128) {
                let part = if lesion(x, y) { &mut inside } else { &mut beside };
                *part = (part.0 + f64::from(p.image.get([x, y, 0]).unwrap()), part.1 + 1.0);
            }
        }
        let share = inside.1 / (128.0 * 128.0);
        if share == 0.0 {
            without += 1;
        } else {
            assert!((0.002..0.5).contains(&share), "seed {seed}: {share}");
            bright += usize::from(inside.0 / inside.1 >= beside.0 / beside.1);
        }
    }
    assert!((2..=20).contains(&without), "{without} of 60 without a lesion");
    assert!(bright <= 6, "{bright} of 60 not darker");
}

#[test]
fn pictures_repeat_and_sizes_are_checked() {
    assert_eq!(chest_xray(3, 96).unwrap().image.voxels(), chest_xray(3, 96).unwrap().image.voxels());
    assert_ne!(breast_ultrasound(3, 96).unwrap().image.voxels(), breast_ultrasound(4, 96).unwrap().image.voxels());
    assert!(matches!(chest_xray(1, 8), Err(Error::Picture { found: 8 })));
    assert!(matches!(breast_ultrasound(1, 1 << 20), Err(Error::Picture { .. })));
}
