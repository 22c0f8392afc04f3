//! The `volseg` command.
fn main() {}
