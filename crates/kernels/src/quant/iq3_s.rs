//! IQ3_S: 256 values in groups of four. Block: f16 `d`, 64 bytes that name entries of a codebook of 512, 8 bytes with the
//! upper bit of eight entries each, 32 bytes of signs, 4 bytes with the scales of 32 values in nibbles.

use super::grid::{self, Grid, entry, put_four};
use super::{QuantType, planes};

pub(super) static TYPE: QuantType = grid::quant_type::<Iq3S>("IQ3_S", 21);

static GRID: &[u8; 1024] = include_bytes!("grids/iq3_s.bin");

struct Iq3S;

impl Grid for Iq3S {
    const BYTES: usize = 110;
    const VALUES: [i8; 16] = [1, 3, 5, 7, 9, 11, 13, 15, -1, -3, -5, -7, -9, -11, -13, -15];
    const UNIT: f32 = 1.0;
    const HALVES: bool = false;
    type Places = planes::Four;

    #[inline(always)]
    fn scales(block: &[u8], sub: usize) -> [u8; 2] {
        [block[106 + sub / 2] >> (sub % 2 * 4) & 15; 2]
    }

    #[inline(always)]
    fn places(block: &[u8], sub: usize) -> [u8; 32] {
        let mut places = [0; 32];
        let high = usize::from(block[66 + sub]);
        for (i, places) in places.as_chunks_mut().0.iter_mut().enumerate() {
            let at = usize::from(block[2 + 8 * sub + i]) | (high >> i & 1) << 8;
            put_four(entry(GRID, at), block[74 + 4 * sub + i / 2] >> (4 * (i % 2)), places);
        }
        places
    }
}
