//! `train CONFIG OUT [--resume] [key=value ...]`: the trainer without the command line.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]
use volseg_train::{Progress, TrainConfig, train_prompt};

struct Lines;
impl Progress for Lines {
    fn line(&mut self, text: &str) {
        println!("{text}");
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let changes: Vec<String> = args.iter().skip(2).filter(|a| a.contains('=')).cloned().collect();
    let config = TrainConfig::parse(&std::fs::read_to_string(&args[0])?, &changes)?;
    train_prompt(
        &config,
        args[1].as_ref(),
        args.iter().any(|a| a == "--resume"),
        &candle_core::Device::Cpu,
        &mut Lines,
    )?;
    Ok(())
}
