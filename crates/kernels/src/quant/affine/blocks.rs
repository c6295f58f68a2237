//! Blocks of 256 values, whose sub-blocks' scales and offsets are integers with a common scale each.

use super::lanes::Fits;
use super::{Fit, Search};
use crate::quant::encode::{half, nearest};
use crate::quant::weights::{checked, sums};
use crate::quant::{f16_at, nonnegative, q4_k};
use crate::simd::{LANES, Simd};

/// The scales and offsets of the N sub-blocks of a block, as integers.
#[derive(Clone, Copy)]
pub(in super::super) struct Scales<const N: usize> {
    pub d: [u8; 2],
    pub dmin: [u8; 2],
    /// The lowest bytes of integers: one can be negative where rounding spoilt a fit.
    pub scales: [u8; N],
    pub offsets: [u8; N],
}

impl<const N: usize> Scales<N> {
    /// The largest one becomes `top`.
    #[inline(always)]
    fn by_largest(fits: &[Fit; N], top: u8) -> Self {
        let top = f32::from(top);
        let largest = |of: fn(&Fit) -> f32| fits.iter().map(of).fold(0.0, |m, v| if v > m { v } else { m });
        let (max_scale, max_offset) = (largest(|f| f.scale), largest(|f| f.offset));
        let inverse = |max: f32| if max > 0.0 { top / max } else { 0.0 };
        let (inverse_scale, inverse_offset) = (inverse(max_scale), inverse(max_offset));
        Self {
            d: half(max_scale / top),
            dmin: half(max_offset / top),
            scales: fits.map(|f| nearest(inverse_scale * f.scale) as u8),
            offsets: fits.map(|f| nearest(inverse_offset * f.offset) as u8),
        }
    }

    /// Those of up to sixteen blocks with the least weighted error.
    ///
    /// # Safety
    /// As [`Simd`].
    #[inline(always)]
    unsafe fn by_weight<S: Simd, const SUB: usize>(
        fits: &[[Fit; N]; LANES],
        weights: &[[f32; 256]],
        top: u8,
    ) -> [Self; LANES] {
        let mut w = [[0.0; LANES]; N];
        for (lane, weights) in weights.iter().enumerate() {
            for (row, sum) in w.iter_mut().zip(sums::<SUB, N>(weights)) {
                row[lane] = sum;
            }
        }
        let rows = |of: fn(&Fit) -> f32| std::array::from_fn(|i| std::array::from_fn(|lane| of(&fits[lane][i])));
        // SAFETY: the caller's promise.
        let (scales, offsets) = unsafe {
            (
                S::run(nonnegative::Fits { numbers: &rows(|f| f.scale), weights: &w, top }),
                S::run(nonnegative::Fits { numbers: &rows(|f| f.offset), weights: &w, top }),
            )
        };
        std::array::from_fn(|lane| Self {
            d: half(checked(scales[lane].scale, &w.map(|row| row[lane]))),
            dmin: half(offsets[lane].scale),
            scales: scales[lane].q,
            offsets: offsets[lane].q,
        })
    }
}

/// Encodes blocks of 256 values, sixteen at a time; their scales are integers up to `top`. `header` writes a block's scales
/// and offsets and says what they are then, `write` its integers.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(in super::super) unsafe fn encode_blocks<S: Simd, const SUB: usize, const N: usize, const BYTES: usize>(
    values: &[f32],
    weights: Option<&[f32]>,
    blocks: &mut [u8],
    (search, top): (Search, u8),
    header: impl Fn(&Scales<N>, &mut [u8; BYTES]) -> ([u8; N], [u8; N]),
    write: impl Fn(&[u8; 256], &mut [u8; BYTES]),
) {
    let (values, _) = values.as_chunks::<256>();
    let (blocks, _) = blocks.as_chunks_mut::<BYTES>();
    for (batch, (values, blocks)) in values.chunks(LANES).zip(blocks.chunks_mut(LANES)).enumerate() {
        let weights = weights.map(|weights| &weights.as_chunks::<256>().0[batch * LANES..][..values.len()]);
        let mut fits = [[Fit::default(); N]; LANES];
        let flat_weights = weights.map(|weights| weights.as_flattened());
        let flat = values.as_flattened();
        for (i, fits) in fits.as_flattened_mut().as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let start = i * LANES * SUB;
            if start >= flat.len() {
                break;
            }
            let part = start..flat.len().min(start + LANES * SUB);
            let weights = flat_weights.map(|weights| &weights[part.clone()]);
            // SAFETY: the caller's promise.
            *fits = unsafe { S::run(Fits::<SUB> { values: &flat[part], weights, search }) };
        }
        let scales = match weights {
            // SAFETY: the caller's promise.
            Some(weights) => unsafe { Scales::by_weight::<S, SUB>(&fits, weights, top) },
            None => fits.map(|fits| Scales::by_largest(&fits, top)),
        };
        for (((x, fits), scales), block) in values.iter().zip(&fits).zip(&scales).zip(blocks) {
            let stored = header(scales, block);
            write(&integers::<SUB, N>(x, fits, scales, stored, search), block);
        }
    }
}

/// The integers of a block for the scales and offsets that are stored. Where such a scale is 0, they stay those of the
/// search.
#[inline(always)]
fn integers<const SUB: usize, const N: usize>(
    x: &[f32; 256],
    fits: &[Fit; N],
    common: &Scales<N>,
    (scales, offsets): ([u8; N], [u8; N]),
    search: Search,
) -> [u8; 256] {
    let (d, dmin) = (f16_at(&common.d, 0), f16_at(&common.dmin, 0));
    let mut q = [0; 256];
    for (i, (q, x)) in q.as_chunks_mut::<SUB>().0.iter_mut().zip(x.as_chunks::<SUB>().0).enumerate() {
        let scale = d * f32::from(scales[i]);
        let offset = dmin * f32::from(offsets[i]);
        *q = if scale == 0.0 {
            fits[i].searched(x, search)
        } else {
            x.map(|v| search.clamp(nearest((v + offset) / scale)))
        };
    }
    q
}

/// Writes what blocks of Q4_K and Q5_K begin with: f16 `d`, f16 `dmin`, the 6-bit scales and offsets.
#[inline(always)]
pub(in super::super) fn encode_header(of: &Scales<8>, limit: u8, block: &mut [u8]) -> ([u8; 8], [u8; 8]) {
    let (scales, offsets) = (of.scales.map(|v| v.min(limit)), of.offsets.map(|v| v.min(limit)));
    block[..2].copy_from_slice(&of.d);
    block[2..4].copy_from_slice(&of.dmin);
    for i in 0..4 {
        block[4 + i] = scales[i] | scales[i + 4] >> 4 << 6;
        block[8 + i] = offsets[i] | offsets[i + 4] >> 4 << 6;
        block[12 + i] = scales[i + 4] & 15 | (offsets[i + 4] & 15) << 4;
    }
    q4_k::scales_and_mins(block[4..].first_chunk().expect("12 bytes of scales"))
}
