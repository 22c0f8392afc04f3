//! `volseg phantom`: synthetic pictures with exact labels, one case or a data set.

use crate::{
    exit::{ExitCode, usage_error},
    global::Global,
};
use anyhow::Context;
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
};
use volseg_geometry::{AnyVolume, LabelMap, OrganId};
use volseg_io::{Image, ScratchFolder};
use volseg_phantom::{CtOptions, PicturePhantom, Size, breast_ultrasound, chest_xray, ct_abdomen};

/// Most cases of a data set: file names have four digits.
const MOST_CASES: usize = 9999;

/// Names in AMOS22's `dataset.json`, in the order of the labels from 0, with its own spelling.
const AMOS_NAMES: [&str; 16] = [
    "background",
    "spleen",
    "right kidney",
    "left kidney",
    "gall bladder",
    "esophagus",
    "liver",
    "stomach",
    "arota",
    "postcava",
    "pancreas",
    "right adrenal gland",
    "left adrenal gland",
    "duodenum",
    "bladder",
    "prostate/uterus",
];

/// Make a synthetic CT, X-ray or ultrasound with its true labels, from a seed
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  volseg phantom --modality ct --seed 7 -o ct7               ct7/image.nii.gz and ct7/labels.nii.gz
  volseg phantom --modality ct --seed 7 --size full -o ct7   512x512 pixels a slice
  volseg phantom --modality xray --seed 3 -o xray3           xray3/image.png and xray3/labels.png
  volseg phantom --dataset amos --cases 10 -o amos           a data set in AMOS22's layout")]
