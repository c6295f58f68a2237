//! Sixteen searches at once, one in each lane.
//!
//! What differs from the plain version, and why it is still right:
//! - Branches are selections: where the plain version does not take one, its results are dropped.
//! - Rounding adds and subtracts 1.5 · 2^23, which is [`nearest`](super::nearest) within its range. The products that are
//!   rounded grow with x, so that the smallest and the largest x tell whether all of them are in range. Where one is not,
//!   or is NaN, the plain version does the lane.
//! - A lane without a range of values runs along with a range of one, and is overwritten at the end.

use super::{Fit, Search, fit};
use crate::quant::encode::{SHIFT, in_lanes, stored};
use crate::simd::{Kernel, LANES, Simd};

/// Products up to this are rounded right.
const LIMIT: f32 = 4_194_303.0;

/// Sixteen times SUB values, each sub-block in a lane.
struct Batch<'a, S: Simd, const SUB: usize> {
    search: Search,
    x: &'a [S::F; SUB],
    /// The weight of each value.
    w: &'a [S::F; SUB],
    low: S::F,
    high: S::F,
    sum_w: S::F,
    /// Σ w x.
    sum_x: S::F,
    /// Where fits start: the smallest value, but at most 0.
    start: S::F,
}

// SAFETY of all functions: as `Simd`, which is each caller's promise.
#[allow(clippy::undocumented_unsafe_blocks)]
impl<'a, S: Simd, const SUB: usize> Batch<'a, S, SUB> {
    #[inline(always)]
    unsafe fn new(x: &'a [S::F; SUB], w: &'a [S::F; SUB], search: Search) -> Self {
        unsafe {
            let (mut low, mut high) = (x[0], x[0]);
            let (mut sum_w, mut sum_x) = (w[0], S::mul(w[0], x[0]));
            for i in 1..SUB {
                low = S::min(x[i], low);
                high = S::max(x[i], high);
                sum_w = S::add(sum_w, w[i]);
                sum_x = S::add(sum_x, S::mul(w[i], x[i]));
            }
            let zero = S::splat(0.0);
            let start = S::select_lt(zero, low, zero, low);
            Self { search, x, w, low, high, sum_w, sum_x, start }
        }
    }

    /// `yes` in lanes with a range of values, else `no`.
    #[inline(always)]
    unsafe fn if_range(&self, yes: S::F, no: S::F) -> S::F {
        unsafe { S::select_lt(self.start, self.high, yes, no) }
    }

    /// The inverse scale that maps the values from `min` up to `levels`. Lanes of `wrong` become 1 where a product with it
    /// is out of the range of rounding.
    #[inline(always)]
    unsafe fn inverse_scale(&self, levels: f32, min: S::F, wrong: &mut S::F) -> S::F {
        unsafe {
            let range = self.if_range(S::sub(self.high, min), S::splat(1.0));
            let inverse_scale = S::div(S::splat(levels), range);
            for bound in [self.low, self.high] {
                let product = S::abs(S::mul(inverse_scale, S::sub(bound, min)));
                *wrong = S::select_lt(product, S::splat(LIMIT), *wrong, S::splat(1.0));
            }
            inverse_scale
        }
    }

    /// The nearest integers to `(x - min) * inverse_scale`, in 0..=top.
    #[inline(always)]
    unsafe fn quantize(&self, min: S::F, inverse_scale: S::F, top: u8, q: &mut [S::F; SUB]) {
        unsafe {
            let (zero, top, shift) = (S::splat(0.0), S::splat(f32::from(top)), S::splat(SHIFT));
            for (q, x) in q.iter_mut().zip(self.x) {
                let scaled = S::mul(inverse_scale, S::sub(*x, min));
                let rounded = S::sub(S::add(scaled, shift), shift);
                *q = S::min(S::max(rounded, zero), top);
            }
        }
    }

    /// The weighted error of `scale * q + min`.
    #[inline(always)]
    unsafe fn error(&self, q: &[S::F; SUB], scale: S::F, min: S::F) -> S::F {
        unsafe {
            match self.search.absolute {
                true => self.error_of::<true>(q, scale, min),
                false => self.error_of::<false>(q, scale, min),
            }
        }
    }

    #[inline(always)]
    unsafe fn error_of<const ABSOLUTE: bool>(&self, q: &[S::F; SUB], scale: S::F, min: S::F) -> S::F {
        unsafe {
            let mut sum = S::splat(0.0);
            for ((q, x), w) in q.iter().zip(self.x).zip(self.w) {
                let difference = S::sub(S::add(S::mul(scale, *q), min), *x);
                let error = if ABSOLUTE { S::abs(difference) } else { S::mul(difference, difference) };
                sum = S::add(sum, S::mul(*w, error));
            }
            sum
        }
    }

    /// The least-squares scale and min for the integers q, min at most 0, and their error; it is infinite where the
    /// integers determine none.
    #[inline(always)]
    unsafe fn least_squares(&self, q: &[S::F; SUB]) -> (S::F, S::F, S::F) {
        unsafe {
            let zero = S::splat(0.0);
            let (mut sum_q, mut sum_qq, mut sum_xq) = (zero, zero, zero);
            for ((q, x), w) in q.iter().zip(self.x).zip(self.w) {
                let wq = S::mul(*w, *q);
                sum_q = S::add(sum_q, wq);
                sum_qq = S::add(sum_qq, S::mul(wq, *q));
                sum_xq = S::add(sum_xq, S::mul(wq, *x));
            }
            let (sum_w, sum_x) = (self.sum_w, self.sum_x);
            let determinant = S::sub(S::mul(sum_w, sum_qq), S::mul(sum_q, sum_q));
            let scale = S::div(S::sub(S::mul(sum_w, sum_xq), S::mul(sum_x, sum_q)), determinant);
            let min = S::div(S::sub(S::mul(sum_qq, sum_x), S::mul(sum_q, sum_xq)), determinant);
            let scale = S::select_lt(zero, min, S::div(sum_xq, sum_qq), scale);
            let min = S::select_lt(zero, min, zero, min);
            let error = self.error(q, scale, min);
            (scale, min, S::select_lt(zero, determinant, error, S::splat(f32::INFINITY)))
        }
    }
}

