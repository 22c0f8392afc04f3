//! Every operation and its gradient against candle's basic operations (f32, tolerances a few ulps of the sums).
use super::*;
use candle_core::{DType, Device, Var};

fn noise(shape: &[usize], seed: u32) -> Tensor {
    let n: usize = shape.iter().product();
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let v: Vec<f32> = (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    Tensor::from_vec(v, shape, &Device::Cpu).unwrap()
}

/// Largest difference of outputs and of all gradients between two functions of the same variables.
pub(super) fn compare(
    vars: &[Var],
    ours: impl Fn(&[Tensor]) -> Tensor,
    theirs: impl Fn(&[Tensor]) -> Tensor,
    tolerance: f32,
) {
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let (a, b) = (ours(&tensors), theirs(&tensors));
    assert_eq!(a.dims(), b.dims());
    let far = |a: &Tensor, b: &Tensor| {
        let scale = b.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap().max(1.0);
        (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap() / scale
    };
    assert!(far(&a, &b) < tolerance, "output off by {}", far(&a, &b));
    let weights = noise(a.dims(), 99);
    let grads = |out: &Tensor| (out * &weights).unwrap().sum_all().unwrap().backward().unwrap();
    let (ga, gb) = (grads(&a), grads(&b));
    for (n, v) in vars.iter().enumerate() {
        let (x, y) = (ga.get(v).expect("a gradient"), gb.get(v).expect("a gradient"));
        assert!(far(x, y) < tolerance, "gradient {n} off by {}", far(x, y));
    }
}

pub(super) fn vars(shapes: &[&[usize]]) -> Vec<Var> {
    shapes.iter().enumerate().map(|(i, s)| Var::from_tensor(&noise(s, i as u32 + 1)).unwrap()).collect()
}

#[test]
fn convolution() {
    for (k, stride, h, w) in [(3, 1, 7, 5), (3, 2, 8, 6), (3, 2, 7, 5), (5, 2, 9, 7), (1, 1, 4, 3), (3, 1, 1, 1)] {
        let v = vars(&[&[2, h, w, 3], &[k, k, 3, 4]]);
        compare(
            &v,
            |t| conv2d(&t[0], &t[1], stride).unwrap(),
            |t| {
                let x = t[0].permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
                let w = t[1].permute((3, 2, 0, 1)).unwrap().contiguous().unwrap();
                x.conv2d(&w, k / 2, stride, 1, 1).unwrap().permute((0, 2, 3, 1)).unwrap().contiguous().unwrap()
            },
            2e-6,
        );
    }
    assert!(conv2d(&noise(&[1, 4, 4, 3], 0), &noise(&[3, 3, 2, 4], 0), 1).is_err());
}

#[test]
fn norms() {
    for relu in [false, true] {
        compare(
            &vars(&[&[2, 5, 4, 8], &[8], &[8]]),
            |t| group_norm(&t[0], &t[1], &t[2], 4, relu).unwrap(),
            |t| {
                let x = t[0].reshape((2, 20, 4, 2)).unwrap().permute((0, 2, 1, 3)).unwrap().contiguous().unwrap();
                let x = x.reshape((2, 4, 40)).unwrap();
                let c = x.broadcast_sub(&x.mean_keepdim(2).unwrap()).unwrap();
                let v = c.sqr().unwrap().mean_keepdim(2).unwrap();
                let n = c.broadcast_div(&(v + 1e-5).unwrap().sqrt().unwrap()).unwrap();
                let n = n.reshape((2, 4, 20, 2)).unwrap().permute((0, 2, 1, 3)).unwrap().contiguous().unwrap();
                let y = n.reshape((2, 5, 4, 8)).unwrap().broadcast_mul(&t[1]).unwrap().broadcast_add(&t[2]).unwrap();
                if relu { y.relu().unwrap() } else { y }
            },
            1e-5,
        );
    }
    compare(
        &vars(&[&[3, 5, 24], &[24], &[24]]),
        |t| layer_norm(&t[0], &t[1], &t[2], 1e-5).unwrap(),
        |t| candle_nn::ops::layer_norm_slow(&t[0], &t[1], &t[2], 1e-5).unwrap(),
        1e-5,
    );
}

#[test]
fn activations() {
    let v = [Var::from_tensor(&(noise(&[3, 5, 7], 3) * 4.0).unwrap()).unwrap()];
    compare(&v, |t| gelu(&t[0]).unwrap(), |t| t[0].gelu_erf().unwrap(), 3e-6);
    compare(&v, |t| softmax(&t[0]).unwrap(), |t| candle_nn::ops::softmax(&t[0], 2).unwrap(), 1e-6);
    compare(
        &vars(&[&[2, 3, 4], &[2, 3, 4]]),
        |t| add_relu(&t[0], &t[1]).unwrap(),
        |t| (&t[0] + &t[1]).unwrap().relu().unwrap(),
        1e-6,
    );
    compare(
        &vars(&[&[2, 3, 4, 5]]),
        |t| upsample2(&t[0]).unwrap(),
        |t| {
            let x = t[0].reshape((2, 3, 1, 4, 1, 5)).unwrap().broadcast_as((2, 3, 2, 4, 2, 5)).unwrap();
            x.contiguous().unwrap().reshape((2, 6, 8, 5)).unwrap()
        },
        1e-6,
    );
}

#[test]
fn loss_of_masks() {
    let logits = Var::from_tensor(&(noise(&[3, 64], 5) * 6.0).unwrap()).unwrap();
    let truth = ((noise(&[3, 64], 6) + 1.0).unwrap() * 0.5).unwrap();
    let dice = vec![1.0f32, 0.0, 2.0];
    compare(
        &[logits],
        |t| mask_loss(&t[0], &truth, 0.7, dice.clone()).unwrap(),
        |t| {
            let x = &t[0];
            let soft = (x.abs().unwrap().neg().unwrap().exp().unwrap() + 1.0).unwrap().log().unwrap();
            let bce = ((x.relu().unwrap() - (x * &truth).unwrap()).unwrap() + soft).unwrap().mean(1).unwrap();
            let s = candle_nn::ops::sigmoid(x).unwrap();
            let above = (((&s * &truth).unwrap().sum(1).unwrap() * 2.0).unwrap() + 1.0).unwrap();
            let below = ((s.sum(1).unwrap() + truth.sum(1).unwrap()).unwrap() + 1.0).unwrap();
            let d = (1.0 - (above / below).unwrap()).unwrap();
            ((bce * 0.7).unwrap() + (d * Tensor::new(dice.clone(), &Device::Cpu).unwrap()).unwrap()).unwrap()
        },
        5e-6,
    );
    let far = Tensor::new(&[[-100f32, 100.0, 40.0, -40.0, 0.0, 0.0, 0.0, 0.0]], &Device::Cpu).unwrap();
    let t = Tensor::zeros((1, 8), DType::F32, &Device::Cpu).unwrap();
    assert!(mask_loss(&far, &t, 1.0, vec![1.0]).unwrap().to_vec1::<f32>().unwrap()[0].is_finite());
}
