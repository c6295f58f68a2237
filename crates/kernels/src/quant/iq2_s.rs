//! IQ2_S: 256 values in groups of eight. Block: f16 `d`, 32 bytes that name entries of a codebook of 1024, 32 bytes of signs, 8
//! bytes with the upper two bits of four entries each, 8 bytes with the scales of both halves of 32 values.

use super::grid::{self, Grid, IQ2_VALUES, entry, put_eight};
use super::{QuantType, planes};

pub(super) static TYPE: QuantType = grid::quant_type::<Iq2S>("IQ2_S", 22);

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
