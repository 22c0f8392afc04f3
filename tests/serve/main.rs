//! `volseg serve` from outside, over real connections.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]
mod bad;
mod clicks;
mod client;
mod labels;
mod module;
mod monai;
mod rankings;
#[path = "../shared/scanner.rs"]
mod scanner;
