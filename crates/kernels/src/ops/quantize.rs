//! Activations as int8 with one f32 scale per 32 values.

use crate::buffer::Buffer;
use crate::quant::panel::{BLOCK, Packed};
use crate::simd::{Kernel, LANES, Simd};

/// Values below this are zero: their scale's inverse would overflow.
const TINY: f32 = 1e-30;

/// Rows of int8 with their scales and sums.
#[derive(Debug)]
pub struct QuantizedRows {
    cols: usize,
    /// `[row, cols]`, each value in -127..=127.
    q: Buffer<i8>,
    /// `[row, block]`: the largest magnitude / 127.
    scale: Buffer<f32>,
    /// `[row, block]`: scale * sum.
    scaled_sum: Buffer<f32>,
    /// `[row, block]`: minus the sum of each 16 values.
    negative_sums: Buffer<[i32; 2]>,
}

/// One row of [`QuantizedRows`]; pointers to its blocks.
#[derive(Clone, Copy)]
pub struct QuantizedRow {
    pub q: *mut i8,
    pub scale: *mut f32,
    pub scaled_sum: *mut f32,
    negative_sums: *mut [i32; 2],
}

impl QuantizedRow {
    /// Minus the sum of block `block`, or of its half where `P` has a scale for each half.
    ///
    /// # Safety
    /// The block exists.
    #[inline(always)]
    pub unsafe fn negative_sum<P: Packed>(&self, block: usize, half: usize) -> i32 {
        // SAFETY: the caller's promise.
        let sums = unsafe { *self.negative_sums.add(block) };
        if P::HALVES { sums[half] } else { sums[0] + sums[1] }
    }
}

impl QuantizedRows {
    /// Room for `rows` rows of up to `cols` values; `None` if there is not enough memory.
    pub fn new(rows: usize, cols: usize) -> Option<Self> {
        let blocks = rows * cols.div_ceil(BLOCK);
        Some(Self {
            cols: 0,
            q: Buffer::zeroed(blocks * BLOCK)?,
            scale: Buffer::zeroed(blocks)?,
            scaled_sum: Buffer::zeroed(blocks)?,
            negative_sums: Buffer::zeroed(blocks)?,
        })
    }

    /// Lays the rows out anew, with `cols` values each, a multiple of 32. What they held is lost.
    pub fn set_cols(&mut self, cols: usize) {
        debug_assert_eq!(cols % BLOCK, 0);
        self.cols = cols;
    }

    /// Row `row`.
    ///
    /// # Safety
    /// The row exists.
    #[inline(always)]
    pub unsafe fn row(&self, row: usize) -> QuantizedRow {
        let blocks = self.cols / BLOCK;
        // SAFETY: the caller's promise.
        unsafe {
            QuantizedRow {
                q: self.q.ptr().add(row * self.cols),
                scale: self.scale.ptr().add(row * blocks),
                scaled_sum: self.scaled_sum.ptr().add(row * blocks),
                negative_sums: self.negative_sums.ptr().add(row * blocks),
            }
        }
    }

    /// The kernel that quantizes `cols` values at `x` into row `row`.
    ///
    /// Its safety: the row exists and nothing else reads or writes it; x has `cols` values.
    pub fn quantize_row(&self, row: usize, x: *const f32) -> impl Kernel<Output = ()> + use<'_> {
        QuantizeRow { rows: self, row, x }
    }
}

struct QuantizeRow<'a> {
    rows: &'a QuantizedRows,
    row: usize,
    x: *const f32,
}

impl Kernel for QuantizeRow<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn body<S: Simd>(self) {
        // SAFETY: the row exists and is written by this call alone.
        unsafe {
            let row = self.rows.row(self.row);
            let limit = S::splat(127.0);
            for block in 0..self.rows.cols / BLOCK {
                let x = self.x.add(block * BLOCK);
                let values = [S::load(x), S::load(x.add(LANES))];
                let largest = S::largest(S::max(S::abs(values[0]), S::abs(values[1])));
                let scale = largest / 127.0;
                let inverse = S::splat(if largest > TINY { 127.0 / largest } else { 0.0 });
                let mut negative_sums = [0; 2];
                for half in 0..2 {
                    let scaled = S::mul(values[half], inverse);
                    let q = S::round(S::min(S::max(scaled, S::splat(-127.0)), limit));
                    S::store_i8(row.q.add(block * BLOCK + half * LANES), q);
                    negative_sums[half] = -S::sum_i(q);
                }
                *row.scale.add(block) = scale;
                *row.scaled_sum.add(block) = -((negative_sums[0] + negative_sums[1]) as f32) * scale;
                *row.negative_sums.add(block) = negative_sums;
            }
        }
    }
}
