//! How Q3_K chooses a scale for each 16 values: `x ≈ scale * q`, q in -4..=3.
//!
//! The value of the largest magnitude first becomes -4. Then, one value after the other and at most five times over, the
//! integer that fits best to all others replaces a value's own where that explains more of the squares, a value weighing as
//! much as its square. The scale is the least-squares one of the integers.
//!
//! [`fit`] is the plain version. [`fit_16`] runs sixteen fits side by side, one in each lane, with the same operations in
//! the same order in each lane. What differs, and why it is still right:
//! - Branches are selections.
//! - A round that changes nothing ends the plain version; in a lane, the rounds after it change nothing either.
//! - Rounding adds and subtracts 1.5 · 2^23, which is [`nearest`] within its range. Where a quotient is out of that range,
//!   or NaN, the plain version does the batch.

use super::encode::{SHIFT, half, in_lanes, nearest};
use crate::simd::{LANES, Simd};

/// Values that share a scale.
const SUB: usize = 16;
/// q is in `-LEVELS..LEVELS`.
pub(super) const LEVELS: i32 = 4;
/// How often all values are looked at.
const ROUNDS: usize = 5;
/// Values below this all become -4 where the block has other values.
const TINY: f32 = 1e-15;
/// Quotients up to this are rounded right.
const LIMIT: f32 = 4_194_303.0;

/// The outcome for 16 values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Fit {
    scale: f32,
    /// Each [`LEVELS`] more than what it stands for.
    q: [u8; SUB],
}

fn clamp(q: i32) -> i32 {
    q.clamp(-LEVELS, LEVELS - 1)
}

fn fit(x: &[f32; SUB]) -> Fit {
    let (mut largest, mut magnitude) = (0.0, 0.0);
    for v in x {
        if v.abs() > magnitude {
            (largest, magnitude) = (*v, v.abs());
        }
    }
    if magnitude < TINY {
        return Fit::default();
    }
    let inverse_scale = -(LEVELS as f32) / largest;
    let mut q = x.map(|v| clamp(nearest(inverse_scale * v)) as f32);
    // Σ w x q and Σ w q² with w = x².
    let (mut sum_xq, mut sum_qq) = (0.0, 0.0);
    for (x, q) in x.iter().zip(&q) {
        let w = x * x;
        sum_xq += w * x * q;
        sum_qq += w * q * q;
    }
    for _ in 0..ROUNDS {
        let mut changed = false;
        for (x, q) in x.iter().zip(&mut q) {
            let w = x * x;
            let others_xq = sum_xq - w * x * *q;
            if others_xq > 0.0 {
                let others_qq = sum_qq - w * *q * *q;
                let new = clamp(nearest(x * others_qq / others_xq)) as f32;
                if new != *q {
                    let new_xq = others_xq + w * x * new;
                    let new_qq = others_qq + w * new * new;
                    if new_qq > 0.0 && new_xq * new_xq * sum_qq > sum_xq * sum_xq * new_qq {
                        (*q, sum_xq, sum_qq) = (new, new_xq, new_qq);
                        changed = true;
                    }
                }
            }
        }
        if !changed {
            break;
        }
    }
    let scale = if sum_qq > 0.0 { sum_xq / sum_qq } else { 0.0 };
    Fit { scale, q: q.map(|q| (q as i32 + LEVELS) as u8) }
}

