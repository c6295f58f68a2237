//! Q8_0: 32 values, `d * q`. Block: f16 `d`, 32 signed bytes.

use super::panel::{self, Packed};
use super::planes::Planes;
use super::{QuantType, f16_at, planes};
use crate::simd::Simd;

pub(super) const BYTES: usize = 34;

pub(super) static TYPE: QuantType =
    QuantType { name: "Q8_0", ggml_id: 8, block: 32, bytes: BYTES, decode, run: panel::quantized::<Q80>() };

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (b, v) in blocks.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<32>().0) {
        let d = f16_at(b, 0);
        for i in 0..32 {
            v[i] = d * f32::from(b[2 + i] as i8);
        }
    }
}

/// How Q8_0 stands in panels.
struct Q80;

impl Packed for Q80 {
    type Planes = planes::Eight;

    const FILE_BYTES: usize = BYTES;
    const SUBS: usize = 1;
    const SCALE_BYTES: usize = 32;

    #[inline(always)]
    fn pack_row(block: &[u8], row: usize, planes: &mut [u8], scales: &mut [u8]) {
        let unsigned: [u8; 32] = std::array::from_fn(|i| block[2 + i] ^ 0x80);
        Self::Planes::put(planes, row, &unsigned);
        scales[2 * row..2 * row + 2].copy_from_slice(&block[..2]);
    }

    #[inline(always)]
    unsafe fn bias<S: Simd>(negative_sum: S::I) -> S::I {
        // SAFETY: no pointer is read.
        unsafe { if S::WIDE_BIAS == 0 { S::splat_i(0) } else { S::shl_i::<7>(negative_sum) } }
    }

    #[inline(always)]
    unsafe fn scale<S: Simd>(scales: *const u8, _sub: usize, _half: usize) -> S::F {
        // SAFETY: the offset is below SCALE_BYTES.
        unsafe { S::load_f16(scales) }
    }
}