pub(crate) struct Args {
    /// Kind of picture
    #[arg(long, value_enum, default_value_t = Modality::Ct, conflicts_with = "dataset")]
    modality: Modality,
    /// Folder to write to; it is made if missing
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Grid: CT voxels of 2.5 to 3 mm or 512x512 slices; pictures of 256 or 512 pixels
    #[arg(long, value_enum, default_value_t = Grid::Small)]
    size: Grid,
    /// Make a data set of CTs in this layout
    #[arg(long, value_enum, requires = "cases")]
    dataset: Option<Layout>,
    /// Cases of the data set; seeds count up from --seed, the last fifth is for validation
    #[arg(long, value_name = "N", requires = "dataset")]
    cases: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Modality {
    /// Abdomen with the 15 AMOS organs
    Ct,
    /// Chest with lungs
    Xray,
    /// Breast with a lesion, or none
    Ultrasound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Grid {
    Small,
    Full,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Layout {
    /// AMOS22: dataset.json, imagesTr, labelsTr, imagesVa, labelsVa
    Amos,
}

pub(crate) fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    if args.output.exists() && !args.output.is_dir() {
        return Err(usage_error(format!("-o {}: not a folder", args.output.display())));
    }
    // All of it is made beside its place and moved there at the end.
    let parent = args.output.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).with_context(|| format!("could not make {}", parent.display()))?;
    let stage = ScratchFolder::create(parent)?;
    let summary = match (args.dataset, args.cases) {
        (Some(Layout::Amos), Some(cases)) => {
            if !(1..=MOST_CASES).contains(&cases) {
                return Err(usage_error(format!("--cases: found {cases}, expected 1 to {MOST_CASES}")));
            }
            amos(stage.path(), cases, args.size, global)?
        }
        _ => case(stage.path(), args.modality, args.size, global.seed)?,
    };
    publish(stage.path(), &args.output).with_context(|| format!("could not write {}", args.output.display()))?;
    global.say(format_args!("{}: {summary}", args.output.display()))?;
    Ok(ExitCode::Done)
}

/// One picture; says what it is.
fn case(folder: &Path, modality: Modality, size: Grid, seed: u64) -> anyhow::Result<String> {
    let side = if size == Grid::Full { 512 } else { 256 };
    match modality {
        Modality::Ct => ct(&folder.join("image.nii.gz"), &folder.join("labels.nii.gz"), size, seed),
        Modality::Xray => picture(folder, chest_xray(seed, side)?),
        Modality::Ultrasound => picture(folder, breast_ultrasound(seed, side)?),
    }
}

fn ct(image_path: &Path, labels_path: &Path, size: Grid, seed: u64) -> anyhow::Result<String> {
    let size = if size == Grid::Full { Size::Full } else { Size::Small };
    let options = CtOptions { size, ..CtOptions::default() };
    let phantom = ct_abdomen(seed, &options)?;
    let organs = organs_of(&phantom.labels);
    let ([x, y, z], [a, _, c]) = (phantom.image.dim(), phantom.image.affine().spacing_mm());
    let summary = format!("CT of {x}x{y}x{z} voxels of {a:.2}x{a:.2}x{c:.2} mm, {} organs", organs.len());
    let image = Image::new(AnyVolume::from(phantom.image));
    volseg_io::write(image_path, &image)?;
    volseg_io::write_labels(labels_path, &phantom.labels, &image, &organs)?;
    Ok(summary)
}

fn picture(folder: &Path, phantom: PicturePhantom) -> anyhow::Result<String> {
    let organs = organs_of(&phantom.labels);
    let [x, y, _] = phantom.image.dim();
    let names: Vec<String> = organs.iter().map(ToString::to_string).collect();
    let summary =
        format!("picture of {x}x{y} pixels, {}", if names.is_empty() { "no organ".into() } else { names.join(", ") });
    let image = Image::new(AnyVolume::from(phantom.image));
    volseg_io::write(&folder.join("image.png"), &image)?;
    volseg_io::write_labels(&folder.join("labels.png"), &phantom.labels, &image, &organs)?;
    Ok(summary)
}

/// The organs that a map holds.
fn organs_of(labels: &LabelMap) -> Vec<OrganId> {
    let mut seen = [false; 256];
    labels.voxels().iter().for_each(|l| seen[usize::from(*l)] = true);
    (1..=255).filter(|id| seen[usize::from(*id)]).filter_map(OrganId::new).collect()
}

fn amos(folder: &Path, cases: usize, size: Grid, global: &Global) -> anyhow::Result<String> {
    let training = cases - cases / 5;
    let mut lists = [Vec::new(), Vec::new()];
    for sub in ["imagesTr", "labelsTr", "imagesVa", "labelsVa"] {
        fs::create_dir(folder.join(sub))?;
    }
    let bar = global.bar(cases as u64, "cases");
    for n in 0..cases {
        let validation = n >= training;
        let part = if validation { "Va" } else { "Tr" };
        let name = format!("amos_{:04}.nii.gz", n + 1);
        let (image, labels) = (format!("images{part}/{name}"), format!("labels{part}/{name}"));
        ct(&folder.join(&image), &folder.join(&labels), size, global.seed.wrapping_add(n as u64))?;
        lists[usize::from(validation)].push(json!({ "image": format!("./{image}"), "label": format!("./{labels}") }));
        bar.inc(1);
    }
    bar.finish_and_clear();
    let labels: serde_json::Map<_, _> =
        AMOS_NAMES.iter().enumerate().map(|(id, name)| (id.to_string(), json!(name))).collect();
    let [train, validate] = lists;
    let record = json!({
        "name": "AMOS", "description": "Synthetic abdomens of volseg phantom in the layout of AMOS22",
        "reference": "volseg phantom", "licence": "Apache-2.0 OR MIT", "release": env!("CARGO_PKG_VERSION"),
        "tensorImageSize": "3D", "modality": { "0": "CT" }, "labels": labels,
        "numTraining": train.len(), "numValidation": validate.len(), "numTest": 0,
        "training": train, "validation": validate, "test": [],
    });
    fs::write(folder.join("dataset.json"), serde_json::to_string_pretty(&record)? + "\n")?;
    Ok(format!("{training} cases to train on, {} to validate with", cases - training))
}

/// Moves what stands in `stage` to `target`, file by file; folders that exist are kept.
fn publish(stage: &Path, target: &Path) -> std::io::Result<()> {
    fs::create_dir_all(target)?;
    let mut entries = fs::read_dir(stage)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let to = target.join(entry.file_name());
        if entry.file_type()?.is_dir() { publish(&entry.path(), &to)? } else { fs::rename(entry.path(), to)? }
    }
    Ok(())
}