/// The fits of the sixteen sub-blocks of a block, all at once.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(super) unsafe fn fit_16<S: Simd>(values: &[f32; 256]) -> [Fit; LANES] {
    let rows = in_lanes::<SUB>(values);
    // SAFETY: the caller's promise; every row and column has 16 values.
    unsafe {
        let (zero, one, shift) = (S::splat(0.0), S::splat(1.0), S::splat(SHIFT));
        let (lowest, highest) = (S::splat(-LEVELS as f32), S::splat((LEVELS - 1) as f32));
        let mut x = [zero; SUB];
        let (mut largest, mut magnitude) = (zero, zero);
        for (x, row) in x.iter_mut().zip(&rows) {
            *x = S::load(row.as_ptr());
            largest = S::select_lt(magnitude, S::abs(*x), *x, largest);
            magnitude = S::max(S::abs(*x), magnitude);
        }
        // Lanes whose values are tiny run along, and are overwritten at the end.
        let largest = S::select_lt(magnitude, S::splat(TINY), one, largest);
        let inverse_scale = S::div(S::splat(-LEVELS as f32), largest);
        let mut q = [zero; SUB];
        let (mut sum_xq, mut sum_qq) = (zero, zero);
        for (x, q) in x.iter().zip(&mut q) {
            let rounded = S::sub(S::add(S::mul(inverse_scale, *x), shift), shift);
            *q = S::min(S::max(rounded, lowest), highest);
            let w = S::mul(*x, *x);
            sum_xq = S::add(sum_xq, S::mul(S::mul(w, *x), *q));
            sum_qq = S::add(sum_qq, S::mul(S::mul(w, *q), *q));
        }
        let mut wrong = zero;
        for _ in 0..ROUNDS {
            for (x, q) in x.iter().zip(&mut q) {
                let w = S::mul(*x, *x);
                let others_xq = S::sub(sum_xq, S::mul(S::mul(w, *x), *q));
                let others_qq = S::sub(sum_qq, S::mul(S::mul(w, *q), *q));
                // Lanes that have nothing to divide by keep their integer.
                let quotient = S::div(S::mul(*x, others_qq), others_xq);
                let quotient = S::select_lt(zero, others_xq, quotient, *q);
                wrong = S::select_lt(S::abs(quotient), S::splat(LIMIT), wrong, one);
                let rounded = S::sub(S::add(quotient, shift), shift);
                let new = S::min(S::max(rounded, lowest), highest);
                let new_xq = S::add(others_xq, S::mul(S::mul(w, *x), new));
                let new_qq = S::add(others_qq, S::mul(S::mul(w, new), new));
                let explained = S::mul(S::mul(new_xq, new_xq), sum_qq);
                let before = S::mul(S::mul(sum_xq, sum_xq), new_qq);
                // What is not to change explains nothing.
                let nothing = S::splat(f32::NEG_INFINITY);
                let explained = S::select_lt(zero, new_qq, explained, nothing);
                let explained = S::select_lt(zero, S::abs(S::sub(new, *q)), explained, nothing);
                *q = S::select_lt(before, explained, new, *q);
                sum_xq = S::select_lt(before, explained, new_xq, sum_xq);
                sum_qq = S::select_lt(before, explained, new_qq, sum_qq);
            }
        }
        if S::largest(wrong) > 0.0 {
            let (subs, _) = values.as_chunks::<SUB>();
            return std::array::from_fn(|lane| fit(&subs[lane]));
        }

        let scale = S::select_lt(zero, sum_qq, S::div(sum_xq, sum_qq), zero);
        let (mut scales, mut magnitudes, mut integers) = ([0.0; LANES], [0.0; LANES], [[0.0; LANES]; SUB]);
        S::store(scales.as_mut_ptr(), scale);
        S::store(magnitudes.as_mut_ptr(), magnitude);
        for (to, q) in integers.iter_mut().zip(q) {
            S::store(to.as_mut_ptr(), q);
        }
        std::array::from_fn(|lane| {
            if magnitudes[lane] < TINY {
                return Fit::default();
            }
            let q = std::array::from_fn(|i| (integers[i][lane] as i32 + LEVELS) as u8);
            Fit { scale: scales[lane], q }
        })
    }
}

/// f16 `d` and the scales of a block, and its integers, each [`LEVELS`] more than what it stands for.
///
/// Where a sub-block's stored scale is 0, its integers stay those of the search.
#[inline(always)]
pub(super) fn finish(x: &[f32; 256], fits: &[Fit; LANES]) -> ([u8; 2], [i8; LANES], [u8; 256]) {
    let (mut largest, mut magnitude) = (0.0, 0.0);
    for fit in fits {
        if fit.scale.abs() > magnitude {
            (largest, magnitude) = (fit.scale, fit.scale.abs());
        }
    }
    // Squares that overflowed would be a scale of 0, and nobody would know.
    let overflowed = fits.iter().any(|f| f.scale.is_nan());
    let (d, scales) = if overflowed {
        (f32::NAN, [0; LANES])
    } else if largest == 0.0 {
        // All bits of the scales are 0.
        (0.0, [-32; LANES])
    } else {
        let inverse = -32.0 / largest;
        (1.0 / inverse, fits.map(|f| nearest(inverse * f.scale).clamp(-32, 31) as i8))
    };
    let d = half(d);
    let mut q = [0; 256];
    for (sub, (q, x)) in q.as_chunks_mut::<SUB>().0.iter_mut().zip(x.as_chunks::<SUB>().0).enumerate() {
        let scale = super::f16_at(&d, 0) * f32::from(scales[sub]);
        *q = if scale == 0.0 { fits[sub].q } else { x.map(|v| (clamp(nearest(v / scale)) + LEVELS) as u8) };
    }
    (d, scales, q)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::encode::samples;
    use crate::simd::{Kernel, Tier};

    struct Fit16<'a>(&'a [f32; 256]);

    impl Kernel for Fit16<'_> {
        type Output = [Fit; LANES];
        #[inline(always)]
        unsafe fn body<S: Simd>(self) -> Self::Output {
            // SAFETY: the caller's promise.
            unsafe { fit_16::<S>(self.0) }
        }
    }

    #[test]
    fn lanes_give_the_bits_of_the_plain_version() {
        let bits = |f: Fit| (f.scale.to_bits(), f.q);
        for (round, values) in samples::<SUB, 256>().enumerate() {
            let expected: Vec<_> = values.as_chunks().0.iter().map(|x| bits(fit(x))).collect();
            for tier in Tier::all_available() {
                // SAFETY: the tier is available.
                let found = unsafe { tier.run(Fit16(&values)) }.map(bits);
                assert_eq!(found[..], expected[..], "{} in round {round}", tier.name());
            }
        }
    }
}
