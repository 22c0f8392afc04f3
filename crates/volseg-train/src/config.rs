mod read;

pub(crate) use read::{read_table, typed};

use crate::asked::text_length;
use crate::{Asked, Error};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use volseg_geometry::Modality;
use volseg_model::embedded;

/// Configuration of `volseg train prompt`, read from TOML. Unknown keys are refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Steps of the whole run; the learning rate's cosine ends with them.
    pub steps: usize,
    /// Greatest learning rate (AdamW).
    pub learning_rate: f32,
    /// Decoupled weight decay of matrices and kernels.
    pub weight_decay: f32,
    /// Warm-up steps.
    pub warmup: usize,
    /// Decay of the averaged weights that are saved and validated.
    pub average: f32,
    /// Seed of initial weights, order and augmentation.
    pub seed: u64,
    /// Save a checkpoint every so many steps.
    pub save_every: usize,
    /// Validate every so many steps.
    pub validate_every: usize,
    /// Prompt rows of the decoder a CT slice.
    pub rows_ct: usize,
    /// Prompt rows of the decoder a picture.
    pub rows_picture: usize,
    /// One kind of prompt for all rows of pictures; without it they are mixed.
    pub prompts: Option<Asked>,
    /// Begin with the weights of this file; the optimiser starts fresh.
    pub start_from: Option<PathBuf>,
    /// The network.
    pub model: embedded::Config,
    /// Sets of pictures with one mask each.
    pub pictures: Vec<PictureSet>,
    /// CT phantoms made on the fly.
    pub phantoms: Option<PhantomSet>,
    /// Labelled CTs with all their organs.
    pub cts: Option<CtSet>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            steps: 2000,
            learning_rate: 1e-3,
            weight_decay: 0.05,
            warmup: 60,
            average: 0.999,
            seed: 1,
            save_every: 500,
            validate_every: 500,
            rows_ct: 4,
            rows_picture: 2,
            prompts: None,
            start_from: None,
            model: embedded::Config::default(),
            pictures: Vec::new(),
            phantoms: None,
            cts: None,
        }
    }
}

/// Images with masks: a folder with `images/` and `masks/` (pictures or volumes) and perhaps an `index.csv`; nnU-Net's or AMOS's
/// `dataset.json`; an index of SAM-Med2D; the folders of COVID-QU-Ex or BUSI.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PictureSet {
    /// The folder or file.
    pub path: PathBuf,
    /// What the pictures are.
    pub modality: Modality,
    /// The organ that the masks show, by name.
    pub organ: String,
    /// Value of the organ in the mask files; without it every non-zero value of a picture's mask, the organ's id in a volume's.
    pub label: Option<u8>,
    /// Pictures of this set in every batch of stage 1.
    #[serde(default = "four")]
    pub batch: usize,
    /// Column of `index.csv` by which the parts are split; without it each picture is its own group.
    pub group_column: Option<String>,
    /// How the parts are drawn; without it they hang on a hash of each group's name: 70 % training, 10 % validation, 20 % test.
    pub split: Option<SplitRule>,
    /// Share of the training part whose masks may be used; shares are nested.
    #[serde(default = "whole")]
    pub labelled: f32,
    /// Share of the training part, behind the labelled one, that stage 2 takes without its masks.
    #[serde(default)]
    pub unannotated: f32,
    /// Boxes for prompts: a JSON table of name -> [x0, y0, x1, y1] in pixels of the picture, half-open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boxes: Option<PathBuf>,
    /// Answers about the pictures, JSON lines, for prompts that have a text: an answer stands before the organ's description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers: Option<PathBuf>,
    /// The answer is the whole text.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub answers_alone: bool,
}

fn four() -> usize {
    4
}

fn by_share() -> SplitRule {
    SplitRule { test: 0.2, validation: 0.1, ..SplitRule::default() }
}

fn eight() -> usize {
    8
}

fn whole() -> f32 {
    1.0
}

/// Parts of a set, drawn group by group from a seed: either a share to test on, or one of several folds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitRule {
    /// Another seed gives other parts.
    pub seed: u64,
    /// Share of pictures to test on, without folds.
    #[serde(default)]
    pub test: f32,
    /// Share of pictures to validate on; of the pictures outside the fold, with folds.
    pub validation: f32,
    /// The fold to test on, from 0.
    #[serde(default)]
    pub fold: usize,
    /// Folds that the groups are dealt into; 0: none.
    #[serde(default)]
    pub folds: usize,
}

