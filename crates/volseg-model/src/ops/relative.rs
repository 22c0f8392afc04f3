use super::attention::{put, softmax_backward, softmax_row};
use super::{basic, like, read, stored};
use crate::grad_ops::dispatch::dispatched;
use crate::grad_ops::gemm::{Operand, matmul};
use crate::grad_ops::values;
use crate::share;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

/// Queries are taken in groups whose logits hold about this many numbers, so that these stay in the cache.
const LOGITS: usize = 128 * 1024;

/// How the tokens of a square picture attend to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Tokens along a side.
    pub side: usize,
    /// Side of the windows that attend apart; equal to `side` for attention of all to all.
    pub window: usize,
    /// Attention heads.
    pub heads: usize,
}

/// SAM's windowed self-attention with decomposed relative positions (specs: sam-med2d.md sections 2.1, 2.2).
///
/// `qkv [b, side², 3 d]` of the real tokens, `tables [2, 2 window - 1, d / heads]` (vertical, horizontal), `bias [3 d]` of
/// the map that made `qkv` -> `[b, side², d]`. The official code pads the grid with zeros to whole windows **before** that
/// map, so a padded token's key and value are exactly the bias; they are filled in here, and padded queries, whose
/// answers are thrown away, are never computed.
///
/// # Errors
/// Shapes that do not fit, or tensors that are not `f32` on the CPU.
pub fn relative_attention(qkv: &Tensor, tables: &Tensor, bias: &Tensor, grid: Grid) -> Result<Tensor> {
    if !qkv.device().is_cpu() {
        return basic::relative_attention(qkv, tables, bias, grid);
    }
    qkv.contiguous()?.apply_op3(&tables.contiguous()?, &bias.contiguous()?, grid)
}

/// One window: its real tokens with their places in the window, and for each of its places the token, if there is one.
struct Tile {
    real: Vec<(usize, usize, usize)>,
    places: Vec<Option<usize>>,
}

impl Grid {
    fn tiles(&self) -> Vec<Tile> {
        let (side, k) = (self.side, self.window);
        let mut tiles = Vec::new();
        for y0 in (0..side).step_by(k) {
            for x0 in (0..side).step_by(k) {
                let mut tile = Tile { real: Vec::new(), places: Vec::with_capacity(k * k) };
                for (y, x) in (0..k * k).map(|i| (i / k, i % k)) {
                    let token = (y0 + y < side && x0 + x < side).then(|| (y0 + y) * side + x0 + x);
                    tile.real.extend(token.map(|t| (t, y, x)));
                    tile.places.push(token);
                }
                tiles.push(tile);
            }
        }
        tiles
    }

    /// (batch, d, width of a head)
    fn check(&self, qkv: &[usize], tables: &[usize], bias: &[usize]) -> Result<(usize, usize, usize)> {
        let Self { side, window, heads } = *self;
        let fits = match (qkv, tables, bias) {
            (&[b, t, d3], &[2, rows, w], &[n]) if window > 0 && heads > 0 => (t == side * side
                && d3 == 3 * heads * w
                && n == d3
                && rows == 2 * window - 1)
                .then_some((b, heads * w, w)),
            _ => None,
        };
        fits.ok_or_else(|| {
            candle_core::Error::Msg(format!(
                "relative_attention: qkv {qkv:?}, tables {tables:?}, bias {bias:?}, {self:?}"
            ))
        })
    }
}

/// A head's numbers of the real tokens, or of all places of a window with the bias where there is no token.
struct Gather<'a> {
    qkv: &'a [f32],
    bias: &'a [f32],
    d: usize,
    w: usize,
}

impl Gather<'_> {
    fn real(&self, tile: &[(usize, usize, usize)], column: usize, out: &mut Vec<f32>) {
        out.clear();
        for &(t, ..) in tile {
            let at = t * 3 * self.d + column;
            out.extend_from_slice(&self.qkv[at..at + self.w]);
        }
    }

    fn places(&self, tile: &Tile, column: usize, out: &mut Vec<f32>) {
        out.clear();
        for place in &tile.places {
            out.extend_from_slice(match place {
                Some(t) => &self.qkv[t * 3 * self.d + column..][..self.w],
                None => &self.bias[column..column + self.w],
            });
        }
    }
}

