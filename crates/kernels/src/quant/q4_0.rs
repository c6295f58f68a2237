//! Q4_0: 32 values, `d * (q - 8)`. Block: f16 `d`, 16 bytes with values 0–15 in the low nibbles and 16–31 in the high.

use super::encode::{Encode, encode, finite_halves, half, inverse, largest_magnitude, whole_parts};
use super::panel::{self, Packed};
use super::weights::{EncodeWeighted, MeanSquare, encode_weighted};
use super::{QuantType, f16_at, planes, symmetric};
use crate::simd::Simd;

pub(super) const BYTES: usize = 18;

pub(super) static TYPE: QuantType = QuantType {
    name: "Q4_0",
    ggml_id: 2,
    block: 32,
    bytes: BYTES,
    decode,
    encode: Some(encode::<Q40>),
    encode_weighted: Some(encode_weighted::<Q40>),
    finite: |blocks| finite_halves(blocks, BYTES, &[0]),
    run: panel::quantized::<Q40>(),
};

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (b, v) in blocks.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<32>().0) {
        let d = f16_at(b, 0);
        for i in 0..16 {
            v[i] = d * (f32::from(b[2 + i] & 15) - 8.0);
            v[i + 16] = d * (f32::from(b[2 + i] >> 4) - 8.0);
        }
    }
}

/// 16 bytes of nibbles of 32 four-bit values.
#[inline(always)]
pub(super) fn pack(q: &[u8; 32], b: &mut [u8]) {
    for (i, b) in b.iter_mut().enumerate() {
        *b = q[i] | q[i + 16] << 4;
    }
}

/// How Q4_0 is encoded and stands in panels.
struct Q40;

impl Encode for Q40 {
    #[inline(always)]
    unsafe fn encode<S: Simd>(values: &[f32], blocks: &mut [u8]) {
        for (x, b) in values.as_chunks::<32>().0.iter().zip(blocks.as_chunks_mut::<BYTES>().0) {
            // SAFETY: the caller's promise.
            let (d, q) = unsafe {
                let d = largest_magnitude::<S>(x) / -8.0;
                (d, whole_parts::<S>(x, 0.0, inverse(d), 8.5, 15.0))
            };
            b[..2].copy_from_slice(&half(d));
            pack(&q, &mut b[2..]);
        }
    }
}

impl EncodeWeighted for Q40 {
    const BLOCK: usize = 32;
    const MEAN_SQUARE: MeanSquare = MeanSquare::Row;

    #[inline(always)]
    unsafe fn encode_weighted<S: Simd>(values: &[f32], weights: &[f32], blocks: &mut [u8]) {
        // SAFETY: the caller's promise.
        unsafe {
            symmetric::encode_32::<S, BYTES>(values, weights, blocks, 8, |d, q, b| {
                b[..2].copy_from_slice(&d);
                pack(q, &mut b[2..]);
            });
        }
    }
}

impl Packed for Q40 {
    type Planes = planes::Four;

    const FILE_BYTES: usize = BYTES;
    const SUBS: usize = 1;
    const SCALE_BYTES: usize = 32;
    const BIAS: i32 = 8;

    #[inline(always)]
    fn pack_row(block: &[u8], row: usize, planes: &mut [u8], scales: &mut [u8]) {
        planes::put_nibbles(planes, row, block[2..].first_chunk().expect("16 bytes of nibbles"));
        scales[2 * row..2 * row + 2].copy_from_slice(&block[..2]);
    }

    #[inline(always)]
    unsafe fn scale<S: Simd>(scales: *const u8, _sub: usize, _half: usize) -> S::F {
        // SAFETY: the offset is below SCALE_BYTES.
        unsafe { S::load_f16(scales) }
    }
}
