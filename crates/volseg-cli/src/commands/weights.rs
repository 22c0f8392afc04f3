//! `volseg weights`: checkpoints in, weights files looked into.

use crate::{
    apart,
    exit::{ExitCode, Verdict, usage_error},
    global::Global,
};
use serde_json::{Value, json};
use std::fmt::{Display, Write};
use std::io::Read;
use std::path::{Path, PathBuf};
use volseg_model::Error;
use volseg_model::clip::{self, ARCH, ClipConfig};
use volseg_model::config::{Arch, SamConfig};
use volseg_model::embedded;
use volseg_model::medvint::{self, MedVintConfig, SentencePieces};
use volseg_model::weights::{
    ClipImportOptions, Fit, ImportOptions, MedVintImportOptions, WeightsFile, find, folder, holds_clip, holds_medvint,
    import, import_clip, import_medvint, installed,
};

/// Licence of the weights inside.
const LICENCE_FILE: &str = "WEIGHTS-LICENSE.md";
/// No configuration or vocabulary is longer.
const MOST_TEXT: u64 = 8 << 20;

/// Import checkpoints, inspect weights files, list the models there are
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  volseg weights import sam-med2d_b.pth -o sam-med2d.safetensors
  volseg weights import medsam_vit_b.pth -o medsam.safetensors --arch medsam
  volseg weights import open_clip_pytorch_model.bin -o biomedclip.safetensors --vocab vocab.txt
  volseg weights import pytorch_model.bin -o medvint.safetensors --arch medvint --vocab tokenizer.model
  volseg weights inspect sam-med2d.safetensors --json
  volseg weights list")]
