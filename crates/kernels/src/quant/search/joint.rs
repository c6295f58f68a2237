//! Integers that make up for each other's errors, where it is known how what a matrix is given goes together.
//!
//! With errors e of a row and second moments M of its inputs, its output is off by eᵀ M e in the mean of squares. Each value
//! in turn takes the level that is best as all others stand (coordinate descent), so that this sum never grows. In between
//! the steps `d` and `dmin` of each block take their best size for the levels that they have.
//!
//! Nothing here knows a type: what a block's values may be is told by decoding it with all integers at the lowest and at
//! the highest level.

use half::f16;

use super::levels::{self, Scale};
use super::{BLOCK, Lattice, Levels, Parts, QuantType, SUBS, lattice};
use crate::quant::DType;
use crate::simd::{Kernel, LANES, Simd, Tier};

/// Columns of a group at most: products with others count as nothing, and their number stays bounded.
const SPAN: usize = 768;
/// How much of the products is believed, beside squares: those of a text are not quite those of another.
const BELIEVED: f32 = 0.75;
/// How often a row is gone through at most, and how often of these the steps are fitted.
const PASSES: usize = 6;
const FITTED: usize = 2;

/// Second moments of what a matrix is given, within groups of columns.
#[derive(Debug)]
pub struct Moments {
    cols: usize,
    span: usize,
    /// `[cols, span]`, those of a column with all columns of its group; zeros behind the last.
    rows: Vec<f32>,
}

impl Moments {
    /// The columns of a group for a matrix of `cols`: whole blocks, 16 columns at least. 0 if it cannot be quantized.
    pub fn span(cols: usize) -> usize {
        let unit = if cols.is_multiple_of(BLOCK) { BLOCK } else { 32 };
        if cols == 0 || !cols.is_multiple_of(unit) {
            return 0;
        }
        (cols / unit).div_ceil(cols.div_ceil(SPAN)) * unit
    }

    /// Of sums of products as [`NodeInputs`](crate::backend::NodeInputs) has them, `[cols, span]`; `None` if they are not
    /// so many, or not all numbers.
    pub fn new(cols: usize, sums: &[f32]) -> Option<Self> {
        let span = Self::span(cols);
        if span == 0 || sums.len() != cols * span || !sums.iter().all(|sum| sum.is_finite()) {
            return None;
        }
        let mean = (0..cols).map(|j| f64::from(sums[j * span + j % span])).sum::<f64>() / cols as f64;
        let scale = if mean > 0.0 { (1.0 / mean) as f32 } else { 0.0 };
        let mut rows = vec![0.0; sums.len()];
        for (j, row) in rows.chunks_exact_mut(span).enumerate() {
            let start = j / span * span;
            for (k, v) in row.iter_mut().enumerate().take(cols - start) {
                // The sums begin with the column's own sixteen.
                let (first, second) = (j.min(start + k), j.max(start + k));
                let sum = sums[first * span + second - start] * scale;
                *v = if first == second { sum } else { sum * BELIEVED };
            }
        }
        Some(Self { cols, span, rows })
    }

    /// The mean square of each column, 1 in the mean.
    pub fn squares(&self) -> Vec<f32> {
        (0..self.cols).map(|j| self.square(j)).collect()
    }

    /// The mean product of two columns as it is believed; 0 of different groups.
    #[cfg(test)]
    pub(super) fn product(&self, a: usize, b: usize) -> f32 {
        if a / self.span == b / self.span { self.rows[a * self.span + b % self.span] } else { 0.0 }
    }

    fn square(&self, column: usize) -> f32 {
        self.rows[column * self.span + column % self.span]
    }

    /// Adds `factor` times the moments of a column to `sums`, which have whole spans.
    #[inline(always)]
    unsafe fn add<S: Simd>(&self, column: usize, factor: f32, sums: &mut [f32]) {
        let sums = &mut sums[column / self.span * self.span..][..self.span];
        let row = &self.rows[column * self.span..][..self.span];
        for (row, sums) in row.as_chunks::<LANES>().0.iter().zip(sums.as_chunks_mut::<LANES>().0) {
            // SAFETY: the caller's promise; both have 16 values.
            unsafe {
                S::store(sums.as_mut_ptr(), S::fma(S::splat(factor), S::load(row.as_ptr()), S::load(sums.as_ptr())));
            }
        }
    }
}

