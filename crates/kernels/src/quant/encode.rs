//! Encoding values as blocks: the same bytes on every tier.
//!
//! The bytes are those of ggml's reference quantizers for every block of finite values whose scales are finite: each
//! operation is IEEE single precision, rounded by itself, and a sum takes its values in order. What happens to other
//! values is not defined, except that nothing fails: callers check the input, and the result with `finite`.

use std::marker::PhantomData;

use half::f16;

use crate::simd::{Kernel, LANES, Simd, Tier};

/// How a type encodes, with one body for all tiers.
pub(super) trait Encode: 'static {
    /// Encodes whole blocks.
    ///
    /// # Safety
    /// As [`Simd`].
    unsafe fn encode<S: Simd>(values: &[f32], blocks: &mut [u8]);
}

/// Encodes with the instructions of `tier`, or plainly on a CPU that lacks them.
pub(super) fn encode<E: Encode>(tier: Tier, values: &[f32], blocks: &mut [u8]) {
    struct Run<'a, E>(&'a [f32], &'a mut [u8], PhantomData<E>);
    impl<E: Encode> Kernel for Run<'_, E> {
        type Output = ();
        #[inline(always)]
        unsafe fn body<S: Simd>(self) {
            // SAFETY: the caller's promise.
            unsafe { E::encode::<S>(self.0, self.1) }
        }
    }
    let tier = if tier.available() { tier } else { Tier::Scalar };
    // SAFETY: the tier is available.
    unsafe { tier.run(Run(values, blocks, PhantomData::<E>)) }
}

/// Whether all numbers at the offsets `at` of each block are finite halves.
pub(super) fn finite_halves(blocks: &[u8], bytes: usize, at: &[usize]) -> bool {
    const EXPONENT: u8 = 0x7C;
    blocks.chunks_exact(bytes).all(|block| at.iter().all(|at| block[at + 1] & EXPONENT != EXPONENT))
}

/// The bytes of the nearest half, ties to even.
#[inline(always)]
pub(super) fn half(v: f32) -> [u8; 2] {
    f16::from_f32(v).to_le_bytes()
}

/// The nearest integer, ties to even, for |v| <= 4194303.
///
/// Adding 1.5 · 2^23 leaves the integer in the mantissa. Beyond that range the result is what the mantissa then holds, as
/// in ggml, which has no other check.
#[inline(always)]
pub(super) fn nearest(v: f32) -> i32 {
    ((v + SHIFT).to_bits() & 0x7F_FFFF) as i32 - 0x40_0000
}

/// 1.5 · 2^23: numbers of this size have a unit in the last place of one.
pub(super) const SHIFT: f32 = 12_582_912.0;

/// `1 / d`, and 0 for 0. Infinite for d below 2^-128.
#[inline(always)]
pub(super) fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// The whole part of `(x - min) * inverse + shift`, which is not negative, but at most `top`.
///
/// 0 where the inverse is not finite, as in the reference's conversion of numbers that are not finite.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(super) unsafe fn whole_parts<S: Simd>(x: &[f32; 32], min: f32, inverse: f32, shift: f32, top: f32) -> [u8; 32] {
    let mut q = [0; 32];
    if !inverse.is_finite() {
        return q;
    }
    for (x, q) in x.as_chunks::<LANES>().0.iter().zip(q.as_chunks_mut::<LANES>().0) {
        // SAFETY: the caller's promise; `x` and `q` have 16 values.
        unsafe {
            let scaled = S::mul(S::sub(S::load(x.as_ptr()), S::splat(min)), S::splat(inverse));
            let shifted = S::add(scaled, S::splat(shift));
            let nearest = S::sub(S::add(shifted, S::splat(SHIFT)), S::splat(SHIFT));
            let whole = S::select_lt(shifted, nearest, S::sub(nearest, S::splat(1.0)), nearest);
            S::store_i8(q.as_mut_ptr().cast(), S::round(S::min(whole, S::splat(top))));
        }
    }
    q
}

/// The value of the largest magnitude, the first of them; 0 if all are 0.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(super) unsafe fn largest_magnitude<S: Simd>(x: &[f32; 32]) -> f32 {
    // SAFETY: the caller's promise.
    let (low, high) = unsafe { extremes::<S>(x) };
    if high > -low {
        high
    } else if high < -low {
        low
    } else if high == 0.0 {
        0.0
    } else {
        x.iter().copied().find(|v| v.abs() == high).unwrap_or(high)
    }
}

/// The smallest and the largest value. A zero has the sign of the first zero.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(super) unsafe fn bounds<S: Simd>(x: &[f32; 32]) -> (f32, f32) {
    // SAFETY: the caller's promise.
    let (low, high) = unsafe { extremes::<S>(x) };
    let first_zero = |bound: f32| {
        if bound == 0.0 { x.iter().copied().find(|v| *v == 0.0).unwrap_or(bound) } else { bound }
    };
    (first_zero(low), first_zero(high))
}