pub(crate) struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(clap::Subcommand)]
enum Task {
    /// Convert a checkpoint (.pth, or safetensors with the official names); its pickle is read as data and never run
    Import(Import),
    /// Print architecture, sizes, digest, licence, and what is missing or extra
    Inspect(Inspect),
    /// List the models that options such as --model take by name
    #[command(after_help = "\
Examples:
  volseg weights list           name, kind, size and licence
  volseg weights list --json    for scripts")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  volseg weights import sam-med2d_b.pth -o sam-med2d.safetensors
  volseg weights import sam_vit_b.pth -o start.safetensors --arch sam-med2d        to train from
  volseg weights import other.pth -o other.safetensors --config sizes.json         of unpublished sizes
  volseg weights import open_clip_pytorch_model.bin -o biomedclip.safetensors --vocab vocab.txt
  volseg weights import pytorch_model.bin -o medvint.safetensors --arch medvint --vocab tokenizer.model")]
struct Import {
    /// The checkpoint
    file: PathBuf,
    /// Weights file to write
    #[arg(short, long, value_name = "X.safetensors")]
    output: PathBuf,
    /// What the checkpoint is: auto, sam-med2d, sam, medsam, biomedclip or medvint; a SAM checkpoint taken as sam-med2d is converted
    #[arg(long, default_value = "auto", value_name = "ARCH")]
    arch: String,
    /// Sizes, for a checkpoint of none of the published ones
    #[arg(long, value_name = "CONFIG.json")]
    config: Option<PathBuf>,
    /// vocab.txt of an image-text model, tokenizer.model of MedVInT [default: the one beside the checkpoint]
    #[arg(long, value_name = "FILE")]
    vocab: Option<PathBuf>,
    /// Licence of the weights, kept in the file [default: what the publisher of the architecture states]
    #[arg(long, visible_alias = "license", value_name = "TEXT")]
    licence: Option<String>,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  volseg weights inspect sam-med2d.safetensors      a file
  volseg weights inspect embedded                   the model inside
  volseg weights inspect medsam --json              a name of `weights list`, for scripts")]
struct Inspect {
    /// embedded, a name of `weights list`, or a weights file
    #[arg(value_name = "NAME|FILE")]
    model: String,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    match args.task {
        Task::Import(args) => run_import(&args, global),
        Task::Inspect(args) => run_inspect(&args, global),
        Task::List { json } => run_list(json, global),
    }
}

/// A file that cannot be read or is not what it says decides the exit code; every other error is a plain failure.
fn judged(error: Error, path: &Path) -> anyhow::Error {
    match error {
        Error::Io { what, source } if what.starts_with("read") => {
            Verdict::Unreadable(format!("could not {what}: {source}")).into()
        }
        e if e.is_unreadable_input() => Verdict::Unreadable(format!("{}: {e}", path.display())).into(),
        other => anyhow::Error::new(other).context(format!("{} is not usable", path.display())),
    }
}

fn run_import(args: &Import, global: &Global) -> anyhow::Result<ExitCode> {
    if args.output.extension().is_none_or(|e| e != "safetensors") {
        return Err(usage_error(format!(
            "--output: found {}, expected a name that ends in .safetensors",
            args.output.display()
        )));
    }
    apart::check([("the checkpoint", args.file.as_path())], [("--output", Some(&args.output))])?;
    let clip = args.arch == ARCH || (args.arch == "auto" && holds_clip(&args.file).map_err(|e| judged(e, &args.file))?);
    if clip {
        return run_import_clip(args, global);
    }
    let auto = args.arch == "auto";
    if args.arch == medvint::ARCH || (auto && holds_medvint(&args.file).map_err(|e| judged(e, &args.file))?) {
        return run_import_medvint(args, global);
    }
    let arch = match args.arch.as_str() {
        "auto" => None,
        name => Some(
            name.parse::<Arch>()
                .map_err(|_| usage_error(format!("--arch: found {name}, expected auto, sam-med2d, sam, medsam, biomedclip or medvint")))?,
        ),
    };
    let config = args.config.as_deref().map(|p| read_config(p, SamConfig::from_json)).transpose()?;
    let options = ImportOptions { arch, config, licence: args.licence.clone(), seed: global.seed };
    let done = import(&args.file, &args.output, &options).map_err(|e| judged(e, &args.file))?;
    global.say(format_args!(
        "{}: {} with {} tensors, {:.1} M numbers",
        args.output.display(),
        done.arch,
        done.tensors,
        done.numbers as f64 / 1e6
    ))?;
    global.say(format_args!("SHA-256 of the tensors: {}", done.sha256))?;
    if !done.fit.extra.is_empty() {
        global.log(crate::global::Level::Warn, format_args!("left out, since unknown: {}", done.fit));
    }
    if !done.fresh.is_empty() {
        global.log(
            crate::global::Level::Warn,
            format_args!(
                "{} tensors start at random values and need training, as SAM has none for them",
                done.fresh.len()
            ),
        );
    }
    Ok(ExitCode::Done)
}

/// An image-text model, with its vocabulary inside.
fn run_import_clip(args: &Import, global: &Global) -> anyhow::Result<ExitCode> {
    let config = args.config.as_deref().map(|p| read_config(p, ClipConfig::from_json)).transpose()?;
    let beside = args.file.with_file_name("vocab.txt");
    let vocabulary = match args.vocab.as_ref().or_else(|| Some(&beside).filter(|p| p.exists())) {
        Some(path) => Some(read_text(path, "--vocab")?),
        None => None,
    };
    let options = ClipImportOptions { config, vocabulary, licence: args.licence.clone() };
    let done = import_clip(&args.file, &args.output, &options).map_err(|e| match e {
        Error::InvalidArgument { what: "vocabulary", found, expected } => {
            usage_error(format!("vocabulary: found {found}, expected {expected}"))
        }
        other => judged(other, &args.file),
    })?;
    global.say(format_args!("{}: {ARCH} with {:.1} M numbers", args.output.display(), done.numbers as f64 / 1e6))?;
    global.say(format_args!("SHA-256 of the tensors: {}", done.sha256))?;
    if !done.fit.extra.is_empty() {
        global.log(crate::global::Level::Warn, format_args!("left out, since unknown: {}", done.fit));
    }
    Ok(ExitCode::Done)
}

/// A network that answers questions about pictures, with its tokenizer inside.
fn run_import_medvint(args: &Import, global: &Global) -> anyhow::Result<ExitCode> {
    let config = args.config.as_deref().map(|p| read_config(p, MedVintConfig::from_json)).transpose()?;
    let beside = args.file.with_file_name("tokenizer.model");
    let tokenizer = match args.vocab.as_ref().or_else(|| Some(&beside).filter(|p| p.exists())) {
        Some(path) => {
            let mut bytes = Vec::new();
            let read = std::fs::File::open(path).and_then(|f| f.take(MOST_TEXT).read_to_end(&mut bytes));
            read.map_err(|e| unreadable("--vocab", path, e))?;
            Some(SentencePieces::from_model(&bytes).map_err(|e| unreadable("--vocab", path, e))?)
        }
        None => None,
    };
    let options = MedVintImportOptions { config, tokenizer, licence: args.licence.clone() };
    let done = import_medvint(&args.file, &args.output, &options).map_err(|e| match e {
        Error::InvalidArgument { what: "tokenizer", found, expected } => {
            usage_error(format!("tokenizer: found {found}, expected {expected}"))
        }
        other => judged(other, &args.file),
    })?;
    global.say(format_args!(
        "{}: {} with {:.1} M numbers",
        args.output.display(),
        medvint::ARCH,
        done.numbers as f64 / 1e6
    ))?;
    global.say(format_args!("SHA-256 of the tensors: {}", done.sha256))?;
    if !done.fit.extra.is_empty() {
        global.log(crate::global::Level::Warn, format_args!("left out, since unknown: {}", done.fit));
    }
    Ok(ExitCode::Done)
}

fn read_config<T>(path: &Path, parse: impl Fn(&str) -> Result<T, Error>) -> anyhow::Result<T> {
    parse(&read_text(path, "--config")?).map_err(|e| unreadable("--config", path, e))
}

fn read_text(path: &Path, option: &str) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|f| f.take(MOST_TEXT).read_to_string(&mut text));
    read.map_err(|e| unreadable(option, path, e))?;
    Ok(text)
}

