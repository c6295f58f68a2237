//! How IQ4_NL and IQ4_XS choose a scale for each 32 values: `x ≈ scale * VALUES[q]`, q in 0..16.
//!
//! The value of the largest magnitude is mapped to the first of the sixteen, and to numbers around it, whole steps apart;
//! each time the nearest of the sixteen determine a least-squares scale, a value weighing as much as its square. The one
//! that explains most of the weighted squares wins.
//!
//! [`fit`] is the plain version. [`fit_16`] runs sixteen fits side by side, one in each lane, with the same operations in
//! the same order in each lane; branches are selections.

use super::encode::in_lanes;
use crate::simd::{LANES, Simd};

/// Values that share a scale.
pub(super) const SUB: usize = 32;
/// What the integers stand for.
pub(super) const VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
/// Numbers from this on are nearer to the next of [`VALUES`].
const BOUNDS: [f32; 15] = {
    let mut bounds = [0.0; 15];
    let mut i = 0;
    while i < 15 {
        bounds[i] = (VALUES[i] as f32 + VALUES[i + 1] as f32) / 2.0;
        i += 1;
    }
    bounds
};
/// Steps before and after the mapping to the first of the sixteen.
const AROUND: i32 = 7;
/// Values below this all become 0.
const TINY: f32 = 1e-15;

/// Which of [`VALUES`] is nearest; the upper one of two that are equally near.
#[inline(always)]
pub(super) fn nearest(v: f32) -> u8 {
    BOUNDS.iter().map(|bound| u8::from(v >= *bound)).sum()
}

/// The nearest of [`VALUES`] in each lane, as [`nearest`].
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(super) unsafe fn nearest_16<S: Simd>(v: S::F) -> S::F {
    // SAFETY: the caller's promise.
    unsafe {
        let mut q = S::splat(f32::from(VALUES[0]));
        for (bound, value) in BOUNDS.iter().zip(&VALUES[1..]) {
            q = S::select_lt(v, S::splat(*bound), q, S::splat(f32::from(*value)));
        }
        q
    }
}

/// The best scale; 0 if all values are tiny.
#[cfg(test)]
fn fit(x: &[f32; SUB]) -> f32 {
    let (mut largest, mut magnitude) = (0.0, 0.0);
    for v in x {
        if v.abs() > magnitude {
            (largest, magnitude) = (*v, v.abs());
        }
    }
    if magnitude < TINY {
        return 0.0;
    }
    // Σ w q x and Σ w q² with w = x².
    let sums = |inverse: f32| {
        let (mut sum_qx, mut sum_qq) = (0.0, 0.0);
        for v in x {
            let q = f32::from(VALUES[usize::from(nearest(inverse * v))]);
            let w = v * v;
            sum_qx += w * q * v;
            sum_qq += w * q * q;
        }
        (sum_qx, sum_qq)
    };
    let first = f32::from(VALUES[0]);
    let (sum_qx, sum_qq) = sums(1.0 / (-largest / first));
    let mut scale = if sum_qq > 0.0 { sum_qx / sum_qq } else { 0.0 };
    let mut explained = scale * sum_qx;
    for i in -AROUND..=AROUND {
        let (sum_qx, sum_qq) = sums((i as f32 + first) / largest);
        if sum_qq > 0.0 && sum_qx * sum_qx > explained * sum_qq {
            scale = sum_qx / sum_qq;
            explained = scale * sum_qx;
        }
    }
    scale
}

/// The best scales of sixteen times 32 values.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(super) unsafe fn fit_16<S: Simd>(values: &[f32; LANES * SUB]) -> [f32; LANES] {
    let rows = in_lanes::<SUB>(values);
    let mut scales = [0.0; LANES];
    // SAFETY: the caller's promise; every row has 16 values.
    unsafe {
        let zero = S::splat(0.0);
        let mut x = [zero; SUB];
        let (mut largest, mut magnitude) = (zero, zero);
        for (x, row) in x.iter_mut().zip(&rows) {
            *x = S::load(row.as_ptr());
            largest = S::select_lt(magnitude, S::abs(*x), *x, largest);
            magnitude = S::max(S::abs(*x), magnitude);
        }
        // Lanes whose values are tiny run along, and are overwritten at the end.
        let largest = S::select_lt(magnitude, S::splat(TINY), S::splat(1.0), largest);

        let first = S::splat(f32::from(VALUES[0]));
        let (sum_qx, sum_qq) = sums_16::<S>(&x, S::div(S::splat(1.0), S::div(S::sub(zero, largest), first)));
        let mut scale = S::select_lt(zero, sum_qq, S::div(sum_qx, sum_qq), zero);
        let mut explained = S::mul(scale, sum_qx);
        for i in -AROUND..=AROUND {
            let (sum_qx, sum_qq) = sums_16::<S>(&x, S::div(S::splat(i as f32 + f32::from(VALUES[0])), largest));
            let candidate = S::div(sum_qx, sum_qq);
            // NaN, which is not above anything, where there is nothing to divide by.
            let squared = S::select_lt(zero, sum_qq, S::mul(sum_qx, sum_qx), S::splat(f32::NAN));
            let bound = S::mul(explained, sum_qq);
            scale = S::select_lt(bound, squared, candidate, scale);
            explained = S::select_lt(bound, squared, S::mul(candidate, sum_qx), explained);
        }
        S::store(scales.as_mut_ptr(), S::select_lt(magnitude, S::splat(TINY), zero, scale));
    }
    scales
}

/// Σ w q x and Σ w q² of each lane, with w = x².
#[inline(always)]
unsafe fn sums_16<S: Simd>(x: &[S::F; SUB], inverse: S::F) -> (S::F, S::F) {
    // SAFETY: the caller's promise.
    unsafe {
        let (mut sum_qx, mut sum_qq) = (S::splat(0.0), S::splat(0.0));
        for x in x {
            let scaled = S::mul(inverse, *x);
            let q = nearest_16::<S>(scaled);
            let w = S::mul(*x, *x);
            sum_qx = S::add(sum_qx, S::mul(S::mul(w, q), *x));
            sum_qq = S::add(sum_qq, S::mul(S::mul(w, q), q));
        }
        (sum_qx, sum_qq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::encode::samples;
    use crate::simd::{Kernel, Tier};

    struct Fit16<'a>(&'a [f32; LANES * SUB]);

    impl Kernel for Fit16<'_> {
        type Output = [f32; LANES];
        #[inline(always)]
        unsafe fn body<S: Simd>(self) -> Self::Output {
            // SAFETY: the caller's promise.
            unsafe { fit_16::<S>(self.0) }
        }
    }

    #[test]
    fn lanes_give_the_bits_of_the_plain_version() {
        for (round, values) in samples::<SUB, { LANES * SUB }>().enumerate() {
            let expected: Vec<_> = values.as_chunks().0.iter().map(|x| fit(x).to_bits()).collect();
            for tier in Tier::all_available() {
                // SAFETY: the tier is available.
                let found = unsafe { tier.run(Fit16(&values)) }.map(f32::to_bits);
                assert_eq!(found[..], expected[..], "{} in round {round}", tier.name());
            }
        }
    }

    #[test]
    fn the_nearest_value_has_the_smallest_difference() {
        for i in -140 * 64..140 * 64 {
            let v = i as f32 / 64.0;
            let difference = |q: usize| (f32::from(VALUES[q]) - v).abs();
            // Of two that are equally near, the upper one.
            let expected = (0..16).rev().min_by(|a, b| difference(*a).total_cmp(&difference(*b))).unwrap();
            assert_eq!(usize::from(nearest(v)), expected, "{v}");
        }
    }
}