/// Makes the error eᵀ M e of encoded rows smaller, with the same bytes on every tier.
///
/// `values` is n × the moments' columns, `blocks` are these values as an encoder left them. A row of which no better one is
/// found stays as it is, and so do blocks of types that are not [`searchable`](super::searchable).
pub fn settle(dtype: DType, tier: Tier, values: &[f32], moments: &Moments, blocks: &mut [u8]) {
    struct Run<'a>(Rows<'a>, &'a [f32], &'a mut [u8]);
    impl Kernel for Run<'_> {
        type Output = ();
        #[inline(always)]
        unsafe fn body<S: Simd>(self) {
            let Self(mut rows, values, blocks) = self;
            let bytes = rows.moments.cols / rows.lattice.of.block * rows.lattice.of.bytes;
            for (x, blocks) in values.chunks_exact(rows.moments.cols).zip(blocks.chunks_exact_mut(bytes)) {
                // SAFETY: the caller's promise.
                unsafe {
                    match rows.lattice.levels {
                        Levels::Whole(low, high) => rows.settle::<S>(levels::Whole { low, high }, x, blocks),
                        Levels::Nonlinear => rows.settle::<S>(levels::Nonlinear, x, blocks),
                    }
                }
            }
        }
    }
    let Some(lattice) = lattice(dtype).filter(|lattice| moments.cols.is_multiple_of(lattice.of.block)) else { return };
    let tier = if tier.available() { tier } else { Tier::Scalar };
    // SAFETY: the tier is available.
    unsafe { tier.run(Run(Rows::new(lattice, moments), values, blocks)) }
}

/// What the rows of a matrix are settled with, one after another.
struct Rows<'a> {
    lattice: &'static Lattice,
    moments: &'a Moments,
    integers: Integers,
    /// Of the row at hand: values as they stand, what a value is at level 0, and one level.
    now: Vec<f32>,
    zero: Vec<f32>,
    scale: Vec<f32>,
    /// Which level each value has, from 0.
    q: Vec<u8>,
    /// M e, in whole spans.
    pull: Vec<f32>,
    /// M v of a direction v, likewise.
    along: Vec<f32>,
    found: Vec<u8>,
}

impl<'a> Rows<'a> {
    fn new(lattice: &'static Lattice, moments: &'a Moments) -> Self {
        let cols = moments.cols;
        let (numbers, padded) = (|| vec![0.0; cols], cols.next_multiple_of(moments.span));
        Self {
            lattice,
            moments,
            integers: Integers::of(lattice),
            now: numbers(),
            zero: numbers(),
            scale: numbers(),
            q: vec![0; cols],
            pull: vec![0.0; padded],
            along: vec![0.0; padded],
            found: Vec::new(),
        }
    }

    /// One row: `x` its values, `blocks` its blocks.
    #[inline(always)]
    unsafe fn settle<S: Simd>(&mut self, levels: impl Scale, x: &[f32], blocks: &mut [u8]) {
        let QuantType { bytes, decode, .. } = *self.lattice.of;
        decode(blocks, &mut self.now);
        self.found.clear();
        self.found.extend_from_slice(blocks);
        for block in 0..blocks.len() / bytes {
            self.read(levels, block);
        }
        // SAFETY: the caller's promise.
        unsafe {
            self.pull.fill(0.0);
            for (j, (x, v)) in x.iter().zip(&self.now).enumerate() {
                self.moments.add::<S>(j, x - v, &mut self.pull);
            }
            let before = error(x, &self.now, &self.pull);
            for (j, now) in self.now.iter().enumerate() {
                self.q[j] = index(levels, *now, self.zero[j], self.scale[j]);
            }
            for pass in 0..PASSES {
                let changed = self.descend::<S>(levels);
                if pass < FITTED {
                    self.fit::<S>(levels);
                } else if !changed {
                    break;
                }
            }
            self.integers.write(self.lattice, &self.q, &mut self.found);
            decode(&self.found, &mut self.now);
            if error(x, &self.now, &self.pull) < before {
                blocks.copy_from_slice(&self.found);
            }
        }
    }

    /// What values of a block may be.
    fn read(&mut self, levels: impl Scale, block: usize) {
        let QuantType { block: values, bytes, decode, .. } = *self.lattice.of;
        let range = block * values..(block + 1) * values;
        let (zero, scale) = (&mut self.zero[range.clone()], &mut self.scale[range]);
        let (bottom, top) = levels.ends();
        let mut b = [0; 256];
        let b = &mut b[..bytes];
        b.copy_from_slice(&self.found[block * bytes..(block + 1) * bytes]);
        self.integers.put(&self.integers.lowest, b);
        decode(b, zero);
        self.integers.put(&self.integers.highest, b);
        decode(b, scale);
        for (zero, scale) in zero.iter_mut().zip(scale) {
            *scale = (*scale - *zero) / (top - bottom);
            *zero -= bottom * *scale;
        }
    }

    /// Each value in turn; whether any has changed.
    #[inline(always)]
    unsafe fn descend<S: Simd>(&mut self, levels: impl Scale) -> bool {
        let mut changed = false;
        for j in 0..self.moments.cols {
            let (square, scale, zero) = (self.moments.square(j), self.scale[j], self.zero[j]);
            if square <= 0.0 || scale == 0.0 {
                continue;
            }
            let q = index(levels, self.now[j] + self.pull[j] / square, zero, scale);
            if q == self.q[j] {
                continue;
            }
            let step = zero + levels.level(q) * scale - self.now[j];
            if step * (2.0 * self.pull[j] - step * square) > 0.0 {
                self.q[j] = q;
                self.now[j] += step;
                changed = true;
                // SAFETY: the caller's promise.
                unsafe { self.moments.add::<S>(j, -step, &mut self.pull) };
            }
        }
        changed
    }

