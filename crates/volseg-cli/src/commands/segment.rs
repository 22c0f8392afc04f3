//! `volseg segment`: organ masks of one image.

mod asked;
mod outputs;

use crate::{
    dicom_out::DicomForm,
    exit::{ExitCode, usage_error},
    global::{Global, Level},
    inputs,
    request::{RequestArgs, load_model},
};
use asked::prompt_mode;
use indicatif::ProgressBar;
use outputs::write_all;
use std::{path::PathBuf, time::Instant};
use volseg_engine::{Observer, PromptMode, Request, Stage, segment};

/// Find organs in a CT, an X-ray or an ultrasound
#[derive(clap::Args)]
#[command(after_help = "Examples:
  volseg segment ct.nii.gz -o organs.seg.nrrd --preview organs.png
  volseg segment dicom-folder -o organs.nii.gz --organs liver,spleen --stats organs.csv
  volseg segment dicom-folder -o organs.dcm        a DICOM segmentation for the PACS
  volseg segment chest.png -o lungs.png --modality xray
  volseg segment ct.nii.gz -o liver.nii.gz --prompts boxes.json
  volseg segment ct.nii.gz -o liver.nii.gz --prompts chain --organs liver
  volseg segment slice.png -o mask.png --model sam-med2d.safetensors --prompts box.json")]
pub(crate) struct Args {
    /// Image: NIfTI, NRRD, MetaImage, DICOM (file, folder or zip) or a picture
    input: PathBuf,
    /// Label map to write: .nii, .nii.gz, .nrrd, .seg.nrrd, .mha, .png (single slices) or .dcm (for a DICOM input)
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    #[command(flatten)]
    ask: RequestArgs,
    /// auto, organ, chain[:SOURCE], FILE.json, boxes-from:LABELS or points-from:LABELS
    #[arg(long, default_value = "auto", value_name = "PROMPTS")]
    prompts: String,
    /// Also one file per organ, into this folder
    #[arg(long, value_name = "DIR")]
    per_organ: Option<PathBuf>,
    /// Probabilities as float32 on the input's grid (4th axis in label order for several organs)
    #[arg(long, value_name = "FILE")]
    save_probabilities: Option<PathBuf>,
    /// The label maps at the thresholds 0.3, 0.4, 0.5 and 0.6, into this folder
    #[arg(long, value_name = "DIR")]
    candidates: Option<PathBuf>,
    /// Picture of slices with the organs drawn over them
    #[arg(long, value_name = "FILE.png")]
    preview: Option<PathBuf>,
    /// Volumes, intensities and positions of the organs
    #[arg(long, value_name = "FILE.json|.csv")]
    stats: Option<PathBuf>,
    /// Record of the run
    #[arg(long, value_name = "FILE.json")]
    report: Option<PathBuf>,
    /// What a .dcm output is
    #[arg(long, value_enum, default_value = "seg", value_name = "FORM")]
    dicom_form: DicomForm,
    #[command(flatten)]
    pick: inputs::Pick,
}

/// Shows the network's progress on a bar.
struct Bar(ProgressBar);

impl Observer for Bar {
    fn progress(&self, stage: Stage, done: usize, total: usize) {
        if stage == Stage::Network {
            self.0.set_length(total as u64);
            self.0.set_position(done as u64);
        }
    }
}

pub(crate) fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let mut request = Request {
        keep_probabilities: args.save_probabilities.is_some(),
        candidates: args.candidates.is_some(),
        ..args.ask.request(global)?
    };
    outputs::check(&args)?;
    outputs::check_apart(&args)?;
    let image = args.pick.image(&args.input, global)?;
    for w in &image.warnings {
        global.log(Level::Warn, w);
    }
    outputs::check_fits(&args, &image)?;
    let read_s = began.elapsed().as_secs_f64();
    let model = load_model(&args.ask.model, &global.network_device()?, global.precision)?;
    request.prompts = prompt_mode(&args, &image, &model, &mut request, global)?;
    let prompted = matches!(request.prompts, PromptMode::Organ) || request.prompts.given().next().is_some();
    if request.keep_probabilities && request.organs.is_none() && !prompted {
        return Err(usage_error("--save-probabilities: there is no prompt and so no organ; say which one with --organs"));
    }
    if request.fast && !matches!(request.prompts, PromptMode::Organ) {
        global.log(Level::Warn, "--fast does nothing with prompts: their slices are read, and no others");
    }
    let [x, y, z] = image.volume.dim();
    let by = request.prompts.name();
    global.log(Level::Info, format_args!("{x} x {y} x {z} voxels, model {}, prompts {by}", model.name()));
    let bar = Bar(global.bar(1, "slices"));
    let mut result = segment(&image, &model, &request, global.threads, &bar).map_err(|e| match e {
        volseg_engine::Error::Request(text) | volseg_engine::Error::Prompts(text) => usage_error(text),
        other => other.into(),
    })?;
    bar.0.finish_and_clear();
    for w in &result.warnings {
        global.log(Level::Warn, w);
    }
    for c in &result.confidence {
        global.log(
            Level::Debug,
            format_args!("{}: {} slices, mean predicted IoU {:.2}, least {:.2} in slice {}", c.organ, c.slices, c.mean_predicted_iou, c.weakest_predicted_iou, c.weakest_slice),
        );
    }
    result.timings.read_s = read_s;
    write_all(&args, &image, &model, &request, &mut result, global, began)?;
    Ok(ExitCode::Done)
}
