//! `volseg inspect`: what a file holds.

use crate::{
    exit::ExitCode,
    global::Global,
    inputs::{self, Pick},
};
use serde_json::{Value, json};
use std::{fmt::Write, path::PathBuf};
use volseg_io::{Error, Image, ReadOptions};

/// Print size, spacing, orientation, affine, value range and warnings of an image
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  volseg inspect ct.nii.gz                    a summary
  volseg inspect --json ct.nrrd | jq .affine  for programs
  volseg inspect dicom/ --series 2            the second series of a folder")]
pub(crate) struct Args {
    /// Image: NIfTI, NRRD, MetaImage, DICOM (file, folder or zip) or a picture
    input: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pick: Pick,
}

pub(crate) fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let mut options = ReadOptions { as_shown: false, ..args.pick.options(global) };
    // To look at a file with several volumes, the first will do; `frames` tells of the others.
    if options.frame.is_none() && matches!(volseg_io::read(&args.input, &options), Err(Error::Unsupported { .. })) {
        options.frame = Some(0);
    }
    let image = inputs::read(&args.input, &options)?;
    if args.json {
        global.print(serde_json::to_string_pretty(&describe(&image))? + "\n")?;
    } else {
        global.print(table(&image))?;
    }
    Ok(ExitCode::Done)
}

fn describe(image: &Image) -> Value {
    let volume = &image.volume;
    let rows = volume.affine().rows;
    let labels: Vec<Value> =
        image.labels.iter().map(|l| json!({ "value": l.value, "name": l.name, "rgb": l.rgb })).collect();
    json!({
        "schema": "volseg-inspect/1",
        "format": image.format,
        "kind": if image.is_picture() { "picture" } else { "volume" },
        "size": volume.dim(),
        "frames": image.frames,
        "spacing_mm": volume.affine().spacing_mm(),
        "orientation": volume.affine().orientation().to_string(),
        "affine": [rows[0], rows[1], rows[2], [0.0, 0.0, 0.0, 1.0]],
        "voxel_type": volume.kind().name(),
        "slope": image.slope,
        "intercept": image.intercept,
        "range": image.value_range().map(|(low, high)| [low, high]),
        "modality": image.modality_guess(),
        "modality_from": if image.modality.is_some() { "header" } else { "guess" },
        "labels": labels,
        "warnings": image.warnings,
        "sha256": image.sha256,
    })
}

fn table(image: &Image) -> String {
    let volume = &image.volume;
    let affine = volume.affine();
    let ([x, y, z], [a, b, c]) = (volume.dim(), affine.spacing_mm());
    let mut out = String::new();
    let mut line = |name: &str, text: String| {
        let _ = writeln!(out, "{name:<12} {text}");
    };
    line(
        "format",
        format!("{}, {}", image.format.unwrap_or("-"), if image.is_picture() { "picture" } else { "volume" }),
    );
    line(
        "size",
        format!(
            "{x} x {y} x {z}{}",
            if image.frames > 1 { format!(", one of {} volumes", image.frames) } else { String::new() }
        ),
    );
    line("spacing", format!("{a:.4} x {b:.4} x {c:.4} mm"));
    line("orientation", format!("{} (axes grow towards these sides)", affine.orientation()));
    for (n, row) in affine.rows.iter().enumerate() {
        let row = row.map(|v| format!("{v:>12.5}")).concat();
        line(if n == 0 { "affine" } else { "" }, row);
    }
    let scale = if image.slope == 1.0 && image.intercept == 0.0 {
        String::new()
    } else {
        format!(", times {} plus {}", image.slope, image.intercept)
    };
    line("voxels", format!("{}{scale}", volume.kind().name()));
    line("range", image.value_range().map_or("no finite value".into(), |(low, high)| format!("{low} to {high}")));
    let modality = image.modality_guess().map_or("unknown".into(), |m| format!("{m:?}").to_lowercase());
    line("modality", format!("{modality} ({})", if image.modality.is_some() { "from the header" } else { "a guess" }));
    for label in &image.labels {
        line("label", format!("{} {}", label.value, label.name));
    }
    for warning in &image.warnings {
        line("warning", warning.clone());
    }
    out
}
