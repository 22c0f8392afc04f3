//! What `segment` writes. Every file is written beside its place and renamed.

use super::Args;
use crate::{apart, dicom_out, exit::usage_error, global::Global};
use anyhow::Context;
use std::{
    path::{Path, PathBuf},
    time::Instant,
};
use volseg_engine::{Model, OrganStatistics, PromptMode, Request, RunReport, Segmentation, only_organ, preview_png, statistics};
use volseg_io::{AtomicFile, Format, Image, LabelName};

/// Refuses outputs that cannot be written, before any work.
pub(super) fn check(args: &Args) -> anyhow::Result<()> {
    let name = args.output.to_string_lossy().to_ascii_lowercase();
    let known = [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".png", ".dcm"];
    if !known.iter().any(|e| name.ends_with(e)) {
        return Err(usage_error(format!(
            "-o: found {}, expected a name that ends in .nii, .nii.gz, .nrrd, .seg.nrrd, .mha, .png or .dcm",
            args.output.display()
        )));
    }
    if let Some(stats) = &args.stats {
        let name = stats.to_string_lossy();
        if !name.ends_with(".json") && !name.ends_with(".csv") {
            return Err(usage_error(format!("--stats: found {name}, expected .json or .csv")));
        }
    }
    if let Some(preview) = args.preview.as_ref().filter(|p| !p.extension().is_some_and(|e| e.eq_ignore_ascii_case("png"))) {
        return Err(usage_error(format!("--preview: found {}, expected a name that ends in .png", preview.display())));
    }
    if let Some(path) = &args.save_probabilities {
        let format = Format::of_output(path);
        if !format.is_ok_and(|f| !matches!(f, Format::Png | Format::SegNrrd | Format::DicomSeg)) {
            return Err(usage_error(format!(
                "--save-probabilities: found {}, expected a name that ends in .nii, .nii.gz, .nrrd, .mha or .mhd",
                path.display()
            )));
        }
    }
    Ok(())
}

/// Refuses to write over what is read (image, weights, prompts, labels that prompts come from) and over another output.
pub(super) fn check_apart(args: &Args) -> anyhow::Result<()> {
    let prompts = args.prompts.strip_prefix("boxes-from:").or_else(|| args.prompts.strip_prefix("points-from:"));
    let prompts = prompts.map_or(args.prompts.as_str(), |p| p.split(',').next().unwrap_or(p));
    let inputs = [("the input", args.input.as_path()), ("--model", Path::new(&args.ask.model)), ("--prompts", Path::new(prompts))];
    apart::check(
        inputs,
        [
            ("-o", Some(&args.output)),
            ("--save-probabilities", args.save_probabilities.as_ref()),
            ("--preview", args.preview.as_ref()),
            ("--stats", args.stats.as_ref()),
            ("--report", args.report.as_ref()),
        ],
    )?;
    [&args.per_organ, &args.candidates].into_iter().flatten().try_for_each(|folder| apart::writable(folder))
}

/// Refuses what the output's format cannot hold for this image, before any work.
pub(super) fn check_fits(args: &Args, image: &Image) -> anyhow::Result<()> {
    if dicom_out::is_asked(&args.output) {
        dicom_out::check(&args.output, image)?;
    }
    let png = args.output.extension().is_some_and(|e| e.eq_ignore_ascii_case("png"));
    if png && image.volume.dim()[2] != 1 {
        return Err(usage_error(format!(
            "-o: a .png holds one slice, the image has {}; write .seg.nrrd or .nii.gz",
            image.volume.dim()[2]
        )));
    }
    Ok(())
}

/// Files that this run has written. They go again if it fails later: half of what was asked for looks like all of it.
#[derive(Default)]
struct Written(Vec<PathBuf>);

impl Drop for Written {
    fn drop(&mut self) {
        self.0.iter().for_each(|path| drop(std::fs::remove_file(path)));
    }
}

