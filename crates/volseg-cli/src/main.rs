//! The `volseg` command.
fn main() -> std::process::ExitCode {
    volseg_cli::main()
}
