//! Activations as int8 with one f32 scale per 32 values.

use std::ops::Range;

use crate::buffer::Buffer;
use crate::quant::panel::{BLOCK, Packed};
use crate::simd::{Kernel, LANES, Simd};

/// Values below this are zero: their scale's inverse would overflow.
const TINY: f32 = 1e-30;

/// An f32 of 1.5 · 2^23. An integer n of magnitude below 2^22, added to its bits, makes the f32 `SUM_START + n`: a sum that
/// starts there needs no conversion.
pub const SUM_START: f32 = 12_582_912.0;

/// A scale has that many bits less than an f32, so that its product with [`SUM_START`] is exact.
const SPARE_BITS: u32 = 2;

/// Rows of a group, whose blocks stand side by side.
pub const GROUP: usize = 4;

/// Rows of int8 with their scales and sums, in groups of [`GROUP`]: each array is `[group, block, row of the group]`, so
/// that a matmul over several rows reads one stream.
#[derive(Debug)]
pub struct QuantizedRows {
    cols: usize,
    /// 32 values, each in -127..=127.
    q: Buffer<[i8; BLOCK]>,
    /// The largest magnitude / 127, to 22 bits; readable a vector beyond their end.
    scale: Buffer<f32>,
    /// -[`SUM_START`] * scale.
    scaled_start: Buffer<f32>,
    /// Of each row: what [`QuantizedRows::row_scale`] says.
    row_scale: Buffer<f32>,
    /// scale * sum.
    scaled_sum: Buffer<f32>,
    /// Minus the sum of the values, of the first 16, and of the others; readable a vector beyond their end.
    negative_sums: [Buffer<i32>; 3],
}

/// A row of [`QuantizedRows`], and the rows behind it in its group: pointers to their first blocks.
#[derive(Clone, Copy)]
pub struct QuantizedRow {
    q: *mut [i8; BLOCK],
    scale: *mut f32,
    scaled_start: *mut f32,
    scaled_sum: *mut f32,
    negative_sums: [*mut i32; 3],
}

/// Block `block` of the row that stands `row` behind this one in its group. Safety: it exists.
#[allow(clippy::missing_safety_doc, clippy::undocumented_unsafe_blocks)]
impl QuantizedRow {
    /// Sets what is beside the values of a block: its scale, and minus the sums.
    #[inline(always)]
    unsafe fn set(&self, block: usize, scale: f32, negative_sums: [i32; 3]) {
        unsafe {
            *self.scale(block, 0) = scale;
            *self.scaled_start(block, 0) = -SUM_START * scale;
            *self.scaled_sum(block, 0) = -(negative_sums[0] as f32) * scale;
            for (to, sum) in self.negative_sums.iter().zip(negative_sums) {
                *to.add(block * GROUP) = sum;
            }
        }
    }

    #[inline(always)]
    pub unsafe fn q(&self, block: usize, row: usize) -> *mut i8 {
        unsafe { self.q.add(block * GROUP + row).cast() }
    }

    #[inline(always)]
    pub unsafe fn scale(&self, block: usize, row: usize) -> *mut f32 {
        unsafe { self.scale.add(block * GROUP + row) }
    }

    /// What a sum in f32, which began at [`SUM_START`], has too much, times -scale.
    #[inline(always)]
    pub unsafe fn scaled_start(&self, block: usize, row: usize) -> *mut f32 {
        unsafe { self.scaled_start.add(block * GROUP + row) }
    }

    #[inline(always)]
    pub unsafe fn scaled_sum(&self, block: usize, row: usize) -> *mut f32 {
        unsafe { self.scaled_sum.add(block * GROUP + row) }
    }

    /// Where minus the sums of the block stand for this row and those behind it, and further blocks' [`GROUP`] numbers
    /// later: of the whole block, or of its half where `P` has a scale for each half.
    #[inline(always)]
    pub unsafe fn negative_sums<P: Packed>(&self, block: usize, half: usize) -> *const i32 {
        let sums = self.negative_sums[if P::HALVES { 1 + half } else { 0 }];
        unsafe { sums.add(block * GROUP) }
    }
}

