//! The runs behind a table. Each has a name and a folder; one that is done is not done again, and tables share runs.

use super::{Experiment, ExperimentConfig};
use crate::preference::Mode;
use crate::{AlignConfig, CandidateSource, Objective};

/// One training.
#[derive(Clone, Debug)]
pub(super) enum Run {
    /// Stage 1 on a share of the labels.
    Stage1 { labelled: f32, seed: u64 },
    /// Stage 2 from stage 1 on 10 % labels.
    Align { row: Row, unannotated: f32, seed: u64 },
}

/// A row of a table: how stage 2 differs from the defaults.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// Part of the run's name.
    pub(super) key: &'static str,
    /// As the table says it.
    pub(super) title: &'static str,
    pub(super) change: fn(&mut AlignConfig, &ExperimentConfig),
}

/// Labels of every stage 1 that stage 2 starts from.
pub(super) const LABELLED: f32 = 0.1;

pub(super) const OURS: Row = Row { key: "ours", title: "ranking + replay (ours)", change: |_, _| () };
const TILES: Row = Row { key: "tiles", title: "ranking per tile (4 x 4) + replay", change: |c, _| c.tiles = 4 };
const PAPER: Row = Row { key: "paper", title: "ranking alone (the paper's form)", change: |c, _| c.replay = 0.0 };
const ONE_ROUND: Row = Row {
    key: "oneround",
    title: "ranking per tile, ranked once (what a person could do) + replay",
    change: |c, _| {
        c.tiles = 4;
        c.candidates = Some(CandidateSource::Frozen);
    },
};
const REPLAY: Row =
    Row { key: "replay", title: "control: replay alone, equal steps", change: |c, _| c.objective = Objective::Replay };
const BEST: Row = Row {
    key: "pseudo4",
    title: "control: best of 4 as pseudo-label + replay",
    change: |c, _| c.objective = Objective::BestPseudo,
};
const MASKS: Row = Row {
    key: "masks",
    title: "control: true masks, decoder only + replay",
    change: |c, _| c.objective = Objective::Masks,
};

const PLACES: &str = "re-places";

/// A training of the whole network on masks that are made once, for half the steps of stage 1.
fn retrain(c: &mut AlignConfig, e: &ExperimentConfig, objective: Objective, candidates: CandidateSource) {
    c.retrain = e.steps.div_ceil(2);
    (c.objective, c.candidates, c.tiles) = (objective, Some(candidates), 4);
}

impl Experiment {
    /// Rows that are trained, and shares of unannotated pictures.
    pub(super) fn rows(self) -> (Vec<Row>, &'static [f32]) {
        match self {
            Self::Fig3 => (vec![OURS, TILES, ONE_ROUND, PAPER, REPLAY, BEST, MASKS], &[0.1, 0.2, 0.4]),
            Self::Retrain => (
                vec![
                    Row {
                        key: PLACES,
                        title: "one round of ranks: where, then which outline",
                        change: |c, e| retrain(c, e, Objective::BestPseudo, CandidateSource::Places),
                    },
                    Row {
                        key: "re-pseudo",
                        title: "control: the answer at 0.5 as mask (no annotator)",
                        change: |c, e| retrain(c, e, Objective::Pseudo, CandidateSource::Frozen),
                    },
                    Row {
                        key: "re-replay",
                        title: "control: labelled pictures alone, equal steps",
                        change: |c, e| retrain(c, e, Objective::Replay, CandidateSource::Frozen),
                    },
                    Row {
                        key: "re-masks",
                        title: "control: true masks of the same pictures",
                        change: |c, e| retrain(c, e, Objective::Masks, CandidateSource::Frozen),
                    },
                ],
                &[0.2, 0.4],
            ),
            Self::Table1 | Self::Figures => (vec![OURS], &[0.2]),
            Self::Table2 => (
                vec![
                    OURS,
                    Row { key: "rating", title: "rating + replay", change: |c, _| c.mode = Mode::Rating },
                    Row { key: "best", title: "best candidate + replay", change: |c, _| c.mode = Mode::Best },
                    REPLAY,
                ],
                &[0.1, 0.2, 0.4],
            ),
            Self::Table4 => (
                vec![
                    Row { title: "0 % of the rankings wrong", ..OURS },
                    Row { key: "noise05", title: "5 %", change: |c, _| c.noise = 0.05 },
                    Row { key: "noise10", title: "10 %", change: |c, _| c.noise = 0.1 },
                    Row { key: "noise20", title: "20 %", change: |c, _| c.noise = 0.2 },
                    Row { key: "noise30", title: "30 %", change: |c, _| c.noise = 0.3 },
                    REPLAY,
                ],
                &[0.2],
            ),
            Self::Table5 => (
                vec![
                    Row { title: "b1 = 1, b2 = 0.5", ..OURS },
                    Row { key: "beta2", title: "b1 = 2, b2 = 1", change: |c, _| c.beta = [2.0, 1.0] },
                    Row { key: "beta15", title: "b1 = 1.5, b2 = 0.75", change: |c, _| c.beta = [1.5, 0.75] },
                    REPLAY,
                ],
                &[0.2],
            ),
        }
    }

    /// All runs, in an order in which each finds what it needs.
    pub(super) fn runs(self, config: &ExperimentConfig) -> Vec<Run> {
        let (rows, shares) = self.rows();
        let mut runs = Vec::new();
        for &seed in &config.seeds {
            runs.push(Run::Stage1 { labelled: LABELLED, seed });
            if self != Self::Figures {
                runs.push(Run::Stage1 { labelled: 2.0 * LABELLED, seed });
            }
            if self == Self::Fig3 && config.full {
                runs.push(Run::Stage1 { labelled: 1.0, seed });
            }
            for row in &rows {
                for &unannotated in shares {
                    // The controls stand at the first share: labelled pictures alone are the same at any.
                    if self == Self::Retrain && row.key != PLACES && Some(&unannotated) != shares.first() {
                        continue;
                    }
                    runs.push(Run::Align { row: *row, unannotated, seed });
                }
            }
        }
        runs
    }
}

impl Run {
    /// Name of its folder.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Stage1 { labelled, seed } => format!("stage1-{:.0}-s{seed}", 100.0 * labelled),
            Self::Align { row, unannotated, seed } => format!("{}-{:.0}-s{seed}", row.key, 100.0 * unannotated),
        }
    }
}
