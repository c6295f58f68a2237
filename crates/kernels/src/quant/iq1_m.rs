//! IQ1_M: 256 values in groups of eight. Block: 32 bytes that name entries of a codebook of 2048; 16 bytes, for each two
//! entries their upper three bits and whether an eighth is taken off, not added, in nibbles; four times 16 bits, each with
//! four scales of three bits, of 16 values each, and a nibble of f16 `d` in the upper four.

use super::encode::{half, nearest};
use super::grid::{self, Grid, IQ1_GRID, IQ1_VALUES, entry, put_eight, u16_at};
use super::splits::{self, LESS, MORE, Sums};
use super::weights::{self, EncodeUnweighted, EncodeWeighted, MeanSquare, encode_unweighted, encode_weighted};
use super::{QuantType, planes};
use crate::simd::{LANES, Simd};

pub(super) static TYPE: QuantType = QuantType {
    encode: Some(encode_unweighted::<Iq1M>),
    encode_weighted: Some(encode_weighted::<Iq1M>),
    ..grid::quant_type::<Iq1M>("IQ1_M", 29)
};

struct Iq1M;

impl Grid for Iq1M {
    const BYTES: usize = 56;
    const VALUES: [i8; 16] = IQ1_VALUES;
    const UNIT: f32 = 0.125;
    const HALVES: bool = true;
    type Places = planes::Three;

    fn d(block: &[u8]) -> [u8; 2] {
        let d = (0..4).fold(0, |d, i| d | u16_at(block, 48 + 2 * i) >> 12 << (4 * i));
        (d as u16).to_le_bytes()
    }

    #[inline(always)]
    fn scales(block: &[u8], sub: usize) -> [u8; 2] {
        let four = u16_at(block, 48 + sub / 2 * 2) >> (sub % 2 * 6);
        [(four & 7) as u8, (four >> 3 & 7) as u8]
    }

    #[inline(always)]
    fn places(block: &[u8], sub: usize) -> [u8; 32] {
        let mut places = [0; 32];
        for (i, places) in places.as_chunks_mut().0.iter_mut().enumerate() {
            let high = usize::from(block[32 + 2 * sub + i / 2]) >> (4 * (i % 2));
            let less = if high >> 3 & 1 == 1 { 0xFF } else { 0 };
            let at = usize::from(block[4 * sub + i]) | (high & 7) << 8;
            put_eight(entry(IQ1_GRID, at), less, places);
        }
        places
    }
}

/// Values that share a scale.
const SUB: usize = 16;
/// Sub-blocks of smaller values become 0.
const TINY: f32 = 1e-7;
/// What the block's scale is multiplied with, which lowers the error.
const CORRECTION: f32 = 1.1125;

impl EncodeUnweighted for Iq1M {
    fn weights(x: &[f32; 256]) -> [f32; 256] {
        weights::squares(x)
    }
}

impl EncodeWeighted for Iq1M {
    const BLOCK: usize = 256;
    const MEAN_SQUARE: MeanSquare = MeanSquare::TwiceBlock;

    #[inline(always)]
    unsafe fn encode_weighted<S: Simd>(values: &[f32], weights: &[f32], blocks: &mut [u8]) {
        let values = values.as_chunks().0.iter().zip(weights.as_chunks().0);
        for ((x, w), block) in values.zip(blocks.chunks_exact_mut(Self::BYTES)) {
            // SAFETY: the caller's promise.
            unsafe { encode_block::<S>(x, w, block) }
        }
    }
}

/// What the places of a half stand for, by the signs of both.
fn half_values(sign: usize, half: usize) -> &'static [f32; 3] {
    if sign >> (1 - half) & 1 == 0 { &MORE } else { &LESS }
}

