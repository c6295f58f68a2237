//! IQ2_XXS: 256 values in groups of eight. Block: f16 `d`, then for each 32 values four bytes that name entries of a codebook
//! of 256, and 32 bits: seven signs for each entry, and a scale in the upper four.

use super::grid::{self, Grid, IQ2_VALUES, eight_signs, entry, put_eight};
use super::{QuantType, planes};

pub(super) static TYPE: QuantType = grid::quant_type::<Iq2Xxs>("IQ2_XXS", 16);

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
