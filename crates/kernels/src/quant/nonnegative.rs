//! How the scales, and the offsets, of a block's sub-blocks become integers by weight: `x ≈ scale * q`, q in 0..=top.
//!
//! The largest number first becomes `top`; then inverse scales around that are tried, and the one with the smallest
//! weighted squared error wins. From its integers the descent of Q3_K goes on. A number weighs as much as all values of its
//! sub-block together. Source: ggml's reference quantizers.
//!
//! [`fit`] is the plain version, which the types with a codebook take for the scale of a sub-block's magnitudes.
//! [`Fits`] runs sixteen fits side by side, one in each lane, with the same operations in
//! the same order in each lane; branches are selections. Where rounding is out of its range, or a number is negative, the
//! plain version does the lane: no offset is, and a scale only where rounding spoilt a fit.

use super::descent::{Range, Sums, descend, descend_16};
use super::encode::{SHIFT, loaded, nearest, stored};
use crate::simd::{Kernel, LANES, Simd};

/// Candidates before and after the one that maps the largest number to `top`, in steps of a tenth.
const AROUND: i32 = 4;
/// Numbers below this all become 0.
const TINY: f32 = 1e-15;

/// The outcome for the numbers of a block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fit<const N: usize> {
    pub scale: f32,
    /// The lowest byte of integers that are negative.
    pub q: [u8; N],
}

/// The fit of numbers with their weights.
#[inline(always)]
pub(super) fn fit<const N: usize>(x: &[f32; N], w: &[f32; N], top: u8) -> Fit<N> {
    let largest = x.iter().fold(0.0, |m, v| if m > *v { m } else { *v });
    if largest < TINY {
        return Fit { scale: 0.0, q: [0; N] };
    }
    let range = Range { lowest: i32::MIN, highest: top.into(), others: true };
    let lowest_byte = |q: f32| f32::from(q as i32 as u8);
    let error = |inverse_scale: f32, q: &[f32; N]| {
        let scale = 1.0 / inverse_scale;
        let mut sum = 0.0;
        for ((x, w), q) in x.iter().zip(w).zip(q) {
            let difference = x - scale * q;
            sum += w * difference * difference;
        }
        sum
    };
    let quantize = |inverse_scale: f32| x.map(|v| nearest(inverse_scale * v).min(range.highest) as f32);

    let mut best = f32::from(top) / largest;
    let mut least = error(best, &quantize(best).map(lowest_byte));
    for i in (-AROUND..=AROUND).filter(|i| *i != 0) {
        let inverse_scale = target(top, i) / largest;
        let new_error = error(inverse_scale, &quantize(inverse_scale));
        if new_error < least {
            (best, least) = (inverse_scale, new_error);
        }
    }
    let q = quantize(best);
    let mut sums = Sums { xq: 0.0, qq: 0.0 };
    for ((x, w), q) in x.iter().zip(w).zip(&q) {
        sums.xq += w * x * q;
        sums.qq += w * q * q;
    }
    let mut q = q.map(lowest_byte);
    descend(x, w, &mut q, &mut sums, &range, lowest_byte);
    Fit { scale: sums.scale(), q: q.map(|q| q as u8) }
}

/// Where candidate `i` maps the largest number.
#[inline(always)]
fn target(top: u8, i: i32) -> f32 {
    0.1 * i as f32 + f32::from(top)
}

/// The fits of the numbers of sixteen blocks, of which row i has number i, and of their weights, none of them negative.
pub(super) struct Fits<'a, const N: usize> {
    pub numbers: &'a [[f32; LANES]; N],
    pub weights: &'a [[f32; LANES]; N],
    pub top: u8,
}

