//! How IQ4_NL and IQ4_XS choose a scale for each 32 values: `x ≈ scale * VALUES[q]`, q in 0..16.
//!
//! The value of the largest magnitude is mapped to the first of the sixteen, and to numbers around it, whole steps apart;
//! each time the nearest of the sixteen determine a least-squares scale, every value with a weight. The one that explains
//! most of the weighted squares wins, so that the weighted squared error is the least. Without an importance a value weighs
//! as much as its square. Source: ggml's reference quantizers.
//!
//! [`fit`] is the plain version. [`Scales`] runs sixteen fits side by side, one in each lane, with the same operations in
//! the same order in each lane; branches are selections.

use super::encode::{in_lanes, squares, stored};
use super::weights::checked;
use crate::simd::{Kernel, LANES, Simd};

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

/// The best scale; 0 if all values are tiny.
#[cfg(test)]
fn fit(x: &[f32; SUB], w: &[f32; SUB]) -> f32 {
    let (mut largest, mut magnitude) = (0.0, 0.0);
    for v in x {
        if v.abs() > magnitude {
            (largest, magnitude) = (*v, v.abs());
        }
    }
    if magnitude < TINY {
        return 0.0;
    }
    // Σ w q x and Σ w q².
    let sums = |inverse: f32| {
        let (mut sum_qx, mut sum_qq) = (0.0, 0.0);
        for (v, w) in x.iter().zip(w) {
            let q = f32::from(VALUES[usize::from(nearest(inverse * v))]);
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

/// The best scales of up to sixteen times 32 values; NaN where weights are not finite.
pub(super) struct Scales<'a> {
    pub values: &'a [f32],
    /// A weight for each value, none of them negative; without, the squares of the values.
    pub weights: Option<&'a [f32]>,
}

impl Kernel for Scales<'_> {
    type Output = [f32; LANES];
    #[inline(always)]
    unsafe fn body<S: Simd>(self) -> Self::Output {
        // SAFETY: the caller's promise.
        unsafe {
            let x = in_lanes::<S, SUB>(self.values);
            let w = match self.weights {
                Some(weights) => in_lanes::<S, SUB>(weights),
                None => squares::<S, SUB>(&x),
            };
            let mut scales = fit_16::<S>(&x, &w);
            for (scale, weights) in scales.iter_mut().zip(self.weights.unwrap_or(&[]).as_chunks::<SUB>().0) {
                *scale = checked(*scale, weights);
            }
            scales
        }
    }
}

#[inline(always)]
unsafe fn fit_16<S: Simd>(x: &[S::F; SUB], w: &[S::F; SUB]) -> [f32; LANES] {
    // SAFETY: the caller's promise.
    unsafe {
        let zero = S::splat(0.0);
        let (mut largest, mut magnitude) = (zero, zero);
        for x in x {
            largest = S::select_lt(magnitude, S::abs(*x), *x, largest);
            magnitude = S::max(S::abs(*x), magnitude);
        }
        // Lanes whose values are tiny run along, and are overwritten at the end.
        let largest = S::select_lt(magnitude, S::splat(TINY), S::splat(1.0), largest);

        let first = S::splat(f32::from(VALUES[0]));
        let (sum_qx, sum_qq) = sums_16::<S>(x, w, S::div(S::splat(1.0), S::div(S::sub(zero, largest), first)));
        let mut scale = S::select_lt(zero, sum_qq, S::div(sum_qx, sum_qq), zero);
        let mut explained = S::mul(scale, sum_qx);
        for i in -AROUND..=AROUND {
            let (sum_qx, sum_qq) = sums_16::<S>(x, w, S::div(S::splat(i as f32 + f32::from(VALUES[0])), largest));
            let candidate = S::div(sum_qx, sum_qq);
            // NaN, which is not above anything, where there is nothing to divide by.
            let squared = S::select_lt(zero, sum_qq, S::mul(sum_qx, sum_qx), S::splat(f32::NAN));
            let bound = S::mul(explained, sum_qq);
            scale = S::select_lt(bound, squared, candidate, scale);
            explained = S::select_lt(bound, squared, S::mul(candidate, sum_qx), explained);
        }
        let [scales] = stored::<S, 1>(&[S::select_lt(magnitude, S::splat(TINY), zero, scale)]);
        scales
    }
}

/// Σ w q x and Σ w q² of each lane.
#[inline(always)]
unsafe fn sums_16<S: Simd>(x: &[S::F; SUB], w: &[S::F; SUB], inverse: S::F) -> (S::F, S::F) {
    // SAFETY: the caller's promise.
    unsafe {
        let (mut sum_qx, mut sum_qq) = (S::splat(0.0), S::splat(0.0));
        for (x, w) in x.iter().zip(w) {
            let scaled = S::mul(inverse, *x);
            let mut q = S::splat(f32::from(VALUES[0]));
            for (bound, value) in BOUNDS.iter().zip(&VALUES[1..]) {
                q = S::select_lt(scaled, S::splat(*bound), q, S::splat(f32::from(*value)));
            }
            sum_qx = S::add(sum_qx, S::mul(S::mul(*w, q), *x));
            sum_qq = S::add(sum_qq, S::mul(S::mul(*w, q), q));
        }
        (sum_qx, sum_qq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::encode::samples;
    use crate::simd::Tier;

    #[test]
    fn lanes_give_the_bits_of_the_plain_version() {
        for (round, (values, weights)) in samples::<SUB, { LANES * SUB }>().enumerate() {
            let subs = values.as_chunks().0.iter().zip(weights.as_chunks().0);
            let expected: Vec<_> = subs.map(|(x, w)| checked(fit(x, w), w).to_bits()).collect();
            for tier in Tier::all_available() {
                let scales = Scales { values: &values, weights: Some(&weights) };
                // SAFETY: the tier is available.
                let found = unsafe { tier.run(scales) }.map(f32::to_bits);
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
