//! IQ1_S: 256 values in groups of eight. Block: f16 `d`, 32 bytes that name entries of a codebook of 2048, and for each 32
//! values 16 bits: the upper three bits of four entries, a scale of three bits, and whether an eighth is taken off, not added.

use super::encode::{half, nearest};
use super::grid::{self, Grid, IQ1_GRID, IQ1_VALUES, entry, put_eight, u16_at};
use super::splits::{self, LESS, MORE, Split, Sums};
use super::weights::{EncodeWeighted, MeanSquare, encode_weighted};
use super::{QuantType, planes};
use crate::simd::{LANES, Simd};

pub(super) static TYPE: QuantType =
    QuantType { encode_weighted: Some(encode_weighted::<Iq1S>), ..grid::quant_type::<Iq1S>("IQ1_S", 19) };

struct Iq1S;

impl Grid for Iq1S {
    const BYTES: usize = 50;
    const VALUES: [i8; 16] = IQ1_VALUES;
    const UNIT: f32 = 0.125;
    const HALVES: bool = false;
    type Places = planes::Three;

    #[inline(always)]
    fn scales(block: &[u8], sub: usize) -> [u8; 2] {
        [(u16_at(block, 34 + 2 * sub) >> 12 & 7) as u8; 2]
    }

    #[inline(always)]
    fn places(block: &[u8], sub: usize) -> [u8; 32] {
        let high = u16_at(block, 34 + 2 * sub);
        let less = if high >> 15 == 1 { 0xFF } else { 0 };
        let mut places = [0; 32];
        for (i, places) in places.as_chunks_mut().0.iter_mut().enumerate() {
            let at = usize::from(block[2 + 4 * sub + i]) | (high >> (3 * i) & 7) << 8;
            put_eight(entry(IQ1_GRID, at), less, places);
        }
        places
    }
}

/// Values that share a scale.
const SUB: usize = 32;
/// Sub-blocks of smaller values become 0.
const TINY: f32 = 1e-12;
/// What the block's scale is multiplied with, which lowers the error.
const CORRECTION: f32 = 1.125;

impl EncodeWeighted for Iq1S {
    const BLOCK: usize = 256;
    const MEAN_SQUARE: MeanSquare = MeanSquare::TwiceBlock;

    #[inline(always)]
    unsafe fn encode_weighted<S: Simd>(values: &[f32], weights: &[f32], blocks: &mut [u8]) {
        // Two blocks fill the lanes.
        let parts = values.chunks(512).zip(weights.chunks(512));
        for ((values, weights), blocks) in parts.zip(blocks.chunks_mut(2 * Self::BYTES)) {
            let (subs, _) = values.as_chunks::<SUB>();
            let (weights, _) = weights.as_chunks::<SUB>();
            let mut orders = [[0; SUB]; LANES];
            let mut sums: Sums<33> = [[[0.0; LANES]; 33]; 2];
            for (lane, (x, w)) in subs.iter().zip(weights).enumerate() {
                orders[lane] = splits::ascending(x);
                for (i, at) in orders[lane].iter().map(|at| usize::from(*at)).enumerate() {
                    sums[0][i + 1][lane] = sums[0][i][lane] + w[at] * x[at];
                    sums[1][i + 1][lane] = sums[1][i][lane] + w[at];
                }
            }
            // SAFETY: the caller's promise.
            let splits = unsafe { splits::one_sign::<S>(&sums) };
            for (i, block) in blocks.chunks_exact_mut(Self::BYTES).enumerate() {
                let here = 8 * i..8 * (i + 1);
                let (subs, weights) = (&subs[here.clone()], &weights[here.clone()]);
                // SAFETY: the caller's promise.
                unsafe { finish::<S>(subs, weights, &orders[here.clone()], &splits[here], block) }
            }
        }
    }
}

/// Writes a block of eight sub-blocks.
#[inline(always)]
unsafe fn finish<S: Simd>(
    subs: &[[f32; SUB]],
    weights: &[[f32; SUB]],
    orders: &[[u8; SUB]],
    splits: &[Option<Split>],
    block: &mut [u8],
) {
    block.fill(0);
    let (mut scales, mut less) = ([0.0; 8], [false; 8]);
    let mut largest = 0.0;
    for (sub, (x, w)) in subs.iter().zip(weights).enumerate() {
        let Some(mut split) = splits[sub].filter(|_| x.iter().any(|v| v.abs() >= TINY)) else { continue };
        let mut places = split.places(&orders[sub]);
        if split.scale < 0.0 {
            places = places.map(|place| 2 - place);
            (split.scale, split.sign) = (-split.scale, 1 - split.sign);
        }
        let q = if split.sign == 0 { &MORE } else { &LESS };
        let mut all_same = true;
        let (mut sums, mut high) = ([0.0; 2], 0);
        let groups = x.as_chunks::<8>().0.iter().zip(w.as_chunks::<8>().0);
        for (k, ((x, w), places)) in groups.zip(places.as_chunks::<8>().0).enumerate() {
            // SAFETY: the caller's promise.
            let (entry, same) = unsafe { splits::entry_of::<S>(places, x, w, split.scale, q) };
            all_same &= same;
            splits::add_sums(entry, 1.0, x, w, q, &mut sums);
            block[2 + 4 * sub + k] = (entry & 255) as u8;
            high |= entry >> 8 << (3 * k);
        }
        if !all_same && sums[0] > 0.0 && sums[1] > 0.0 {
            split.scale = sums[0] / sums[1];
        }
        block[34 + 2 * sub..][..2].copy_from_slice(&high.to_le_bytes());
        (scales[sub], less[sub]) = (split.scale, split.sign == 1);
        largest = if largest > split.scale { largest } else { split.scale };
    }
    // Squares that overflowed would be a wrong scale, and nobody would know.
    if scales.iter().any(|s| s.is_nan()) || !weights.as_flattened().iter().all(|w| w.is_finite()) {
        block[..2].copy_from_slice(&half(f32::NAN));
    } else if largest > 0.0 {
        let d = largest / 15.0;
        block[..2].copy_from_slice(&half(d * CORRECTION));
        let inverse = 1.0 / d;
        for sub in 0..8 {
            let scale = nearest(0.5 * (inverse * scales[sub] - 1.0)).clamp(0, 7) as u8;
            block[35 + 2 * sub] |= scale << 4 | u8::from(less[sub]) << 7;
        }
    }
}
