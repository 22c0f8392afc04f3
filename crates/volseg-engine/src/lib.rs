//! One case from input to label map: slices, prompts, network, reassembly, clean-up, statistics, report.
//!
//! [`segment()`] is the whole job. It reads every slice once (encoder), asks for every organ (decoder), keeps the answers on
//! the network's own small grid while they are cleaned up in 3D, and writes labels to the input's grid slice by slice, so that
//! no float copy of the volume is ever made.

mod assemble;
pub mod batch;
mod black_fat;
mod body;
mod cleanup;
mod error;
mod interactive;
mod judgement;
mod modality;
mod oracle;
mod outcome;
mod outputs;
mod pass;
mod planes;
mod prompts;
mod readings;
mod report;
mod request;
mod sam;
mod segment;
mod statistics;

pub use body::View;
pub use error::Error;
pub use interactive::{Doubt, OpenCase, Reading, SliceAnswer, plane_across};
pub use judgement::{Judgement, ShownMask};
pub use modality::{ModalityGuess, guess_modality};
pub use oracle::{ORACLE_MIN_PIXELS, Per, boxes_from, points_from};
pub use outcome::{Observer, Segmentation, Stage};
pub use outputs::{only_organ, preview_png};
pub use pass::prompt_row;
pub use prompts::{Prompt, PromptEntry, PromptFile, PromptSet};
pub use report::{GivenPrompt, RunReport, SliceConfidence, Timings};
pub use request::{CANDIDATE_THRESHOLDS, Model, Origin, PromptMode, Request};
pub use segment::segment;
pub use statistics::{OrganStatistics, statistics};
