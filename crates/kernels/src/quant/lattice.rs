//! How the IQ2 and IQ3 types choose entries of a codebook: `x ≈ ±scale * (2 place + 1)`.
//!
//! Signs are split off first. Where a type stores seven signs for eight values, so that an even number of them is negative,
//! the value whose wrong sign costs least gets it. Then scales around the one that takes the largest value to the largest
//! place are tried: each value goes to its nearest place, each group of values to the entry with these places or to the
//! best of its neighbours, and the least-squares scale of what came out explains a part of the squares. The scale that
//! explains the largest part wins. Last, groups that no entry fitted are looked up again with that scale.
//!
//! The steps of the search run side by side, in arrays of [`STEPS`]: what a step does with one value, all do.

use super::encode::{half, nearest};
use super::grid::Grid;
use super::neighbours::{Group, Neighbours};
use super::nonnegative;
use crate::simd::Simd;

/// The most scales that are tried.
const STEPS: usize = 32;

/// Which groups are looked up again with the scale that was found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// All.
    All,
    /// All, if any of them was not an entry.
    AllIfAny,
    /// Those that were not an entry.
    Others,
}

/// A type whose groups of G values are entries of a codebook with signs, and whose SUB values share a scale.
pub(super) trait Lattice<const G: usize, const SUB: usize>: Grid {
    /// Whether seven signs stand for eight values.
    const SEVEN_SIGNS: bool;
    /// Sub-blocks whose largest value is below this become 0.
    const TINY: f32;
    /// Scales that are tried before and after the middle one, and how far they are apart.
    const AROUND: i32;
    const APART: f32;
    /// Whether the middle one comes from a search without the codebook.
    const SEARCHED: bool;
    const AGAIN: Again;
    /// What the block's scale is multiplied with, which lowers the error.
    const CORRECTION: f32;
    /// Whether a block with no scale but 0 loses its entries and signs.
    const EMPTIED: bool;

    fn neighbours() -> &'static Neighbours<G>;

    /// Writes entries and signs of sub-block `sub` to a block of zeros.
    fn put(block: &mut [u8], sub: usize, fit: &Fit);

    /// Writes the scale of sub-block `sub`, below 16, likewise.
    fn put_scale(block: &mut [u8], sub: usize, scale: u8);
}

/// The outcome for a sub-block.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fit {
    scale: f32,
    /// Of each group.
    pub entries: [u16; 8],
    /// Of each eight values, a bit for each.
    pub signs: [u8; 4],
}

/// Encodes whole blocks by weights.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(super) unsafe fn encode_weighted<S: Simd, T: Lattice<G, SUB>, const G: usize, const SUB: usize>(
    values: &[f32],
    weights: &[f32],
    blocks: &mut [u8],
) {
    let (values, weights) = (values.as_chunks::<256>().0, weights.as_chunks::<256>().0);
    for ((x, w), block) in values.iter().zip(weights).zip(blocks.chunks_exact_mut(T::BYTES)) {
        // SAFETY: the caller's promise.
        unsafe { encode_block::<S, T, G, SUB>(x, w, block) }
    }
}

#[inline(always)]
unsafe fn encode_block<S: Simd, T: Lattice<G, SUB>, const G: usize, const SUB: usize>(
    x: &[f32; 256],
    w: &[f32; 256],
    block: &mut [u8],
) {
    block.fill(0);
    let mut scales = [0.0; 16];
    let mut largest = 0.0;
    for (sub, (x, w)) in x.as_chunks::<SUB>().0.iter().zip(w.as_chunks::<SUB>().0).enumerate() {
        let (x, signs) = split_signs(x, w, T::SEVEN_SIGNS);
        // SAFETY: the caller's promise.
        let mut fit = unsafe { fit::<S, T, G, SUB>(&x, w) };
        let Some(fit) = &mut fit else { continue };
        fit.signs = signs;
        if fit.scale < 0.0 {
            fit.scale = -fit.scale;
            fit.signs = fit.signs.map(|s| !s);
        }
        if T::SEVEN_SIGNS {
            fit.signs = fit.signs.map(|s| s & 127);
        }
        T::put(block, sub, fit);
        scales[sub] = fit.scale;
        largest = if largest > fit.scale { largest } else { fit.scale };
    }
    // Squares that overflowed would be a wrong scale, and nobody would know.
    if scales.iter().any(|s| s.is_nan()) || !w.iter().all(|w| w.is_finite()) {
        block[..2].copy_from_slice(&half(f32::NAN));
    } else if largest > 0.0 {
        let d = largest / 31.0;
        block[..2].copy_from_slice(&half(d * T::CORRECTION));
        let inverse = 1.0 / d;
        for (sub, scale) in scales[..256 / SUB].iter().enumerate() {
            T::put_scale(block, sub, nearest(0.5 * (inverse * scale - 1.0)).clamp(0, 15) as u8);
        }
    } else if T::EMPTIED {
        block.fill(0);
    }
}

/// Magnitudes, and the signs of each eight values. With seven signs the number of negative ones is even, and one magnitude
/// may be negative.
#[inline(always)]
fn split_signs<const SUB: usize>(x: &[f32; SUB], w: &[f32; SUB], seven: bool) -> ([f32; SUB], [u8; 4]) {
    let mut magnitudes = *x;
    let mut signs = [0; 4];
    for (k, x) in magnitudes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let mut negative = 0;
        for (i, x) in x.iter_mut().enumerate() {
            negative |= u8::from(*x < 0.0) << i;
            *x = if *x < 0.0 { -*x } else { *x };
        }
        if seven && negative.count_ones() % 2 == 1 {
            let cost = |i: usize| w[8 * k + i] * x[i] * x[i];
            let (mut cheapest, mut least) = (0, cost(0));
            for i in 1..8 {
                if cost(i) < least {
                    (cheapest, least) = (i, cost(i));
                }
            }
            x[cheapest] = -x[cheapest];
            negative ^= 1 << cheapest;
        }
        signs[k] = negative;
    }
    (magnitudes, signs)
}