impl<const N: usize> Kernel for Fits<'_, N> {
    type Output = [Fit<N>; LANES];
    #[inline(always)]
    unsafe fn body<S: Simd>(self) -> Self::Output {
        let Self { numbers, weights, top } = self;
        // SAFETY: the caller's promise.
        unsafe {
            let (zero, one) = (S::splat(0.0), S::splat(1.0));
            let (x, w) = (loaded::<S, N>(numbers), loaded::<S, N>(weights));
            let (mut largest, mut wrong) = (zero, zero);
            for x in &x {
                largest = S::max(largest, *x);
                wrong = S::select_lt(S::splat(-f32::MIN_POSITIVE), *x, wrong, one);
            }
            // Lanes whose numbers are tiny run along, and are overwritten at the end.
            let divisor = S::select_lt(largest, S::splat(TINY), one, largest);
            let highest = S::splat(f32::from(top));

            let mut best = S::div(highest, divisor);
            let mut least = error::<S, N>(&x, &w, best, highest);
            for i in (-AROUND..=AROUND).filter(|i| *i != 0) {
                let inverse_scale = S::div(S::splat(target(top, i)), divisor);
                let new_error = error::<S, N>(&x, &w, inverse_scale, highest);
                best = S::select_lt(new_error, least, inverse_scale, best);
                least = S::select_lt(new_error, least, new_error, least);
            }
            let mut q = x;
            let mut sums = Sums { xq: zero, qq: zero };
            for ((x, w), q) in x.iter().zip(&w).zip(&mut q) {
                *q = quantize::<S>(best, *x, highest);
                sums.xq = S::add(sums.xq, S::mul(S::mul(*w, *x), *q));
                sums.qq = S::add(sums.qq, S::mul(S::mul(*w, *q), *q));
            }
            let range = Range { lowest: 0, highest: top.into(), others: true };
            descend_16::<S, N>(&x, &w, &mut q, &mut sums, &range, &mut wrong);
            let scale = S::select_lt(zero, sums.qq, S::div(sums.xq, sums.qq), zero);
            let [scales, largest, wrong] = stored::<S, 3>(&[scale, largest, wrong]);
            let integers = stored::<S, N>(&q);
            std::array::from_fn(|lane| {
                if wrong[lane] > 0.0 {
                    return fit(&numbers.map(|row| row[lane]), &weights.map(|row| row[lane]), top);
                }
                match largest[lane] < TINY {
                    true => Fit { scale: 0.0, q: [0; N] },
                    false => Fit { scale: scales[lane], q: integers.map(|row| row[lane] as u8) },
                }
            })
        }
    }
}

/// The nearest integer to `x * inverse_scale`, but at most `highest`.
#[inline(always)]
unsafe fn quantize<S: Simd>(inverse_scale: S::F, x: S::F, highest: S::F) -> S::F {
    // SAFETY: the caller's promise.
    unsafe {
        let shift = S::splat(SHIFT);
        S::min(S::sub(S::add(S::mul(inverse_scale, x), shift), shift), highest)
    }
}

/// The weighted squared error of the integers that an inverse scale gives.
#[inline(always)]
unsafe fn error<S: Simd, const N: usize>(x: &[S::F; N], w: &[S::F; N], inverse_scale: S::F, highest: S::F) -> S::F {
    // SAFETY: the caller's promise.
    unsafe {
        let scale = S::div(S::splat(1.0), inverse_scale);
        let mut sum = S::splat(0.0);
        for (x, w) in x.iter().zip(w) {
            let difference = S::sub(*x, S::mul(scale, quantize::<S>(inverse_scale, *x, highest)));
            sum = S::add(sum, S::mul(S::mul(*w, difference), difference));
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::encode::samples;
    use crate::simd::Tier;

    /// In every other round all numbers are positive.
    fn check<const N: usize, const BATCH: usize>(top: u8) {
        for (round, (values, weights)) in samples::<N, BATCH>().enumerate() {
            let values = if round % 2 == 0 { values } else { values.map(f32::abs) };
            let (x, w) = (values.as_chunks::<N>().0, weights.as_chunks::<N>().0);
            let bits = |f: Fit<N>| (f.scale.to_bits(), f.q);
            let expected: Vec<_> = x.iter().zip(w).map(|(x, w)| bits(fit(x, w, top))).collect();
            let rows = |of: &[[f32; N]]| std::array::from_fn(|i| std::array::from_fn(|lane| of[lane][i]));
            for tier in Tier::all_available() {
                // SAFETY: the tier is available.
                let found = unsafe { tier.run(Fits { numbers: &rows(x), weights: &rows(w), top }) }.map(bits);
                assert_eq!(found[..], expected[..], "{} in round {round}", tier.name());
            }
        }
    }

    #[test]
    fn lanes_give_the_bits_of_the_plain_version() {
        check::<16, 256>(15);
        check::<8, 128>(63);
    }
}
