//! Eqn 5 against numbers that another program worked out (`scripts/parity/make_dpo_golden.py`). A larger file of the same form
//! is checked by naming it in `VOLSEG_DPO_CASES`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::Value;
use volseg_train::preference::{Answer, Mode, Reduction, candidates, iou, loss, rating};

fn cases() -> Value {
    let path = std::env::var_os("VOLSEG_DPO_CASES").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dpo_small.json"),
        std::path::PathBuf::from,
    );
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn flat(v: &Value) -> Vec<f64> {
    match v {
        Value::Array(a) => a.iter().flat_map(flat).collect(),
        other => vec![other.as_f64().unwrap()],
    }
}

fn four<T: Copy>(v: &Value, f: impl Fn(f64) -> T) -> [T; 4] {
    let v: Vec<T> = flat(v).into_iter().map(f).collect();
    v.try_into().ok().unwrap()
}

fn close(what: &str, ours: f64, theirs: f64) {
    assert!((ours - theirs).abs() <= 1e-5 * theirs.abs().max(1.0), "{what}: {ours}, expected {theirs}");
}

#[test]
fn weights_losses_and_gradients() {
    let file = cases();
    for case in file["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let keep: Vec<bool> = flat(&case["valid"]).iter().map(|&v| v > 0.0).collect();
        let valid =
            |v: &Value| -> Vec<f64> { flat(v).into_iter().zip(&keep).filter(|(_, k)| **k).map(|(v, _)| v).collect() };
        let f32s = |v: &Value| -> Vec<f32> { valid(v).into_iter().map(|v| v as f32).collect() };
        let bytes = |v: &Value| -> Vec<u8> { valid(v).into_iter().map(|v| v as u8).collect() };
        let (logits, reference, truth) = (f32s(&case["logits"]), f32s(&case["ref_logits"]), bytes(&case["gt"]));
        let masks = candidates(&reference, four(&case["thresholds"], |t| t as f32));
        let theirs: Vec<Vec<u8>> = case["candidates"].as_array().unwrap().iter().map(bytes).collect();
        assert_eq!(masks.to_vec(), theirs, "{name}");
        let ious = std::array::from_fn(|k| iou(&masks[k], &truth));
        for (a, b) in ious.iter().zip(flat(&case["iou"])) {
            close(name, *a, b);
        }
        let flip = case["flip"].as_u64().map(|r| r as u8);
        let answer = Answer::from_iou(ious, flip);
        assert_eq!(answer.flipped_ratings(), four(&case["rating"], |v| v as u8), "{name}");
        assert_eq!(answer.order(), four(&case["order_best_to_worst"], |v| v as usize), "{name}");
        let beta = [case["beta1"].as_f64().unwrap(), case["beta2"].as_f64().unwrap()];
        for (mode, key) in [(Mode::Ranking, "ranking"), (Mode::Rating, "rating"), (Mode::Best, "best")] {
            let expected = &case["modes"][key];
            let weights = answer.weights(mode, beta);
            for (a, b) in weights.iter().zip(flat(&expected["weights"])) {
                close(&format!("{name} {key} weight"), *a, b);
            }
            for (reduction, part) in
                [(Reduction::Sum, "sum"), (Reduction::Mean, "mean"), (Reduction::BandMean, "band_mean")]
            {
                let what = format!("{name} {key} {part}");
                let ours = loss(&logits, &reference, &masks, weights, reduction).unwrap();
                close(&what, ours.margin, expected[part]["margin"].as_f64().unwrap());
                close(&what, ours.loss, expected[part]["loss"].as_f64().unwrap());
                for (a, b) in ours.gradient.iter().zip(valid(&expected[part]["grad"])) {
                    close(&format!("{what} gradient"), *a, b);
                }
                let at_reference = loss(&reference, &reference, &masks, weights, reduction).unwrap();
                assert_eq!(at_reference.loss, std::f64::consts::LN_2, "{what}");
            }
            if masks.iter().all(|m| *m == masks[0]) {
                assert!(!loss(&logits, &reference, &masks, weights, Reduction::BandMean).unwrap().informative);
            }
        }
    }
    for edge in file["rating_edge_cases"].as_array().unwrap() {
        assert_eq!(u64::from(rating(edge["iou"].as_f64().unwrap())), edge["rating"].as_u64().unwrap());
    }
}

#[test]
fn ties_do_not_depend_on_order_and_equal_masks_cancel() {
    let b = [1.0, 0.5];
    let weights = |ranks| Answer::from_ranks(ranks).unwrap().weights(Mode::Ranking, b);
    assert_eq!(weights([3, 2, 1, 3]), [-0.75, 0.5, 1.0, -0.75]);
    assert_eq!(weights([1, 1, 1, 1]), [0.0; 4]);
    assert_eq!(weights([1, 1, 3, 4]), [0.75, 0.75, -0.5, -1.0]);
    // Gaps after a tie do not matter, only the order does.
    assert_eq!(weights([1, 1, 2, 3]), weights([1, 1, 3, 4]));
    assert!(Answer::from_ranks([2, 2, 3, 4]).is_err());
    assert!(Answer::from_ranks([0, 1, 2, 3]).is_err());
}

#[test]
fn extreme_logits_stay_finite_and_lengths_are_checked() {
    let z = [500.0f32, -500.0, 88.0, -3e4];
    let r = [-500.0f32, 500.0, 0.1, 3e4];
    let masks = candidates(&r, [0.3, 0.4, 0.5, 0.6]);
    for weights in [[1.0, 0.5, -0.5, -1.0], [1.0, 1.0, 1.0, 1.0]] {
        let p = loss(&z, &r, &masks, weights, Reduction::Sum).unwrap();
        assert!(p.loss.is_finite() && p.gradient.iter().all(|g| g.is_finite()), "{p:?}");
    }
    assert!(loss(&z[..3], &r, &masks, [0.0; 4], Reduction::Sum).is_err());
}
