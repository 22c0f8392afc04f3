//! `volseg prompt`: boxes and points for an image with nobody to give them.

use crate::chain::{Ask, ChainArgs, PromptMaker, entries, overlay, words::WordArgs};
use crate::{
    apart,
    exit::{ExitCode, usage_error},
    global::{Global, Level},
    inputs::{self, WindowChoice},
};
use anyhow::Context;
use serde_json::json;
use std::path::PathBuf;
use volseg_engine::PromptEntry;
use volseg_geometry::{Modality, ORGANS, OrganId, Plane};
use volseg_io::{AtomicFile, Image};
use volseg_prompt::chain::{Chain, ChainRequest, Target};
use volseg_prompt::sensitivity::{BLIND_BELOW, Sensitivity, sensitivity};

/// Make box and point prompts without an expert
#[derive(clap::Args)]
#[command(after_help = "Examples:
  volseg prompt ct.nii.gz -o prompts.json --organs liver,spleen --overlay pictures
  volseg prompt chest.png -o prompts.json --modality xray
  volseg prompt us.png -o prompts.json --text 'breast tumor' --save-saliency map.nii.gz
  volseg prompt ct.nii.gz -o prompts.json --source biomedclip.safetensors --method gradcam
  volseg prompt ct.nii.gz -o prompts.json --organs liver --check-sensitivity
  volseg prompt ct.nii.gz -o prompts.json --answers answers.jsonl
  volseg prompt ct.nii.gz -o prompts.json --vqa http --vqa-url http://127.0.0.1:11434 --vqa-model llava
  volseg segment ct.nii.gz -o organs.nii.gz --prompts prompts.json")]
pub(crate) struct Args {
    /// Image: NIfTI, NRRD, MetaImage, DICOM (file, folder or zip) or a picture
    input: PathBuf,
    /// Prompt file to write
    #[arg(short, long, value_name = "PROMPTS.json")]
    output: PathBuf,
    /// Organs to look for, comma-separated [default: those of the modality]
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    organs: Vec<String>,
    /// A free text in place of an organ's name; may be repeated
    #[arg(long, value_name = "TEXT")]
    text: Vec<String>,
    /// auto, ct, xray, ultrasound or mr
    #[arg(long, default_value = "auto", value_name = "MODALITY")]
    modality: String,
    /// auto, axial, coronal or sagittal
    #[arg(long, default_value = "auto", value_name = "PLANE")]
    plane: String,
    /// auto, none, or LOW,HIGH in stored units (HU for CT)
    #[arg(long, default_value = "auto", value_name = "WINDOW", allow_hyphen_values = true)]
    window: WindowChoice,
    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    words: WordArgs,
    /// Pictures of every prompt, into this folder: saliency, mask, box and points over the slice
    #[arg(long, value_name = "DIR")]
    overlay: Option<PathBuf>,
    /// Saliency in 0..1 as float32 on the input's grid (several texts: 4th axis in their order)
    #[arg(long, value_name = "FILE")]
    save_saliency: Option<PathBuf>,
    /// Also say for each text how much it decides its map: compared with other organs and with nonsense
    #[arg(long)]
    check_sensitivity: bool,
    #[command(flatten)]
    pick: inputs::Pick,
}

