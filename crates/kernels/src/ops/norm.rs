//! Root-mean-square norm, with the residual sum before it.

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
