//! IQ3_XXS: 256 values in groups of four. Block: f16 `d`, 64 bytes that name entries of a codebook of 256, then for each 32
//! values 32 bits: seven signs for each two entries, and a scale in the upper four.

use super::grid::{self, Grid, eight_signs, entry, put_four};
use super::{QuantType, planes};

pub(super) static TYPE: QuantType = grid::quant_type::<Iq3Xxs>("IQ3_XXS", 18);

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