fn unreadable(option: &str, path: &Path, why: impl Display) -> anyhow::Error {
    Verdict::Unreadable(format!("{option} {} is not usable: {why}", path.display())).into()
}

/// What `inspect` found.
struct Report {
    json: Value,
    fit: Option<Fit>,
    damaged: Option<Error>,
}

fn inspect(file: &WeightsFile) -> Result<Report, Error> {
    let meta = file.metadata();
    let (tensors, mut numbers) = (file.tensors().count(), 0usize);
    for (_, _, shape) in file.tensors() {
        numbers += shape.iter().product::<usize>();
    }
    // Other families have a configuration of their own, whose tensors only their code knows.
    let known = file.sam().is_ok() || meta.get("arch").is_some_and(|a| a == ARCH || a == embedded::ARCH);
    let fit = known.then(|| file.fit()).transpose()?;
    let damaged = if meta.contains_key("sha256") { file.verify().err() } else { None };
    let config = meta.get("config").and_then(|c| serde_json::from_str::<Value>(c).ok());
    let json = json!({
        "schema": "volseg-weights-inspect/1",
        "arch": meta.get("arch"),
        "config": config,
        "sha256": file.file_digest()?,
        "tensors_sha256": meta.get("sha256"),
        "tensors_sha256_matches": meta.get("sha256").map(|_| damaged.is_none()),
        "licence": meta.get("licence"),
        "prompts": meta.get("prompts"),
        "steps": meta.get("steps"),
        "tensors": tensors,
        "numbers": numbers,
        "bytes": file.bytes(),
        "missing": fit.as_ref().map(|f| &f.missing),
        "extra": fit.as_ref().map(|f| &f.extra),
        "misshaped": fit.as_ref().map(|f| &f.misshaped),
    });
    Ok(Report { json, fit, damaged })
}

