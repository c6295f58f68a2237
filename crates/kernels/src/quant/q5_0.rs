//! Q5_0: 32 values, `d * (q - 16)`. Block: f16 `d`, 32 fifth bits (bit i belongs to value i), then nibbles as in Q4_0.

use super::encode::{Encode, encode, finite_halves, half, inverse, largest_magnitude, whole_parts};
use super::panel::{self, Packed};
use super::planes::Planes;
use super::weights::{EncodeWeighted, MeanSquare, encode_weighted};
use super::{QuantType, f16_at, planes, symmetric};
use crate::simd::Simd;

pub(super) const BYTES: usize = 22;

pub(super) static TYPE: QuantType = QuantType {
    name: "Q5_0",
    ggml_id: 6,
    block: 32,
    bytes: BYTES,
    decode,
    encode: Some(encode::<Q50>),
    encode_weighted: Some(encode_weighted::<Q50>),
    finite: |blocks| finite_halves(blocks, BYTES, &[0]),
    run: panel::quantized::<Q50>(),
};

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (b, v) in blocks.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<32>().0) {
        let d = f16_at(b, 0);
        for (value, q) in v.iter_mut().zip(quants(b[2..].first_chunk().expect("20 bytes follow"))) {
            *value = d * (f32::from(q) - 16.0);
        }
    }
}

/// The 32 five-bit values of a block's fifth bits and nibbles.
#[inline(always)]
pub(super) fn quants(b: &[u8; 20]) -> [u8; 32] {
    let high = u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    let mut q = [0; 32];
    for i in 0..16 {
        q[i] = b[4 + i] & 15 | ((high >> i & 1) as u8) << 4;
        q[i + 16] = b[4 + i] >> 4 | ((high >> (i + 16) & 1) as u8) << 4;
    }
    q
}

/// The fifth bits and nibbles of 32 five-bit values: the inverse of [`quants`].
#[inline(always)]
pub(super) fn pack(q: &[u8; 32], b: &mut [u8; 20]) {
    for (high, q) in b.iter_mut().zip(q.as_chunks::<8>().0) {
        // Eight bytes of 0 or 1; the factor moves the one of byte i to bit 56 + i.
        let ones = u64::from_le_bytes(*q) >> 4 & 0x0101_0101_0101_0101;
        *high = (ones.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8;
    }
    for i in 0..16 {
        b[4 + i] = q[i] & 15 | q[i + 16] << 4;
    }
}

/// How Q5_0 is encoded and stands in panels.
struct Q50;

impl Encode for Q50 {
    #[inline(always)]
    unsafe fn encode<S: Simd>(values: &[f32], blocks: &mut [u8]) {
        for (x, b) in values.as_chunks::<32>().0.iter().zip(blocks.as_chunks_mut::<BYTES>().0) {
            // SAFETY: the caller's promise.
            let (d, q) = unsafe {
                let d = largest_magnitude::<S>(x) / -16.0;
                (d, whole_parts::<S>(x, 0.0, inverse(d), 16.5, 31.0))
            };
            b[..2].copy_from_slice(&half(d));
            pack(&q, b[2..].first_chunk_mut().expect("20 bytes follow"));
        }
    }
}

impl EncodeWeighted for Q50 {
    const BLOCK: usize = 32;
    const MEAN_SQUARE: MeanSquare = MeanSquare::Row;

    #[inline(always)]
    unsafe fn encode_weighted<S: Simd>(values: &[f32], weights: &[f32], blocks: &mut [u8]) {
        // SAFETY: the caller's promise.
        unsafe {
            symmetric::encode_32::<S, BYTES>(values, weights, blocks, 16, |d, q, b| {
                b[..2].copy_from_slice(&d);
                pack(q, b[2..].first_chunk_mut().expect("20 bytes follow"));
            });
        }
    }
}

impl Packed for Q50 {
    type Planes = planes::Five;

    const FILE_BYTES: usize = BYTES;
    const SUBS: usize = 1;
    const SCALE_BYTES: usize = 32;
    const BIAS: i32 = 16;

    #[inline(always)]
    fn pack_row(block: &[u8], row: usize, planes: &mut [u8], scales: &mut [u8]) {
        Self::Planes::put(planes, row, &quants(block[2..].first_chunk().expect("20 bytes follow")));
        scales[2 * row..2 * row + 2].copy_from_slice(&block[..2]);
    }

    #[inline(always)]
    unsafe fn scale<S: Simd>(scales: *const u8, _sub: usize, _half: usize) -> S::F {
        // SAFETY: the offset is below SCALE_BYTES.
        unsafe { S::load_f16(scales) }
    }
}
