//! Training of volseg's networks: data sets, augmentation, optimiser, checkpoints, both stages.

mod align;
mod asked;
mod augment;
mod checkpoint;
mod clip;
mod config;
mod cts;
mod curves;
mod dataset;
mod error;
mod experiment;
mod optimizer;
mod pictures;
pub mod preference;
mod progress;
mod random;
mod sam_stage1;
mod sample;
mod split;
mod stage1;
mod step;
mod texts;
mod volumes;

pub use align::{AlignConfig, Alignment, Asked, CandidateFacts, CandidateSource, Objective, Trained, train_align};
pub use checkpoint::has_checkpoint;
pub use clip::{ClipTrainConfig, train_clip};
pub use config::{CtSet, PhantomSet, PictureSet, SplitRule, TrainConfig};
pub use error::Error;
pub use experiment::{Experiment, ExperimentConfig, ExperimentData, Planned, plan, run_experiment};
pub use optimizer::AdamW;
pub use pictures::{Part, Picture, load_pictures, part_of};
pub use progress::Progress;
pub use random::Random;
pub use sam_stage1::{EncoderPart, SamPrompts, SamTrainConfig, train_sam_prompt};
pub use stage1::train_prompt;
