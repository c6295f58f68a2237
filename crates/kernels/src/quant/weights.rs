//! What the errors of values weigh where their columns have an importance, and encoding by that.
//!
//! A value's weight is its column's importance times `√(mean + x²)`, with the mean of the squares of the values around it:
//! what is large counts more, what is small does not count for nothing. Source: ggml's reference quantizers.

use std::marker::PhantomData;

use crate::simd::{Kernel, Simd, Tier};

/// What a type takes for the mean square.
#[derive(Clone, Copy)]
pub(super) enum MeanSquare {
    /// That of a row.
    Row,
    /// That of a block.
    Block,
    /// Twice that of a block.
    TwiceBlock,
    /// None: the importance alone is the weight.
    None,
}

/// How a type encodes values that have weights, with one body for all tiers.
pub(super) trait EncodeWeighted: 'static {
    /// Values in a block.
    const BLOCK: usize;
    const MEAN_SQUARE: MeanSquare;

    /// Encodes whole blocks; `weights` has a weight for each value. Where squares overflowed, so that weights are not
    /// finite, a scale of the block is not finite either.
    ///
    /// # Safety
    /// As [`Simd`].
    unsafe fn encode_weighted<S: Simd>(values: &[f32], weights: &[f32], blocks: &mut [u8]);
}

/// Encodes whole rows by the importance of their columns, with the instructions of `tier`, or plainly on a CPU that lacks
/// them.
pub(super) fn encode_weighted<E: EncodeWeighted>(tier: Tier, values: &[f32], importance: &[f32], blocks: &mut [u8]) {
    if values.is_empty() {
        return;
    }
    let mut weights = vec![0.0; values.len()];
    weigh::<E>(values, importance, &mut weights);
    encode_by::<E>(tier, values, &weights, blocks);
}

/// A type of blocks of 256 values that are encoded by weights without importance, too.
pub(super) trait EncodeUnweighted: EncodeWeighted {
    /// The weights of a block.
    fn weights(x: &[f32; 256]) -> [f32; 256];
}

/// Encodes whole blocks likewise, of values without importance.
pub(super) fn encode_unweighted<E: EncodeUnweighted>(tier: Tier, values: &[f32], blocks: &mut [u8]) {
    let weights: Vec<_> = values.as_chunks().0.iter().map(E::weights).collect();
    encode_by::<E>(tier, values, weights.as_flattened(), blocks);
}

fn encode_by<E: EncodeWeighted>(tier: Tier, values: &[f32], weights: &[f32], blocks: &mut [u8]) {
    struct Run<'a, E>(&'a [f32], &'a [f32], &'a mut [u8], PhantomData<E>);
    impl<E: EncodeWeighted> Kernel for Run<'_, E> {
        type Output = ();
        #[inline(always)]
        unsafe fn body<S: Simd>(self) {
            // SAFETY: the caller's promise.
            unsafe { E::encode_weighted::<S>(self.0, self.1, self.2) }
        }
    }
    let tier = if tier.available() { tier } else { Tier::Scalar };
    // SAFETY: the tier is available.
    unsafe { tier.run(Run(values, weights, blocks, PhantomData::<E>)) }
}

#[inline(always)]
fn weigh<E: EncodeWeighted>(values: &[f32], importance: &[f32], weights: &mut [f32]) {
    let cols = importance.len();
    let (span, factor) = match E::MEAN_SQUARE {
        MeanSquare::Row => (cols, 1.0),
        MeanSquare::Block => (E::BLOCK, 1.0),
        MeanSquare::TwiceBlock => (E::BLOCK, 2.0),
        MeanSquare::None => return weights.chunks_exact_mut(cols).for_each(|row| row.copy_from_slice(importance)),
    };
    for (group, (x, w)) in values.chunks(SUMS * span).zip(weights.chunks_mut(SUMS * span)).enumerate() {
        let sums = sums_of_squares(x, span);
        for (i, (x, w)) in x.chunks_exact(span).zip(w.chunks_exact_mut(span)).enumerate() {
            let mean = factor * sums[i] / span as f32;
            let column = (group * SUMS + i) * span % cols;
            for ((w, x), importance) in w.iter_mut().zip(x).zip(&importance[column..column + span]) {
                *w = importance * (mean + x * x).sqrt();
            }
        }
    }
}

/// Sums that grow side by side: each takes its values in order, and its next addition waits for the one before.
const SUMS: usize = 4;

/// The sums of the squares of up to [`SUMS`] times `span` values.
#[inline(always)]
fn sums_of_squares(x: &[f32], span: usize) -> [f32; SUMS] {
    let mut sums = [0.0; SUMS];
    if x.len() == SUMS * span {
        let parts: [&[f32]; SUMS] = std::array::from_fn(|i| &x[i * span..][..span]);
        for i in 0..span {
            for (sum, part) in sums.iter_mut().zip(parts) {
                *sum += part[i] * part[i];
            }
        }
    } else {
        for (sum, part) in sums.iter_mut().zip(x.chunks_exact(span)) {
            part.iter().for_each(|v| *sum += v * v);
        }
    }
    sums
}

/// The sum of the weights of each SUB values.
#[inline(always)]
pub(super) fn sums<const SUB: usize, const N: usize>(weights: &[f32]) -> [f32; N] {
    let mut sums = [0.0; N];
    for (sum, weights) in sums.iter_mut().zip(weights.as_chunks::<SUB>().0) {
        weights.iter().for_each(|w| *sum += w);
    }
    sums
}

/// `scale`, or NaN where the weights it was found with are not finite.
#[inline(always)]
pub(super) fn checked(scale: f32, weights: &[f32]) -> f32 {
    if weights.iter().all(|w| w.is_finite()) { scale } else { f32::NAN }
}

/// The weights of values without importance: their squares.
#[inline(always)]
pub(super) fn squares(x: &[f32; 256]) -> [f32; 256] {
    x.map(|v| v * v)
}

/// The weights of values without importance: their squares, and half of the mean of all squares.
#[inline(always)]
pub(super) fn squares_and_mean(x: &[f32; 256]) -> [f32; 256] {
    let twice = 2.0 * x.iter().fold(0.0, |sum, v| sum + v * v) / 256.0;
    x.map(|v| 0.25 * twice + v * v)
}
