//! Rotary position embedding.

use crate::plan::{Rope, RopeStyle};
use crate::simd::{LANES, Simd};

/// Cosine and sine of every rotated pair at one position, both times the attention factor.
///
/// The angle is the f32 product of position and inverse frequency, as transformers computes it. `reserved` is how many
/// positions the sequence may have.
pub fn angles(rope: &Rope, position: usize, reserved: usize, cos: &mut [f32], sin: &mut [f32]) {
    let (inv_freq, factor) = match &rope.long {
        Some(long) if reserved > long.above => (&long.inv_freq, long.attention_factor),
        _ => (&rope.inv_freq, rope.attention_factor),
    };
    for ((c, s), inv_freq) in cos.iter_mut().zip(sin).zip(inv_freq) {
        let angle = f64::from(position as f32 * inv_freq);
        *c = libm::cos(angle) as f32 * factor;
        *s = libm::sin(angle) as f32 * factor;
    }
}

/// Rotates one head in place; values beyond the rotated pairs stay.
///
/// # Safety
/// As [`Simd`]; the head has `2 * pairs` values, `cos` and `sin` have `pairs`.
#[inline(always)]
pub unsafe fn rotate<S: Simd>(style: RopeStyle, head: *mut f32, cos: *const f32, sin: *const f32, pairs: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut i = 0;
        if style == RopeStyle::Half {
            while i + LANES <= pairs {
                let (a, b) = (head.add(i), head.add(pairs + i));
                let (va, vb, c, s) = (S::load(a), S::load(b), S::load(cos.add(i)), S::load(sin.add(i)));
                S::store(a, S::sub(S::mul(va, c), S::mul(vb, s)));
                S::store(b, S::add(S::mul(vb, c), S::mul(va, s)));
                i += LANES;
            }
        }
        while i < pairs {
            let (a, b) = match style {
                RopeStyle::Half => (head.add(i), head.add(pairs + i)),
                RopeStyle::Interleaved => (head.add(2 * i), head.add(2 * i + 1)),
            };
            let (c, s) = (*cos.add(i), *sin.add(i));
            (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
            i += 1;
        }
    }
}
