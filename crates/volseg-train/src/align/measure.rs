//! How long stage 2 takes on this machine.

use super::student::Student;
use super::{AlignConfig, Data, Item, Objective, Trained, of_picture, of_slice, one_step, validate};
use crate::Error;
use crate::pictures::Picture;
use crate::volumes::CtVolume;
use std::time::Instant;
use volseg_model::Params;
use volseg_model::embedded::{Network, Weights};

/// Seconds of a step, and of one validated image an epoch, on labelled pictures or else CTs. The first step, which also warms up,
/// does not count.
pub(crate) fn measure(weights: &Weights, labelled: Vec<Picture>, volumes: Vec<CtVolume>) -> Result<[f64; 2], Error> {
    // The ranks of a random network may teach nothing, and would be passed over; masks cost as much.
    let config = AlignConfig { objective: Objective::Masks, ..AlignConfig::default() };
    let first = Network::new(&weights.config, &Params::given(weights.tensors.clone()))?;
    let student = Student::new(weights, Trained::Decoder, config.seed)?;
    let shown = |v: &CtVolume| v.known.iter().find_map(|&o| v.showing(o, 1).first().map(|&s| (s, o)));
    let item = |n: usize| match volumes.first() {
        Some(v) => {
            let at = shown(v).ok_or_else(|| Error::Data("the first CT shows no organ".into()))?;
            of_slice(&first, v, at, &config, n as u64)
        }
        None => of_picture(&first, &labelled[n % labelled.len()], &config, n as u64, &mut |_| ()),
    };
    let items = || (0..config.batch).map(item).collect::<Result<Vec<Item>, Error>>();
    let (ranked, validation) = (items()?, items()?);
    let data = Data { labelled, unannotated: Vec::new(), volumes, validation, ranked };
    let batch: Vec<&Item> = data.ranked.iter().collect();
    one_step(&config, &student, &data, &batch, 0)?;
    let began = Instant::now();
    one_step(&config, &student, &data, &batch, 1)?;
    let step = began.elapsed().as_secs_f64();
    let began = Instant::now();
    validate(&student, &data)?;
    Ok([step, began.elapsed().as_secs_f64() / data.validation.len() as f64])
}
