//! A convolution over positions, of each channel alone.

use super::glu::{Function, Silu};
use crate::simd::{Kernel, LANES, Simd};

/// Taps that a convolution has at most.
pub const MOST_TAPS: usize = 8;

/// What becomes of a convolution's sums.
#[derive(Clone, Copy)]
pub enum Finish {
    /// `x / (1 + e^-x)`.
    Silu,
    /// Times as many values.
    Times(*const f32),
}

/// `out = finish(Σ_i weights[i] * inputs[i])` at one position, over `channels` values, a multiple of 16; summed in the order
/// of the taps.
///
/// Safety: each input, each tap's weights, what multiplies and `out` have `channels` values; nothing else touches `out`.
pub struct CausalConv<'a> {
    /// The position itself last.
    pub inputs: &'a [*const f32],
    /// `[taps, channels]`.
    pub weights: *const f32,
    pub channels: usize,
    pub finish: Finish,
    pub out: *mut f32,
}

impl Kernel for CausalConv<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn body<S: Simd>(self) {
        // SAFETY: all offsets are below `channels`.
        unsafe {
            for i in (0..self.channels).step_by(LANES) {
                let mut sum = S::splat(0.0);
                for (tap, input) in self.inputs.iter().enumerate() {
                    let weight = S::load(self.weights.add(tap * self.channels + i));
                    sum = S::fma(weight, S::load(input.add(i)), sum);
                }
                let value = match self.finish {
                    Finish::Silu => Silu::of::<S>(sum),
                    Finish::Times(factor) => S::mul(sum, S::load(factor.add(i))),
                };
                S::store(self.out.add(i), value);
            }
        }
    }
}
