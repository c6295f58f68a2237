//! IQ1_S: 256 values in groups of eight. Block: f16 `d`, 32 bytes that name entries of a codebook of 2048, and for each 32
//! values 16 bits: the upper three bits of four entries, a scale of three bits, and whether an eighth is taken off, not added.

use super::grid::{self, Grid, IQ1_GRID, IQ1_VALUES, entry, put_eight, u16_at};
use super::{QuantType, planes};

pub(super) static TYPE: QuantType = grid::quant_type::<Iq1S>("IQ1_S", 19);

struct Iq1S;

impl Grid for Iq1S {
    const BYTES: usize = 50;
    const VALUES: [i8; 16] = IQ1_VALUES;
    const UNIT: f32 = 0.125;
    const HALVES: bool = false;
    type Places = planes::Three;

    #[inline(always)]
    fn scales(block: &[u8], sub: usize) -> [u8; 2] {
        [(u16_at(block, 34 + 2 * sub) >> 12 & 7) as u8; 2]
    }

    #[inline(always)]
    fn places(block: &[u8], sub: usize) -> [u8; 32] {
        let high = u16_at(block, 34 + 2 * sub);
        let less = if high >> 15 == 1 { 0xFF } else { 0 };
        let mut places = [0; 32];
        for (i, places) in places.as_chunks_mut().0.iter_mut().enumerate() {
            let at = usize::from(block[2 + 4 * sub + i]) | (high >> (3 * i) & 7) << 8;
            put_eight(entry(IQ1_GRID, at), less, places);
        }
        places
    }
}
