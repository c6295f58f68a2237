//! IQ3_S: 256 values in groups of four. Block: f16 `d`, 64 bytes that name entries of a codebook of 512, 8 bytes with the
//! upper bit of eight entries each, 32 bytes of signs, 4 bytes with the scales of 32 values in nibbles.

use std::sync::LazyLock;

use super::grid::{self, Grid, entry, put_four};
use super::lattice::{self, Again, Fit, Lattice};
use super::neighbours::Neighbours;
use super::weights::{self, EncodeUnweighted, EncodeWeighted, MeanSquare, encode_unweighted, encode_weighted};
use super::{QuantType, planes};
use crate::simd::Simd;

pub(super) static TYPE: QuantType = QuantType {
    encode: Some(encode_unweighted::<Iq3S>),
    encode_weighted: Some(encode_weighted::<Iq3S>),
    ..grid::quant_type::<Iq3S>("IQ3_S", 21)
};

static GRID: &[u8; 1024] = include_bytes!("grids/iq3_s.bin");

struct Iq3S;

impl Grid for Iq3S {
    const BYTES: usize = 110;
    const VALUES: [i8; 16] = [1, 3, 5, 7, 9, 11, 13, 15, -1, -3, -5, -7, -9, -11, -13, -15];
    const UNIT: f32 = 1.0;
    const HALVES: bool = false;
    type Places = planes::Four;

    #[inline(always)]
    fn scales(block: &[u8], sub: usize) -> [u8; 2] {
        [block[106 + sub / 2] >> (sub % 2 * 4) & 15; 2]
    }

    #[inline(always)]
    fn places(block: &[u8], sub: usize) -> [u8; 32] {
        let mut places = [0; 32];
        let high = usize::from(block[66 + sub]);
        for (i, places) in places.as_chunks_mut().0.iter_mut().enumerate() {
            let at = usize::from(block[2 + 8 * sub + i]) | (high >> i & 1) << 8;
            put_four(entry(GRID, at), block[74 + 4 * sub + i / 2] >> (4 * (i % 2)), places);
        }
        places
    }
}

static NEIGHBOURS: LazyLock<Neighbours<4>> = LazyLock::new(|| Neighbours::new(GRID, 3));

impl Lattice<4, 32> for Iq3S {
    const SEVEN_SIGNS: bool = false;
    const TINY: f32 = f32::from_bits(1);
    const AROUND: i32 = 9;
    const APART: f32 = 0.2;
    const SEARCHED: bool = false;
    const AGAIN: Again = Again::AllIfAny;
    const CORRECTION: f32 = 1.033;
    const EMPTIED: bool = false;

    fn neighbours() -> &'static Neighbours<4> {
        &NEIGHBOURS
    }

    /// As entries stand in the format. ggml's encoder writes nothing for a sub-block of zeros, and puts entries and signs of
    /// those after it one sub-block too early, where they decode as other values: such blocks, which are rare, differ.
    #[inline(always)]
    fn put(block: &mut [u8], sub: usize, fit: &Fit) {
        for (k, entry) in fit.entries.iter().enumerate() {
            block[2 + 8 * sub + k] = (entry & 255) as u8;
            block[66 + sub] |= ((entry >> 8) as u8) << k;
        }
        block[74 + 4 * sub..][..4].copy_from_slice(&fit.signs);
    }

    #[inline(always)]
    fn put_scale(block: &mut [u8], sub: usize, scale: u8) {
        block[106 + sub / 2] |= scale << (4 * (sub % 2));
    }
}

impl EncodeWeighted for Iq3S {
    const BLOCK: usize = 256;
    const MEAN_SQUARE: MeanSquare = MeanSquare::TwiceBlock;

    #[inline(always)]
    unsafe fn encode_weighted<S: Simd>(values: &[f32], weights: &[f32], blocks: &mut [u8]) {
        // SAFETY: the caller's promise.
        unsafe { lattice::encode_weighted::<S, Self, 4, 32>(values, weights, blocks) }
    }
}

impl EncodeUnweighted for Iq3S {
    fn weights(x: &[f32; 256]) -> [f32; 256] {
        weights::squares(x)
    }
}
