//! Q5_K: as Q4_K with a fifth bit. Block: f16 `d`, f16 `dmin`, 12 bytes of scales and mins, 32 bytes of fifth bits
//! (bit s of byte i belongs to value i of sub-block s), 128 bytes of nibbles.

use super::affine::{self, Scales, Search};
use super::encode::{Encode, encode, finite_halves};
use super::panel::{self, Packed};
use super::planes::Planes;
use super::weights::{EncodeWeighted, MeanSquare, encode_weighted};
use super::{QuantType, f16_at, planes, q4_k};
use crate::simd::Simd;

pub(super) const BYTES: usize = 176;

pub(super) static TYPE: QuantType = QuantType {
    name: "Q5_K",
    ggml_id: 13,
    block: 256,
    bytes: BYTES,
    decode,
    encode: Some(encode::<Q5K>),
    encode_weighted: Some(encode_weighted::<Q5K>),
    finite: |blocks| finite_halves(blocks, BYTES, &[0, 2]),
    run: panel::quantized::<Q5K>(),
};

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (b, v) in blocks.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<256>().0) {
        let (d, dmin) = (f16_at(b, 0), f16_at(b, 2));
        let (scales, mins) = q4_k::scales_and_mins(b[4..].first_chunk().expect("12 bytes of scales"));
        for (sub, v) in v.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (scale, min) = (d * f32::from(scales[sub]), dmin * f32::from(mins[sub]));
            v.iter_mut().zip(quants(b, sub)).for_each(|(v, q)| *v = scale * f32::from(q) - min);
        }
    }
}

/// The 32 five-bit values of sub-block `sub`.
#[inline(always)]
fn quants(b: &[u8; BYTES], sub: usize) -> [u8; 32] {
    let low = planes::words(&q4_k::nibbles(b[48..].first_chunk().expect("128 bytes of nibbles"), sub));
    let high = planes::words(b[16..].first_chunk().expect("32 bytes of fifth bits"));
    planes::bytes(std::array::from_fn(|g| low[g] | (high[g] >> sub & 0x0101_0101) << 4))
}

/// How Q5_K is encoded and stands in panels.
struct Q5K;

impl Encode for Q5K {
    #[inline(always)]
    unsafe fn encode<S: Simd>(values: &[f32], blocks: &mut [u8]) {
        let search = Search { top: 31, first: -0.5, step: 0.1, candidates: 16, absolute: false };
        // SAFETY: the caller's promise.
        unsafe { encode_by::<S>(search, values, None, blocks) }
    }
}

impl EncodeWeighted for Q5K {
    const BLOCK: usize = 256;
    const MEAN_SQUARE: MeanSquare = MeanSquare::TwiceBlock;

    #[inline(always)]
    unsafe fn encode_weighted<S: Simd>(values: &[f32], weights: &[f32], blocks: &mut [u8]) {
        // SAFETY: the caller's promise.
        unsafe { encode_by::<S>(Search::weighted(31), values, Some(weights), blocks) }
    }
}

/// Encodes blocks.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn encode_by<S: Simd>(search: Search, values: &[f32], weights: Option<&[f32]>, blocks: &mut [u8]) {
    let header = |of: &Scales<8>, block: &mut [u8; BYTES]| affine::encode_header(of, 63, block);
    let write = |q: &[u8; 256], block: &mut [u8; BYTES]| {
        for i in 0..32 {
            block[16 + i] = (0..8).fold(0, |bits, sub| bits | q[32 * sub + i] >> 4 << sub);
        }
        q4_k::pack_nibbles(q, &mut block[48..]);
    };
    // SAFETY: the caller's promise.
    unsafe { affine::encode_blocks::<S, 32, 8, BYTES>(values, weights, blocks, (search, 63), header, write) }
}

impl Packed for Q5K {
    type Planes = planes::Five;

    const FILE_BYTES: usize = BYTES;
    const SUBS: usize = 8;
    const SCALE_BYTES: usize = 320;
    const MIN: bool = true;

    #[inline(always)]
    fn pack_row(block: &[u8], row: usize, planes: &mut [u8], scales: &mut [u8]) {
        let whole = block.first_chunk().expect("a whole block");
        for (sub, planes) in planes.chunks_exact_mut(Self::Planes::COUNT * 64).enumerate() {
            Self::Planes::put(planes, row, &quants(whole, sub));
        }
        q4_k::pack_scales(block, row, scales);
    }

    #[inline(always)]
    unsafe fn scale<S: Simd>(scales: *const u8, sub: usize, _half: usize) -> S::F {
        // SAFETY: the offset is below SCALE_BYTES.
        unsafe { S::mul(S::load_f16(scales), S::load_u8(scales.add(64 + sub * 16))) }
    }

    #[inline(always)]
    unsafe fn min<S: Simd>(scales: *const u8, sub: usize, _half: usize) -> S::F {
        // SAFETY: the offset is below SCALE_BYTES.
        unsafe { S::mul(S::load_f16(scales.add(32)), S::load_u8(scales.add(192 + sub * 16))) }
    }
}