pub(crate) fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let auto = |text: &str| text == "auto";
    let usage = |e: volseg_geometry::Error| usage_error(e.to_string());
    let mut organs = args.organs.iter().map(|o| o.parse().map_err(usage)).collect::<Result<Vec<OrganId>, _>>()?;
    organs.sort();
    organs.dedup();
    if let Some(text) = args.text.iter().find(|t| t.trim().is_empty()) {
        return Err(usage_error(format!("--text: found {text:?}, expected words")));
    }
    let ask = Ask {
        organs,
        texts: args.text.clone(),
        modality: (!auto(&args.modality)).then(|| args.modality.parse::<Modality>()).transpose().map_err(usage)?,
        plane: (!auto(&args.plane)).then(|| args.plane.parse::<Plane>()).transpose().map_err(usage)?,
        window: args.window.window(),
        keep_views: args.overlay.is_some(),
        keep_saliency: args.save_saliency.is_some(),
    };
    let outputs = [("-o", Some(&args.output)), ("--save-saliency", args.save_saliency.as_ref())];
    apart::check([("the input", args.input.as_path())], outputs)?;
    args.overlay.iter().try_for_each(|folder| apart::writable(folder))?;
    let words = args.words.open(&args.chain)?;
    let maker = args.chain.maker(global)?;
    let image = args.pick.image(&args.input, global)?;
    for w in &image.warnings {
        global.log(Level::Warn, w);
    }
    let (targets, request, guess) = maker.plan(&image, &ask)?;
    for w in &guess.warnings {
        global.log(Level::Warn, w);
    }
    for t in targets.iter().filter(|t| t.organ.is_none() && OrganId::named_in(&t.text).is_none()) {
        global.log(
            Level::Warn,
            format_args!("--text {:?} names no organ with a label: `segment` will need --organs NAME for its prompts", t.text),
        );
    }
    if let (Some(allowed), Some(_)) = (global.memory, &args.save_saliency) {
        let needed = image.volume.dim().iter().product::<usize>() as u64 * targets.len() as u64 * 4;
        if needed > allowed {
            return Err(usage_error(format!(
                "--save-saliency needs {} MiB for {} texts, --memory allows {}; name fewer organs",
                needed >> 20,
                targets.len(),
                allowed >> 20
            )));
        }
    }
    let mut chain = maker.run(&image, &targets, &request, &guess, global)?;
    let checked = if args.check_sensitivity {
        check(&maker, &image, &targets, &chain, &request, global)?
    } else {
        Vec::new()
    };
    let mut entries = entries(&chain, &targets);
    let name = args.input.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
    words.add(&mut entries, &image, &name, &mut chain, &targets, &request, &maker.model, global)?;
    write(&args, &maker, &image, &targets, &request, &mut chain, &entries, &checked)?;
    for (t, target) in targets.iter().enumerate() {
        let n = chain.prompts.iter().filter(|p| p.target == t).count();
        global.say(format_args!("{:28} {n} of {} slices", target.text, chain.timings.slices))?;
    }
    for s in &checked {
        global.say(format_args!("{:28} sensitivity {:.2} (0: the text does not matter)", s.text, s.sensitivity))?;
    }
    let t = &chain.timings;
    global.say(format_args!(
        "{} written in {:.1} s ({} maps {:.1}, {} CRF runs {:.1}). Research use only, not for diagnosis.",
        args.output.display(),
        t.total_s,
        t.maps,
        t.saliency_s + t.presence_s,
        t.crf_runs,
        t.crf_s
    ))?;
    Ok(ExitCode::Done)
}

/// Sensitivity of each text, with warnings where it is low.
fn check(
    maker: &PromptMaker,
    image: &Image,
    targets: &[Target],
    chain: &Chain,
    request: &ChainRequest,
    global: &Global,
) -> anyhow::Result<Vec<Sensitivity>> {
    let others: Vec<String> = [6, 1, 3, 8, 14, 16, 17]
        .into_iter()
        .filter_map(|id: usize| ORGANS.get(id - 1))
        .map(|o| o.prompt.to_owned())
        .collect();
    let checked =
        sensitivity(image, &maker.model, maker.saliency.as_ref(), targets, &others, &chain.similarity, request)?;
    for s in checked.iter().filter(|s| s.sensitivity < BLIND_BELOW) {
        global.log(
            Level::Warn,
            format_args!("{}: the map is nearly the same for other words (sensitivity {:.2})", s.text, s.sensitivity),
        );
    }
    Ok(checked)
}

/// Writes all outputs.
fn write(
    args: &Args,
    maker: &PromptMaker,
    image: &Image,
    targets: &[Target],
    request: &ChainRequest,
    chain: &mut Chain,
    entries: &[PromptEntry],
    checked: &[Sensitivity],
) -> anyhow::Result<()> {
    if let Some(path) = &args.save_saliency {
        let maps = chain.saliency.take().unwrap_or_default();
        volseg_io::write_f32(path, &maps, targets.len(), image)
            .with_context(|| format!("could not write {}", path.display()))?;
    }
    if let Some(folder) = &args.overlay {
        std::fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
        for (prompt, entry) in chain.prompts.iter().zip(entries) {
            let name = entry.organ.clone().unwrap_or_else(|| format!("text{}", prompt.target + 1));
            if let Some(canvas) = overlay::draw(prompt) {
                AtomicFile::write(&folder.join(format!("{name}_{:04}.png", prompt.slice)), &canvas.to_png()?)?;
            }
        }
    }
    let mut file = json!({
        "version": 1,
        "input_sha256": image.sha256,
        "modality": request.modality,
        "settings": maker.settings,
        "warnings": chain.warnings,
        "prompts": entries,
    });
    if !checked.is_empty() {
        file["sensitivity"] = json!(checked);
    }
    if !chain.presence.is_empty() {
        let rows = targets.iter().zip(&chain.presence).map(|(t, p)| (t.text.clone(), json!(p))).collect();
        file["presence"] = serde_json::Value::Object(rows);
    }
    AtomicFile::write(&args.output, (serde_json::to_string_pretty(&file)? + "\n").as_bytes())
        .with_context(|| format!("could not write {}", args.output.display()))
}
