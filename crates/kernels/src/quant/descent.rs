//! How Q3_K chooses a scale for each 16 values without an importance: `x ≈ scale * q`, q in -4..=3; and the descent that
//! does it, which `nonnegative.rs` shares.
//!
//! The value of the largest magnitude first becomes -4. Then, one value after the other and at most five times over, the
//! integer that fits best to all others replaces a value's own where that explains more of the weighted squares, a value
//! weighing as much as its square. The scale is the least-squares one of the integers. Source: ggml's reference quantizers.
//!
//! [`fit`] is the plain version. [`Fits`] runs sixteen fits side by side, one in each lane, with the same operations in
//! the same order in each lane. What differs, and why it is still right:
//! - Branches are selections.
//! - A round that changes nothing ends the plain version; in a lane, the rounds after it change nothing either.
//! - Rounding adds and subtracts 1.5 · 2^23, which is [`nearest`] within its range. Where a quotient is out of that range,
//!   or NaN, the plain version does the lane.

use super::encode::{SHIFT, half, in_lanes, nearest, stored};
use super::symmetric;
use crate::simd::{Kernel, LANES, Simd};

/// Values that share a scale.
const SUB: usize = 16;
/// q is in `-LEVELS..LEVELS`.
pub(super) const LEVELS: i32 = 4;
/// How often all values are looked at.
const ROUNDS: usize = 5;
/// Values below this all become -4 where the block has other values.
const TINY: f32 = 1e-15;
/// Numbers up to this are rounded right.
const LIMIT: f32 = 4_194_303.0;

/// The outcome for 16 values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Fit {
    scale: f32,
    /// Each [`LEVELS`] more than what it stands for.
    q: [u8; SUB],
}

/// Σ w x q and Σ w q².
#[derive(Clone, Copy)]
pub(super) struct Sums<F> {
    pub xq: F,
    pub qq: F,
}

impl Sums<f32> {
    pub fn scale(&self) -> f32 {
        if self.qq > 0.0 { self.xq / self.qq } else { 0.0 }
    }
}

/// Which integers a descent may take.
pub(super) struct Range {
    pub lowest: i32,
    pub highest: i32,
    /// Whether the other values must have squares to explain.
    pub others: bool,
}

/// Improves the integers `q`, which `stored` makes of what they should be.
pub(super) fn descend<const N: usize>(
    x: &[f32; N],
    w: &[f32; N],
    q: &mut [f32; N],
    sums: &mut Sums<f32>,
    range: &Range,
    stored: impl Fn(f32) -> f32,
) {
    for _ in 0..ROUNDS {
        let mut changed = false;
        for ((x, w), q) in x.iter().zip(w).zip(&mut *q) {
            let others = Sums { xq: sums.xq - w * x * *q, qq: sums.qq - w * *q * *q };
            if others.xq > 0.0 && (!range.others || others.qq > 0.0) {
                let new = nearest(x * others.qq / others.xq).clamp(range.lowest, range.highest) as f32;
                if new != *q {
                    let with = Sums { xq: others.xq + w * x * new, qq: others.qq + w * new * new };
                    if with.qq > 0.0 && with.xq * with.xq * sums.qq > sums.xq * sums.xq * with.qq {
                        (*q, *sums) = (stored(new), with);
                        changed = true;
                    }
                }
            }
        }
        if !changed {
            break;
        }
    }
}

/// [`descend`] in each lane. Lanes of `wrong` become 1 where rounding was out of its range.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(super) unsafe fn descend_16<S: Simd, const N: usize>(
    x: &[S::F; N],
    w: &[S::F; N],
    q: &mut [S::F; N],
    sums: &mut Sums<S::F>,
    range: &Range,
    wrong: &mut S::F,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let (zero, one, shift) = (S::splat(0.0), S::splat(1.0), S::splat(SHIFT));
        let (lowest, highest) = (S::splat(range.lowest as f32), S::splat(range.highest as f32));
        for _ in 0..ROUNDS {
            for ((x, w), q) in x.iter().zip(w).zip(&mut *q) {
                let others_xq = S::sub(sums.xq, S::mul(S::mul(*w, *x), *q));
                let others_qq = S::sub(sums.qq, S::mul(S::mul(*w, *q), *q));
                // Lanes that have nothing to divide by keep their integer.
                let quotient = S::div(S::mul(*x, others_qq), others_xq);
                let quotient = S::select_lt(zero, others_xq, quotient, *q);
                let quotient = if range.others { S::select_lt(zero, others_qq, quotient, *q) } else { quotient };
                *wrong = S::select_lt(S::abs(quotient), S::splat(LIMIT), *wrong, one);
                let rounded = S::sub(S::add(quotient, shift), shift);
                let new = S::min(S::max(rounded, lowest), highest);
                let with_xq = S::add(others_xq, S::mul(S::mul(*w, *x), new));
                let with_qq = S::add(others_qq, S::mul(S::mul(*w, new), new));
                let explained = S::mul(S::mul(with_xq, with_xq), sums.qq);
                let before = S::mul(S::mul(sums.xq, sums.xq), with_qq);
                // What is not to change explains nothing.
                let nothing = S::splat(f32::NEG_INFINITY);
                let explained = S::select_lt(zero, with_qq, explained, nothing);
                let explained = S::select_lt(zero, S::abs(S::sub(new, *q)), explained, nothing);
                *q = S::select_lt(before, explained, new, *q);
                sums.xq = S::select_lt(before, explained, with_xq, sums.xq);
                sums.qq = S::select_lt(before, explained, with_qq, sums.qq);
            }
        }
    }
}