/// The smallest and the largest value, zeros of any sign.
#[inline(always)]
unsafe fn extremes<S: Simd>(x: &[f32; 32]) -> (f32, f32) {
    // SAFETY: the caller's promise; `x` has two times 16 values.
    unsafe {
        let (a, b) = (S::load(x.as_ptr()), S::load(x.as_ptr().add(LANES)));
        let high = S::largest(S::max(a, b));
        let zero = S::splat(0.0);
        let low = -S::largest(S::max(S::sub(zero, a), S::sub(zero, b)));
        (low, high)
    }
}

/// Up to sixteen sub-blocks side by side: row i has value i of each, a sub-block in each lane, and 0 in lanes without one.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(super) unsafe fn in_lanes<S: Simd, const SUB: usize>(values: &[f32]) -> [S::F; SUB] {
    let mut rows = [[0.0; LANES]; SUB];
    for (lane, sub) in values.as_chunks::<SUB>().0.iter().take(LANES).enumerate() {
        for (row, v) in rows.iter_mut().zip(sub) {
            row[lane] = *v;
        }
    }
    // SAFETY: the caller's promise; every row has 16 values.
    unsafe { loaded::<S, SUB>(&rows) }
}

/// Rows of sixteen values, loaded.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(super) unsafe fn loaded<S: Simd, const N: usize>(rows: &[[f32; LANES]; N]) -> [S::F; N] {
    // SAFETY: the caller's promise; every row has 16 values.
    unsafe {
        let mut lanes = [S::splat(0.0); N];
        for (lanes, row) in lanes.iter_mut().zip(rows) {
            *lanes = S::load(row.as_ptr());
        }
        lanes
    }
}

/// The opposite of [`loaded`].
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(super) unsafe fn stored<S: Simd, const N: usize>(lanes: &[S::F; N]) -> [[f32; LANES]; N] {
    let mut rows = [[0.0; LANES]; N];
    for (row, lanes) in rows.iter_mut().zip(lanes) {
        // SAFETY: the caller's promise; the row has 16 values.
        unsafe { S::store(row.as_mut_ptr(), *lanes) };
    }
    rows
}

/// The squares of values.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(super) unsafe fn squares<S: Simd, const SUB: usize>(x: &[S::F; SUB]) -> [S::F; SUB] {
    let mut squares = *x;
    // SAFETY: the caller's promise.
    squares.iter_mut().for_each(|x| *x = unsafe { S::mul(*x, *x) });
    squares
}

/// Batches of N values in parts of SUB, and their weights, each part of another kind. Values: normal numbers of sizes from
/// 1e-30 to 1e19, denormal ones here and there, constants, zeros, integers that tie, one outlier, a large offset. Weights:
/// the squares of values, ones, zeros, numbers of any size, some of them zeros.
#[cfg(test)]
pub(super) fn samples<const SUB: usize, const N: usize>() -> impl Iterator<Item = ([f32; N], [f32; N])> {
    let mut state = 7u64;
    let mut next = move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    (0..400).map(move |_| {
        let mut out = [0.0; N];
        let mut weights = [0.0; N];
        for (part, weights) in out.as_chunks_mut::<SUB>().0.iter_mut().zip(weights.as_chunks_mut::<SUB>().0) {
            let kind = next() % 8;
            let exponent = if next().is_multiple_of(64) { -44 } else { (next() % 50) as i32 - 30 };
            let size = 10f32.powi(exponent);
            let common = (next() % 5) as i32 as f32 - 2.0;
            for v in part.iter_mut() {
                let normal = (0..6).map(|_| (next() >> 40) as f32 / (1 << 23) as f32 - 1.0).sum::<f32>();
                *v = match kind {
                    0 => common * size,
                    1 => (next() % 5) as f32 * 0.5 * common,
                    2 => common * 5000.0 + normal * 1e-3,
                    3 => normal.abs() * size,
                    4 => -normal.abs(),
                    _ => normal * size,
                };
            }
            if kind == 5 {
                part[(next() % SUB as u64) as usize] *= 1e4;
            }
            let kind = next() % 16;
            let size = 10f32.powi((next() % 12) as i32 - 6);
            for (w, v) in weights.iter_mut().zip(part) {
                let uniform = (next() >> 40) as f32 / (1 << 24) as f32;
                *w = match kind {
                    0..3 => *v * *v,
                    3 => 1.0,
                    4 => 0.0,
                    5 if uniform < 0.5 => 0.0,
                    _ => uniform.powi(4) * size,
                };
            }
        }
        (out, weights)
    })
}
