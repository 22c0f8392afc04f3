//! `volseg organs`: the table of organs.

use crate::{exit::ExitCode, global::Global};
use serde_json::json;
use std::fmt::Write;
use volseg_geometry::{Code, ORGANS};

/// List organ ids, names, aliases, codes, colours and the models that know them
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  volseg organs                                  a table
  volseg organs --json | jq '.organs[].name'     for programs")]
pub(crate) struct Args {
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    global.print(if args.json { json()? } else { table() })?;
    Ok(ExitCode::Done)
}

/// Which of our models are taught an organ. SAM-Med2D and its kin take any object from a box or points.
fn models(id: u8) -> &'static [&'static str] {
    if id <= 17 { &["embedded"] } else { &[] }
}

fn table() -> String {
    let mut out =
        format!("{:>2}  {:<22} {:<7} {:<10} {:<9} {}\n", "id", "name", "colour", "SNOMED CT", "model", "also called");
    for organ in &ORGANS {
        let colour = organ.rgb.iter().fold(String::from("#"), |mut text, part| {
            let _ = write!(text, "{part:02x}");
            text
        });
        let model = models(organ.id.get()).first().unwrap_or(&"-");
        let aliases = organ.aliases.join(", ");
        let line = format!(
            "{:>2}  {:<22} {colour:<7} {:<10} {model:<9} {aliases}",
            organ.id.get(),
            organ.name,
            organ.code.value
        );
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out.push_str("Boxes and points work for any of them with SAM-Med2D, SAM or MedSAM weights.\n");
    out
}

fn json() -> serde_json::Result<String> {
    let code = |c: Code| json!({ "scheme": "SCT", "value": c.value, "meaning": c.meaning });
    let organs: Vec<_> = ORGANS
        .iter()
        .map(|o| {
            json!({
                "id": o.id.get(), "name": o.name, "prompt": o.prompt, "aliases": o.aliases, "rgb": o.rgb,
                "category": code(o.category), "code": code(o.code), "laterality": o.laterality.map(code),
                "models": models(o.id.get()),
            })
        })
        .collect();
    Ok(serde_json::to_string_pretty(&json!({ "schema": "volseg.organs/1", "organs": organs }))? + "\n")
}