/// The fits of up to sixteen times SUB values.
pub(super) struct Fits<'a, const SUB: usize> {
    pub values: &'a [f32],
    /// A weight for each value, none of them negative; without an importance, what they weigh follows from the values.
    pub weights: Option<&'a [f32]>,
    pub search: Search,
}

impl<const SUB: usize> Kernel for Fits<'_, SUB> {
    type Output = [Fit; LANES];
    #[inline(always)]
    unsafe fn body<S: Simd>(self) -> Self::Output {
        // SAFETY: the caller's promise.
        unsafe {
            let x = in_lanes::<S, SUB>(self.values);
            let w = match self.weights {
                Some(weights) => in_lanes::<S, SUB>(weights),
                None => plain_weights::<S, SUB>(&x, self.search.absolute),
            };
            fit_16::<S, SUB>(&x, &w, self.search)
        }
    }
}

/// What values weigh without an importance: the root mean square of the sub-block, unless errors are `absolute`, plus the
/// magnitude.
#[inline(always)]
unsafe fn plain_weights<S: Simd, const SUB: usize>(x: &[S::F; SUB], absolute: bool) -> [S::F; SUB] {
    // SAFETY: the caller's promise; there are 16 roots.
    unsafe {
        let mut squares = S::splat(0.0);
        for x in x {
            squares = S::add(squares, S::mul(*x, *x));
        }
        let [mean] = stored::<S, 1>(&[S::mul(squares, S::splat(1.0 / SUB as f32))]);
        let root_mean_square = if absolute { S::splat(0.0) } else { S::load(mean.map(f32::sqrt).as_ptr()) };
        let mut w = *x;
        for w in &mut w {
            *w = S::add(root_mean_square, S::abs(*w));
        }
        w
    }
}

#[inline(always)]
unsafe fn fit_16<S: Simd, const SUB: usize>(x: &[S::F; SUB], w: &[S::F; SUB], search: Search) -> [Fit; LANES] {
    // SAFETY: the caller's promise.
    unsafe {
        let batch = Batch::<S, SUB>::new(x, w, search);
        let mut wrong = S::splat(0.0);
        let mut min = batch.start;
        let mut best_inverse = batch.inverse_scale(f32::from(search.top), min, &mut wrong);
        let mut best_base = min;
        let mut best_scale = S::div(S::splat(1.0), best_inverse);
        let mut q = [min; SUB];
        batch.quantize(min, best_inverse, search.top, &mut q);
        let mut least = batch.error(&q, best_scale, min);
        for candidate in 0..search.candidates {
            let inverse_scale = batch.inverse_scale(search.levels(candidate), min, &mut wrong);
            batch.quantize(min, inverse_scale, search.top, &mut q);
            let (scale, new_min, error) = batch.least_squares(&q);
            best_scale = S::select_lt(error, least, scale, best_scale);
            best_inverse = S::select_lt(error, least, inverse_scale, best_inverse);
            best_base = S::select_lt(error, least, min, best_base);
            min = S::select_lt(error, least, new_min, min);
            least = S::select_lt(error, least, error, least);
        }
        let zero = S::splat(0.0);
        let [scale, min, inverse_scale, base, wrong] = stored::<S, 5>(&[
            batch.if_range(best_scale, zero),
            min,
            batch.if_range(best_inverse, zero),
            batch.if_range(best_base, zero),
            wrong,
        ]);
        let mut fits = std::array::from_fn(|i| Fit {
            scale: scale[i],
            offset: -min[i],
            inverse_scale: inverse_scale[i],
            base: base[i],
        });
        if wrong.iter().any(|wrong| *wrong > 0.0) {
            let (x, w) = (stored::<S, SUB>(x), stored::<S, SUB>(w));
            for (i, fits) in fits.iter_mut().enumerate().filter(|(i, _)| wrong[*i] > 0.0) {
                *fits = fit(&x.map(|row| row[i]), &w.map(|row| row[i]), search);
            }
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::super::fit;
    use super::*;
    use crate::quant::encode::samples;
    use crate::simd::Tier;

    fn check<const SUB: usize, const BATCH: usize>(search: Search) {
        let bits = |f: Fit| [f.scale, f.offset, f.inverse_scale, f.base].map(f32::to_bits);
        for (round, (values, weights)) in samples::<SUB, BATCH>().enumerate() {
            let subs = values.as_chunks::<SUB>().0.iter().zip(weights.as_chunks::<SUB>().0);
            let expected: Vec<_> = subs.map(|(x, w)| bits(fit(x, w, search))).collect();
            for tier in Tier::all_available() {
                let fits = Fits::<SUB> { values: &values, weights: Some(&weights), search };
                // SAFETY: the tier is available.
                let found = unsafe { tier.run(fits) }.map(bits);
                assert_eq!(found[..], expected[..], "{} in round {round}", tier.name());
            }
        }
    }

    #[test]
    fn lanes_give_the_bits_of_the_plain_version() {
        check::<32, 512>(Search { top: 15, first: -1.0, step: 0.1, candidates: 21, absolute: false });
        check::<16, 256>(Search { top: 3, first: -0.5, step: 0.1, candidates: 16, absolute: true });
        check::<32, 512>(Search::weighted(31));
        check::<16, 256>(Search::weighted(3));
    }
}