const RANGE: Range = Range { lowest: -LEVELS, highest: LEVELS - 1, others: false };

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
    let mut q = x.map(|v| nearest(inverse_scale * v).clamp(RANGE.lowest, RANGE.highest) as f32);
    let w = x.map(|v| v * v);
    let mut sums = Sums { xq: 0.0, qq: 0.0 };
    for ((x, w), q) in x.iter().zip(&w).zip(&q) {
        sums.xq += w * x * q;
        sums.qq += w * q * q;
    }
    descend(x, &w, &mut q, &mut sums, &RANGE, |q| q);
    Fit { scale: sums.scale(), q: q.map(|q| (q as i32 + LEVELS) as u8) }
}

/// The fits of the sixteen sub-blocks of a block, all at once.
pub(super) struct Fits<'a>(pub &'a [f32; 256]);

impl Kernel for Fits<'_> {
    type Output = [Fit; LANES];
    #[inline(always)]
    unsafe fn body<S: Simd>(self) -> Self::Output {
        let Self(values) = self;
        // SAFETY: the caller's promise.
        unsafe {
            let (zero, shift) = (S::splat(0.0), S::splat(SHIFT));
            let x = in_lanes::<S, SUB>(values);
            let w = super::encode::squares::<S, SUB>(&x);
            let (mut largest, mut magnitude) = (zero, zero);
            for x in &x {
                largest = S::select_lt(magnitude, S::abs(*x), *x, largest);
                magnitude = S::max(S::abs(*x), magnitude);
            }
            // Lanes whose values are tiny run along, and are overwritten at the end.
            let largest = S::select_lt(magnitude, S::splat(TINY), S::splat(1.0), largest);
            let inverse_scale = S::div(S::splat(-LEVELS as f32), largest);
            let (lowest, highest) = (S::splat(-LEVELS as f32), S::splat((LEVELS - 1) as f32));
            let mut q = [zero; SUB];
            let mut sums = Sums { xq: zero, qq: zero };
            for ((x, w), q) in x.iter().zip(&w).zip(&mut q) {
                let rounded = S::sub(S::add(S::mul(inverse_scale, *x), shift), shift);
                *q = S::min(S::max(rounded, lowest), highest);
                sums.xq = S::add(sums.xq, S::mul(S::mul(*w, *x), *q));
                sums.qq = S::add(sums.qq, S::mul(S::mul(*w, *q), *q));
            }
            let mut wrong = zero;
            descend_16::<S, SUB>(&x, &w, &mut q, &mut sums, &RANGE, &mut wrong);
            let scale = S::select_lt(zero, sums.qq, S::div(sums.xq, sums.qq), zero);
            let [scales, magnitudes, wrong] = stored::<S, 3>(&[scale, magnitude, wrong]);
            let integers = stored::<S, SUB>(&q);
            let (subs, _) = values.as_chunks::<SUB>();
            std::array::from_fn(|lane| {
                if wrong[lane] > 0.0 {
                    return fit(&subs[lane]);
                }
                if magnitudes[lane] < TINY {
                    return Fit::default();
                }
                let q = std::array::from_fn(|i| (integers[i][lane] as i32 + LEVELS) as u8);
                Fit { scale: scales[lane], q }
            })
        }
    }
}

/// f16 `d` and the scales of a block, and its integers, each [`LEVELS`] more than what it stands for.
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
    let q = symmetric::integers(x, d, &scales, LEVELS, |i, _| fits[i].q);
    (d, scales, q)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::encode::samples;
    use crate::simd::Tier;

    #[test]
    fn lanes_give_the_bits_of_the_plain_version() {
        let bits = |f: Fit| (f.scale.to_bits(), f.q);
        for (round, (values, _)) in samples::<SUB, 256>().enumerate() {
            let expected: Vec<_> = values.as_chunks().0.iter().map(|x| bits(fit(x))).collect();
            for tier in Tier::all_available() {
                // SAFETY: the tier is available.
                let found = unsafe { tier.run(Fits(&values)) }.map(bits);
                assert_eq!(found[..], expected[..], "{} in round {round}", tier.name());
            }
        }
    }
}
