//! Scales and offsets of one sub-block, sixteen candidates side by side.

use super::levels::Scale;
use crate::simd::{LANES, Simd};

/// A scale and an offset in each lane: `x ≈ scale * level - offset`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Candidates {
    pub scale: [f32; LANES],
    pub offset: [f32; LANES],
}

/// What each candidate comes to with the nearest levels c.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    /// Σ w (x - value)².
    pub error: [f32; LANES],
    /// Σ w c.
    pub c: [f32; LANES],
    /// Σ w c².
    pub cc: [f32; LANES],
    /// Σ w c x.
    pub cx: [f32; LANES],
}

/// Values that share a scale, with their weights.
#[derive(Clone, Copy)]
pub(super) struct SubBlock<'a, const N: usize> {
    pub x: &'a [f32; N],
    pub w: &'a [f32; N],
    /// Σ w and Σ w x.
    pub sum_w: f32,
    pub sum_x: f32,
}

/// A scale and an offset, and what remains.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fit {
    pub scale: f32,
    pub offset: f32,
    pub error: f32,
}

/// How often candidates take the least-squares scale and offset of their levels.
const ROUNDS: usize = 3;

impl<'a, const N: usize> SubBlock<'a, N> {
    pub fn new(x: &'a [f32; N], w: &'a [f32; N]) -> Self {
        let (sum_w, sum_x) = x.iter().zip(w).fold((0.0, 0.0), |(sum, of), (x, w)| (sum + w, of + w * x));
        Self { x, w, sum_w, sum_x }
    }

    /// # Safety
    /// As [`Simd`].
    #[inline(always)]
    pub unsafe fn sums<S: Simd>(&self, levels: impl Scale, candidates: &Candidates) -> Sums {
        let inverse = candidates.scale.map(|scale| if scale == 0.0 { 0.0 } else { 1.0 / scale });
        let mut sums = Sums::default();
        // SAFETY: the caller's promise; all arrays have 16 numbers.
        unsafe {
            let scale = S::load(candidates.scale.as_ptr());
            let (inverse, offset) = (S::load(inverse.as_ptr()), S::load(candidates.offset.as_ptr()));
            let zero = S::splat(0.0);
            let (mut error, mut sum_c, mut sum_cc, mut sum_cx) = (zero, zero, zero, zero);
            for (x, w) in self.x.iter().zip(self.w) {
                let (x, w) = (S::splat(*x), S::splat(*w));
                let shifted = S::add(x, offset);
                let c = levels.nearest::<S>(S::mul(shifted, inverse));
                let wc = S::mul(w, c);
                sum_c = S::add(sum_c, wc);
                sum_cc = S::fma(wc, c, sum_cc);
                sum_cx = S::fma(wc, x, sum_cx);
                let difference = S::sub(shifted, S::mul(scale, c));
                error = S::fma(S::mul(w, difference), difference, error);
            }
            S::store(sums.error.as_mut_ptr(), error);
            S::store(sums.c.as_mut_ptr(), sum_c);
            S::store(sums.cc.as_mut_ptr(), sum_cc);
            S::store(sums.cx.as_mut_ptr(), sum_cx);
        }
        sums
    }

    /// The real scale and offset with the smallest error that the search finds; the offset is 0 unless `affine`, and not
    /// negative where `positive`.
    ///
    /// Candidates map the values' range to more or fewer levels than there are, each end by itself; then each takes the
    /// least-squares scale and offset of its levels, again and again.
    ///
    /// # Safety
    /// As [`Simd`].
    #[inline(always)]
    pub unsafe fn fit<S: Simd>(&self, levels: impl Scale, affine: bool, positive: bool) -> Fit {
        let (lowest, highest) = self.x.iter().fold((f32::MAX, f32::MIN), |(l, h), x| (l.min(*x), h.max(*x)));
        let (bottom, top) = levels.ends();
        let mut best = Fit { scale: 0.0, offset: 0.0, error: f32::INFINITY };
        for batch in 0..2 {
            let mut candidates = Candidates::default();
            for lane in 0..LANES {
                let (low, high) = if affine {
                    // Sixteen pairs of ends, then sixteen that cut off less.
                    let step = (highest - lowest) / (top - bottom) * if batch == 0 { 0.5 } else { 0.2 };
                    let low = lowest + step * ((lane % 4) as f32 - 0.75);
                    (low, highest - step * ((lane / 4) as f32 - 0.75))
                } else {
                    (0.0, 0.0)
                };
                let (scale, offset) = if affine {
                    let low = if positive { low.min(0.0) } else { low };
                    ((high - low) / (top - bottom), -low)
                } else {
                    // The value of the largest magnitude becomes the lowest or the highest level, or one beyond it.
                    let largest = if -lowest > highest { lowest } else { highest };
                    let end = if batch == 0 { bottom } else { top };
                    (largest / (end * (1.06 - 0.035 * lane as f32)), 0.0)
                };
                (candidates.scale[lane], candidates.offset[lane]) = (scale, offset);
            }
            for round in 0..=ROUNDS {
                // SAFETY: the caller's promise.
                let sums = unsafe { self.sums::<S>(levels, &candidates) };
                for lane in 0..LANES {
                    if sums.error[lane] < best.error {
                        let (scale, offset) = (candidates.scale[lane], candidates.offset[lane]);
                        best = Fit { scale, offset, error: sums.error[lane] };
                    }
                }
                if round < ROUNDS {
                    candidates = self.least_squares(&sums, &candidates, affine, positive);
                }
            }
        }
        best
    }

    /// The best scale and offset of the levels that were summed; the old ones where there is none.
    #[inline(always)]
    fn least_squares(&self, sums: &Sums, old: &Candidates, affine: bool, positive: bool) -> Candidates {
        let mut new = *old;
        for lane in 0..LANES {
            let (c, cc, cx) = (sums.c[lane], sums.cc[lane], sums.cx[lane]);
            let alone = cx / cc;
            let determinant = self.sum_w * cc - c * c;
            let (scale, offset) = if affine && determinant > 0.0 {
                let scale = (self.sum_w * cx - self.sum_x * c) / determinant;
                let offset = (c * cx - cc * self.sum_x) / determinant;
                if positive && offset < 0.0 { (alone, 0.0) } else { (scale, offset) }
            } else if affine {
                continue;
            } else {
                (alone, 0.0)
            };
            if scale.is_finite() && offset.is_finite() {
                (new.scale[lane], new.offset[lane]) = (scale, offset);
            }
        }
        new
    }
}
