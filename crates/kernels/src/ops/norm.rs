//! Norms, with the residual sum before them.

use crate::simd::{Kernel, LANES, Simd};

/// `x += add; out = x / sqrt(mean(x²) + eps) * weight`, over `cols` values, a multiple of 16.
///
/// The squares are summed in sixteen lanes and then in [`Simd::sum`]'s tree. Safety: `x`, `add` (if given), `weight` and
/// `out` have `cols` values; nothing else touches `x` and `out`; `out` may be `x`.
pub struct RmsNorm {
    pub x: *mut f32,
    pub add: Option<*const f32>,
    pub weight: *const f32,
    pub out: *mut f32,
    /// Rounded up to whole lanes; the values beyond `len` are zero.
    pub cols: usize,
    /// The number of values that the mean is taken of.
    pub len: usize,
    pub eps: f32,
}

impl Kernel for RmsNorm {
    type Output = ();

    #[inline(always)]
    unsafe fn body<S: Simd>(self) {
        // SAFETY: all offsets are below `cols`.
        unsafe {
            let mut squares = S::splat(0.0);
            for i in (0..self.cols).step_by(LANES) {
                let mut v = S::load(self.x.add(i));
                if let Some(add) = self.add {
                    v = S::add(v, S::load(add.add(i)));
                    S::store(self.x.add(i), v);
                }
                squares = S::fma(v, v, squares);
            }
            let mean = S::sum(squares) / self.len as f32;
            let scale = S::splat(1.0 / (mean + self.eps).sqrt());
            for i in (0..self.cols).step_by(LANES) {
                let v = S::mul(S::load(self.x.add(i)), scale);
                S::store(self.out.add(i), S::mul(v, S::load(self.weight.add(i))));
            }
        }
    }
}

/// As [`RmsNorm`], of what a value differs from the mean: `out = (x - mean(x)) / sqrt(variance(x) + eps) * weight`.
pub struct LayerNorm(pub RmsNorm);

impl Kernel for LayerNorm {
    type Output = ();

    #[inline(always)]
    unsafe fn body<S: Simd>(self) {
        let RmsNorm { x, add, weight, out, cols, len, eps } = self.0;
        // SAFETY: all offsets are below `cols`, and the lanes have as many values.
        unsafe {
            let mut sums = S::splat(0.0);
            for i in (0..cols).step_by(LANES) {
                let mut v = S::load(x.add(i));
                if let Some(add) = add {
                    v = S::add(v, S::load(add.add(i)));
                    S::store(x.add(i), v);
                }
                sums = S::add(sums, v);
            }
            let mean = S::splat(S::sum(sums) / len as f32);
            let mut squares = S::splat(0.0);
            for i in (0..cols).step_by(LANES) {
                let mut v = S::sub(S::load(x.add(i)), mean);
                if i + LANES > len {
                    // What fills the lanes differs from the mean, and does not count.
                    let mut lanes = [0.0; LANES];
                    S::store(lanes.as_mut_ptr(), v);
                    lanes[len - i..].fill(0.0);
                    v = S::load(lanes.as_ptr());
                }
                squares = S::fma(v, v, squares);
            }
            let scale = S::splat(1.0 / (S::sum(squares) / len as f32 + eps).sqrt());
            for i in (0..cols).step_by(LANES) {
                let v = S::mul(S::sub(S::load(x.add(i)), mean), scale);
                S::store(out.add(i), S::mul(v, S::load(weight.add(i))));
            }
        }
    }
}

/// `x += add; out = x`, over `cols` values, a multiple of 16.
///
/// Safety: as [`RmsNorm`].
pub struct NoNorm {
    pub x: *mut f32,
    pub add: Option<*const f32>,
    pub out: *mut f32,
    pub cols: usize,
}

impl Kernel for NoNorm {
    type Output = ();

    #[inline(always)]
    unsafe fn body<S: Simd>(self) {
        // SAFETY: all offsets are below `cols`.
        unsafe {
            for i in (0..self.cols).step_by(LANES) {
                let mut v = S::load(self.x.add(i));
                if let Some(add) = self.add {
                    v = S::add(v, S::load(add.add(i)));
                    S::store(self.x.add(i), v);
                }
                S::store(self.out.add(i), v);
            }
        }
    }
}

/// `x = cap * tanh(x * factor / cap)`, or `x * factor` where there is no cap; over `cols` values, a multiple of 16.
///
/// Safety: x has as many values, which nothing else touches.
pub struct Scaled {
    pub x: *mut f32,
    pub factor: f32,
    pub cap: Option<f32>,
    pub cols: usize,
}

impl Kernel for Scaled {
    type Output = ();

    #[inline(always)]
    unsafe fn body<S: Simd>(self) {
        // SAFETY: all offsets are below `cols`.
        unsafe {
            let factor = S::splat(self.factor);
            for i in (0..self.cols).step_by(LANES) {
                S::store(self.x.add(i), S::mul(S::load(self.x.add(i)), factor));
            }
            let Some(cap) = self.cap else { return };
            let cap = S::splat(cap);
            for i in (0..self.cols).step_by(LANES) {
                let v = S::tanh(S::div(S::load(self.x.add(i)), cap));
                S::store(self.x.add(i), S::mul(v, cap));
            }
        }
    }
}