impl QuantizedRows {
    /// Room for `rows` rows of up to `cols` values; `None` if there is not enough memory.
    pub fn new(rows: usize, cols: usize) -> Option<Self> {
        let blocks = rows.next_multiple_of(GROUP) * cols.div_ceil(BLOCK);
        Some(Self {
            cols: 0,
            q: Buffer::zeroed(blocks)?,
            scale: Buffer::zeroed(blocks + LANES)?,
            scaled_start: Buffer::zeroed(blocks)?,
            row_scale: Buffer::zeroed(rows)?,
            scaled_sum: Buffer::zeroed(blocks)?,
            negative_sums: [
                Buffer::zeroed(blocks + LANES)?,
                Buffer::zeroed(blocks + LANES)?,
                Buffer::zeroed(blocks + LANES)?,
            ],
        })
    }

    /// Bytes of all arrays.
    pub fn bytes(&self) -> usize {
        let sums: usize = self.negative_sums.iter().map(Buffer::bytes).sum();
        let floats = [&self.scale, &self.scaled_start, &self.row_scale, &self.scaled_sum].map(Buffer::bytes);
        self.q.bytes() + floats.iter().sum::<usize>() + sums
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
        let at = row / GROUP * GROUP * (self.cols / BLOCK) + row % GROUP;
        let [all, first, second] = &self.negative_sums;
        // SAFETY: the caller's promise.
        unsafe {
            QuantizedRow {
                q: self.q.ptr().add(at),
                scale: self.scale.ptr().add(at),
                scaled_start: self.scaled_start.ptr().add(at),
                scaled_sum: self.scaled_sum.ptr().add(at),
                // `map` of the array would be a call, in the innermost loop but one.
                negative_sums: [all.ptr().add(at), first.ptr().add(at), second.ptr().add(at)],
            }
        }
    }

    /// The kernel that quantizes the values at `x` into some blocks of row `row`.
    ///
    /// Its safety: the blocks exist and nothing else reads or writes them; x has as many values.
    pub fn quantize(&self, row: usize, blocks: Range<usize>, x: *const f32) -> impl Kernel<Output = ()> + use<'_> {
        Quantize { rows: self, row, blocks, x }
    }

    /// Makes row `row` what row `other` of `from` is, which has as many columns, in blocks with a scale each.
    ///
    /// # Safety
    /// Both rows exist; nothing writes `other`, and nothing else touches `row`.
    pub unsafe fn copy_row(&self, row: usize, from: &Self, other: usize) {
        debug_assert_eq!(self.cols, from.cols);
        // SAFETY: the blocks exist; the caller's promise.
        unsafe {
            let (to, from) = (self.row(row), from.row(other));
            for block in 0..self.cols / BLOCK {
                std::ptr::copy_nonoverlapping(from.q(block, 0), to.q(block, 0), BLOCK);
                *to.scale(block, 0) = *from.scale(block, 0);
                *to.scaled_start(block, 0) = *from.scaled_start(block, 0);
                *to.scaled_sum(block, 0) = *from.scaled_sum(block, 0);
                for (to, from) in to.negative_sums.iter().zip(from.negative_sums) {
                    *to.add(block * GROUP) = *from.add(block * GROUP);
                }
            }
        }
    }

    /// The kernel that quantizes a whole row at `x`; its safety is that of [`QuantizedRows::quantize`].
    pub fn quantize_row(&self, row: usize, x: *const f32) -> impl Kernel<Output = ()> + use<'_> {
        self.quantize(row, 0..self.cols / BLOCK, x)
    }
}