    /// The best `d`, and then `dmin`, of each block for its levels.
    #[inline(always)]
    unsafe fn fit<S: Simd>(&mut self, levels: impl Scale) {
        let QuantType { block: values, bytes, .. } = *self.lattice.of;
        let blocks = self.moments.cols / values;
        for (block, (which, at)) in (0..blocks).flat_map(|b| self.lattice.steps.iter().enumerate().map(move |s| (b, s)))
        {
            let columns = block * values..(block + 1) * values;
            // A step's part of a value, in which the value is linear.
            let part = |rows: &Self, j: usize| if which == 0 { rows.now[j] - rows.zero[j] } else { rows.zero[j] };
            let span = columns.start / self.moments.span * self.moments.span;
            let mut along = std::mem::take(&mut self.along);
            along[span..span + self.moments.span].fill(0.0);
            for j in columns.clone() {
                // SAFETY: the caller's promise.
                unsafe { self.moments.add::<S>(j, part(self, j), &mut along) };
            }
            let (mut gain, mut square) = (0.0, 0.0);
            for j in columns.clone() {
                gain += f64::from(part(self, j)) * f64::from(self.pull[j]);
                square += f64::from(part(self, j)) * f64::from(along[j]);
            }
            let step: &mut [u8; 2] = self.found[block * bytes + at..].first_chunk_mut().expect("a half of the block");
            let old = f16::from_le_bytes(*step);
            let new = f16::from_f64(f64::from(old) * (1.0 + gain / square));
            let share = f64::from(new) / f64::from(old) - 1.0;
            // What the error loses.
            if square > 0.0 && share.is_finite() && share * (2.0 * gain - share * square) > 0.0 {
                *step = new.to_le_bytes();
                let share = share as f32;
                for j in columns {
                    self.now[j] += share * part(self, j);
                }
                let range = span..span + self.moments.span;
                let along = along[range.clone()].iter();
                self.pull[range].iter_mut().zip(along).for_each(|(pull, along)| *pull -= share * along);
                self.read(levels, block);
            }
            self.along = along;
        }
    }
}

/// The level nearest to a value, from 0.
fn index(levels: impl Scale, v: f32, zero: f32, scale: f32) -> u8 {
    if scale == 0.0 { 0 } else { levels.index((v - zero) / scale) }
}

/// eᵀ M e; `pull` is M e.
fn error(x: &[f32], now: &[f32], pull: &[f32]) -> f64 {
    x.iter().zip(now).zip(pull).map(|((x, v), pull)| (f64::from(*x) - f64::from(*v)) * f64::from(*pull)).sum()
}

/// Where the integers of a type's blocks stand.
struct Integers {
    /// The bits that they take.
    mask: Vec<u8>,
    /// These bits with all integers 0, and with all at the last level.
    lowest: Vec<u8>,
    highest: Vec<u8>,
}

impl Integers {
    fn of(lattice: &Lattice) -> Self {
        let count = match lattice.levels {
            Levels::Whole(low, high) => high - low,
            Levels::Nonlinear => 15,
        };
        let lowest = packed(lattice, [0; BLOCK]);
        let mut mask = vec![0; lattice.of.bytes];
        for q in 0..=count {
            let other = packed(lattice, [q as u8; BLOCK]);
            mask.iter_mut().zip(&lowest).zip(other).for_each(|((mask, a), b)| *mask |= a ^ b);
        }
        Self { mask, lowest, highest: packed(lattice, [count as u8; BLOCK]) }
    }

    /// Puts the integers of `packed` into a block, whose other bits stay.
    fn put(&self, packed: &[u8], block: &mut [u8]) {
        for ((b, new), mask) in block.iter_mut().zip(packed).zip(&self.mask) {
            *b = *b & !mask | new & mask;
        }
    }

    /// Puts the integers of a row into its blocks.
    fn write(&self, lattice: &Lattice, q: &[u8], blocks: &mut [u8]) {
        let QuantType { block, bytes, .. } = *lattice.of;
        for (q, b) in q.chunks_exact(block).zip(blocks.chunks_exact_mut(bytes)) {
            let mut all = [0; BLOCK];
            all[..block].copy_from_slice(q);
            self.put(&packed(lattice, all), b);
        }
    }
}

/// A block of these integers, whose steps are 0.
fn packed(lattice: &Lattice, q: [u8; BLOCK]) -> Vec<u8> {
    let mut block = vec![0; lattice.of.bytes];
    (lattice.pack)(&Parts { d: 0.0, dmin: 0.0, scales: [0; SUBS], mins: [0; SUBS], q }, &mut block);
    block
}
