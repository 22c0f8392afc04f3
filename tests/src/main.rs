//! The `volseg` command as the tests run it: the same code as the binary of `volseg-cli`, always built with the tests.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]
fn main() -> std::process::ExitCode {
    volseg_cli::main()
}
