//! The nearest level to a number, in sixteen lanes.

use super::super::encode::SHIFT;
use super::super::nonlinear;
use crate::simd::Simd;

/// What a value's integers stand for, in units of its scale.
pub(super) trait Scale: Copy {
    /// The smallest and the largest level.
    fn ends(self) -> (f32, f32);

    /// The nearest level in each lane.
    ///
    /// # Safety
    /// As [`Simd`].
    unsafe fn nearest<S: Simd>(self, v: S::F) -> S::F;

    /// Which level is nearest, from 0.
    fn index(self, v: f32) -> u8;

    /// The level of an index.
    fn level(self, index: u8) -> f32;
}

/// Whole numbers from `low` to `high`.
#[derive(Clone, Copy)]
pub(super) struct Whole {
    pub low: i16,
    pub high: i16,
}

impl Scale for Whole {
    fn ends(self) -> (f32, f32) {
        (self.low.into(), self.high.into())
    }

    /// Clamps before rounding, which keeps all numbers in the range that adding [`SHIFT`] rounds.
    #[inline(always)]
    unsafe fn nearest<S: Simd>(self, v: S::F) -> S::F {
        let (low, high) = self.ends();
        // SAFETY: the caller's promise.
        unsafe {
            let v = S::min(S::max(v, S::splat(low)), S::splat(high));
            S::sub(S::add(v, S::splat(SHIFT)), S::splat(SHIFT))
        }
    }

    fn index(self, v: f32) -> u8 {
        let (low, high) = self.ends();
        let nearest = (v.max(low).min(high) + SHIFT) - SHIFT;
        (nearest - low) as u8
    }

    fn level(self, index: u8) -> f32 {
        f32::from(self.low) + f32::from(index)
    }
}

/// Those of IQ4_NL.
#[derive(Clone, Copy)]
pub(super) struct Nonlinear;

impl Scale for Nonlinear {
    fn ends(self) -> (f32, f32) {
        (nonlinear::VALUES[0].into(), nonlinear::VALUES[15].into())
    }

    #[inline(always)]
    unsafe fn nearest<S: Simd>(self, v: S::F) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { nonlinear::nearest_16::<S>(v) }
    }

    fn index(self, v: f32) -> u8 {
        nonlinear::nearest(v)
    }

    fn level(self, index: u8) -> f32 {
        nonlinear::VALUES[usize::from(index)].into()
    }
}
