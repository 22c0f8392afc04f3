//! One safe door to the `gemm` crate, for row-major matrices.

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
    let ((m, k), (k2, n)) = (a.shape(), b.shape());
    assert_eq!(k, k2, "inner sizes of a product");
    assert_eq!(out.len(), m * n, "size of a product");
    let ((acs, ars), (bcs, brs)) = (a.strides(), b.strides());
    // SAFETY: the asserts above and in `Operand::new` make every element that the strides reach lie inside its slice;
    // `out` is borrowed exclusively, so it overlaps neither operand.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            add,
            a.values.as_ptr(),
            acs,
            ars,
            b.values.as_ptr(),
            bcs,
            brs,
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