/// Most images of a step, and most prompt rows of an image: beyond lies a slip of the finger, and memory that no machine has.
pub(crate) const MOST_BATCH: usize = 4096;
const MOST_ROWS: usize = 256;
/// The greatest organ id that stage 1 teaches: a network has a token for each.
const TAUGHT: usize = 17;

/// Refuses shares of a training part that are none.
fn check_shares(labelled: f32, unannotated: f32) -> Result<(), Error> {
    let share = |v: f32| (0.0..=1.0).contains(&v);
    if share(labelled) && share(unannotated) && labelled + unannotated <= 1.0 + 1e-5 {
        return Ok(());
    }
    Err(Error::Config(format!(
        "labelled {labelled} and unannotated {unannotated}: expected shares that are 1 at most together"
    )))
}

/// Refuses sets whose numbers cannot be meant.
///
/// # Errors
/// [`Error::Config`].
pub(crate) fn check_sets(
    pictures: &[PictureSet],
    cts: Option<&CtSet>,
    phantoms: Option<&PhantomSet>,
) -> Result<(), Error> {
    let batches = pictures.iter().map(|p| p.batch).chain(cts.map(|c| c.batch)).chain(phantoms.map(|p| p.batch));
    if let Some(batch) = batches.into_iter().find(|&b| b > MOST_BATCH) {
        return Err(Error::Config(format!("batch {batch}: expected at most {MOST_BATCH}")));
    }
    pictures.iter().try_for_each(|p| check_shares(p.labelled, p.unannotated))?;
    cts.map_or(Ok(()), |c| check_shares(c.labelled, c.unannotated))
}

impl SplitRule {
    /// Refuses shares and folds that cannot be meant, and more folds than groups.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn check(&self, groups: usize) -> Result<(), Error> {
        let share = |v: f32| (0.0..=1.0).contains(&v);
        if !share(self.test) || !share(self.validation) || self.test + self.validation > 1.0 {
            return Err(Error::Config(format!(
                "split: test {} and validation {}: expected shares that are 1 at most together",
                self.test, self.validation
            )));
        }
        match *self {
            Self { folds: 0, fold: 0, .. } => Ok(()),
            Self { folds, fold, test, .. } if folds < 2 || fold >= folds || test != 0.0 || folds > groups => {
                Err(Error::Config(format!(
                    "split: fold {fold} of {folds} with test = {test}: expected 2 to {groups} folds (as many as groups), a fold below that, and no `test`"
                )))
            }
            _ => Ok(()),
        }
    }
}

/// Labelled CTs, several organs each, cut axially: a folder with the `dataset.json` of AMOS22 or nnU-Net, or that file.
///
/// AMOS22's MR (numbers of 500 and more) is left out. Cases that the file lists with labels under `validation` (or `test`) are the
/// test part; else it is drawn with the others. All shares are of cases.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CtSet {
    /// The folder or file.
    pub path: PathBuf,
    /// Organs by name; empty: all that the file names and the network knows.
    #[serde(default)]
    pub organs: Vec<String>,
    /// Slices in every batch of stage 1; beside phantoms, slices of both are drawn from all volumes alike.
    #[serde(default = "four")]
    pub batch: usize,
    /// How the parts are drawn.
    #[serde(default = "by_share")]
    pub split: SplitRule,
    /// Share of the training part whose labels may be used; shares are nested.
    #[serde(default = "whole")]
    pub labelled: f32,
    /// Share of the training part, behind the labelled one, that stage 2 takes without its labels.
    #[serde(default)]
    pub unannotated: f32,
    /// Most slices of each organ and case that stage 2 looks at, evenly placed.
    #[serde(default = "eight")]
    pub slices: usize,
}

/// CT phantoms of seeds from `first_seed` on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhantomSet {
    /// How many volumes.
    pub volumes: usize,
    /// Seed of the first one.
    pub first_seed: u64,
    /// Slices in every batch.
    pub batch: usize,
}