impl QuantizedRows {
    /// The kernel that rounds a whole row at `x` to int8 with one scale, as ternary nodes want it; its safety is that of
    /// [`QuantizedRows::quantize`]. The blocks' scales are 1, the row's is [`QuantizedRows::row_scale`].
    pub fn round_row(&self, row: usize, x: *const f32) -> impl Kernel<Output = ()> + use<'_> {
        RoundRow { rows: self, row, x }
    }

    /// What one unit of a row rounded by [`QuantizedRows::round_row`] stands for.
    ///
    /// # Safety
    /// The row has been rounded, and nothing writes it.
    pub unsafe fn row_scale(&self, row: usize) -> f32 {
        // SAFETY: the caller's promise.
        unsafe { *self.row_scale.ptr().add(row) }
    }
}

/// The smallest magnitude that a row's scale is taken of.
const LEAST: f32 = 1e-5;

struct RoundRow<'a> {
    rows: &'a QuantizedRows,
    row: usize,
    x: *const f32,
}

impl Kernel for RoundRow<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn body<S: Simd>(self) {
        // SAFETY: the row exists and is written by this call alone; x has as many values.
        unsafe {
            let (row, blocks) = (self.rows.row(self.row), self.rows.cols / BLOCK);
            let mut largest = S::splat(LEAST);
            for i in (0..blocks * BLOCK).step_by(LANES) {
                largest = S::max(S::abs(S::load(self.x.add(i))), largest);
            }
            let scale = 127.0 / S::largest(largest);
            *self.rows.row_scale.ptr().add(self.row) = 1.0 / scale;
            for block in 0..blocks {
                let mut negative_sums = [0; 3];
                for half in 0..2 {
                    let scaled = S::mul(S::load(self.x.add(block * BLOCK + half * LANES)), S::splat(scale));
                    let q = S::round(S::min(S::max(scaled, S::splat(-127.0)), S::splat(127.0)));
                    S::store_i8(row.q(block, 0).add(half * LANES), q);
                    negative_sums[1 + half] = -S::sum_i(q);
                }
                negative_sums[0] = negative_sums[1] + negative_sums[2];
                row.set(block, 1.0, negative_sums);
            }
        }
    }
}

struct Quantize<'a> {
    rows: &'a QuantizedRows,
    row: usize,
    blocks: Range<usize>,
    x: *const f32,
}

impl Kernel for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn body<S: Simd>(self) {
        // SAFETY: the blocks exist and are written by this call alone.
        unsafe {
            let row = self.rows.row(self.row);
            let limit = S::splat(127.0);
            // Scales of sixteen blocks at a time share their divisions.
            for (chunk, first) in self.blocks.clone().step_by(LANES).enumerate() {
                let x = self.x.add(chunk * LANES * BLOCK);
                let count = (self.blocks.end - first).min(LANES);
                let mut largest = [0.0; LANES];
                for (i, largest) in largest.iter_mut().enumerate().take(count) {
                    let x = x.add(i * BLOCK);
                    *largest = S::largest(S::max(S::abs(S::load(x)), S::abs(S::load(x.add(LANES)))));
                }
                let largest = S::load(largest.as_ptr());
                let (mut scales, mut inverses) = ([0.0; LANES], [0.0; LANES]);
                S::store(scales.as_mut_ptr(), S::div(largest, limit));
                let inverse = S::select_lt(S::splat(TINY), largest, S::div(limit, largest), S::splat(0.0));
                S::store(inverses.as_mut_ptr(), inverse);
                for (i, block) in (first..first + count).enumerate() {
                    let (x, inverse) = (x.add(i * BLOCK), S::splat(inverses[i]));
                    let mut negative_sums = [0; 3];
                    for half in 0..2 {
                        let scaled = S::mul(S::load(x.add(half * LANES)), inverse);
                        let q = S::round(S::min(S::max(scaled, S::splat(-127.0)), limit));
                        S::store_i8(row.q(block, 0).add(half * LANES), q);
                        negative_sums[1 + half] = -S::sum_i(q);
                    }
                    negative_sums[0] = negative_sums[1] + negative_sums[2];
                    let scale = f32::from_bits(scales[i].to_bits() >> SPARE_BITS << SPARE_BITS);
                    row.set(block, scale, negative_sums);
                }
            }
        }
    }
}
