//! IQ1_M: 256 values in groups of eight. Block: 32 bytes that name entries of a codebook of 2048; 16 bytes, for each two
//! entries their upper three bits and whether an eighth is taken off, not added, in nibbles; four times 16 bits, each with
//! four scales of three bits, of 16 values each, and a nibble of f16 `d` in the upper four.

use super::grid::{self, Grid, IQ1_GRID, IQ1_VALUES, entry, put_eight, u16_at};
use super::{QuantType, planes};

pub(super) static TYPE: QuantType = grid::quant_type::<Iq1M>("IQ1_M", 29);

struct Iq1M;

impl Grid for Iq1M {
    const BYTES: usize = 56;
    const VALUES: [i8; 16] = IQ1_VALUES;
    const UNIT: f32 = 0.125;
    const HALVES: bool = true;
    type Places = planes::Three;

    fn d(block: &[u8]) -> [u8; 2] {
        let d = (0..4).fold(0, |d, i| d | u16_at(block, 48 + 2 * i) >> 12 << (4 * i));
        (d as u16).to_le_bytes()
    }

    #[inline(always)]
    fn scales(block: &[u8], sub: usize) -> [u8; 2] {
        let four = u16_at(block, 48 + sub / 2 * 2) >> (sub % 2 * 6);
        [(four & 7) as u8, (four >> 3 & 7) as u8]
    }

    #[inline(always)]
    fn places(block: &[u8], sub: usize) -> [u8; 32] {
        let mut places = [0; 32];
        for (i, places) in places.as_chunks_mut().0.iter_mut().enumerate() {
            let high = usize::from(block[32 + 2 * sub + i / 2]) >> (4 * (i % 2));
            let less = if high >> 3 & 1 == 1 { 0xFF } else { 0 };
            let at = usize::from(block[4 * sub + i]) | (high & 7) << 8;
            put_eight(entry(IQ1_GRID, at), less, places);
        }
        places
    }
}
