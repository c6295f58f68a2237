//! The gated linear unit with SiLU.

use crate::simd::{Kernel, LANES, Simd};

/// `out = gate / (1 + e^-gate) * up`, over `cols` values, a multiple of 16.
///
/// Safety: all three have `cols` values; nothing else touches `out`, which may be one of the inputs.
pub struct SwiGlu {
    pub gate: *const f32,
    pub up: *const f32,
    pub out: *mut f32,
    pub cols: usize,
}

impl Kernel for SwiGlu {
    type Output = ();

    #[inline(always)]
    unsafe fn body<S: Simd>(self) {
        // SAFETY: all offsets are below `cols`.
        unsafe {
            let one = S::splat(1.0);
            for i in (0..self.cols).step_by(LANES) {
                let gate = S::load(self.gate.add(i));
                let denominator = S::add(one, S::exp(S::sub(S::splat(0.0), gate)));
                let silu = S::div(gate, denominator);
                S::store(self.out.add(i), S::mul(silu, S::load(self.up.add(i))));
            }
        }
    }
}
