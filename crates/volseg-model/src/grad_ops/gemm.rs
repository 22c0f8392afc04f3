//! One safe door to the `gemm` crate, for row-major matrices.

use crate::share;

/// A matrix operand: row-major values and whether it is used transposed.
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    transposed: bool,
}

impl<'a> Operand<'a> {
    /// Row-major `rows × columns`.
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "matrix of {rows} x {columns}");
        Self { values, rows, columns, transposed: false }
    }

    /// The transpose of the matrix.
    pub(crate) fn t(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }

    fn shape(&self) -> (usize, usize) {
        if self.transposed { (self.columns, self.rows) } else { (self.rows, self.columns) }
    }

    /// (step of a column, step of a row)
    fn strides(&self) -> (isize, isize) {
        let c = self.columns as isize;
        if self.transposed { (c, 1) } else { (1, c) }
    }
}

/// `out = a · b`, or `out += a · b` with `add`; `out` is row-major. One thread, so the order of sums is fixed.
#[allow(unsafe_code)]
pub(crate) fn matmul(out: &mut [f32], a: Operand<'_>, b: Operand<'_>, add: bool) {
    let (m, n) = sizes(out, a, b);
    // SAFETY: `sizes` checked that all of `out`, which is borrowed exclusively, is `m × n` numbers.
    unsafe { product(out.as_mut_ptr(), n, (0, m), (0, n), a, b, add) };
}

/// `out = a · b`, plus `bias` in every row; parts of fixed sizes are shared among threads (see [`share`]).
#[allow(unsafe_code)]
pub(crate) fn matmul_shared(out: &mut [f32], a: Operand<'_>, b: Operand<'_>, bias: Option<&[f32]>) {
    /// Where all parts write, each its own numbers.
    struct Target(*mut f32);
    // SAFETY: the parts below are disjoint rectangles of one exclusively borrowed matrix.
    unsafe impl Sync for Target {}
    impl Target {
        fn at(&self, n: usize) -> *mut f32 {
            self.0.wrapping_add(n)
        }
    }
    let (m, n) = sizes(out, a, b);
    assert!(bias.is_none_or(|b| b.len() == n), "one bias a column");
    let (rows, columns) = part(m, n, a.shape().1);
    let target = Target(out.as_mut_ptr());
    let parts = (0..m).step_by(rows).flat_map(|r| (0..n).step_by(columns).map(move |c| (r, c)));
    share::each(parts, |(r, c)| {
        let (rows, columns) = (rows.min(m - r), columns.min(n - c));
        // SAFETY: rows `r..` and columns `c..` lie in the `m × n` numbers of `out`, and no other part has them.
        unsafe {
            for (row, bias) in (r..r + rows).filter_map(|row| Some((row, bias?))) {
                target.at(row * n + c).copy_from_nonoverlapping(bias[c..c + columns].as_ptr(), columns);
            }
            product(target.at(r * n + c), n, (r, rows), (c, columns), a, b, bias.is_some());
        }
    });
}

/// Rows and columns of a part of an `m × n` product of inner size `k`: about 4 million multiply-adds and more, at most
/// sixteen parts along the longer side, in whole tiles of every kernel of `gemm`.
fn part(m: usize, n: usize, k: usize) -> (usize, usize) {
    let parts = ((m * n * k) >> 22).clamp(1, 16);
    let size = |along: usize, across: usize| {
        let least = along.div_ceil(parts).next_multiple_of(96);
        // What is left over must not be so small that `gemm` sums it in another order than the rest.
        let fits = |&size: &usize| match along % size {
            0 => true,
            rest => along < size || (rest > 1 && rest * across > DOTS),
        };
        (least..).step_by(96).find(fits).unwrap_or(least)
    };
    if m > 2 * n { (size(m, n), n.max(1)) } else { (m.max(1), size(n, m)) }
}

/// (rows, columns) of a product whose sizes fit.
fn sizes(out: &[f32], a: Operand<'_>, b: Operand<'_>) -> (usize, usize) {
    let ((m, k), (k2, n)) = (a.shape(), b.shape());
    assert_eq!(k, k2, "inner sizes of a product");
    assert_eq!(out.len(), m * n, "size of a product");
    (m, n)
}

/// Products of up to so many numbers, and those of one row or column, `gemm` sums in an order of their own.
const DOTS: usize = 256;

/// Terms of a sum that `gemm` takes in one go, whatever the sizes; longer ones it cuts at places that depend on them.
const TERMS: usize = 512;

/// `rows` and `columns` (first, number) of `a · b`, written to or added to `out`, whose rows are `stride` apart.
///
/// # Safety
/// `a` and `b` fit and have these rows and columns; `out` may be written at all numbers of the part and is read nowhere else.
#[allow(unsafe_code)]
unsafe fn product(
    out: *mut f32,
    stride: usize,
    rows: (usize, usize),
    columns: (usize, usize),
    a: Operand<'_>,
    b: Operand<'_>,
    add: bool,
) {
    let ((acs, ars), (bcs, brs)) = (a.strides(), b.strides());
    let k = a.shape().1;
    // At least once: a sum of no terms is zero. Cut here, a row's bits do not depend on how many rows
    // there are, save in the smallest products (see [`DOTS`]).
    for first in (0..k.max(1)).step_by(TERMS) {
        // SAFETY: the caller vouches for the sizes, and `Operand::new` for its slice.
        unsafe {
            gemm::gemm(
                rows.1,
                columns.1,
                TERMS.min(k - first),
                out,
                1,
                stride as isize,
                add || first > 0,
                a.values.as_ptr().wrapping_offset(rows.0 as isize * ars + first as isize * acs),
                acs,
                ars,
                b.values.as_ptr().wrapping_offset(columns.0 as isize * bcs + first as isize * brs),
                bcs,
                brs,
                1.0f32,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_does_not_depend_on_how_many_there_are() {
        let values = |n: usize, step: usize| (0..n).map(|i| (i * step % 1013) as f32 / 500.0 - 1.0).collect::<Vec<_>>();
        // Longer and shorter sums than gemm's own blocks, small and large sides; more rows than one part has.
        for (k, n) in [(588, 64), (588, 60), (1100, 20), (512, 64), (600, 200)] {
            let (a, b) = (values(3000 * k, 7919), values(n * k, 104_729));
            let rows = |m: usize, shared: bool| {
                let mut out = vec![0f32; m * n];
                let (a, b) = (Operand::new(&a[..m * k], m, k), Operand::new(&b, n, k).t());
                if shared {
                    matmul_shared(&mut out, a, b, None)
                } else {
                    matmul(&mut out, a, b, false)
                }
                out
            };
            let all = rows(3000, true);
            for m in [13, 50, 64, 65, 500, 577, 1200] {
                assert!(rows(m, true) == all[..m * n] && rows(m, false) == all[..m * n], "{k} {n} {m}");
            }
        }
    }
}
