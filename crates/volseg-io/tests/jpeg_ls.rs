//! JPEG-LS, which needs the feature `jpegls` (fixtures: scripts/parity/make_jpegls_fixture.py).
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;
use volseg_io::ReadOptions;

fn read(name: &str) -> volseg_io::Result<volseg_io::Image> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    volseg_io::read(&path, &ReadOptions::default())
}

#[cfg(feature = "jpegls")]
#[test]
fn both_kinds_are_decoded() {
    for (name, off) in [("jpeg_ls_lossless.dcm", 0.0), ("jpeg_ls_near.dcm", 2.0)] {
        let image = read(name).unwrap();
        assert_eq!(image.volume.dim(), [24, 16, 1]);
        for n in 0..24 * 16 {
            let hu = image.volume.value(n) * image.slope + image.intercept;
            let expected = (40 * (n / 24) + 7 * (n % 24)) as f64 - 300.0;
            assert!((hu - expected).abs() <= off, "{name}, pixel {n}: {hu}, expected {expected}");
        }
    }
}

#[cfg(not(feature = "jpegls"))]
#[test]
fn without_the_feature_the_message_names_it() {
    for name in ["jpeg_ls_lossless.dcm", "jpeg_ls_near.dcm"] {
        let text = read(name).unwrap_err().to_string();
        assert!(text.contains("JPEG-LS") && text.contains("jpegls"), "{text}");
    }
}
