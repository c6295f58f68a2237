//! IQ2_XS: 256 values in groups of eight. Block: f16 `d`, 32 times 16 bits that name an entry of a codebook of 512 in the
//! lower nine and give seven signs in the upper, 8 bytes with the scales of both halves of 32 values.

use std::sync::LazyLock;

use super::grid::{self, Grid, IQ2_VALUES, eight_signs, entry, put_eight, u16_at};
use super::lattice::{self, Again, Fit, Lattice};
use super::neighbours::Neighbours;
use super::weights::{EncodeWeighted, MeanSquare, encode_weighted};
use super::{QuantType, planes};
use crate::simd::Simd;

pub(super) static TYPE: QuantType =
    QuantType { encode_weighted: Some(encode_weighted::<Iq2Xs>), ..grid::quant_type::<Iq2Xs>("IQ2_XS", 17) };

static GRID: &[u8; 1024] = include_bytes!("grids/iq2_xs.bin");

struct Iq2Xs;

impl Grid for Iq2Xs {
    const BYTES: usize = 74;
    const VALUES: [i8; 16] = IQ2_VALUES;
    const UNIT: f32 = 0.125;
    const HALVES: bool = true;
    type Places = planes::Three;

    #[inline(always)]
    fn scales(block: &[u8], sub: usize) -> [u8; 2] {
        let both = block[66 + sub];
        [both & 15, both >> 4]
    }

    #[inline(always)]
    fn places(block: &[u8], sub: usize) -> [u8; 32] {
        let mut places = [0; 32];
        for (i, places) in places.as_chunks_mut().0.iter_mut().enumerate() {
            let named = u16_at(block, 2 + 8 * sub + 2 * i);
            put_eight(entry(GRID, named & 511), eight_signs((named >> 9) as u8), places);
        }
        places
    }
}

static NEIGHBOURS: LazyLock<Neighbours<8>> = LazyLock::new(|| Neighbours::new(GRID, 2));

impl Lattice<8, 16> for Iq2Xs {
    const SEVEN_SIGNS: bool = true;
    const TINY: f32 = 1e-15;
    const AROUND: i32 = 9;
    const APART: f32 = 0.1;
    const SEARCHED: bool = false;
    const AGAIN: Again = Again::Others;
    const CORRECTION: f32 = 1.0;
    const EMPTIED: bool = true;

    fn neighbours() -> &'static Neighbours<8> {
        &NEIGHBOURS
    }

    #[inline(always)]
    fn put(block: &mut [u8], sub: usize, fit: &Fit) {
        for k in 0..2 {
            let named = fit.entries[k] | u16::from(fit.signs[k]) << 9;
            block[2 + 4 * sub + 2 * k..][..2].copy_from_slice(&named.to_le_bytes());
        }
    }

    #[inline(always)]
    fn put_scale(block: &mut [u8], sub: usize, scale: u8) {
        block[66 + sub / 2] |= scale << (4 * (sub % 2));
    }
}

impl EncodeWeighted for Iq2Xs {
    const BLOCK: usize = 256;
    const MEAN_SQUARE: MeanSquare = MeanSquare::Block;

    #[inline(always)]
    unsafe fn encode_weighted<S: Simd>(values: &[f32], weights: &[f32], blocks: &mut [u8]) {
        // SAFETY: the caller's promise.
        unsafe { lattice::encode_weighted::<S, Self, 8, 16>(values, weights, blocks) }
    }
}
