//! IQ2_XS: 256 values in groups of eight. Block: f16 `d`, 32 times 16 bits that name an entry of a codebook of 512 in the
//! lower nine and give seven signs in the upper, 8 bytes with the scales of both halves of 32 values.

use super::grid::{self, Grid, IQ2_VALUES, eight_signs, entry, put_eight, u16_at};
use super::{QuantType, planes};

pub(super) static TYPE: QuantType = grid::quant_type::<Iq2Xs>("IQ2_XS", 17);

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
