//! How Q2_K, Q4_K and Q5_K, and by importance Q4_1 and Q5_1, choose a scale and an offset for each 16 or 32 values:
//! `x ≈ scale * q - offset`, q in 0..=top.
//!
//! A search over inverse scales: each candidate quantizes the values, a weighted least-squares fit gives the best scale
//! and offset for these integers, and the fit with the smallest weighted squared error wins. Without an importance, a
//! value's weight is the root mean square of all plus its magnitude; or the magnitude alone, and then the error is the
//! weighted absolute one. The offset is never negative, as it is stored without a sign. Source: ggml's reference
//! quantizers.
//!
//! [`fit`] is the plain version. `lanes` runs sixteen fits side by side, one in each lane, with the same operations in the
//! same order in each lane. `blocks` makes blocks of 256 values of them.

mod blocks;
mod lanes;

pub(super) use blocks::{Scales, encode_blocks, encode_header};

use super::encode::{half, nearest};
use super::weights::checked;
use crate::simd::{LANES, Simd};
use lanes::Fits;

/// What a type searches: candidate number i has the inverse scale `(top + first + step * i) / range`.
#[derive(Clone, Copy)]
pub(super) struct Search {
    /// The largest q.
    pub top: u8,
    pub first: f32,
    pub step: f32,
    pub candidates: u8,
    /// Whether errors are absolute, weighted by magnitudes.
    pub absolute: bool,
}

impl Search {
    /// The search by importance, which is the same for all types.
    pub const fn weighted(top: u8) -> Self {
        Self { top, first: -0.9, step: 0.05, candidates: 37, absolute: false }
    }

    /// The product of the range of values and the inverse scale, of candidate number `i`.
    #[inline(always)]
    fn levels(&self, i: u8) -> f32 {
        self.first + self.step * f32::from(i) + f32::from(self.top)
    }

    #[inline(always)]
    fn clamp(&self, q: i32) -> u8 {
        q.clamp(0, self.top.into()) as u8
    }
}

/// The outcome for values that share a scale.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Fit {
    scale: f32,
    offset: f32,
    /// The integers that were fitted are the nearest to `(x - base) * inverse_scale`.
    inverse_scale: f32,
    base: f32,
}

impl Fit {
    /// The integers of the search.
    #[inline(always)]
    fn searched<const SUB: usize>(&self, x: &[f32; SUB], search: Search) -> [u8; SUB] {
        x.map(|v| search.clamp(nearest(self.inverse_scale * (v - self.base))))
    }
}

fn fit<const SUB: usize>(x: &[f32; SUB], w: &[f32; SUB], search: Search) -> Fit {
    let (mut low, mut high) = (x[0], x[0]);
    let mut sum_w = w[0];
    let mut sum_x = sum_w * x[0];
    for i in 1..SUB {
        low = if x[i] < low { x[i] } else { low };
        high = if x[i] > high { x[i] } else { high };
        sum_w += w[i];
        sum_x += w[i] * x[i];
    }
    // `min` moves with each better fit, and later candidates start from it.
    let mut min = if low > 0.0 { 0.0 } else { low };
    if high <= min {
        return Fit { scale: 0.0, offset: -min, inverse_scale: 0.0, base: 0.0 };
    }
    let quant = |v: f32, min: f32, inverse_scale: f32| f32::from(search.clamp(nearest(inverse_scale * (v - min))));
    let error = |scale: f32, min: f32, q: &[f32; SUB]| {
        let mut sum = 0.0;
        for i in 0..SUB {
            let difference = scale * q[i] + min - x[i];
            sum += w[i] * if search.absolute { difference.abs() } else { difference * difference };
        }
        sum
    };

    let inverse_scale = f32::from(search.top) / (high - min);
    let mut best = Fit { scale: 1.0 / inverse_scale, offset: 0.0, inverse_scale, base: min };
    let mut least = error(best.scale, min, &x.map(|v| quant(v, min, inverse_scale)));
    for i in 0..search.candidates {
        let inverse_scale = search.levels(i) / (high - min);
        let q = x.map(|v| quant(v, min, inverse_scale));
        let (mut sum_q, mut sum_qq, mut sum_xq) = (0.0, 0.0, 0.0);
        for i in 0..SUB {
            let wq = w[i] * q[i];
            sum_q += wq;
            sum_qq += wq * q[i];
            sum_xq += wq * x[i];
        }
        let determinant = sum_w * sum_qq - sum_q * sum_q;
        if determinant > 0.0 {
            let mut new_scale = (sum_w * sum_xq - sum_x * sum_q) / determinant;
            let mut new_min = (sum_qq * sum_x - sum_q * sum_xq) / determinant;
            if new_min > 0.0 {
                new_min = 0.0;
                new_scale = sum_xq / sum_qq;
            }
            let new_error = error(new_scale, new_min, &q);
            if new_error < least {
                best = Fit { scale: new_scale, offset: 0.0, inverse_scale, base: min };
                least = new_error;
                min = new_min;
            }
        }
    }
    Fit { offset: -min, ..best }
}

/// Encodes blocks of 32 values with f16 scale and f16 minimum, sixteen at a time; `write` gets these and the integers.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(super) unsafe fn encode_32<S: Simd, const BYTES: usize>(
    values: &[f32],
    weights: &[f32],
    blocks: &mut [u8],
    search: Search,
    write: impl Fn([u8; 2], [u8; 2], &[u8; 32], &mut [u8; BYTES]),
) {
    const BATCH: usize = 32 * LANES;
    let blocks = blocks.as_chunks_mut::<BYTES>().0.chunks_mut(LANES);
    for ((x, w), blocks) in values.chunks(BATCH).zip(weights.chunks(BATCH)).zip(blocks) {
        // SAFETY: the caller's promise.
        let fits = unsafe { S::run(Fits::<32> { values: x, weights: Some(w), search }) };
        let subs = x.as_chunks::<32>().0.iter().zip(w.as_chunks::<32>().0);
        for (((x, w), fit), block) in subs.zip(fits).zip(blocks) {
            write(half(checked(fit.scale, w)), half(-fit.offset), &fit.searched(x, search), block);
        }
    }
}
