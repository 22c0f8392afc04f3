//! `volseg convert`: the same voxels in another format.

use crate::{
    apart,
    dicom_out::{self, DicomForm},
    exit::{ExitCode, usage_error},
    global::{Global, Level},
    inputs::{self, Pick},
};
use anyhow::anyhow;
use std::path::PathBuf;
use volseg_io::{Error, Format, ReadOptions};

/// Convert an image to another format; voxels stay exactly what they are
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  volseg convert dicom/ -o ct.nii.gz             a DICOM series as NIfTI
  volseg convert series.zip --series 2 -o ct.mha  the second series of an archive
  volseg convert labels.nii.gz -o labels.seg.nrrd a label map for 3D Slicer
  volseg convert labels.nii.gz --source dicom/ -o seg.dcm  a label map as DICOM segmentation of a series
  volseg convert seg.dcm -o labels.nii.gz        and back")]
pub(crate) struct Args {
    /// Image: NIfTI, NRRD, MetaImage, DICOM (file, folder or zip) or a picture
    input: PathBuf,
    /// Output: .nii, .nii.gz, .nrrd, .seg.nrrd, .mha, .mhd, .png (one slice) or .dcm (labels on the series of --source)
    #[arg(short, long)]
    output: PathBuf,
    #[command(flatten)]
    pick: Pick,
    /// DICOM series that the labels belong to, for a .dcm output
    #[arg(long, value_name = "DICOM")]
    source: Option<PathBuf>,
    /// What a .dcm output is
    #[arg(long, value_enum, default_value = "seg", value_name = "FORM")]
    dicom_form: DicomForm,
    /// Of an image with colours or transparency, write the grey values
    #[arg(long)]
    grey: bool,
}

pub(crate) fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    // Before a long read: a wrong ending is a usage error.
    let format = Format::of_output(&args.output).map_err(|e| usage_error(e.to_string()))?;
    apart::check([("the input", args.input.as_path())], [("-o", Some(&args.output))])?;
    if format == Format::DicomSeg {
        return to_dicom(&args, global);
    }
    let options = ReadOptions { as_shown: false, ..args.pick.options(global) };
    let image = args.pick.image_by(&args.input, &options)?;
    let colours = (image.rgb().is_some() && format != Format::Png).then_some("colours");
    if let (Some(what), false) = (image.lost().or(colours), args.grey) {
        return Err(anyhow!(
            "{} cannot hold the {what} of this image; --grey writes its grey values alone",
            args.output.file_name().unwrap_or_default().display()
        ));
    }
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

/// A label map as a DICOM object on the slices of a series.
fn to_dicom(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let Some(source) = &args.source else {
        return Err(usage_error(
            "a .dcm output refers to the slices of a DICOM series: give the series that the labels belong to with --source",
        ));
    };
    let (labels, file) = inputs::labels(&args.input)?;
    let image = args.pick.image(source, global)?;
    for warning in file.warnings.iter().chain(&image.warnings) {
        global.log(Level::Warn, warning);
    }
    dicom_out::check(&args.output, &image)?;
    let labels = inputs::on_grid_of(labels, &image)?;
    dicom_out::write(&args.output, args.dicom_form, &labels, &image, &file.labels, ("", ""))?;
    let [x, y, z] = labels.dim();
    global.say(format_args!("{}: labels on {z} slices of {x} x {y}", args.output.display()))?;
    Ok(ExitCode::Done)
}
