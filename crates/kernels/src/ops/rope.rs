//! Rotary position embedding, plain code that is the same on every tier.

use crate::plan::{Rope, RopeStyle};

/// Cosine and sine of every rotated pair at one position, both times the attention factor.
///
/// The angle is the f32 product of position and inverse frequency, as transformers computes it.
pub fn angles(rope: &Rope, position: usize, cos: &mut [f32], sin: &mut [f32]) {
    for ((c, s), inv_freq) in cos.iter_mut().zip(sin).zip(&rope.inv_freq) {
        let angle = f64::from(position as f32 * inv_freq);
        *c = libm::cos(angle) as f32 * rope.attention_factor;
        *s = libm::sin(angle) as f32 * rope.attention_factor;
    }
}

/// Rotates one head in place; values beyond the rotated pairs stay.
pub fn rotate(style: RopeStyle, head: &mut [f32], cos: &[f32], sin: &[f32]) {
    match style {
        RopeStyle::Half => {
            let (first, second) = head.split_at_mut(cos.len());
            for (((a, b), c), s) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
            }
        }
        RopeStyle::Interleaved => {
            for ((pair, c), s) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
                let [a, b] = *pair;
                *pair = [a * c - b * s, b * c + a * s];
            }
        }
    }
}
