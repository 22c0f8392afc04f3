//! `volseg preview`: a picture of a volume, with organs drawn over it.

use crate::{
    apart,
    exit::ExitCode,
    global::{Global, Level},
    inputs::{self, WindowChoice},
    options::Auto,
};
use std::{collections::BTreeMap, path::PathBuf};
use volseg_geometry::{Modality, OrganId, Plane, Window};
use volseg_io::Image;
use volseg_preview::{Options, Scene, draw};

/// Draw slices of an image as a PNG, with labels over them
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  volseg preview ct.nii.gz organs.seg.nrrd -o ct.png            contact sheet with organs
  volseg preview scan/ -o ct.png --plane coronal --slices 20    a DICOM folder, without labels
  volseg preview ct.nii.gz -o lung.png --window -1000,400       a lung window
  volseg preview chest.png lungs.png -o overlay.png             an X-ray beside its overlay")]
pub(crate) struct Args {
    /// Image: NIfTI, NRRD, MetaImage, DICOM file, folder or zip, or a picture
    input: PathBuf,
    /// Label map on the grid of the image
    labels: Option<PathBuf>,
    /// PNG file to write
    #[arg(short, long, value_name = "FILE.png")]
    output: PathBuf,
    /// Plane of the slices: axial, coronal or sagittal
    #[arg(long, default_value = "axial", value_name = "PLANE")]
    plane: Plane,
    /// Grey values: auto (by modality), none (whole range) or LOW,HIGH
    #[arg(long, default_value = "auto", value_name = "WINDOW", allow_hyphen_values = true)]
    window: WindowChoice,
    /// Modality, where the file does not say it: auto, ct, xray, ultrasound or mr
    #[arg(long, default_value = "auto", value_name = "MODALITY")]
    modality: Auto<Modality>,
    /// Most slices in the sheet
    #[arg(long, default_value_t = 12, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    slices: u16,
    /// Longer side of a slice in pixels
    #[arg(long, default_value_t = 256, value_name = "PIXELS", value_parser = clap::value_parser!(u16).range(64..=1024))]
    tile: u16,
    #[command(flatten)]
    pick: inputs::Pick,
}

pub(crate) fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    if !args.output.extension().is_some_and(|e| e.eq_ignore_ascii_case("png")) {
        return Err(crate::exit::usage_error(format!("{}: expected a name ending in .png", args.output.display())));
    }
    let labels = args.labels.iter().map(|l| ("the labels", l.as_path()));
    apart::check(labels.chain([("the input", args.input.as_path())]), [("-o", Some(&args.output))])?;
    let image = args.pick.image(&args.input, global)?;
    for warning in &image.warnings {
        global.log(Level::Warn, warning);
    }
    let modality = args.modality.0.or_else(|| image.modality_guess());
    let by_modality = || Window::of(modality.unwrap_or(Modality::Mr));
    let mut options = Options::new(args.window.window().unwrap_or_else(by_modality));
    options.plane = args.plane;
    options.slices = usize::from(args.slices);
    options.tile = usize::from(args.tile);
    let labels = match &args.labels {
        Some(path) => {
            let (labels, file) = inputs::labels(path)?;
            options.names = names(&file);
            Some(inputs::on_grid_of(labels, &image)?)
        }
        None => None,
    };
    let mut scene = Scene::new(&image.volume).with_scale(image.slope, image.intercept);
    if let Some(labels) = &labels {
        scene = scene.with_labels(labels);
    }
    if image.is_picture() {
        scene = scene.as_picture();
    }
    let sheet = draw(&scene, &options)?;
    volseg_io::AtomicFile::write(&args.output, &sheet.to_png()?)?;
    global.say(format_args!("{}: {} × {} pixels", args.output.display(), sheet.width(), sheet.height()))?;
    Ok(ExitCode::Done)
}

/// Names in a label file go before ours: its ids may be those of another tool.
fn names(file: &Image) -> BTreeMap<u8, (String, [u8; 3])> {
    let named = file.labels.iter().filter_map(|label| Some((u8::try_from(label.value).ok()?, label)));
    named
        .map(|(id, label)| {
            let organ = label.name.parse::<OrganId>().ok().map(|organ| organ.organ().rgb);
            (id, (label.name.clone(), label.rgb.or(organ).unwrap_or_else(|| volseg_preview::colour(id).1)))
        })
        .collect()
}
