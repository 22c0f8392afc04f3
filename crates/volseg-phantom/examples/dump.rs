//! Writes raw phantoms for a look: `dump OUT FIRST LAST [spacing nx ny nz]` (image i16, labels u8, one text line each).
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]
use std::{fs, time::Instant};
use volseg_phantom::{CtOptions, Size, breast_ultrasound, chest_xray, ct_abdomen};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let a: Vec<String> = std::env::args().collect();
    let full = a.get(4).is_some_and(|s| s == "full");
    let mut options = CtOptions { size: if full { Size::Full } else { Size::Small }, ..CtOptions::default() };
    if let (false, Some(Ok(s))) = (full, a.get(4).map(|s| s.parse())) {
        options.spacing_mm = Some([s; 3]);
    }
    if let [Some(x), Some(y), Some(z)] = [a.get(5), a.get(6), a.get(7)] {
        options.dim = Some([x.parse()?, y.parse()?, z.parse()?]);
    }
    if matches!(a.get(4).map(String::as_str), Some("xray" | "ultrasound")) {
        for seed in a[2].parse()?..=a[3].parse::<u64>()? {
            let start = Instant::now();
            let p = if a[4] == "xray" { chest_xray(seed, 512)? } else { breast_ultrasound(seed, 512)? };
            println!("{seed} {:.2}s", start.elapsed().as_secs_f32());
            fs::write(format!("{}/{}{seed}.img", a[1], a[4]), p.image.voxels())?;
            fs::write(format!("{}/{}{seed}.lab", a[1], a[4]), p.labels.voxels())?;
        }
        return Ok(());
    }
    for seed in a[2].parse()?..=a[3].parse::<u64>()? {
        let start = Instant::now();
        let p = ct_abdomen(seed, &options)?;
        println!(
            "{seed} {:?} {:?} {:?} female {} {:.2}s",
            p.image.dim(),
            p.image.affine().spacing_mm(),
            p.phase,
            p.female,
            start.elapsed().as_secs_f32()
        );
        let bytes: Vec<u8> = p.image.voxels().iter().flat_map(|v| v.to_le_bytes()).collect();
        fs::write(format!("{}/{seed}.img", a[1]), bytes)?;
        fs::write(format!("{}/{seed}.lab", a[1]), p.labels.voxels())?;
    }
    Ok(())
}
