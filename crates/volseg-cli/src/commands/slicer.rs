//! `volseg slicer`: installs the modules for 3D Slicer.

use crate::{
    exit::{ExitCode, usage_error},
    global::Global,
    slicer::{NAME, description},
};
use anyhow::Context;
use std::{
    fs,
    path::{Path, PathBuf},
};
use volseg_io::AtomicFile;

/// Modules for 3D Slicer
#[derive(clap::Args)]
#[command(after_help = "Examples:
  volseg slicer install")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: SlicerCommand,
}

#[derive(clap::Subcommand)]
enum SlicerCommand {
    Install(Install),
}

/// Write the module folders and print the paths to add in Slicer's settings
#[derive(clap::Args)]
#[command(after_help = "Examples:
  volseg slicer install                     into the user's data folder
  volseg slicer install --dir ~/slicer-volseg

In Slicer: Edit > Application Settings > Modules > Additional module paths: add the printed folders, then restart.")]
struct Install {
    /// Folder to write [default: volseg/slicer in the user's data folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Files of the scripted module, under its folder.
const SCRIPTED: [(&str, &str); 12] = [
    ("Volseg.py", include_str!("../../../../plugins/slicer/Volseg/Volseg.py")),
    ("VolsegLib/__init__.py", include_str!("../../../../plugins/slicer/Volseg/VolsegLib/__init__.py")),
    ("VolsegLib/coordinates.py", include_str!("../../../../plugins/slicer/Volseg/VolsegLib/coordinates.py")),
    ("VolsegLib/command.py", include_str!("../../../../plugins/slicer/Volseg/VolsegLib/command.py")),
    ("VolsegLib/client.py", include_str!("../../../../plugins/slicer/Volseg/VolsegLib/client.py")),
    ("VolsegLib/background.py", include_str!("../../../../plugins/slicer/Volseg/VolsegLib/background.py")),
    ("VolsegLib/ranking.py", include_str!("../../../../plugins/slicer/Volseg/VolsegLib/ranking.py")),
    ("VolsegLib/report.py", include_str!("../../../../plugins/slicer/Volseg/VolsegLib/report.py")),
    ("VolsegSlicer/__init__.py", include_str!("../../../../plugins/slicer/Volseg/VolsegSlicer/__init__.py")),
    ("VolsegSlicer/clicks.py", include_str!("../../../../plugins/slicer/Volseg/VolsegSlicer/clicks.py")),
    ("VolsegSlicer/runs.py", include_str!("../../../../plugins/slicer/Volseg/VolsegSlicer/runs.py")),
    ("Resources/UI/Volseg.ui", include_str!("../../../../plugins/slicer/Volseg/Resources/UI/Volseg.ui")),
];

/// The module's icon.
const ICON: &[u8] = include_bytes!("../../../../plugins/slicer/Volseg/Resources/Icons/Volseg.png");

pub(crate) fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let SlicerCommand::Install(Install { dir }) = args.command;
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let usual = || {
        let data = var("XDG_DATA_HOME").or_else(|| Some(var("HOME")?.join(".local/share")))?;
        Some(data.join("volseg/slicer"))
    };
    let dir = dir.or_else(usual).ok_or_else(|| usage_error("there is no user's data folder here; give --dir"))?;
    let make = |folder: &Path| {
        fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))
    };
    make(&dir)?;
    let dir = fs::canonicalize(&dir)?;
    module(&dir)?;
    let scripted = dir.join("scripted");
    for (name, text) in SCRIPTED {
        let path = scripted.join(name);
        make(path.parent().unwrap_or(&scripted))?;
        AtomicFile::write(&path, text.as_bytes())?;
    }
    let icon = scripted.join("Resources/Icons/Volseg.png");
    make(icon.parent().unwrap_or(&scripted))?;
    AtomicFile::write(&icon, ICON)?;
    global.say("Add these folders in Slicer (Edit > Application Settings > Modules > Additional module paths), then restart it:")?;
    global.print(format_args!("{}\n{}\n", dir.display(), scripted.display()))?;
    Ok(ExitCode::Done)
}

/// The executable under the module's name, and its description beside it, so that Slicer need not start it to read it.
fn module(dir: &Path) -> anyhow::Result<()> {
    let own = std::env::current_exe().context("this program's own file is not known")?;
    let name = if cfg!(windows) { format!("{NAME}.exe") } else { NAME.to_owned() };
    let (place, beside) = (dir.join(name), dir.join(format!(".{NAME}.part")));
    let _ = fs::remove_file(&beside);
    // A hard link costs nothing; another file system needs a copy.
    if fs::hard_link(&own, &beside).is_err() {
        fs::copy(&own, &beside).with_context(|| format!("could not write {}", place.display()))?;
    }
    fs::rename(&beside, &place).with_context(|| format!("could not write {}", place.display()))?;
    // Renaming one hard link of a file to another is no change and leaves both.
    let _ = fs::remove_file(&beside);
    Ok(AtomicFile::write(&dir.join(format!("{NAME}.xml")), description().as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_of_the_module_is_installed() {
        let source = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins/slicer/Volseg"));
        let mut found = Vec::new();
        for folder in ["", "VolsegLib", "VolsegSlicer", "Resources/UI"] {
            for entry in fs::read_dir(source.join(folder)).unwrap().flatten() {
                let path = entry.path();
                if path.extension().is_some_and(|e| e == "py" || e == "ui") {
                    found.push(path.strip_prefix(source).unwrap().to_string_lossy().replace('\\', "/"));
                }
            }
        }
        found.sort();
        let mut installed: Vec<&str> = SCRIPTED.iter().map(|(name, _)| *name).collect();
        installed.sort_unstable();
        assert_eq!(found, installed);
    }
}
