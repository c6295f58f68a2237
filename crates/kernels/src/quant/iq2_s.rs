//! IQ2_S: 256 values in groups of eight. Block: f16 `d`, 32 bytes that name entries of a codebook of 1024, 32 bytes of signs, 8
//! bytes with the upper two bits of four entries each, 8 bytes with the scales of both halves of 32 values.

use std::sync::LazyLock;

use super::grid::{self, Grid, IQ2_VALUES, entry, put_eight};
use super::lattice::{self, Again, Fit, Lattice};
use super::neighbours::Neighbours;
use super::weights::{self, EncodeUnweighted, EncodeWeighted, MeanSquare, encode_unweighted, encode_weighted};
use super::{QuantType, planes};
use crate::simd::Simd;

pub(super) static TYPE: QuantType = QuantType {
    encode: Some(encode_unweighted::<Iq2S>),
    encode_weighted: Some(encode_weighted::<Iq2S>),
    ..grid::quant_type::<Iq2S>("IQ2_S", 22)
};

static GRID: &[u8; 2048] = include_bytes!("grids/iq2_s.bin");

struct Iq2S;

impl Grid for Iq2S {
    const BYTES: usize = 82;
    const VALUES: [i8; 16] = IQ2_VALUES;
    const UNIT: f32 = 0.125;
    const HALVES: bool = true;
    type Places = planes::Three;

    #[inline(always)]
    fn scales(block: &[u8], sub: usize) -> [u8; 2] {
        let both = block[74 + sub];
        [both & 15, both >> 4]
    }

    #[inline(always)]
    fn places(block: &[u8], sub: usize) -> [u8; 32] {
        let mut places = [0; 32];
        let high = usize::from(block[66 + sub]);
        for (i, places) in places.as_chunks_mut().0.iter_mut().enumerate() {
            let at = usize::from(block[2 + 4 * sub + i]) | (high >> (2 * i) & 3) << 8;
            put_eight(entry(GRID, at), block[34 + 4 * sub + i], places);
        }
        places
    }
}

static NEIGHBOURS: LazyLock<Neighbours<8>> = LazyLock::new(|| Neighbours::new(GRID, 1));

impl Lattice<8, 16> for Iq2S {
    const SEVEN_SIGNS: bool = false;
    const TINY: f32 = 1e-8;
    const AROUND: i32 = 9;
    const APART: f32 = 0.1;
    const SEARCHED: bool = false;
    const AGAIN: Again = Again::Others;
    const CORRECTION: f32 = 0.9875;
    const EMPTIED: bool = false;

    fn neighbours() -> &'static Neighbours<8> {
        &NEIGHBOURS
    }

    #[inline(always)]
    fn put(block: &mut [u8], sub: usize, fit: &Fit) {
        for k in 0..2 {
            let (low, high) = ((fit.entries[k] & 255) as u8, (fit.entries[k] >> 8) as u8);
            block[2 + 2 * sub + k] = low;
            block[34 + 2 * sub + k] = fit.signs[k];
            block[66 + sub / 2] |= high << (4 * (sub % 2) + 2 * k);
        }
    }

    #[inline(always)]
    fn put_scale(block: &mut [u8], sub: usize, scale: u8) {
        block[74 + sub / 2] |= scale << (4 * (sub % 2));
    }
}

impl EncodeWeighted for Iq2S {
    const BLOCK: usize = 256;
    const MEAN_SQUARE: MeanSquare = MeanSquare::TwiceBlock;

    #[inline(always)]
    unsafe fn encode_weighted<S: Simd>(values: &[f32], weights: &[f32], blocks: &mut [u8]) {
        // SAFETY: the caller's promise.
        unsafe { lattice::encode_weighted::<S, Self, 8, 16>(values, weights, blocks) }
    }
}

impl EncodeUnweighted for Iq2S {
    fn weights(x: &[f32; 256]) -> [f32; 256] {
        weights::squares_and_mean(x)
    }
}
