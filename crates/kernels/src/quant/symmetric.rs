//! How Q6_K, and by importance Q3_K, Q4_0 and Q5_0, choose a scale for each 16 or 32 values: `x ≈ scale * q`, q in
//! `-levels..levels`.
//!
//! The value of the largest magnitude first becomes `-levels`; then inverse scales around that are tried, each with the
//! least-squares scale of its integers, every value with a weight. The one that explains most of the weighted squares
//! wins, so that the weighted squared error is the least. Without an importance a value weighs as much as its square.
//! Source: ggml's reference quantizers.
//!
//! [`fit`] is the plain version. [`Fits`] runs sixteen fits side by side, one in each lane, with the same operations in
//! the same order in each lane.

use super::descent::LEVELS;
use super::encode::{SHIFT, half, in_lanes, nearest, squares, stored};
use super::weights::{checked, sums};
use crate::simd::{Kernel, LANES, Simd};

/// Candidates before and after the one that maps the largest magnitude to `-levels`, in steps of a tenth of a level.
const AROUND: i32 = 9;
/// Values below this all become the lowest integer.
const TINY: f32 = 1e-15;

/// The outcome for values that share a scale.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Fit {
    pub scale: f32,
    /// The integers that were fitted are the nearest to `x * inverse_scale`; 0 if x is tiny.
    inverse_scale: f32,
    tiny: bool,
}

impl Fit {
    /// The integers of the search, each `levels` more than what it stands for.
    #[inline(always)]
    pub fn searched<const SUB: usize>(&self, x: &[f32; SUB], levels: i32) -> [u8; SUB] {
        match self.tiny {
            true => [0; SUB],
            false => x.map(|v| clamp(nearest(self.inverse_scale * v), levels)),
        }
    }
}

/// What stands for `q`: `levels` more.
#[inline(always)]
fn clamp(q: i32, levels: i32) -> u8 {
    (q.clamp(-levels, levels - 1) + levels) as u8
}

#[cfg(test)]
pub(super) fn fit<const SUB: usize>(x: &[f32; SUB], w: &[f32; SUB], levels: i32) -> Fit {
    let (mut largest, mut magnitude) = (0.0, 0.0);
    for v in x {
        if v.abs() > magnitude {
            (largest, magnitude) = (*v, v.abs());
        }
    }
    if magnitude < TINY {
        return Fit { scale: 0.0, inverse_scale: 0.0, tiny: true };
    }
    // Σ w x q and Σ w q².
    let sums = |inverse_scale: f32| {
        let (mut sum_xq, mut sum_qq) = (0.0, 0.0);
        for (v, w) in x.iter().zip(w) {
            let q = nearest(inverse_scale * v).clamp(-levels, levels - 1) as f32;
            sum_xq += w * v * q;
            sum_qq += w * q * q;
        }
        (sum_xq, sum_qq)
    };
    let inverse_scale = -(levels as f32) / largest;
    let (sum_xq, sum_qq) = sums(inverse_scale);
    let scale = if sum_qq == 0.0 { 0.0 } else { sum_xq / sum_qq };
    let mut best = Fit { scale, inverse_scale, tiny: false };
    let mut explained = best.scale * sum_xq;
    for i in (-AROUND..=AROUND).filter(|i| *i != 0) {
        let inverse_scale = -target(levels, i) / largest;
        let (sum_xq, sum_qq) = sums(inverse_scale);
        if sum_qq > 0.0 && sum_xq * sum_xq > explained * sum_qq {
            best = Fit { scale: sum_xq / sum_qq, inverse_scale, tiny: false };
            explained = best.scale * sum_xq;
        }
    }
    best
}

/// Where candidate `i` maps the largest magnitude.
#[inline(always)]
fn target(levels: i32, i: i32) -> f32 {
    levels as f32 + 0.1 * i as f32
}

/// The fits of up to sixteen times SUB values, all at once.
pub(super) struct Fits<'a, const SUB: usize> {
    pub values: &'a [f32],
    /// A weight for each value, none of them negative; without, the squares of the values.
    pub weights: Option<&'a [f32]>,
    pub levels: i32,
}

impl<const SUB: usize> Kernel for Fits<'_, SUB> {
    type Output = [Fit; LANES];
    #[inline(always)]
    unsafe fn body<S: Simd>(self) -> Self::Output {
        // SAFETY: the caller's promise.
        unsafe {
            let x = in_lanes::<S, SUB>(self.values);
            let w = match self.weights {
                Some(weights) => in_lanes::<S, SUB>(weights),
                None => squares::<S, SUB>(&x),
            };
            fit_16::<S, SUB>(&x, &w, self.levels)
        }
    }
}

