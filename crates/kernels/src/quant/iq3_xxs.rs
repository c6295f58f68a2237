//! IQ3_XXS: 256 values in groups of four. Block: f16 `d`, 64 bytes that name entries of a codebook of 256, then for each 32
//! values 32 bits: seven signs for each two entries, and a scale in the upper four.

use std::sync::LazyLock;

use super::grid::{self, Grid, eight_signs, entry, put_four};
use super::lattice::{self, Again, Fit, Lattice};
use super::neighbours::Neighbours;
use super::weights::{self, EncodeUnweighted, EncodeWeighted, MeanSquare, encode_unweighted, encode_weighted};
use super::{QuantType, planes};
use crate::simd::Simd;

pub(super) static TYPE: QuantType = QuantType {
    encode: Some(encode_unweighted::<Iq3Xxs>),
    encode_weighted: Some(encode_weighted::<Iq3Xxs>),
    ..grid::quant_type::<Iq3Xxs>("IQ3_XXS", 18)
};

static GRID: &[u8; 512] = include_bytes!("grids/iq3_xxs.bin");

struct Iq3Xxs;

impl Iq3Xxs {
    /// The signs and the scale of sub-block `sub`.
    #[inline(always)]
    fn signs_and_scale(block: &[u8], sub: usize) -> u32 {
        u32::from_le_bytes(*block[66 + 4 * sub..].first_chunk().expect("4 bytes of signs"))
    }
}

impl Grid for Iq3Xxs {
    const BYTES: usize = 98;
    const VALUES: [i8; 16] = [4, 12, 20, 28, 36, 44, 52, 62, -4, -12, -20, -28, -36, -44, -52, -62];
    const UNIT: f32 = 0.25;
    const HALVES: bool = false;
    type Places = planes::Four;

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
            let signs = eight_signs((signs >> (7 * (i / 2))) as u8) >> (4 * (i % 2));
            put_four(entry(GRID, at.into()), signs, places);
        }
        places
    }
}

static NEIGHBOURS: LazyLock<Neighbours<4>> = LazyLock::new(|| Neighbours::new(GRID, 2));

impl Lattice<4, 32> for Iq3Xxs {
    const SEVEN_SIGNS: bool = true;
    const TINY: f32 = 1e-8;
    const AROUND: i32 = 15;
    const APART: f32 = 0.2;
    const SEARCHED: bool = false;
    const AGAIN: Again = Again::Others;
    const CORRECTION: f32 = 1.0125;
    const EMPTIED: bool = true;

    fn neighbours() -> &'static Neighbours<4> {
        &NEIGHBOURS
    }

    #[inline(always)]
    fn put(block: &mut [u8], sub: usize, fit: &Fit) {
        let entries = fit.entries.map(|entry| entry as u8);
        block[2 + 8 * sub..][..8].copy_from_slice(&entries);
        let signs = fit.signs.iter().rev().fold(0, |signs, seven| signs << 7 | u32::from(*seven));
        block[66 + 4 * sub..][..4].copy_from_slice(&signs.to_le_bytes());
    }

    #[inline(always)]
    fn put_scale(block: &mut [u8], sub: usize, scale: u8) {
        block[66 + 4 * sub + 3] |= scale << 4;
    }
}

impl EncodeWeighted for Iq3Xxs {
    const BLOCK: usize = 256;
    const MEAN_SQUARE: MeanSquare = MeanSquare::TwiceBlock;

    #[inline(always)]
    unsafe fn encode_weighted<S: Simd>(values: &[f32], weights: &[f32], blocks: &mut [u8]) {
        // SAFETY: the caller's promise.
        unsafe { lattice::encode_weighted::<S, Self, 4, 32>(values, weights, blocks) }
    }
}

impl EncodeUnweighted for Iq3Xxs {
    fn weights(x: &[f32; 256]) -> [f32; 256] {
        weights::squares(x)
    }
}