#[allow(clippy::too_many_arguments)]
pub(super) fn write_all(
    args: &Args,
    image: &Image,
    model: &Model,
    request: &Request,
    result: &mut Segmentation,
    global: &Global,
    began: Instant,
) -> anyhow::Result<()> {
    let writing = Instant::now();
    let mut written = Written::default();
    let measured = statistics(&result.labels, &image.volume, image.slope, image.intercept, &result.organs);
    if dicom_out::is_asked(&args.output) {
        let names: Vec<LabelName> = result.organs.iter().map(|&id| id.into()).collect();
        let made_by = (model.name(), &*format!("weights SHA-256 {}", model.weights_sha256(result.modality)));
        dicom_out::write(&args.output, args.dicom_form, &result.labels, image, &names, made_by)?;
    } else {
        volseg_io::write_labels(&args.output, &result.labels, image, &result.organs)
            .with_context(|| format!("could not write {}", args.output.display()))?;
    }
    written.0.push(args.output.clone());
    if let Some(folder) = &args.per_organ {
        let extension = if image.is_picture() { "png" } else { "nii.gz" };
        for organ in &result.organs {
            let only = only_organ(&result.labels, *organ)?;
            let path = folder.join(format!("{organ}.{extension}"));
            volseg_io::write_labels(&path, &only, image, &[*organ])?;
            written.0.push(path);
        }
    }
    if let Some(folder) = &args.candidates {
        let extension = if image.is_picture() { "png" } else { "nii.gz" };
        for (threshold, labels) in &result.candidates {
            let path = folder.join(format!("candidate_{threshold:.1}.{extension}"));
            volseg_io::write_labels(&path, labels, image, &result.organs)?;
            written.0.push(path);
        }
    }
    if let Some(path) = &args.save_probabilities {
        let values = result.probabilities.take().unwrap_or_default();
        volseg_io::write_f32(path, &values, result.organs.len(), image)
            .with_context(|| format!("could not write {}", path.display()))?;
        written.0.push(path.clone());
    }
    if let Some(path) = &args.preview {
        AtomicFile::write(path, &preview_png(image, result)?)?;
        written.0.push(path.clone());
    }
    if let Some(path) = &args.stats {
        write_statistics(path, &measured)?;
        written.0.push(path.clone());
    }
    result.timings.write_s = writing.elapsed().as_secs_f64();
    result.timings.total_s = began.elapsed().as_secs_f64();
    if let Some(path) = &args.report {
        let report = RunReport::new(image, model, request, result, &measured, global.threads);
        AtomicFile::write(path, (serde_json::to_string_pretty(&report)? + "\n").as_bytes())?;
    }
    // All is there: it stays.
    written.0.clear();
    summary(args, image, model, request, result, &measured, global)
}

fn write_statistics(path: &Path, measured: &[OrganStatistics]) -> anyhow::Result<()> {
    let text = if path.extension().is_some_and(|e| e == "csv") {
        let mut text = String::from("id,name,voxels,volume_ml,mean,sd,centroid_r_mm,centroid_a_mm,centroid_s_mm\n");
        let number = |v: Option<f64>| v.map_or(String::new(), |v| format!("{v:.4}"));
        for m in measured {
            let c = |i: usize| number(m.centroid_mm.map(|c| c[i]));
            text += &format!(
                "{},{},{},{:.4},{},{},{},{},{}\n",
                m.id,
                m.name,
                m.voxels,
                m.volume_ml,
                number(m.mean),
                number(m.sd),
                c(0),
                c(1),
                c(2)
            );
        }
        text
    } else {
        serde_json::to_string_pretty(measured)? + "\n"
    };
    Ok(AtomicFile::write(path, text.as_bytes())?)
}

fn summary(
    args: &Args,
    image: &Image,
    model: &Model,
    request: &Request,
    result: &Segmentation,
    measured: &[OrganStatistics],
    global: &Global,
) -> anyhow::Result<()> {
    let found: Vec<&OrganStatistics> = measured.iter().filter(|m| m.voxels > 0).collect();
    for m in &found {
        if image.is_picture() {
            global.say(format_args!("{:22} {:>9} pixels", m.name, m.voxels))?;
        } else {
            global.say(format_args!("{:22} {:>9.1} ml", m.name, m.volume_ml))?;
        }
    }
    // What had no prompt was not looked for.
    let sought = |m: &&OrganStatistics| match &request.prompts {
        PromptMode::Organ => true,
        PromptMode::Given { .. } => request.prompts.given().any(|p| p.organ.get() == m.id),
    };
    let missing: Vec<&str> =
        measured.iter().filter(|m| m.voxels == 0).filter(sought).map(|m| m.name.as_str()).collect();
    if !missing.is_empty() {
        global.say(format_args!("not found: {}", missing.join(", ")))?;
    }
    // Networks of SAM's family look at every kind of image in the same way.
    if matches!(model, Model::Embedded { .. }) && request.modality.is_none() && image.modality.is_none() {
        let taken = serde_json::to_value(result.modality)?;
        global.say(format_args!("taken as {}: a guess, --modality decides", taken.as_str().unwrap_or_default()))?;
    }
    let t = &result.timings;
    global.say(format_args!(
        "{} written in {:.1} s (read {:.1}, network {:.1}, write {:.1}). Research use only, not for diagnosis.",
        args.output.display(),
        t.total_s,
        t.read_s,
        t.network_s + t.cleanup_s + t.assemble_s,
        t.write_s
    ))
}
