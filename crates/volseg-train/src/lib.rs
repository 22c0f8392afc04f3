//! Training of volseg's networks: data sets, augmentation, optimiser, checkpoints, the first stage.

mod augment;
mod config;
mod curves;
mod error;
mod optimizer;
mod pictures;
pub mod preference;
mod random;
mod sample;
mod stage1;
mod step;
mod volumes;

pub use config::{PhantomSet, PictureSet, TrainConfig};
pub use error::Error;
pub use pictures::{Part, Picture, load_pictures, part_of};
pub use random::Random;
pub use stage1::{Progress, train_prompt};
