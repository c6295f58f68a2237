//! How Q6_K chooses a scale for each 16 values: `x ≈ scale * q`, q in -32..=31.
//!
//! The value of the largest magnitude first becomes -32; then inverse scales around that are tried, each with the
//! least-squares scale of its integers, a value weighing as much as its square. The one that explains most of the
//! weighted squares wins.
//!
//! [`fit`] is the plain version. [`fit_16`] runs sixteen fits side by side, one in each lane, with the same operations in
//! the same order in each lane.

use super::encode::{SHIFT, half, in_lanes, nearest};
use crate::simd::{LANES, Simd};

/// Values that share a scale.
const SUB: usize = 16;
/// q is in `-LEVELS..LEVELS`.
const LEVELS: i32 = 32;
/// Candidates before and after the one that maps the largest magnitude to -32, in steps of a tenth of a level.
const AROUND: i32 = 9;
/// Values below this all become 0.
const TINY: f32 = 1e-15;

/// The outcome for 16 values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Fit {
    pub scale: f32,
    /// The integers that were fitted are the nearest to `x * inverse_scale`; 0 if x is tiny.
    inverse_scale: f32,
    tiny: bool,
}

#[cfg(test)]
pub(super) fn fit(x: &[f32; SUB]) -> Fit {
    let (mut largest, mut magnitude) = (0.0, 0.0);
    for v in x {
        if v.abs() > magnitude {
            (largest, magnitude) = (*v, v.abs());
        }
    }
    if magnitude < TINY {
        return Fit { scale: 0.0, inverse_scale: 0.0, tiny: true };
    }
    // Σ w x q and Σ w q² with w = x².
    let sums = |inverse_scale: f32| {
        let (mut sum_xq, mut sum_qq) = (0.0, 0.0);
        for v in x {
            let q = nearest(inverse_scale * v).clamp(-LEVELS, LEVELS - 1) as f32;
            let w = v * v;
            sum_xq += w * v * q;
            sum_qq += w * q * q;
        }
        (sum_xq, sum_qq)
    };
    let inverse_scale = -(LEVELS as f32) / largest;
    let (sum_xq, sum_qq) = sums(inverse_scale);
    let scale = if sum_qq == 0.0 { 0.0 } else { sum_xq / sum_qq };
    let mut best = Fit { scale, inverse_scale, tiny: false };
    let mut explained = best.scale * sum_xq;
    for i in (-AROUND..=AROUND).filter(|i| *i != 0) {
        let inverse_scale = -levels(i) / largest;
        let (sum_xq, sum_qq) = sums(inverse_scale);
        if sum_qq > 0.0 && sum_xq * sum_xq > explained * sum_qq {
            best = Fit { scale: sum_xq / sum_qq, inverse_scale, tiny: false };
            explained = best.scale * sum_xq;
        }
    }
    best
}

/// Where candidate `i` maps the largest magnitude.
#[inline(always)]
fn levels(i: i32) -> f32 {
    LEVELS as f32 + 0.1 * i as f32
}

