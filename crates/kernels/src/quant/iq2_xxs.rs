//! IQ2_XXS: 256 values in groups of eight. Block: f16 `d`, then for each 32 values four bytes that name entries of a codebook
//! of 256, and 32 bits: seven signs for each entry, and a scale in the upper four.

use std::sync::LazyLock;

use super::grid::{self, Grid, IQ2_VALUES, eight_signs, entry, put_eight};
use super::lattice::{self, Again, Fit, Lattice};
use super::neighbours::Neighbours;
use super::weights::{EncodeWeighted, MeanSquare, encode_weighted};
use super::{QuantType, planes};
use crate::simd::Simd;

pub(super) static TYPE: QuantType =
    QuantType { encode_weighted: Some(encode_weighted::<Iq2Xxs>), ..grid::quant_type::<Iq2Xxs>("IQ2_XXS", 16) };

static GRID: &[u8; 512] = include_bytes!("grids/iq2_xxs.bin");

struct Iq2Xxs;

impl Iq2Xxs {
    /// The signs and the scale of sub-block `sub`.
    #[inline(always)]
    fn signs_and_scale(block: &[u8], sub: usize) -> u32 {
        u32::from_le_bytes(*block[2 + 8 * sub + 4..].first_chunk().expect("4 bytes of signs"))
    }
}

impl Grid for Iq2Xxs {
    const BYTES: usize = 66;
    const VALUES: [i8; 16] = IQ2_VALUES;
    const UNIT: f32 = 0.125;
    const HALVES: bool = false;
    type Places = planes::Three;

    #[inline(always)]
    fn scales(block: &[u8], sub: usize) -> [u8; 2] {
        [(Self::signs_and_scale(block, sub) >> 28) as u8; 2]
    }

    #[inline(always)]
    fn places(block: &[u8], sub: usize) -> [u8; 32] {
        let signs = Self::signs_and_scale(block, sub);
        let mut places = [0; 32];
        for (i, places) in places.as_chunks_mut().0.iter_mut().enumerate() {
            let at = block[2 + 8 * sub + i];
            put_eight(entry(GRID, at.into()), eight_signs((signs >> (7 * i)) as u8), places);
        }
        places
    }
}

static NEIGHBOURS: LazyLock<Neighbours<8>> = LazyLock::new(|| Neighbours::new(GRID, 2));

impl Lattice<8, 32> for Iq2Xxs {
    const SEVEN_SIGNS: bool = true;
    const TINY: f32 = 1e-15;
    const AROUND: i32 = 6;
    const APART: f32 = 0.1;
    const SEARCHED: bool = true;
    const AGAIN: Again = Again::All;
    const CORRECTION: f32 = 1.0;
    const EMPTIED: bool = true;

    fn neighbours() -> &'static Neighbours<8> {
        &NEIGHBOURS
    }

    #[inline(always)]
    fn put(block: &mut [u8], sub: usize, fit: &Fit) {
        let at = 2 + 8 * sub;
        for k in 0..4 {
            block[at + k] = fit.entries[k] as u8;
        }
        let signs = fit.signs.iter().rev().fold(0, |signs, seven| signs << 7 | u32::from(*seven));
        block[at + 4..at + 8].copy_from_slice(&signs.to_le_bytes());
    }

    #[inline(always)]
    fn put_scale(block: &mut [u8], sub: usize, scale: u8) {
        block[2 + 8 * sub + 7] |= scale << 4;
    }
}

impl EncodeWeighted for Iq2Xxs {
    const BLOCK: usize = 256;
    const MEAN_SQUARE: MeanSquare = MeanSquare::Block;

    #[inline(always)]
    unsafe fn encode_weighted<S: Simd>(values: &[f32], weights: &[f32], blocks: &mut [u8]) {
        // SAFETY: the caller's promise.
        unsafe { lattice::encode_weighted::<S, Self, 8, 32>(values, weights, blocks) }
    }
}
