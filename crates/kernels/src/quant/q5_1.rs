//! Q5_1: 32 values, `d * q + m`. Block: f16 `d`, f16 `m`, then fifth bits and nibbles as in Q5_0.

use super::affine::{self, Search};
use super::encode::{Encode, bounds, encode, finite_halves, half, inverse, whole_parts};
use super::panel::{self, Packed};
use super::planes::Planes;
use super::weights::{EncodeWeighted, MeanSquare, encode_weighted};
use super::{QuantType, f16_at, planes, q5_0};
use crate::simd::Simd;

pub(super) const BYTES: usize = 24;

pub(super) static TYPE: QuantType = QuantType {
    name: "Q5_1",
    ggml_id: 7,
    block: 32,
    bytes: BYTES,
    decode,
    encode: Some(encode::<Q51>),
    encode_weighted: Some(encode_weighted::<Q51>),
    finite: |blocks| finite_halves(blocks, BYTES, &[0, 2]),
    run: panel::quantized::<Q51>(),
};

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (b, v) in blocks.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<32>().0) {
        let (d, m) = (f16_at(b, 0), f16_at(b, 2));
        for (value, q) in v.iter_mut().zip(q5_0::quants(b[4..].first_chunk().expect("20 bytes follow"))) {
            *value = d * f32::from(q) + m;
        }
    }
}

/// How Q5_1 is encoded and stands in panels.
struct Q51;

impl Encode for Q51 {
    #[inline(always)]
    unsafe fn encode<S: Simd>(values: &[f32], blocks: &mut [u8]) {
        for (x, b) in values.as_chunks::<32>().0.iter().zip(blocks.as_chunks_mut::<BYTES>().0) {
            // SAFETY: the caller's promise.
            let (d, min, q) = unsafe {
                let (min, max) = bounds::<S>(x);
                let d = (max - min) / 31.0;
                (d, min, whole_parts::<S>(x, min, inverse(d), 0.5, 31.0))
            };
            b[..2].copy_from_slice(&half(d));
            b[2..4].copy_from_slice(&half(min));
            q5_0::pack(&q, b[4..].first_chunk_mut().expect("20 bytes follow"));
        }
    }
}

impl EncodeWeighted for Q51 {
    const BLOCK: usize = 32;
    const MEAN_SQUARE: MeanSquare = MeanSquare::Row;

    #[inline(always)]
    unsafe fn encode_weighted<S: Simd>(values: &[f32], weights: &[f32], blocks: &mut [u8]) {
        // SAFETY: the caller's promise.
        unsafe {
            affine::encode_32::<S, BYTES>(values, weights, blocks, Search::weighted(31), |d, m, q, b| {
                b[..2].copy_from_slice(&d);
                b[2..4].copy_from_slice(&m);
                q5_0::pack(q, b[4..].first_chunk_mut().expect("20 bytes follow"));
            });
        }
    }
}

impl Packed for Q51 {
    type Planes = planes::Five;

    const FILE_BYTES: usize = BYTES;
    const SUBS: usize = 1;
    const SCALE_BYTES: usize = 64;
    const MIN: bool = true;

    #[inline(always)]
    fn pack_row(block: &[u8], row: usize, planes: &mut [u8], scales: &mut [u8]) {
        Self::Planes::put(planes, row, &q5_0::quants(block[4..].first_chunk().expect("20 bytes follow")));
        scales[2 * row..2 * row + 2].copy_from_slice(&block[..2]);
        scales[32 + 2 * row..34 + 2 * row].copy_from_slice(&block[2..4]);
    }

    #[inline(always)]
    unsafe fn scale<S: Simd>(scales: *const u8, _sub: usize, _half: usize) -> S::F {
        // SAFETY: the offset is below SCALE_BYTES.
        unsafe { S::load_f16(scales) }
    }

    #[inline(always)]
    unsafe fn min<S: Simd>(scales: *const u8, _sub: usize, _half: usize) -> S::F {
        // SAFETY: the offset is below SCALE_BYTES.
        unsafe { S::load_f16(scales.add(32)) }
    }
}