/// Rounding adds and subtracts 1.5 · 2^23, which is [`nearest`] within its range, and products are within the levels and
/// one more. Lanes whose values are tiny run along with a largest magnitude of one, and are overwritten at the end.
#[inline(always)]
unsafe fn fit_16<S: Simd, const SUB: usize>(x: &[S::F; SUB], w: &[S::F; SUB], levels: i32) -> [Fit; LANES] {
    // SAFETY: the caller's promise.
    unsafe {
        let zero = S::splat(0.0);
        let (mut largest, mut magnitude) = (zero, zero);
        for x in x {
            largest = S::select_lt(magnitude, S::abs(*x), *x, largest);
            magnitude = S::max(S::abs(*x), magnitude);
        }
        let tiny = S::splat(TINY);
        let largest = S::select_lt(magnitude, tiny, S::splat(1.0), largest);

        let mut best_inverse = S::div(S::splat(-levels as f32), largest);
        let (sum_xq, sum_qq) = sums_16::<S, SUB>(x, w, best_inverse, levels);
        // A sum that is neither above 0 nor 0 is NaN, and so is the quotient.
        let mut best_scale = S::select_lt(zero, sum_qq, S::div(sum_xq, sum_qq), sum_qq);
        let mut explained = S::mul(best_scale, sum_xq);
        for i in (-AROUND..=AROUND).filter(|i| *i != 0) {
            let inverse_scale = S::div(S::splat(-target(levels, i)), largest);
            let (sum_xq, sum_qq) = sums_16::<S, SUB>(x, w, inverse_scale, levels);
            let scale = S::div(sum_xq, sum_qq);
            // NaN, which is not above anything, where there is nothing to divide by.
            let squared = S::select_lt(zero, sum_qq, S::mul(sum_xq, sum_xq), S::splat(f32::NAN));
            let bound = S::mul(explained, sum_qq);
            best_scale = S::select_lt(bound, squared, scale, best_scale);
            best_inverse = S::select_lt(bound, squared, inverse_scale, best_inverse);
            explained = S::select_lt(bound, squared, S::mul(scale, sum_xq), explained);
        }

        let [scale, inverse_scale, magnitude] = stored::<S, 3>(&[best_scale, best_inverse, magnitude]);
        std::array::from_fn(|i| match magnitude[i] < TINY {
            true => Fit { scale: 0.0, inverse_scale: 0.0, tiny: true },
            false => Fit { scale: scale[i], inverse_scale: inverse_scale[i], tiny: false },
        })
    }
}

/// Σ w x q and Σ w q² of each lane.
#[inline(always)]
unsafe fn sums_16<S: Simd, const SUB: usize>(
    x: &[S::F; SUB],
    w: &[S::F; SUB],
    inverse_scale: S::F,
    levels: i32,
) -> (S::F, S::F) {
    // SAFETY: the caller's promise.
    unsafe {
        let shift = S::splat(SHIFT);
        let (lowest, highest) = (S::splat(-levels as f32), S::splat((levels - 1) as f32));
        let (mut sum_xq, mut sum_qq) = (S::splat(0.0), S::splat(0.0));
        for (x, w) in x.iter().zip(w) {
            let rounded = S::sub(S::add(S::mul(inverse_scale, *x), shift), shift);
            let q = S::min(S::max(rounded, lowest), highest);
            sum_xq = S::add(sum_xq, S::mul(S::mul(*w, *x), q));
            sum_qq = S::add(sum_qq, S::mul(S::mul(*w, q), q));
        }
        (sum_xq, sum_qq)
    }
}

/// Encodes blocks of 32 values with one scale, sixteen at a time; `write` gets the block's scale and integers.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(super) unsafe fn encode_32<S: Simd, const BYTES: usize>(
    values: &[f32],
    weights: &[f32],
    blocks: &mut [u8],
    levels: i32,
    write: impl Fn([u8; 2], &[u8; 32], &mut [u8; BYTES]),
) {
    const BATCH: usize = 32 * LANES;
    let blocks = blocks.as_chunks_mut::<BYTES>().0.chunks_mut(LANES);
    for ((x, w), blocks) in values.chunks(BATCH).zip(weights.chunks(BATCH)).zip(blocks) {
        // SAFETY: the caller's promise.
        let fits = unsafe { S::run(Fits::<32> { values: x, weights: Some(w), levels }) };
        for ((x, fit), block) in x.as_chunks::<32>().0.iter().zip(fits).zip(blocks) {
            write(half(fit.scale), &fit.searched(x, levels), block);
        }
    }
}

