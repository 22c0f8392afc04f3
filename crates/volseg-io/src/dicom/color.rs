//! sRGB and the CIELab of DICOM (PS3.3 C.10.7.1.1): L* of 0..100 and a*, b* of -128..127, each over 0..65535, white D50.

/// XYZ (D50) of linear sRGB, adapted by Bradford's method (as in ICC profiles of sRGB).
const TO_XYZ: [[f64; 3]; 3] = [
    [0.436_065_7, 0.385_151_5, 0.143_078_4],
    [0.222_493_2, 0.716_887_0, 0.060_616_9],
    [0.013_923_9, 0.097_081_3, 0.714_103_5],
];
const TO_RGB: [[f64; 3]; 3] = [
    [3.134_187_5, -1.617_209_2, -0.490_694_4],
    [-0.978_748_9, 1.916_129_6, 0.033_433_7],
    [0.071_945_0, -0.228_991_4, 1.405_209_6],
];
const WHITE: [f64; 3] = [0.964_22, 1.0, 0.825_21];
const DELTA: f64 = 6.0 / 29.0;

/// The CIELab words of a colour.
pub(super) fn to_cielab(rgb: [u8; 3]) -> [u16; 3] {
    let linear = rgb.map(|v| {
        let v = f64::from(v) / 255.0;
        if v <= 0.040_45 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
    });
    let xyz = times(&TO_XYZ, linear);
    let f = [0, 1, 2].map(|n| {
        let t: f64 = xyz[n] / WHITE[n];
        if t > DELTA.powi(3) { t.cbrt() } else { t / (3.0 * DELTA * DELTA) + 4.0 / 29.0 }
    });
    let lab = [116.0 * f[1] - 16.0, 500.0 * (f[0] - f[1]), 200.0 * (f[1] - f[2])];
    [lab[0] / 100.0, (lab[1] + 128.0) / 255.0, (lab[2] + 128.0) / 255.0]
        .map(|v| (v.clamp(0.0, 1.0) * 65535.0).round() as u16)
}

/// The colour of CIELab words.
pub(super) fn from_cielab(words: [u16; 3]) -> [u8; 3] {
    let part = words.map(|w| f64::from(w) / 65535.0);
    let (l, a, b) = (part[0] * 100.0, part[1] * 255.0 - 128.0, part[2] * 255.0 - 128.0);
    let y = (l + 16.0) / 116.0;
    let f = [y + a / 500.0, y, y - b / 200.0];
    let xyz = [0, 1, 2].map(|n| {
        let t = if f[n] > DELTA { f[n].powi(3) } else { 3.0 * DELTA * DELTA * (f[n] - 4.0 / 29.0) };
        t * WHITE[n]
    });
    times(&TO_RGB, xyz).map(|v| {
        let v = v.clamp(0.0, 1.0);
        let v = if v <= 0.003_130_8 { 12.92 * v } else { 1.055 * v.powf(1.0 / 2.4) - 0.055 };
        (v * 255.0).round() as u8
    })
}

fn times(m: &[[f64; 3]; 3], v: [f64; 3]) -> [f64; 3] {
    [0, 1, 2].map(|r| m[r].iter().zip(v).map(|(a, b)| a * b).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_come_back() {
        for organ in volseg_geometry::ORGANS {
            let again = from_cielab(to_cielab(organ.rgb));
            assert!(again.iter().zip(organ.rgb).all(|(a, b)| a.abs_diff(b) <= 1), "{:?} {again:?}", organ.rgb);
        }
        let [l, a, b] = to_cielab([255; 3]);
        assert!(l > 65520 && a.abs_diff(32896) < 10 && b.abs_diff(32896) < 10, "{l} {a} {b}");
        assert_eq!(to_cielab([0; 3]), [0, 32896, 32896]);
    }
}