/// The place of a value at an inverse scale.
#[inline(always)]
fn place<const G: usize>(inverse: f32, x: f32) -> i32 {
    nearest(0.5 * (inverse * x - 1.0)).clamp(0, Neighbours::<G>::LEVELS as i32 - 1)
}

/// Scale and entries of a sub-block's magnitudes; none if all are tiny.
#[inline(always)]
unsafe fn fit<S: Simd, T: Lattice<G, SUB>, const G: usize, const SUB: usize>(
    x: &[f32; SUB],
    w: &[f32; SUB],
) -> Option<Fit> {
    let largest = x.iter().fold(x[0], |m, v| if m > *v { m } else { *v });
    if largest < T::TINY {
        return None;
    }
    let codebook = T::neighbours();
    let levels = Neighbours::<G>::LEVELS as i32;
    let highest = (2 * levels - 1) as f32;
    let (mut scale, largest) = if T::SEARCHED {
        let scale = nonnegative::fit(x, w, levels as u8 + 1).scale;
        (scale, scale * levels as f32)
    } else {
        (largest / highest, largest)
    };
    if largest <= 0.0 {
        return None;
    }

    let tried = (2 * T::AROUND + 1) as usize;
    let inverse: [f32; STEPS] = std::array::from_fn(|step| {
        let step = (step as i32).min(2 * T::AROUND) - T::AROUND;
        (highest + step as f32 * T::APART) / largest
    });
    let roots = w.map(f32::sqrt);
    let (mut entries, mut others) = ([[0; STEPS]; 8], [0u8; STEPS]);
    // Σ w x q and Σ w q².
    let (mut sum_xq, mut sum_qq) = ([0.0; STEPS], [0.0; STEPS]);
    let groups = x.as_chunks::<G>().0.iter().zip(w.as_chunks::<G>().0);
    for (k, ((x, w), roots)) in groups.zip(roots.as_chunks::<G>().0).enumerate() {
        let mut points = [0i32; STEPS];
        for x in x.iter().rev() {
            for (point, inverse) in points.iter_mut().zip(&inverse) {
                *point = *point * levels + place::<G>(*inverse, *x);
            }
        }
        let mut codes = [0i32; STEPS];
        // SAFETY: the caller's promise.
        unsafe {
            let group = Group::<S, G>::new(x, roots);
            for step in 0..tried {
                let point = points[step] as usize;
                let (entry, same) = codebook.entry::<S, false>(point, &group, 1.0 / inverse[step], 0.0);
                entries[k][step] = entry;
                codes[step] = codebook.code(entry).into();
                others[step] |= u8::from(!same) << k;
            }
        }
        for (i, (x, w)) in x.iter().zip(w).enumerate() {
            let shift = Neighbours::<G>::BITS * i;
            for ((code, sum_xq), sum_qq) in codes.iter().zip(&mut sum_xq).zip(&mut sum_qq) {
                let q = odd::<G>(*code, shift);
                *sum_xq += w * x * q;
                *sum_qq += w * q * q;
            }
        }
    }

    let mut explained = 0.0;
    // Without any step that explains something, all places are 0.
    let mut fit = Fit::default();
    let mut other = if T::AGAIN == Again::AllIfAny { u8::MAX } else { 0 };
    for step in 0..tried {
        if sum_qq[step] > 0.0 && sum_xq[step] * sum_xq[step] > explained * sum_qq[step] {
            scale = sum_xq[step] / sum_qq[step];
            explained = scale * sum_xq[step];
            fit.entries = std::array::from_fn(|k| entries[k][step]);
            other = others[step];
        }
    }
    let again = match T::AGAIN {
        Again::All => u8::MAX,
        Again::AllIfAny if other != 0 => u8::MAX,
        Again::AllIfAny | Again::Others => other,
    };
    if again != 0 && scale > 0.0 {
        let inverse = 1.0 / scale;
        let (mut sum_xq, mut sum_qq) = (0.0, 0.0);
        let groups = x.as_chunks::<G>().0.iter().zip(w.as_chunks::<G>().0);
        for (k, ((x, w), roots)) in groups.zip(roots.as_chunks::<G>().0).enumerate() {
            if again >> k & 1 == 1 {
                let point = Neighbours::<G>::point(x.map(|x| place::<G>(inverse, x) as usize));
                // SAFETY: the caller's promise.
                fit.entries[k] =
                    unsafe { codebook.entry::<S, false>(point, &Group::<S, G>::new(x, roots), scale, 0.0).0 };
            }
            let code = codebook.code(fit.entries[k]).into();
            for (i, (x, w)) in x.iter().zip(w).enumerate() {
                let q = odd::<G>(code, Neighbours::<G>::BITS * i);
                sum_xq += w * x * q;
                sum_qq += w * q * q;
            }
        }
        if sum_qq > 0.0 {
            scale = sum_xq / sum_qq;
        }
    }
    fit.scale = scale;
    Some(fit)
}

/// `2 place + 1` of the place at bit `shift` of a code.
#[inline(always)]
fn odd<const G: usize>(code: i32, shift: usize) -> f32 {
    (2 * (code >> shift & ((1 << Neighbours::<G>::BITS) - 1)) + 1) as f32
}
