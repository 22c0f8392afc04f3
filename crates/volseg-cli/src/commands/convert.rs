//! `volseg convert`: the same voxels in another format.

use crate::{
    exit::ExitCode,
    global::{Global, Level},
    inputs,
};
use std::path::PathBuf;
use volseg_io::{Error, Format, ReadOptions, Series};

/// Convert an image to another format; voxels stay exactly what they are
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  volseg convert dicom/ -o ct.nii.gz             a DICOM series as NIfTI
  volseg convert series.zip --series 2 -o ct.mha  the second series of an archive
  volseg convert labels.nii.gz -o labels.seg.nrrd a label map for 3D Slicer")]
pub(crate) struct Args {
    /// Image: NIfTI, NRRD, MetaImage, DICOM (file, folder or zip) or a picture
    input: PathBuf,
    /// Output: .nii, .nii.gz, .nrrd, .seg.nrrd, .mha, .mhd or .png (one slice)
    #[arg(short, long)]
    output: PathBuf,
    /// DICOM series: its number in the list, or its UID
    #[arg(long, value_name = "UID|N")]
    series: Option<String>,
    /// Which volume of a file with several, from 0
    #[arg(long, value_name = "N")]
    frame: Option<usize>,
}

pub(crate) fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    // Before a long read: a wrong ending is a usage error.
    let format = Format::of_output(&args.output).map_err(|e| crate::exit::usage_error(e.to_string()))?;
    let options =
        ReadOptions { series: args.series.as_deref().map(Series::parse), frame: args.frame, ..ReadOptions::default() };
    let image = inputs::read(&args.input, &options)?;
    for warning in &image.warnings {
        global.log(Level::Warn, warning);
    }
    volseg_io::write(&args.output, &image).map_err(|e| match e {
        e @ Error::CannotHold { .. } => anyhow::Error::from(e),
        e => anyhow::Error::from(e).context(format!("could not write {}", args.output.display())),
    })?;
    if format == Format::Png && !image.is_picture() {
        global.log(Level::Warn, "a PNG holds no place and no spacing; they are lost");
    }
    let [x, y, z] = image.volume.dim();
    global.say(format_args!("{}: {x} x {y} x {z} voxels, {}", args.output.display(), image.volume.kind().name()))?;
    Ok(ExitCode::Done)
}