impl TrainConfig {
    /// Parses TOML and then `key=value` changes, whose keys are dotted paths.
    ///
    /// # Errors
    /// [`Error::Config`] naming what does not fit.
    pub fn parse(text: &str, changes: &[String]) -> Result<Self, Error> {
        let config: Self = typed(read_table(text, changes)?, text)?;
        config.model.check()?;
        if config.pictures.is_empty() && config.phantoms.is_none() && config.cts.is_none() {
            return Err(Error::Config("nothing to train on is named: add [[pictures]], [phantoms] or [cts]".into()));
        }
        if let Some(prompts) = config.prompts {
            prompts.check(&config.pictures)?;
        }
        let reads = config.prompts.is_some_and(Asked::reads_text).then(text_length).transpose()?;
        if reads != config.model.text {
            return Err(Error::Config(match reads {
                Some(n) => format!("prompts that have a text need model.text = {n}, the length of a text's feature"),
                None => "model.text is for prompts = \"text\" or \"text-and-given-box\": leave it out".into(),
            }));
        }
        if config.model.channels != 3 || config.model.organs < TAUGHT {
            return Err(Error::Config(format!(
                "model.channels {}, model.organs {}: expected 3 (a slice and those beside it) and {TAUGHT} or more",
                config.model.channels, config.model.organs
            )));
        }
        let rows = |n| (1..=MOST_ROWS).contains(&n);
        if !rows(config.rows_ct) || !rows(config.rows_picture) {
            return Err(Error::Config(format!(
                "rows_ct {}, rows_picture {}: expected 1 to {MOST_ROWS}",
                config.rows_ct, config.rows_picture
            )));
        }
        check_sets(&config.pictures, config.cts.as_ref(), config.phantoms.as_ref())?;
        let batch = config.pictures.iter().map(|p| p.batch).sum::<usize>()
            + config.phantoms.as_ref().map_or(0, |p| p.batch)
            + config.cts.as_ref().map_or(0, |c| c.batch);
        let positive = |v: f32| v.is_finite() && v > 0.0;
        if batch == 0
            || [config.steps, config.save_every, config.validate_every].contains(&0)
            || !(0.0..1.0).contains(&config.average)
            || !positive(config.learning_rate)
            || !(positive(config.weight_decay) || config.weight_decay == 0.0)
        {
            return Err(Error::Config(
                "steps, save_every, validate_every, learning_rate and `batch` of at least one set must be positive, average in 0..1, weight_decay not negative"
                    .into(),
            ));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_reach_nested_keys_and_unknown_ones_are_refused() {
        let text = "[phantoms]\nvolumes = 3\nfirst_seed = 5\nbatch = 2\n";
        let c = TrainConfig::parse(text, &["steps=7".into(), "model.side=64".into()]).unwrap();
        assert_eq!((c.steps, c.model.side), (7, 64));
        assert!(TrainConfig::parse(text, &["stepz=7".into()]).unwrap_err().to_string().contains("stepz"));
        assert!(TrainConfig::parse("", &[]).unwrap_err().to_string().contains("[[pictures]]"));
        let prompts = |c: &[&str]| TrainConfig::parse(text, &c.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>());
        assert!(prompts(&["prompts=text"]).unwrap_err().to_string().contains("model.text"));
        assert_eq!(prompts(&["prompts=text", "model.text=64"]).unwrap().model.text, Some(64));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_before_data_is_read() {
        let text = "[[pictures]]\npath = \"p\"\nmodality = \"xray\"\norgan = \"lungs\"\n";
        assert!(TrainConfig::parse(text, &[]).is_ok());
        for (change, says) in [
            ("learning_rate=0.0", "learning_rate"),
            ("learning_rate=-0.1", "learning_rate"),
            ("weight_decay=-1.0", "weight_decay"),
            ("save_every=0", "save_every"),
            ("rows_picture=0", "rows_picture"),
            ("rows_ct=1000000", "rows_ct"),
            ("pictures.0.batch=100000000", "batch"),
            ("pictures.0.labelled=1.5", "labelled 1.5"),
            ("pictures.0.unannotated=-0.7", "unannotated"),
            ("pictures.0.unannotated=0.7", "at most together"),
            ("model.channels=1", "model.channels"),
            ("model.organs=5", "17"),
            ("model.text=32", "model.text"),
        ] {
            let error = TrainConfig::parse(text, &[change.into()]).unwrap_err().to_string();
            assert!(error.contains(says), "{change}: {error}");
        }
        let error = TrainConfig::parse("[[phantoms]]\nvolumes = 1\n", &[]).unwrap_err().to_string();
        assert!(error.contains("[phantoms]"), "{error}");
    }
}
