//! Every operation and its gradient against candle's basic operations.
use super::*;
use candle_core::{Device, Var};

pub(super) fn noise(shape: &[usize], seed: u32) -> Tensor {
    let n: usize = shape.iter().product();
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    Tensor::from_vec((0..n).map(|_| next()).collect::<Vec<_>>(), shape, &Device::Cpu).unwrap()
}

fn far(a: &Tensor, b: &Tensor) -> f32 {
    let scale = b.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap().max(1e-3);
    (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap() / scale
}

/// Outputs and all gradients of two functions of the same variables.
fn compare(shapes: &[&[usize]], ours: impl Fn(&[Tensor]) -> Tensor, theirs: impl Fn(&[Tensor]) -> Tensor) {
    let vars: Vec<Var> =
        shapes.iter().enumerate().map(|(i, s)| Var::from_tensor(&noise(s, i as u32 + 1)).unwrap()).collect();
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let (a, b) = (ours(&tensors), theirs(&tensors));
    assert_eq!(a.dims(), b.dims());
    assert!(far(&a, &b) < 5e-6, "output off by {}", far(&a, &b));
    let weights = noise(a.dims(), 99);
    let grads = |out: &Tensor| (out * &weights).unwrap().sum_all().unwrap().backward().unwrap();
    let (ga, gb) = (grads(&a), grads(&b));
    for (n, v) in vars.iter().enumerate() {
        let (x, y) = (ga.get(v).expect("a gradient"), gb.get(v).expect("a gradient"));
        assert!(far(x, y) < 2e-5, "gradient {n} off by {}", far(x, y));
    }
}

#[test]
fn linear_maps() {
    compare(
        &[&[2, 5, 7], &[3, 7], &[3]],
        |t| Linear::new(t[1].clone(), Some(t[2].clone())).unwrap().forward(&t[0]).unwrap(),
        |t| t[0].broadcast_matmul(&t[1].t().unwrap()).unwrap().broadcast_add(&t[2]).unwrap(),
    );
    let w = noise(&[3, 7], 4);
    compare(
        &[&[2, 5, 7]],
        |t| Linear::new(w.clone(), None).unwrap().forward(&t[0]).unwrap(),
        |t| t[0].broadcast_matmul(&w.t().unwrap()).unwrap(),
    );
    compare(
        &[&[2, 5, 7], &[2, 4, 7]],
        |t| matmul_transposed(&t[0], &t[1]).unwrap(),
        |t| t[0].matmul(&t[1].t().unwrap()).unwrap(),
    );
}

#[test]
fn convolutions_by_windows() {
    let last = |t: &Tensor| t.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
    let first = |t: &Tensor| t.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
    for (size, stride, pad, h, w) in [(3, 2, 1, 6, 8), (3, 1, 1, 5, 4), (2, 2, 0, 4, 6), (3, 2, 1, 5, 7)] {
        compare(
            &[&[2, h, w, 3], &[4, 3, size, size]],
            |t| {
                let x = unfold(&t[0], Window { size, stride, pad }).unwrap();
                Linear::of_patches(t[1].clone(), None).unwrap().forward(&x).unwrap()
            },
            |t| last(&first(&t[0]).conv2d(&t[1], pad, stride, 1, 1).unwrap()),
        );
    }
    for (size, stride, pad) in [(4, 2, 1), (2, 2, 0)] {
        compare(
            &[&[2, 3, 5, 3], &[3, 4, size, size]],
            |t| {
                let x = Linear::to_patches(t[1].clone(), None).unwrap().forward(&t[0]).unwrap();
                fold(&x, Window { size, stride, pad }, 6, 10).unwrap()
            },
            |t| last(&first(&t[0]).conv_transpose2d(&t[1], pad, 0, stride, 1).unwrap()),
        );
    }
    assert!(unfold(&noise(&[1, 2, 2, 1], 1), Window { size: 5, stride: 1, pad: 0 }).is_err());
}

#[test]
fn attention_of_heads() {
    for (bq, bk) in [(2, 2), (1, 2), (2, 1)] {
        compare(
            &[&[bq, 5, 12], &[bk, 19, 12], &[bk, 19, 12]],
            |t| attention(&t[0], &t[1], &t[2], 3).unwrap(),
            |t| {
                let split = |t: &Tensor| {
                    let (b, n, _) = t.dims3().unwrap();
                    let t = t.reshape((b, n, 3, 4)).unwrap().transpose(1, 2).unwrap();
                    t.broadcast_as((2, 3, n, 4)).unwrap().contiguous().unwrap()
                };
                let (q, k, v) = (split(&t[0]), split(&t[1]), split(&t[2]));
                let s = (q.matmul(&k.t().unwrap()).unwrap() * 0.5).unwrap();
                let o = candle_nn::ops::softmax(&s, 3).unwrap().matmul(&v).unwrap();
                o.transpose(1, 2).unwrap().contiguous().unwrap().reshape((2, 5, 12)).unwrap()
            },
        );
    }
}

/// Windows as the official code forms them: pad with zeros before the qkv map, cut, attend everywhere, put together, crop.
fn padded_windows(x: &Tensor, w: &Tensor, bias: &Tensor, tables: &Tensor, g: Grid) -> Tensor {
    let (b, d, k) = (x.dim(0).unwrap(), w.dim(1).unwrap(), g.window);
    let n = g.side.div_ceil(k);
    let hd = d / g.heads;
    let x = x.reshape((b, g.side, g.side, d)).unwrap();
    let x = x.pad_with_zeros(1, 0, n * k - g.side).unwrap().pad_with_zeros(2, 0, n * k - g.side).unwrap();
    let x = x.reshape((b, n, k, n, k, d)).unwrap().permute((0, 1, 3, 2, 4, 5)).unwrap().contiguous().unwrap();
    let x = x.reshape((b * n * n, k * k, d)).unwrap();
    let qkv = x.broadcast_matmul(&w.t().unwrap()).unwrap().broadcast_add(bias).unwrap();
    let part = |i: usize| {
        let t = qkv.narrow(2, i * d, d).unwrap().reshape((b * n * n, k * k, g.heads, hd)).unwrap();
        t.transpose(1, 2).unwrap().contiguous().unwrap()
    };
    let (q, key, v) = (part(0), part(1), part(2));
    let s = (q.matmul(&key.t().unwrap()).unwrap() * (1.0 / (hd as f64).sqrt())).unwrap();
    let index = |f: &dyn Fn(usize) -> usize| {
        let at: Vec<u32> = (0..k * k * k * k).map(|i| (f(i / (k * k)) + k - 1 - f(i % (k * k))) as u32).collect();
        Tensor::from_vec(at, k * k * k * k, &Device::Cpu).unwrap()
    };
    let term = |t: usize, at: &Tensor| {
        let table = tables.narrow(0, t, 1).unwrap().squeeze(0).unwrap().index_select(at, 0).unwrap();
        let table = table.reshape((1, 1, k * k, k * k, hd)).unwrap();
        q.unsqueeze(3).unwrap().broadcast_mul(&table).unwrap().sum(4).unwrap()
    };
    let s = (s + term(0, &index(&|i| i / k))).unwrap();
    let s = (s + term(1, &index(&|i| i % k))).unwrap();
    let o = candle_nn::ops::softmax(&s, 3).unwrap().matmul(&v).unwrap();
    let o = o.transpose(1, 2).unwrap().contiguous().unwrap().reshape((b, n, n, k, k, d)).unwrap();
    let o = o.permute((0, 1, 3, 2, 4, 5)).unwrap().contiguous().unwrap().reshape((b, n * k, n * k, d)).unwrap();
    let o = o.narrow(1, 0, g.side).unwrap().narrow(2, 0, g.side).unwrap().contiguous().unwrap();
    o.reshape((b, g.side * g.side, d)).unwrap()
}

#[test]
fn windows_with_relative_positions() {
    for g in [(5, 3), (4, 4), (3, 5)].map(|(side, window)| Grid { side, window, heads: 2 }) {
        compare(
            &[&[2, g.side * g.side, 6], &[18, 6], &[18], &[2, 2 * g.window - 1, 3]],
            |t| {
                let qkv = Linear::new(t[1].clone(), Some(t[2].clone())).unwrap().forward(&t[0]).unwrap();
                relative_attention(&qkv, &t[3], &t[2], g).unwrap()
            },
            |t| padded_windows(&t[0], &t[1], &t[2], &t[3], g),
        );
    }
    let bad = Grid { side: 4, window: 3, heads: 2 };
    assert!(relative_attention(&noise(&[1, 16, 18], 1), &noise(&[2, 9, 3], 1), &noise(&[18], 1), bad).is_err());
}

#[test]
fn square_resizing_has_the_rule_of_torch() {
    let x = Tensor::new(&[[[0f32, 1.0], [0.0, 1.0]]], &Device::Cpu).unwrap();
    let y = resize_square(&x, 4).unwrap();
    assert_eq!(y.to_vec3::<f32>().unwrap()[0], vec![vec![0.0, 0.25, 0.75, 1.0]; 4]);
    let x = noise(&[1, 5, 5], 3);
    let flat = x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let expected = volseg_geometry::resize_bilinear(&flat, 5, 5, 13, 13);
    let expected = Tensor::from_vec(expected, (1, 13, 13), &Device::Cpu).unwrap();
    assert!(far(&resize_square(&x, 13).unwrap(), &expected) < 1e-6);
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let (d, grid) = (192, Grid { side: 20, window: 14, heads: 4 });
    let shapes: [&[usize]; 8] =
        [&[2, 400, d], &[3 * d, d], &[3 * d], &[2, 27, d / 4], &[d], &[4 * d, d], &[d, 48, 2, 2], &[2, 400, d]];
    let answer = || {
        let vars: Vec<Var> =
            shapes.iter().enumerate().map(|(i, s)| Var::from_tensor(&noise(s, i as u32 + 1)).unwrap()).collect();
        let t: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let qkv = Linear::new(t[1].clone(), Some(t[2].clone())).unwrap().forward(&t[0]).unwrap();
        let x = relative_attention(&qkv, &t[3], &t[2], grid).unwrap();
        let x = crate::grad_ops::layer_norm(&x, &t[4], &t[4], 1e-6).unwrap();
        let wide = Linear::new(t[5].clone(), None).unwrap().forward(&x).unwrap();
        let wide = crate::grad_ops::gelu(&wide).unwrap();
        let x = (attention(&x, &t[7], &x, 8).unwrap() + wide.narrow(2, 0, d).unwrap()).unwrap();
        let x = Linear::to_patches(t[6].clone(), None).unwrap().forward(&x.reshape((2, 20, 20, d)).unwrap()).unwrap();
        let x = fold(&x, Window { size: 2, stride: 2, pad: 0 }, 40, 40).unwrap();
        let windows = unfold(&x, Window { size: 3, stride: 1, pad: 1 }).unwrap();
        let products = matmul_transposed(&x.flatten(1, 2).unwrap(), &x.flatten(1, 2).unwrap()).unwrap();
        let sum = (windows.sqr().unwrap().sum_all().unwrap() + products.sum_all().unwrap()).unwrap();
        let grads = sum.backward().unwrap();
        let bits = |t: &Tensor| {
            t.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        };
        let all = [&qkv, &wide, &x, &products].map(bits).into_iter();
        all.chain(vars.iter().map(|v| bits(grads.get(v).expect("a gradient")))).collect::<Vec<_>>()
    };
    let pool = |n: usize| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
    let alone = answer();
    assert!(alone.iter().flatten().all(|&b| f32::from_bits(b).is_finite()));
    for n in [1, 2, 3] {
        assert!(pool(n).install(answer) == alone, "{n} threads");
    }
    assert!(pool(2).install(|| crate::share::on_this_thread(answer)) == alone);
}