/// Encodes blocks of Q3_K, sixteen at a time: the scales of a block are integers that the same search chooses. `pack` gets
/// f16 `d`, these, and the integers, each 4 more than what it stands for.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(super) unsafe fn encode_blocks<S: Simd, const BYTES: usize>(
    values: &[f32],
    weights: &[f32],
    blocks: &mut [u8],
    pack: impl Fn(([u8; 2], [i8; LANES], [u8; 256]), &mut [u8; BYTES]),
) {
    const SCALES: i32 = 32;
    let (blocks, _) = blocks.as_chunks_mut::<BYTES>();
    let (values, weights) = (values.as_chunks::<256>().0.chunks(LANES), weights.as_chunks::<256>().0.chunks(LANES));
    for ((values, weights), blocks) in values.zip(weights).zip(blocks.chunks_mut(LANES)) {
        let mut fits = [[Fit::default(); LANES]; LANES];
        let (mut scales, mut sum_w) = ([[0.0; LANES]; LANES], [[0.0; LANES]; LANES]);
        for (block, (x, w)) in values.iter().zip(weights).enumerate() {
            // SAFETY: the caller's promise.
            fits[block] = unsafe { S::run(Fits::<16> { values: x, weights: Some(w), levels: LEVELS }) };
            scales[block] = fits[block].map(|fit| fit.scale);
            sum_w[block] = sums::<16, LANES>(w);
        }
        let common = Fits::<16> { values: scales.as_flattened(), weights: Some(sum_w.as_flattened()), levels: SCALES };
        // SAFETY: the caller's promise.
        let common = unsafe { S::run(common) };
        for (i, (x, block)) in values.iter().zip(blocks).enumerate() {
            let d = half(checked(common[i].scale, &sum_w[i]));
            let scales = common[i].searched(&scales[i], SCALES).map(|scale| scale as i8 - SCALES as i8);
            let q = integers(x, d, &scales, LEVELS, |sub, x| fits[i][sub].searched(x, LEVELS));
            pack((d, scales, q), block);
        }
    }
}

/// f16 `d` and the scales of a block of Q6_K, and its integers, each 32 more than what it stands for. `None` if all of it
/// is tiny: then every byte of the block is 0.
///
/// Where squares overflowed in a search, `d` is NaN: the reference would store a scale of 0 for such a sub-block, and
/// nobody would know.
#[inline(always)]
pub(super) fn finish(x: &[f32; 256], fits: &[Fit; LANES]) -> Option<([u8; 2], [i8; LANES], [u8; 256])> {
    let (mut largest, mut magnitude) = (0.0, 0.0);
    for fit in fits {
        if fit.scale.abs() > magnitude {
            (largest, magnitude) = (fit.scale, fit.scale.abs());
        }
    }
    let overflowed = fits.iter().any(|f| f.scale.is_nan());
    if magnitude < TINY && !overflowed {
        return None;
    }
    let inverse = -128.0 / largest;
    let d = half(if overflowed { f32::NAN } else { 1.0 / inverse });
    let scales = fits.map(|f| nearest(inverse * f.scale).min(127) as i8);
    let q = integers(x, d, &scales, 32, |i, x| fits[i].searched(x, 32));
    Some((d, scales, q))
}

/// The integers of a block, each `levels` more than what it stands for, for the scales that are stored. Where one of
/// those is 0, its integers stay those of the search.
#[inline(always)]
pub(super) fn integers(
    x: &[f32; 256],
    d: [u8; 2],
    scales: &[i8; LANES],
    levels: i32,
    searched: impl Fn(usize, &[f32; 16]) -> [u8; 16],
) -> [u8; 256] {
    let mut q = [0; 256];
    for (sub, (q, x)) in q.as_chunks_mut::<16>().0.iter_mut().zip(x.as_chunks::<16>().0).enumerate() {
        let scale = super::f16_at(&d, 0) * f32::from(scales[sub]);
        *q = if scale == 0.0 { searched(sub, x) } else { x.map(|v| clamp(nearest(v / scale), levels)) };
    }
    q
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::encode::samples;
    use crate::simd::Tier;

    fn check<const SUB: usize, const BATCH: usize>(levels: i32) {
        let bits = |f: Fit| (f.scale.to_bits(), f.inverse_scale.to_bits(), f.tiny);
        for (round, (values, weights)) in samples::<SUB, BATCH>().enumerate() {
            let subs = values.as_chunks::<SUB>().0.iter().zip(weights.as_chunks::<SUB>().0);
            let expected: Vec<_> = subs.map(|(x, w)| bits(fit(x, w, levels))).collect();
            for tier in Tier::all_available() {
                let fits = Fits::<SUB> { values: &values, weights: Some(&weights), levels };
                // SAFETY: the tier is available.
                let found = unsafe { tier.run(fits) }.map(bits);
                assert_eq!(found[..], expected[..], "{} in round {round}", tier.name());
            }
        }
    }

    #[test]
    fn lanes_give_the_bits_of_the_plain_version() {
        check::<16, 256>(32);
        check::<16, 256>(4);
        check::<32, 512>(16);
        check::<32, 512>(8);
    }
}
