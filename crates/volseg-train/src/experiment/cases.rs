//! A model on the test part of CTs: whole cases by `volseg_engine::segment`, scored in 3D by `volseg_metrics`.

use super::evaluate::{Scores, best_threshold, read};
use crate::align::{AlignConfig, Item, of_cts};
use crate::cts::Cts;
use crate::pictures::Part;
use crate::preference::iou;
use crate::{CtSet, Error};
use std::path::Path;
use volseg_engine::{Model, Observer, Request, Stage, segment};
use volseg_geometry::Modality;
use volseg_metrics::{Labels, Selection, Settings, evaluate, mean};

struct Silent;

impl Observer for Silent {
    fn progress(&self, _: Stage, _: usize, _: usize) {}
}

/// Scores of one organ in one case: Dice, IoU, surface Dice; NaN where it is neither there nor found.
type Measures = [f64; 3];

/// The model of a file on every test case, organs by name: at threshold 0.5, and at the threshold that is best for the slices
/// of the validation cases. Means are over cases, then over organs. Cases are read one after the other.
pub(super) fn score(model: &Path, set: &CtSet, tolerance_mm: f64) -> Result<Scores, Error> {
    let cts = Cts::find(set)?;
    let net = read(model)?;
    let validation = of_cts(&net, &cts, Part::Validation, set.slices, &AlignConfig::default())?;
    let threshold = best_threshold(|edge| mean(validation.iter().filter_map(|item| dice_of(item, edge))));
    let bytes =
        std::fs::read(model).map_err(|source| Error::Io { what: format!("read {}", model.display()), source })?;
    let model = Model::embedded(&bytes, volseg_io::sha256(&bytes), &candle_core::Device::Cpu)?;
    let mut thresholds = vec![0.5];
    if threshold != 0.5 {
        thresholds.push(threshold);
    }
    // By threshold, organ and case.
    let mut all: Vec<Vec<Vec<Measures>>> = vec![vec![Vec::new(); cts.organs.len()]; thresholds.len()];
    for case in cts.of(Part::Test) {
        let (image, labels) = cts.read(case)?;
        let truth = Labels::new(labels.into(), 1.0, 0.0, "labels")?;
        for (&threshold, all) in thresholds.iter().zip(&mut all) {
            let request = Request {
                organs: Some(cts.organs.clone()),
                modality: Some(Modality::Ct),
                threshold,
                ..Request::default()
            };
            let found = segment(&image, &model, &request, rayon::current_num_threads(), &Silent)?;
            let answer = Labels::new(found.labels.into(), 1.0, 0.0, "answer")?;
            for (measures, all) in measure(&truth, &answer, &cts, tolerance_mm)?.into_iter().zip(all) {
                all.push(measures);
            }
        }
    }
    let organ = |cases: &[Measures], k: usize| mean(cases.iter().map(|m| m[k]));
    let over = |organs: &[Vec<Measures>], k: usize| mean(organs.iter().map(|cases| organ(cases, k)));
    let (half, tuned) = (&all[0], &all[thresholds.len() - 1]);
    let names = cts.organs.iter().map(ToString::to_string);
    let each = names.zip(half).map(|(name, cases)| (name, [organ(cases, 0), organ(cases, 2)]));
    Ok(Scores {
        pictures: cts.of(Part::Test).count(),
        dice: over(half, 0),
        iou: over(half, 1),
        threshold,
        tuned: over(tuned, 0),
        surface: Some([over(half, 2), over(tuned, 2)]),
        // An organ that no test case has is left out.
        organs: each.filter(|(_, m)| m.iter().all(|v| v.is_finite())).collect(),
        ..Scores::default()
    })
}

fn measure(truth: &Labels, answer: &Labels, cts: &Cts, tolerance_mm: f64) -> Result<Vec<Measures>, Error> {
    let listed: Vec<Vec<u32>> = cts.organs.iter().map(|o| vec![u32::from(o.get())]).collect();
    let settings = Settings { tolerances: vec![tolerance_mm], percentiles: Vec::new(), ..Settings::default() };
    let selection = Selection { listed: Some(listed.clone()), ..Selection::default() };
    let case = evaluate(truth, answer, &selection, &settings)?;
    let name = format!("nsd@{tolerance_mm}");
    let of = |ids| {
        let scores = case.labels.get(ids).unwrap_or(&case.absent);
        [scores.counts.dice(), scores.counts.iou(), scores.get(&name)]
    };
    Ok(listed.iter().map(of).collect())
}

/// Dice of a slice's answer at a logit.
fn dice_of(item: &Item, edge: f32) -> Option<f64> {
    let mask: Vec<u8> = item.reference.iter().map(|&z| u8::from(z > edge)).collect();
    let v = iou(&mask, item.truth.as_ref()?);
    Some(2.0 * v / (1.0 + v))
}
