//! How Q2_K, Q4_K and Q5_K choose a scale and an offset for each 16 or 32 values: `x ≈ scale * q - offset`, q in 0..=top.
//!
//! A search over inverse scales: each candidate quantizes the values, a weighted least-squares fit gives the best scale
//! and offset for these integers, and the fit with the smallest weighted squared error wins. A value's weight is the root
//! mean square of all plus its magnitude; or the magnitude alone, and then the error is the weighted absolute one. The
//! offset is never negative, as it is stored without a sign.
//!
//! [`fit`] is the plain version. `lanes` runs sixteen fits side by side, one in each lane, with the same operations in the
//! same order in each lane.

mod lanes;

pub(super) use lanes::fit_16;

use super::encode::{half, nearest};
use super::search::Parts;
use crate::simd::{LANES, Simd};

/// Values that share a scale in Q4_K and Q5_K.
const SUB: usize = 32;

/// What a type searches: candidate number i has the inverse scale `(top + first + i / 10) / range`.
#[derive(Clone, Copy)]
pub(super) struct Search {
    /// The largest q.
    pub top: u8,
    pub first: f32,
    pub candidates: u8,
    /// Whether errors are absolute, weighted by magnitudes.
    pub absolute: bool,
}

impl Search {
    /// The product of the range of values and the inverse scale, of candidate number `i`.
    #[inline(always)]
    fn levels(&self, i: u8) -> f32 {
        self.first + 0.1 * f32::from(i) + f32::from(self.top)
    }

    #[inline(always)]
    pub fn clamp(&self, q: i32) -> u8 {
        q.clamp(0, self.top.into()) as u8
    }
}

/// The outcome for values that share a scale.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Fit {
    pub scale: f32,
    pub offset: f32,
    /// The integers that were fitted are the nearest to `(x - base) * inverse_scale`.
    inverse_scale: f32,
    base: f32,
}

impl Fit {
    /// The integer of a value in the search.
    #[inline(always)]
    pub fn searched(&self, v: f32, search: Search) -> u8 {
        search.clamp(nearest(self.inverse_scale * (v - self.base)))
    }
}

fn fit<const SUB: usize>(x: &[f32; SUB], search: Search) -> Fit {
    let mut squares = 0.0;
    for v in x {
        squares += v * v;
    }
    let root_mean_square = if search.absolute { 0.0 } else { (squares / SUB as f32).sqrt() };
    let w = x.map(|v| root_mean_square + v.abs());

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
    if high == min {
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

/// Encodes blocks of 256 values, two at a time. `write` gets a block's first 16 bytes and its integers.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(super) unsafe fn encode_blocks<S: Simd, const BYTES: usize>(
    values: &[f32],
    blocks: &mut [u8],
    search: Search,
    write: impl Fn(&[u8; 16], &[u8; 256], &mut [u8; BYTES]),
) {
    let (values, _) = values.as_chunks::<256>();
    let (blocks, _) = blocks.as_chunks_mut::<BYTES>();
    for (values, blocks) in values.chunks(2).zip(blocks.chunks_mut(2)) {
        let mut batch = [0.0; LANES * SUB];
        batch[..256 * values.len()].copy_from_slice(values.as_flattened());
        // SAFETY: the caller's promise.
        let fits = unsafe { fit_16::<S, SUB>(&batch, search) };
        for ((x, fits), block) in values.iter().zip(fits.as_chunks().0).zip(blocks) {
            let mut header = [0; 16];
            let q = finish(x, fits, search, &mut header);
            write(&header, &q, block);
        }
    }
}

/// The twelve bytes of 6-bit scales and offsets: the inverse of [`q4_k::scales_and_mins`](super::q4_k::scales_and_mins).
#[inline(always)]
fn pack(scales: &[u8; 8], offsets: &[u8; 8]) -> [u8; 12] {
    let mut b = [0; 12];
    for i in 0..4 {
        b[i] = scales[i] | scales[i + 4] >> 4 << 6;
        b[4 + i] = offsets[i] | offsets[i + 4] >> 4 << 6;
        b[8 + i] = scales[i + 4] & 15 | (offsets[i + 4] & 15) << 4;
    }
    b
}

/// The first 16 bytes of a block of Q4_K or Q5_K.
pub(super) fn header(parts: &Parts) -> [u8; 16] {
    let mut b = [0; 16];
    let eight = |of: &[i8; 16]| std::array::from_fn(|i| of[i].cast_unsigned());
    b[..2].copy_from_slice(&parts.d());
    b[2..4].copy_from_slice(&parts.dmin());
    b[4..].copy_from_slice(&pack(&eight(&parts.scales), &eight(&parts.mins)));
    b
}

/// Writes f16 `d`, f16 `dmin` and the 6-bit scales and offsets of a block, and gives its integers.
///
/// Where a sub-block's stored scale is 0, its integers stay those of the search.
#[inline(always)]
fn finish(x: &[f32; 256], fits: &[Fit; 8], search: Search, header: &mut [u8; 16]) -> [u8; 256] {
    let largest = |of: fn(&Fit) -> f32| fits.iter().map(of).fold(0.0, |m, v| if v > m { v } else { m });
    let (max_scale, max_offset) = (largest(|f| f.scale), largest(|f| f.offset));
    let inverse = |max: f32| if max > 0.0 { 63.0 / max } else { 0.0 };
    let (inverse_scale, inverse_offset) = (inverse(max_scale), inverse(max_offset));
    // A scale can be negative where rounding spoilt a fit; its low byte is what counts.
    let six_bits = |v: f32| (nearest(v) as u8).min(63);
    let scales = fits.map(|f| six_bits(inverse_scale * f.scale));
    let offsets = fits.map(|f| six_bits(inverse_offset * f.offset));
    header[..2].copy_from_slice(&half(max_scale / 63.0));
    header[2..4].copy_from_slice(&half(max_offset / 63.0));
    header[4..].copy_from_slice(&pack(&scales, &offsets));

    let (d, dmin) = (super::f16_at(header, 0), super::f16_at(header, 2));
    let mut q = [0; 256];
    for (sub, (q, x)) in q.as_chunks_mut::<SUB>().0.iter_mut().zip(x.as_chunks::<SUB>().0).enumerate() {
        let scale = d * f32::from(scales[sub]);
        let offset = dmin * f32::from(offsets[sub]);
        let fit = &fits[sub];
        *q = if scale == 0.0 {
            x.map(|v| fit.searched(v, search))
        } else {
            x.map(|v| search.clamp(nearest((v + offset) / scale)))
        };
    }
    q
}
