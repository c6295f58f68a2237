//! The gated linear unit, and other products of rows.

use super::delta::sigmoid;
use crate::plan::Activation;
use crate::simd::{Kernel, LANES, Simd};

/// `out = act(gate) * up`, over `cols` values, a multiple of 16.
///
/// Safety: all three have `cols` values; nothing else touches `out`, which may be one of the inputs.
pub struct Glu {
    pub activation: Activation,
    pub gate: *const f32,
    pub up: *const f32,
    pub out: *mut f32,
    pub cols: usize,
}

impl Kernel for Glu {
    type Output = ();

    #[inline(always)]
    unsafe fn body<S: Simd>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.activation {
                Activation::Silu => self.with::<S, Silu>(),
                Activation::GeluTanh => self.with::<S, GeluTanh>(),
                Activation::SquaredRelu => self.with::<S, SquaredRelu>(),
            }
        }
    }
}

/// `x *= sigmoid(gate)`, over `cols` values, a multiple of 16.
///
/// Safety: both have `cols` values; nothing else touches x.
pub struct SigmoidGate {
    pub x: *mut f32,
    pub gate: *const f32,
    pub cols: usize,
}

impl Kernel for SigmoidGate {
    type Output = ();

    #[inline(always)]
    unsafe fn body<S: Simd>(self) {
        // SAFETY: all offsets are below `cols`.
        unsafe {
            for i in (0..self.cols).step_by(LANES) {
                let factor = sigmoid::<S>(S::load(self.gate.add(i)));
                S::store(self.x.add(i), S::mul(S::load(self.x.add(i)), factor));
            }
        }
    }
}

/// `x *= by`, over `cols` values, a multiple of 16.
///
/// Safety: both have `cols` values; nothing else touches x.
pub struct Times {
    pub x: *mut f32,
    pub by: *const f32,
    pub cols: usize,
}

impl Kernel for Times {
    type Output = ();

    #[inline(always)]
    unsafe fn body<S: Simd>(self) {
        // SAFETY: all offsets are below `cols`.
        unsafe {
            for i in (0..self.cols).step_by(LANES) {
                S::store(self.x.add(i), S::mul(S::load(self.x.add(i)), S::load(self.by.add(i))));
            }
        }
    }
}

impl Glu {
    #[inline(always)]
    unsafe fn with<S: Simd, A: Function>(&self) {
        // SAFETY: all offsets are below `cols`.
        unsafe {
            for i in (0..self.cols).step_by(LANES) {
                let activated = A::of::<S>(S::load(self.gate.add(i)));
                S::store(self.out.add(i), S::mul(activated, S::load(self.up.add(i))));
            }
        }
    }
}

/// An activation function.
pub(super) trait Function {
    /// # Safety
    /// As [`Simd`].
    unsafe fn of<S: Simd>(x: S::F) -> S::F;
}

pub(super) struct Silu;

impl Function for Silu {
    #[inline(always)]
    unsafe fn of<S: Simd>(x: S::F) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { S::div(x, S::add(S::splat(1.0), S::exp(S::sub(S::splat(0.0), x)))) }
    }
}

struct GeluTanh;

impl Function for GeluTanh {
    #[inline(always)]
    unsafe fn of<S: Simd>(x: S::F) -> S::F {
        let sqrt_2_over_pi = (2.0 / std::f64::consts::PI).sqrt() as f32;
        // SAFETY: the caller's promise.
        unsafe {
            let cube = S::mul(S::mul(x, x), x);
            let inner = S::mul(S::splat(sqrt_2_over_pi), S::fma(S::splat(0.044_715), cube, x));
            S::mul(S::mul(S::splat(0.5), x), S::add(S::splat(1.0), S::tanh(inner)))
        }
    }
}

struct SquaredRelu;

impl Function for SquaredRelu {
    #[inline(always)]
    unsafe fn of<S: Simd>(x: S::F) -> S::F {
        // SAFETY: the caller's promise.
        unsafe {
            let positive = S::max(x, S::splat(0.0));
            S::mul(positive, positive)
        }
    }
}
