//! The module `VolsegSegment` of 3D Slicer: this program under another name (Slicer's execution model).
//!
//! Slicer reads standard output for progress tags, takes anything on standard error for an error, and drops the outputs of a
//! run that does not end with 0. So warnings go to standard output, and standard error holds one sentence when a run fails.

mod arguments;
mod progress;
mod run;

use crate::{
    exit::{self, ExitCode},
    global::{Global, LogFormat, Precision},
    options::Device,
};
use arguments::Arguments;
use std::{ffi::OsString, io::Write, path::Path};

/// Name of the executable, of the description and of the module.
pub(crate) const NAME: &str = "VolsegSegment";

/// The description that `--xml` prints and that lies beside the executable.
pub(crate) fn description() -> String {
    include_str!("slicer/VolsegSegment.xml").replace("{version}", env!("CARGO_PKG_VERSION"))
}

/// The module's arguments, if this process was started as the module: by its name (link or copy), or as
/// `volseg slicer-cli ...` where a script stands in for it.
pub(crate) fn asked(arguments: &[OsString]) -> Option<Vec<OsString>> {
    let is_module = |name: &OsString| {
        let name = Path::new(name).file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.strip_suffix(".exe").unwrap_or(&name) == NAME
    };
    let by_name = arguments.first().is_some_and(is_module)
        || std::env::current_exe().is_ok_and(|e| is_module(&e.into_os_string()));
    if by_name {
        return Some(arguments.iter().skip(1).cloned().collect());
    }
    (arguments.get(1)? == "slicer-cli").then(|| arguments.iter().skip(2).cloned().collect())
}

/// Runs the module.
pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    if arguments.iter().any(|a| a == "--xml") {
        return print(&description());
    }
    if arguments.iter().any(|a| a == "--logo") {
        return ExitCode::Done;
    }
    let global = Global {
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        device: Device::Cpu,
        precision: Precision::F32,
        memory: None,
        seed: 0,
        quiet: true,
        verbose: 0,
        log_format: LogFormat::Text,
    };
    // A panic is told as a failure in one sentence, without a trace.
    std::panic::set_hook(Box::new(|_| ()));
    let work = || Arguments::parse(arguments).and_then(|a| run::run(&a));
    let result = std::panic::catch_unwind(work)
        .unwrap_or_else(|_| Err(anyhow::anyhow!("the segmentation failed inside the module; please report it")));
    exit::code(result.map(|()| ExitCode::Done), &global)
}

fn print(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::Done,
        Err(_) => ExitCode::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_keeps_slicers_rules() {
        let text = description();
        assert!(text.starts_with("<?xml ") && text.contains(concat!("<version>", env!("CARGO_PKG_VERSION"), "<")));
        // One letter or underscore less and Slicer drops the whole module.
        for tag in ["name", "longflag"] {
            for part in text.split(&format!("<{tag}>")).skip(1) {
                let name = part.split('<').next().unwrap();
                assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{name}");
            }
        }
        for known in
            ["inputVolume", "outputSegmentation", "organs", "foreground", "background", "box", "model", "device"]
        {
            assert!(text.contains(&format!("<name>{known}</name>")), "{known}");
        }
    }

    #[test]
    fn the_name_makes_the_module() {
        let asked = |list: &[&str]| asked(&list.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(asked(&["/a b/VolsegSegment", "--xml"]), Some(vec!["--xml".into()]));
        assert_eq!(asked(&["VolsegSegment.exe"]), Some(vec![]));
        assert_eq!(asked(&["volseg", "slicer-cli", "--xml"]), Some(vec!["--xml".into()]));
        assert_eq!(asked(&["/usr/bin/volseg", "--xml"]), None);
    }
}