/// The fits of the sixteen sub-blocks of a block, all at once.
///
/// Rounding adds and subtracts 1.5 · 2^23, which is [`nearest`] within its range, and products are within ±33. Lanes whose
/// values are tiny run along with a largest magnitude of one, and are overwritten at the end.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(super) unsafe fn fit_16<S: Simd>(values: &[f32; 256]) -> [Fit; LANES] {
    let rows = in_lanes::<SUB>(values);
    // SAFETY: the caller's promise; every row and column has 16 values.
    unsafe {
        let zero = S::splat(0.0);
        let mut x = [zero; SUB];
        let (mut largest, mut magnitude) = (zero, zero);
        for (x, row) in x.iter_mut().zip(&rows) {
            *x = S::load(row.as_ptr());
            largest = S::select_lt(magnitude, S::abs(*x), *x, largest);
            magnitude = S::max(S::abs(*x), magnitude);
        }
        let tiny = S::splat(TINY);
        let largest = S::select_lt(magnitude, tiny, S::splat(1.0), largest);

        let mut best_inverse = S::div(S::splat(-LEVELS as f32), largest);
        let (sum_xq, sum_qq) = sums_16::<S>(&x, best_inverse);
        // A sum that is neither above 0 nor 0 is NaN, and so is the quotient.
        let mut best_scale = S::select_lt(zero, sum_qq, S::div(sum_xq, sum_qq), sum_qq);
        let mut explained = S::mul(best_scale, sum_xq);
        for i in (-AROUND..=AROUND).filter(|i| *i != 0) {
            let inverse_scale = S::div(S::splat(-levels(i)), largest);
            let (sum_xq, sum_qq) = sums_16::<S>(&x, inverse_scale);
            let scale = S::div(sum_xq, sum_qq);
            // NaN, which is not above anything, where there is nothing to divide by.
            let squared = S::select_lt(zero, sum_qq, S::mul(sum_xq, sum_xq), S::splat(f32::NAN));
            let bound = S::mul(explained, sum_qq);
            best_scale = S::select_lt(bound, squared, scale, best_scale);
            best_inverse = S::select_lt(bound, squared, inverse_scale, best_inverse);
            explained = S::select_lt(bound, squared, S::mul(scale, sum_xq), explained);
        }

        let mut columns = [[0.0f32; LANES]; 3];
        for (column, v) in columns.iter_mut().zip([best_scale, best_inverse, magnitude]) {
            S::store(column.as_mut_ptr(), v);
        }
        let [scale, inverse_scale, magnitude] = columns;
        std::array::from_fn(|i| match magnitude[i] < TINY {
            true => Fit { scale: 0.0, inverse_scale: 0.0, tiny: true },
            false => Fit { scale: scale[i], inverse_scale: inverse_scale[i], tiny: false },
        })
    }
}

/// Σ w x q and Σ w q² of each lane, with w = x².
#[inline(always)]
unsafe fn sums_16<S: Simd>(x: &[S::F; SUB], inverse_scale: S::F) -> (S::F, S::F) {
    // SAFETY: the caller's promise.
    unsafe {
        let shift = S::splat(SHIFT);
        let (lowest, highest) = (S::splat(-LEVELS as f32), S::splat((LEVELS - 1) as f32));
        let (mut sum_xq, mut sum_qq) = (S::splat(0.0), S::splat(0.0));
        for x in x {
            let rounded = S::sub(S::add(S::mul(inverse_scale, *x), shift), shift);
            let q = S::min(S::max(rounded, lowest), highest);
            let w = S::mul(*x, *x);
            sum_xq = S::add(sum_xq, S::mul(S::mul(w, *x), q));
            sum_qq = S::add(sum_qq, S::mul(S::mul(w, q), q));
        }
        (sum_xq, sum_qq)
    }
}

/// f16 `d` and the scales of a block, and its integers, each 32 more than what it stands for. `None` if all of it is tiny:
/// then every byte of the block is 0.
///
/// Where a sub-block's stored scale is 0, its integers stay those of the search. Where squares overflowed in a search, `d`
/// is NaN: the reference would store a scale of 0 for such a sub-block, and nobody would know.
#[inline(always)]
pub(super) fn finish(x: &[f32; 256], fits: &[Fit; LANES]) -> Option<([u8; 2], [i8; LANES], [u8; 256])> {
    let (mut largest, mut magnitude) = (0.0, 0.0);
    for fit in fits {
        if fit.scale.abs() > magnitude {
            (largest, magnitude) = (fit.scale, fit.scale.abs());
        }
    }
    if magnitude < TINY {
        return None;
    }
    let inverse = -128.0 / largest;
    let overflowed = fits.iter().any(|f| f.scale.is_nan());
    let d = half(if overflowed { f32::NAN } else { 1.0 / inverse });
    let scales = fits.map(|f| nearest(inverse * f.scale).min(127) as i8);
    let clamp = |q: i32| (q.clamp(-LEVELS, LEVELS - 1) + LEVELS) as u8;

    let mut q = [0; 256];
    for (sub, (q, x)) in q.as_chunks_mut::<SUB>().0.iter_mut().zip(x.as_chunks::<SUB>().0).enumerate() {
        let scale = super::f16_at(&d, 0) * f32::from(scales[sub]);
        let fit = &fits[sub];
        *q = if scale != 0.0 {
            x.map(|v| clamp(nearest(v / scale)))
        } else if fit.tiny {
            [0; SUB]
        } else {
            x.map(|v| clamp(nearest(fit.inverse_scale * v)))
        };
    }
    Some((d, scales, q))
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
        let bits = |f: Fit| (f.scale.to_bits(), f.inverse_scale.to_bits(), f.tiny);
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