#[inline(always)]
unsafe fn encode_block<S: Simd>(x: &[f32; 256], w: &[f32; 256], block: &mut [u8]) {
    block.fill(0);
    let subs = || x.as_chunks::<SUB>().0.iter().zip(w.as_chunks::<SUB>().0);
    let mut orders = [[0; SUB]; LANES];
    let mut halves: [Sums<17>; 2] = [[[[0.0; LANES]; 17]; 2]; 2];
    for (lane, (x, w)) in subs().enumerate() {
        orders[lane] = splits::ascending(x);
        for (i, at) in orders[lane].iter().map(|at| usize::from(*at)).enumerate() {
            for [sums_x, sums_w] in &mut halves {
                sums_x[i + 1][lane] = sums_x[i][lane];
                sums_w[i + 1][lane] = sums_w[i][lane];
            }
            let [sums_x, sums_w] = &mut halves[at / 8];
            sums_x[i + 1][lane] += w[at] * x[at];
            sums_w[i + 1][lane] += w[at];
        }
    }
    // SAFETY: the caller's promise.
    let splits = unsafe { splits::two_signs::<S>(&halves) };

    let mut scales = [0.0; LANES];
    let (mut entries, mut signs) = ([[0; 2]; LANES], [0; LANES]);
    let mut largest = 0.0;
    for (sub, (x, w)) in subs().enumerate() {
        let Some(mut split) = splits[sub].filter(|_| x.iter().any(|v| v.abs() >= TINY)) else { continue };
        let mut places = split.places(&orders[sub]);
        if split.scale < 0.0 {
            places = places.map(|place| 2 - place);
            (split.scale, split.sign) = (-split.scale, 3 - split.sign);
        }
        let (mut all_same, mut sums) = (true, [0.0; 2]);
        let groups = x.as_chunks::<8>().0.iter().zip(w.as_chunks::<8>().0);
        for (k, ((x, w), places)) in groups.zip(places.as_chunks::<8>().0).enumerate() {
            let q = half_values(split.sign, k);
            // SAFETY: the caller's promise.
            let (entry, same) = unsafe { splits::entry_of::<S>(places, x, w, split.scale, q) };
            all_same &= same;
            splits::add_sums(entry, 1.0, x, w, q, &mut sums);
            entries[sub][k] = entry;
        }
        if !all_same && sums[0] > 0.0 && sums[1] > 0.0 {
            split.scale = sums[0] / sums[1];
        }
        for (k, entry) in entries[sub].iter().enumerate() {
            block[2 * sub + k] = (entry & 255) as u8;
            block[32 + sub] |= ((entry >> 8) as u8) << (4 * k);
        }
        (scales[sub], signs[sub]) = (split.scale, split.sign);
        largest = if largest > split.scale { largest } else { split.scale };
    }
    // Squares that overflowed would be a wrong scale, and nobody would know.
    let d = if scales.iter().any(|s| s.is_nan()) || !w.iter().all(|w| w.is_finite()) {
        f32::NAN
    } else if largest > 0.0 {
        let (mut d, mut sums) = (largest / 15.0, [0.0; 2]);
        let inverse = 1.0 / d;
        for (sub, (x, w)) in subs().enumerate() {
            let scale = nearest(0.5 * (inverse * scales[sub] - 1.0)).clamp(0, 7) as u16;
            put(block, sub / 4, scale << (3 * (sub % 4)));
            let groups = x.as_chunks::<8>().0.iter().zip(w.as_chunks::<8>().0);
            for (k, (x, w)) in groups.enumerate() {
                let q = half_values(signs[sub], k);
                block[32 + sub] |= u8::from(q == &LESS) << (4 * k + 3);
                splits::add_sums(entries[sub][k], f32::from(2 * scale + 1), x, w, q, &mut sums);
            }
        }
        if sums[1] > 0.0 {
            d = sums[0] / sums[1];
        }
        d * CORRECTION
    } else {
        0.0
    };
    let d = u16::from_le_bytes(half(d));
    for i in 0..4 {
        put(block, i, d >> (4 * i) << 12);
    }
}

/// Sets bits of the four times 16 bits of scales.
#[inline(always)]
fn put(block: &mut [u8], i: usize, bits: u16) {
    let at = 48 + 2 * i;
    block[at] |= bits as u8;
    block[at + 1] |= (bits >> 8) as u8;
}