dispatched! {
    /// Softmax of `scale · s` plus relative terms, in place. `s [n, k²]`; `r [n, 2 (2k - 1)]` are the products of the
    /// queries with both tables; `line` is scratch of `k` numbers.
    fn relative_softmax(s: &mut [f32], r: &[f32], tile: &[(usize, usize, usize)], k: usize, scale: f32, line: &mut [f32]) {
        let rows = 2 * k - 1;
        for ((s, r), &(_, y, x)) in s.chunks_exact_mut(k * k).zip(r.chunks_exact(2 * rows)).zip(tile) {
            for (i, v) in line.iter_mut().enumerate() {
                *v = r[rows + x + k - 1 - i];
            }
            for (i, q) in s.chunks_exact_mut(k).enumerate() {
                let vertical = r[y + k - 1 - i];
                for (v, h) in q.iter_mut().zip(&*line) {
                    *v = *v * scale + (vertical + h);
                }
            }
            softmax_row(s);
        }
    }
}

impl CustomOp3 for Grid {
    fn name(&self) -> &'static str {
        "relative-attention"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (b, d, w) = self.check(l1.dims(), l2.dims(), l3.dims())?;
        let (qkv, tables, bias) = (values(s1, l1)?, values(s2, l2)?, values(s3, l3)?);
        let (k, keys, tokens) = (self.window, self.window * self.window, self.side * self.side);
        let scale = 1.0 / (w as f32).sqrt();
        let tables = Operand::new(tables, 2 * (2 * k - 1), w).t();
        let tiles = self.tiles();
        let parts: Vec<(usize, usize)> = (0..b).flat_map(|i| (0..self.heads).map(move |h| (i, h))).collect();
        let answers = share::map(&parts, |&(i, h)| {
            let gather = Gather { qkv: &qkv[i * tokens * 3 * d..][..tokens * 3 * d], bias, d, w };
            let (mut q, mut key, mut v) = (Vec::new(), Vec::new(), Vec::new());
            let (mut s, mut r, mut o, mut line) = (Vec::new(), Vec::new(), Vec::new(), vec![0f32; k]);
            let mut out = vec![0f32; tokens * w];
            for tile in &tiles {
                gather.places(tile, d + h * w, &mut key);
                gather.places(tile, 2 * d + h * w, &mut v);
                let (km, vm) = (Operand::new(&key, keys, w), Operand::new(&v, keys, w));
                for real in tile.real.chunks((LOGITS / keys).max(16)) {
                    let n = real.len();
                    gather.real(real, h * w, &mut q);
                    let qm = Operand::new(&q, n, w);
                    s.resize(n * keys, 0.0);
                    r.resize(n * 2 * (2 * k - 1), 0.0);
                    o.resize(n * w, 0.0);
                    matmul(&mut s, qm, km.t(), false);
                    matmul(&mut r, qm, tables, false);
                    relative_softmax(&mut s, &r, real, k, scale, &mut line);
                    matmul(&mut o, Operand::new(&s, n, keys), vm, false);
                    for (o, &(t, ..)) in o.chunks_exact(w).zip(real) {
                        out[t * w..][..w].copy_from_slice(o);
                    }
                }
            }
            out
        });
        let mut out = vec![0f32; b * tokens * d];
        for (&(i, h), answer) in parts.iter().zip(&answers) {
            put(answer, w, 1.0, &mut out[i * tokens * d..][..tokens * d], d, h * w);
        }
        Ok((stored(out), Shape::from((b, tokens, d))))
    }

    fn bwd(
        &self,
        qkv_t: &Tensor,
        tables_t: &Tensor,
        bias_t: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (_, d, w) = self.check(qkv_t.dims(), tables_t.dims(), bias_t.dims())?;
        let (k, keys, tokens) = (self.window, self.window * self.window, self.side * self.side);
        let (rows, scale) = (2 * k - 1, 1.0 / (w as f32).sqrt());
        let mut dqkv = vec![0f32; qkv_t.elem_count()];
        let mut dtables = vec![0f32; tables_t.elem_count()];
        let mut dbias = vec![0f32; bias_t.elem_count()];
        let (mut q, mut key, mut v, mut line) = (Vec::new(), Vec::new(), Vec::new(), vec![0f32; k]);
        let mut place_grads = vec![0f32; keys * w];
        let mut one = |dqkv: &mut [f32], qkv: &[f32], tables: &[f32], bias: &[f32], grad: &[f32]| {
            let gather = Gather { qkv, bias, d, w };
            let tables = Operand::new(tables, 2 * rows, w);
            for tile in self.tiles() {
                let n = tile.real.len();
                let (mut s, mut ds) = (vec![0f32; n * keys], vec![0f32; n * keys]);
                let (mut r, mut dr, mut dq) = (vec![0f32; n * 2 * rows], vec![0f32; n * 2 * rows], vec![0f32; n * w]);
                let mut g = vec![0f32; n * w];
                for h in 0..self.heads {
                    gather.places(&tile, d + h * w, &mut key);
                    gather.places(&tile, 2 * d + h * w, &mut v);
                    gather.real(&tile.real, h * w, &mut q);
                    for (g, &(t, ..)) in g.chunks_exact_mut(w).zip(&tile.real) {
                        g.copy_from_slice(&grad[t * d + h * w..][..w]);
                    }
                    let (qm, km, vm) = (Operand::new(&q, n, w), Operand::new(&key, keys, w), Operand::new(&v, keys, w));
                    let gm = Operand::new(&g, n, w);
                    matmul(&mut s, qm, km.t(), false);
                    matmul(&mut r, qm, tables.t(), false);
                    relative_softmax(&mut s, &r, &tile.real, k, scale, &mut line);
                    let mut give = |grads: &[f32], column: usize| {
                        for (g, place) in grads.chunks_exact(w).zip(&tile.places) {
                            let target = match place {
                                Some(t) => &mut dqkv[t * 3 * d + column..][..w],
                                None => &mut dbias[column..column + w],
                            };
                            target.iter_mut().zip(g).for_each(|(a, b)| *a += b);
                        }
                    };
                    matmul(&mut place_grads, Operand::new(&s, n, keys).t(), gm, false);
                    give(&place_grads, 2 * d + h * w);
                    matmul(&mut ds, gm, vm.t(), false);
                    softmax_backward(&s, &mut ds, keys);
                    dr.fill(0.0);
                    for ((ds, dr), &(_, y, x)) in
                        ds.chunks_exact(keys).zip(dr.chunks_exact_mut(2 * rows)).zip(&tile.real)
                    {
                        for (i, line) in ds.chunks_exact(k).enumerate() {
                            dr[y + k - 1 - i] += line.iter().sum::<f32>();
                            for (j, v) in line.iter().enumerate() {
                                dr[rows + x + k - 1 - j] += v;
                            }
                        }
                    }
                    matmul(&mut dtables, Operand::new(&dr, n, 2 * rows).t(), qm, true);
                    ds.iter_mut().for_each(|v| *v *= scale);
                    matmul(&mut dq, Operand::new(&ds, n, keys), km, false);
                    matmul(&mut dq, Operand::new(&dr, n, 2 * rows), tables, true);
                    matmul(&mut place_grads, Operand::new(&ds, n, keys).t(), qm, false);
                    give(&place_grads, d + h * w);
                    for (g, &(t, ..)) in dq.chunks_exact(w).zip(&tile.real) {
                        dqkv[t * 3 * d + h * w..][..w].copy_from_slice(g);
                    }
                }
            }
        };
        read(qkv_t, |qkv| {
            read(tables_t, |tables| {
                read(bias_t, |bias| {
                    read(grad, |grad| {
                        let images = dqkv.chunks_exact_mut(tokens * 3 * d).zip(qkv.chunks_exact(tokens * 3 * d));
                        for ((dqkv, qkv), grad) in images.zip(grad.chunks_exact(tokens * d)) {
                            one(dqkv, qkv, tables, bias, grad);
                        }
                        Ok(())
                    })
                })
            })
        })?;
        Ok((like(dqkv, qkv_t)?, like(dtables, tables_t)?, like(dbias, bias_t)?))
    }
}
