//! What an experiment will run, and how long that takes on this machine.

use super::runs::{LABELLED, Run};
use super::{BATCH, Experiment, ExperimentConfig, ExperimentData, ROWS_CT, check, prompts, result, rule};
use crate::align;
use crate::cts::Cts;
use crate::pictures::{Part, Picture};
use crate::stage1::{self, Data};
use crate::volumes::CtVolume;
use crate::{AlignConfig, CtSet, Error, TrainConfig};
use std::path::Path;

/// Shares of pictures that train and that are validated on, about.
const TRAINED: f32 = 0.65;
const VALIDATED: f32 = 0.1;
/// Pictures that the measured steps draw from.
const FEW: usize = 16;

/// A run as `--plan` shows it.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Name of its folder.
    pub name: String,
    /// Whether its result is there.
    pub done: bool,
    /// Seconds that it took; or that its training is expected to take, from finished runs of its kind if there are any, else from
    /// a measured step.
    pub seconds: f64,
}

/// What a run trains.
#[derive(Clone, Copy, PartialEq)]
enum Work {
    /// Steps of the whole network.
    Steps(usize),
    /// Epochs over this share of the training part.
    Epochs(f32),
}

/// The runs of an experiment and how long they take. Checks the data as the runs would, and writes nothing.
///
/// # Errors
/// What [`super::run_experiment`] refuses before its first run; a result that cannot be read.
pub fn plan(experiment: Experiment, config: &ExperimentConfig, out: &Path) -> Result<Vec<Planned>, Error> {
    let pictures = check(experiment, config, out)?;
    let runs: Vec<(String, Work)> = match (&config.data, experiment) {
        (ExperimentData::Pictures(_), Experiment::Table1) => {
            let work = |first| if first { Work::Steps(config.steps) } else { Work::Epochs(prompts::UNANNOTATED) };
            prompts::names(config).into_iter().map(|(name, first)| (name, work(first))).collect()
        }
        _ => experiment.runs(config).iter().map(|r| (r.name(), work(r, config))).collect(),
    };
    let done = runs.iter().map(|(name, _)| result(out, name)).collect::<Result<Vec<_>, _>>()?;
    let mut machine = None;
    let mut planned = Vec::with_capacity(runs.len());
    for ((name, work), found) in runs.iter().zip(&done) {
        let alike = runs.iter().zip(&done).filter(|((_, other), _)| other == work);
        let known: Vec<f64> = alike.filter_map(|(_, d)| Some(d.as_ref()?.seconds)).collect();
        let seconds = match found {
            Some(scores) => scores.seconds,
            None if !known.is_empty() => known.iter().sum::<f64>() / known.len() as f64,
            None => {
                let machine = match &machine {
                    Some(machine) => machine,
                    None => machine.insert(Machine::measure(config, &pictures)?),
                };
                machine.seconds(*work, config)?
            }
        };
        planned.push(Planned { name: name.clone(), done: found.is_some(), seconds });
    }
    Ok(planned)
}

fn work(run: &Run, config: &ExperimentConfig) -> Work {
    match run {
        Run::Stage1 { .. } => Work::Steps(config.steps),
        Run::Align { row, unannotated, .. } => {
            let mut stage2 = AlignConfig::default();
            (row.change)(&mut stage2, config);
            if stage2.retrain > 0 { Work::Steps(stage2.retrain) } else { Work::Epochs(*unannotated) }
        }
    }
}

/// How fast this machine is, in seconds.
struct Machine {
    /// A step of stage 1.
    step: f64,
    /// A step of stage 2, and an image that is validated on.
    align: [f64; 2],
    /// Pictures there are.
    pictures: usize,
}

impl Machine {
    fn measure(config: &ExperimentConfig, pictures: &[Picture]) -> Result<Self, Error> {
        let shown = pictures.iter().filter(|p| p.mask.contains(&1)).take(FEW);
        let few: Vec<Picture> = shown.map(|p| Picture { part: Part::Train, ..p.clone() }).collect();
        let mut volumes: Vec<CtVolume> = Vec::new();
        if let ExperimentData::Cts { cts, .. } = &config.data {
            let found = Cts::find(&CtSet { split: rule(0), ..cts.clone() })?;
            let first = found.of(Part::Train).next().map(|case| found.volume(case));
            volumes.extend(first.transpose()?);
        }
        if few.is_empty() && volumes.is_empty() {
            return Err(Error::Data("nothing to train on: all masks are empty".into()));
        }
        let stage1 = TrainConfig { model: config.model.clone(), rows_ct: ROWS_CT, ..TrainConfig::default() };
        let ct_batch = if volumes.is_empty() { 0 } else { BATCH };
        let data = Data { pictures: vec![(BATCH, few)], volumes, ct_batch, check_volumes: Vec::new() };
        let (step, weights) = stage1::measure(&stage1, &data)?;
        let few = data.pictures.into_iter().flat_map(|(_, few)| few).collect();
        Ok(Self { step, align: align::measure(&weights, few, data.volumes)?, pictures: pictures.len() })
    }

    fn seconds(&self, work: Work, config: &ExperimentConfig) -> Result<f64, Error> {
        let share = match work {
            Work::Steps(n) => return Ok(n as f64 * self.step),
            Work::Epochs(share) => share,
        };
        let of = |share: f32| (share * self.pictures as f32).ceil() as usize;
        let (ranked, validated) = match &config.data {
            ExperimentData::Pictures(_) => (of(share * TRAINED), of(VALIDATED)),
            ExperimentData::Cts { cts, .. } => {
                let set = CtSet { split: rule(0), labelled: LABELLED, unannotated: share, ..cts.clone() };
                let found = Cts::find(&set)?;
                let images = |part| found.of(part).count() * found.organs.len() * cts.slices;
                (images(Part::Unannotated), images(Part::Validation))
            }
        };
        let steps = ranked.div_ceil(AlignConfig::default().batch);
        Ok(config.epochs as f64 * (steps as f64 * self.align[0] + validated as f64 * self.align[1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Asked;

    #[test]
    fn times_are_the_measured_ones_by_what_is_asked_for() {
        let set = "path = 'p'\nmodality = 'ultrasound'\norgan = 'breast_tumor'";
        let mut config = ExperimentConfig {
            data: ExperimentData::Pictures(toml::from_str(set).unwrap()),
            seeds: vec![4],
            steps: 6,
            learning_rate: None,
            epochs: 3,
            prompts: Asked::Organ,
            model: TrainConfig::default().model,
            full: false,
        };
        let machine = Machine { step: 0.5, align: [2.0, 0.25], pictures: 200 };
        let seconds = |work, config: &ExperimentConfig| machine.seconds(work, config).unwrap();
        assert_eq!([6, 6000].map(|n| seconds(Work::Steps(n), &config)), [3.0, 3000.0]);
        // A fifth of 130 training pictures are 4 steps of 8; 20 pictures are validated on.
        assert_eq!(seconds(Work::Epochs(0.2), &config), 3.0 * (4.0 * 2.0 + 20.0 * 0.25));
        config.epochs = 3000;
        assert_eq!(seconds(Work::Epochs(0.2), &config), 39_000.0);
    }
}