fn run_inspect(args: &Inspect, global: &Global) -> anyhow::Result<ExitCode> {
    let path = PathBuf::from(&args.model);
    let inside = embedded::shipped(&args.model);
    let path = if inside.is_some() || path.is_file() { path } else { find(&args.model).map_err(|e| usage_error(e.to_string()))? };
    let file = inside.map_or_else(|| WeightsFile::open(&path), WeightsFile::shipped);
    let mut report = file.and_then(|f| inspect(&f)).map_err(|e| judged(e, &path))?;
    if inside.is_some() {
        report.json["licence"] = LICENCE_FILE.into();
    }
    if args.json {
        global.print(serde_json::to_string_pretty(&report.json)? + "\n")?;
    } else {
        global.print(text(&report))?;
    }
    if let Some(damage) = report.damaged {
        return Err(judged(damage, &path));
    }
    match report.fit {
        Some(fit) if !fit.is_complete() => {
            let arch = report.json["arch"].as_str().unwrap_or("its architecture").to_owned();
            Err(judged(Error::Unfit { arch, fit }, &path))
        }
        _ => Ok(ExitCode::Done),
    }
}

fn text(report: &Report) -> String {
    let j = &report.json;
    let word = |key: &str| j[key].as_str().unwrap_or("not stated").to_owned();
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<10} {value}");
    };
    line("arch", word("arch"));
    line("licence", word("licence"));
    line("prompts", word("prompts"));
    if let Some(steps) = j["steps"].as_str() {
        line("training", format!("{steps} steps"));
    }
    line("sha256", word("sha256"));
    line("tensors", format!("{} with {} numbers, {} bytes", j["tensors"], j["numbers"], j["bytes"]));
    match j["tensors_sha256_matches"].as_bool() {
        Some(true) => line("digest", "the tensors are as they were written".into()),
        Some(false) => line("digest", "DAMAGED: the tensors are not as they were written".into()),
        None => line("digest", "not stated".into()),
    }
    if let Some(fit) = &report.fit {
        line("fit", fit.to_string());
    }
    if let Some(config) = j["config"].as_object() {
        for (key, value) in config {
            let _ = writeln!(out, "  {key:<26} {value}");
        }
    }
    out
}

/// What `list` says of a model; `option` takes it by that name.
fn entry(name: &str, file: &WeightsFile) -> Value {
    let meta = file.metadata();
    let option = match meta.get("arch").map(String::as_str) {
        Some(ARCH) => "--source",
        Some(medvint::ARCH) => "--vqa",
        _ => "--model",
    };
    json!({
        "name": name, "option": option, "arch": meta.get("arch"), "licence": meta.get("licence"), "bytes": file.bytes(),
        "error": null,
    })
}

fn run_list(json: bool, global: &Global) -> anyhow::Result<ExitCode> {
    let place = folder();
    let mut models = Vec::new();
    let [any, ct] = embedded::SHIPPED_FILES;
    for (name, bytes) in [any, ("embedded", clip::SHIPPED), ct] {
        let file = WeightsFile::shipped(bytes)?;
        let mut inside = entry(name, &file);
        inside["licence"] = LICENCE_FILE.into();
        inside["sha256"] = file.file_digest()?.into();
        models.push(inside);
    }
    models.extend(installed().into_iter().map(|(name, path)| match WeightsFile::open(&path) {
        Ok(file) => entry(&name, &file),
        Err(e) => json!({
            "name": name, "option": null, "arch": null, "licence": null, "bytes": null, "error": e.to_string(),
        }),
    }));
    if json {
        let list = json!({ "schema": "volseg-weights-list/1", "folder": place, "models": models });
        global.print(serde_json::to_string_pretty(&list)? + "\n")?;
        return Ok(ExitCode::Done);
    }
    let mut out = format!("{:<24} {:<8} {:<16} {:>7}  licence\n", "name", "option", "arch", "MiB");
    for m in &models {
        let word = |key: &str| m[key].as_str().unwrap_or("?").to_owned();
        let size = m["bytes"].as_u64().map_or("?".into(), |b| format!("{:.0}", b as f64 / f64::from(1 << 20)));
        let note = m["error"].as_str().map_or_else(|| word("licence"), |e| format!("not usable: {e}"));
        let _ = writeln!(
            out,
            "{:<24} {:<8} {:<16} {size:>7}  {note}",
            word("name"),
            word("option"),
            word("arch")
        );
    }
    if let Some(place) = place {
        let _ = writeln!(
            out,
            "embedded is inside; files NAME.safetensors in {} are listed; VOLSEG_WEIGHTS names another folder.",
            place.display()
        );
    }
    global.print(out)?;
    Ok(ExitCode::Done)
}
