//! Every operation of our own that stands in a training graph, against finite differences: the change of a weighted sum of its
//! outputs along random directions of each input, computed from outputs alone.
#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::{Device, Tensor, Var};
use volseg_model::grad_ops::{add_bias, add_relu, conv2d, gelu, group_norm, layer_norm, mask_loss, softmax, upsample2};
use volseg_model::ops::{
    Grid, Linear, Window, attention, fold, matmul_transposed, relative_attention, resize_square, unfold,
};

/// Numbers in -1..1 from a linear congruence.
fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

fn tensor(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
}

/// Checks the gradients of `f` for inputs of these shapes.
fn check(name: &str, shapes: &[&[usize]], f: impl Fn(&[Tensor]) -> Tensor) {
    let sizes: Vec<usize> = shapes.iter().map(|s| s.iter().product()).collect();
    let inputs: Vec<Vec<f32>> = sizes.iter().enumerate().map(|(k, &n)| noise(n, 11 + k as u64)).collect();
    let vars: Vec<Var> = shapes.iter().zip(&inputs).map(|(s, v)| Var::from_tensor(&tensor(s, v)).unwrap()).collect();
    let tracked: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = f(&tracked);
    let weights = noise(y.elem_count(), 5);
    let loss = (y.flatten_all().unwrap() * tensor(&[weights.len()], &weights)).unwrap().sum_all().unwrap();
    let store = loss.backward().unwrap();
    // The weighted sum with one input moved, in f64.
    let moved = |k: usize, by: &[f32], step: f32| -> f64 {
        let at: Vec<Tensor> = shapes
            .iter()
            .zip(&inputs)
            .enumerate()
            .map(|(n, (s, v))| {
                let v: Vec<f32> =
                    if n == k { v.iter().zip(by).map(|(v, d)| v + step * d).collect() } else { v.clone() };
                tensor(s, &v)
            })
            .collect();
        let y = f(&at).flatten_all().unwrap().to_vec1::<f32>().unwrap();
        y.iter().zip(&weights).map(|(y, w)| f64::from(*y) * f64::from(*w)).sum()
    };
    for (k, var) in vars.iter().enumerate() {
        let gradient = store.get(var).unwrap_or_else(|| panic!("{name}: input {k} has no gradient"));
        let gradient = gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let size = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        for direction in 0..3 {
            let by = noise(sizes[k], 100 + direction);
            let length = by.iter().map(|d| f64::from(*d).powi(2)).sum::<f64>().sqrt();
            // A short step, so that few kinks of ReLU are crossed.
            let step = (0.005 / length) as f32;
            let expected = (moved(k, &by, step) - moved(k, &by, -step)) / f64::from(2.0 * step);
            let found: f64 = gradient.iter().zip(&by).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
            let off = (found - expected).abs() / (size * length).max(1e-3);
            assert!(off < 2e-4, "{name}, input {k}: slope {found}, finite difference {expected}");
        }
    }
}

#[test]
fn operations_of_the_transformers() {
    check("linear", &[&[3, 5, 8], &[6, 8], &[6]], |t| {
        Linear::new(t[1].clone(), Some(t[2].clone())).unwrap().forward(&t[0]).unwrap()
    });
    let frozen = tensor(&[6, 8], &noise(48, 2));
    check("frozen linear", &[&[3, 5, 8], &[6]], |t| {
        Linear::new(frozen.clone(), Some(t[1].clone())).unwrap().forward(&t[0]).unwrap()
    });
    let window = Window { size: 3, stride: 2, pad: 1 };
    check("convolution by windows", &[&[2, 6, 6, 3], &[4, 3, 3, 3]], |t| {
        Linear::of_patches(t[1].clone(), None).unwrap().forward(&unfold(&t[0], window).unwrap()).unwrap()
    });
    let up = Window { size: 4, stride: 2, pad: 1 };
    check("transposed convolution by windows", &[&[2, 3, 3, 4], &[4, 3, 4, 4]], |t| {
        fold(&Linear::to_patches(t[1].clone(), None).unwrap().forward(&t[0]).unwrap(), up, 6, 6).unwrap()
    });
    check("unfold", &[&[2, 5, 5, 3]], |t| unfold(&t[0], window).unwrap());
    check("fold", &[&[2, 3, 3, 27]], |t| fold(&t[0], window, 5, 5).unwrap());
    check("products with a transpose", &[&[2, 5, 7], &[2, 4, 7]], |t| matmul_transposed(&t[0], &t[1]).unwrap());
    check("attention", &[&[2, 5, 8], &[2, 7, 8], &[2, 7, 8]], |t| attention(&t[0], &t[1], &t[2], 2).unwrap());
    check("attention to one", &[&[3, 5, 8], &[1, 7, 8], &[1, 7, 8]], |t| attention(&t[0], &t[1], &t[2], 2).unwrap());
    for (side, window) in [(4, 4), (5, 3)] {
        let grid = Grid { side, window, heads: 2 };
        check("windows with relative positions", &[&[2, side * side, 24], &[2, 2 * window - 1, 4], &[24]], |t| {
            relative_attention(&t[0], &t[1], &t[2], grid).unwrap()
        });
    }
    check("resizing", &[&[2, 5, 5]], |t| resize_square(&t[0], 9).unwrap());
}

#[test]
fn operations_of_the_convolutions() {
    for stride in [1, 2] {
        check("convolution", &[&[2, 6, 6, 3], &[3, 3, 3, 4]], |t| conv2d(&t[0], &t[1], stride).unwrap());
    }
    for relu in [false, true] {
        check("group norm", &[&[2, 4, 4, 16], &[16], &[16]], |t| group_norm(&t[0], &t[1], &t[2], 8, relu).unwrap());
    }
    check("layer norm", &[&[3, 5, 16], &[16], &[16]], |t| layer_norm(&t[0], &t[1], &t[2], 1e-5).unwrap());
    check("gelu", &[&[4, 9]], |t| gelu(&(&t[0] * 3.0).unwrap()).unwrap());
    check("softmax", &[&[4, 9]], |t| softmax(&(&t[0] * 3.0).unwrap()).unwrap());
    check("sum and relu", &[&[4, 9], &[4, 9]], |t| add_relu(&t[0], &t[1]).unwrap());
    check("doubling", &[&[2, 3, 4, 5]], |t| upsample2(&t[0]).unwrap());
    check("bias", &[&[6, 16], &[16]], |t| add_bias(&t[0], &t[1]).unwrap());
    let truth: Vec<f32> = noise(96, 3).iter().map(|v| (v + 1.0) / 2.0).collect();
    let truth = tensor(&[6, 16], &truth);
    check("loss of masks", &[&[6, 16]], |t| {
        mask_loss(&(&t[0] * 4.0).unwrap(), &truth, 2.0, vec![1.0, 0.0, 1.0, 1.0, 0.0, 1.0]).unwrap()
    });
}
