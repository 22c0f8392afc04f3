//! The inside of the `volseg` command: options, exit codes and one module per subcommand.
//!
//! Layers: `options` parses text into plain values, `commands` does the work, `exit` alone turns errors into exit
//! codes. Results go to files, the short summary to stdout, progress and log lines to stderr (`global`).
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod allocator;
mod apart;
mod chain;
mod commands;
mod dicom_out;
mod exit;
mod global;
mod inputs;
mod interrupt;
mod options;
mod page;
mod plots;
mod request;
mod slicer;
mod version;

use clap::Parser;
use std::ffi::OsString;

/// Organ masks from CT, X-ray and ultrasound.
#[derive(Parser)]
#[command(name = "volseg", bin_name = "volseg", version = version::short(), long_version = version::long(), disable_help_subcommand = true, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    global: global::GlobalArgs,
    #[command(subcommand)]
    command: commands::Command,
}

const EXAMPLES: &str = "\
Examples:
  volseg organs                                   the organs, their ids and colours
  volseg preview ct.nii.gz labels.nrrd -o ct.png  slices with the organs drawn over them
  volseg COMMAND --help                           options and examples of a command";

/// Runs the command of this process's arguments. A library function so that the end-to-end tests build the same program.
#[must_use]
pub fn main() -> std::process::ExitCode {
    allocator::keep_large_blocks();
    allocator::one_thread_inside();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match slicer::asked(&arguments) {
        Some(arguments) => slicer::main(arguments).into(),
        None => run(arguments).into(),
    }
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> exit::ExitCode {
    let arguments = options::with_dashes(arguments);
    let json = options::asks_for_json(&arguments);
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(refusal) => return exit::usage(&refusal, json),
    };
    let global = global::Global::new(&cli.global);
    let result = signals(&cli.command, &global).and_then(|()| global.start()).and_then(|()| cli.command.run(&global));
    exit::code(result, &global)
}

/// What the system's signals do while the command runs.
fn signals(command: &commands::Command, global: &global::Global) -> anyhow::Result<()> {
    interrupt::survive_file_limits()?;
    if command.minds_signals() { Ok(()) } else { interrupt::leave_nothing_half_written(*global, command.way_on()) }
}
