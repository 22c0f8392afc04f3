//! The command from outside: what it prints, writes and returns.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]
mod apart;
mod batch;
mod documents;
mod nifti;
mod outside;
mod preview;
mod prompt;
mod said_aloud;
#[path = "../shared/scanner.rs"]
mod scanner;
mod segment;
mod train;
mod weights;

/// The command under test, with an environment of its own.
fn volseg() -> assert_cmd::Command {
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_volseg-tested"));
    command.env_remove("NO_COLOR").env("LC_ALL", "C");
    command
}
