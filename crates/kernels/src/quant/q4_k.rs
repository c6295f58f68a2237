//! Q4_K: 256 values in eight sub-blocks of 32, `d * scale * q - dmin * min` with 6-bit scales and mins.
//! Block: f16 `d`, f16 `dmin`, 12 bytes of scales and mins, 128 bytes of nibbles: each 32 bytes hold two sub-blocks,
//! the first in the low nibbles.

use super::affine::{self, Scales, Search};
use super::encode::{Encode, encode, finite_halves};
use super::panel::{self, Packed};
use super::planes::Planes;
use super::weights::{EncodeWeighted, MeanSquare, encode_weighted};
use super::{QuantType, f16_at, planes};
use crate::simd::Simd;

pub(super) const BYTES: usize = 144;

pub(super) static TYPE: QuantType = QuantType {
    name: "Q4_K",
    ggml_id: 12,
    block: 256,
    bytes: BYTES,
    decode,
    encode: Some(encode::<Q4K>),
    encode_weighted: Some(encode_weighted::<Q4K>),
    finite: |blocks| finite_halves(blocks, BYTES, &[0, 2]),
    run: panel::quantized::<Q4K>(),
};

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (b, v) in blocks.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<256>().0) {
        let (d, dmin) = (f16_at(b, 0), f16_at(b, 2));
        let (scales, mins) = scales_and_mins(b[4..].first_chunk().expect("12 bytes of scales"));
        for (sub, v) in v.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (scale, min) = (d * f32::from(scales[sub]), dmin * f32::from(mins[sub]));
            let q = nibbles(b[16..].first_chunk().expect("128 bytes of nibbles"), sub);
            v.iter_mut().zip(q).for_each(|(v, q)| *v = scale * f32::from(q) - min);
        }
    }
}

/// The 32 four-bit values of sub-block `sub`, whose nibbles stand in `b[sub / 2 * 32..]`.
#[inline(always)]
pub(super) fn nibbles(b: &[u8; 128], sub: usize) -> [u8; 32] {
    let pair: &[u8; 32] = &b.as_chunks().0[sub / 2];
    planes::bytes(planes::words(pair).map(|w| w >> (sub % 2 * 4) & 0x0F0F_0F0F))
}

/// The low four bits of a block's integers, as [`nibbles`] finds them.
#[inline(always)]
pub(super) fn pack_nibbles(q: &[u8; 256], b: &mut [u8]) {
    for (b, pair) in b.as_chunks_mut::<32>().0.iter_mut().zip(q.as_chunks::<64>().0) {
        for i in 0..32 {
            b[i] = pair[i] & 15 | pair[i + 32] << 4;
        }
    }
}

/// Eight 6-bit scales and eight 6-bit mins: the first four of each in bytes 0–3 and 4–7, the low nibbles of the others
/// in bytes 8–11 and their upper two bits on top of the first eight bytes.
pub(super) fn scales_and_mins(b: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for i in 0..4 {
        scales[i] = b[i] & 63;
        mins[i] = b[i + 4] & 63;
        scales[i + 4] = b[i + 8] & 15 | b[i] >> 6 << 4;
        mins[i + 4] = b[i + 8] >> 4 | b[i + 4] >> 6 << 4;
    }
    (scales, mins)
}

/// Writes a row's scales as Q4_K and Q5_K have them in a panel: f16 `d` and `-dmin` of 16 rows, then the 16 rows' scales
/// of each sub-block, then their mins.
pub(super) fn pack_scales(block: &[u8], row: usize, out: &mut [u8]) {
    out[2 * row..2 * row + 2].copy_from_slice(&block[..2]);
    out[32 + 2 * row] = block[2];
    out[33 + 2 * row] = block[3] ^ 0x80;
    let (scales, mins) = scales_and_mins(block[4..].first_chunk().expect("12 bytes of scales"));
    for sub in 0..8 {
        out[64 + sub * 16 + row] = scales[sub];
        out[192 + sub * 16 + row] = mins[sub];
    }
}

/// How Q4_K is encoded and stands in panels.
struct Q4K;

impl Encode for Q4K {
    #[inline(always)]
    unsafe fn encode<S: Simd>(values: &[f32], blocks: &mut [u8]) {
        let search = Search { top: 15, first: -1.0, step: 0.1, candidates: 21, absolute: false };
        // SAFETY: the caller's promise.
        unsafe { encode_by::<S>(search, values, None, blocks) }
    }
}

impl EncodeWeighted for Q4K {
    const BLOCK: usize = 256;
    const MEAN_SQUARE: MeanSquare = MeanSquare::TwiceBlock;

    #[inline(always)]
    unsafe fn encode_weighted<S: Simd>(values: &[f32], weights: &[f32], blocks: &mut [u8]) {
        // SAFETY: the caller's promise.
        unsafe { encode_by::<S>(Search::weighted(15), values, Some(weights), blocks) }
    }
}

/// Encodes blocks.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn encode_by<S: Simd>(search: Search, values: &[f32], weights: Option<&[f32]>, blocks: &mut [u8]) {
    // By weight, the upper bits of a scale that is negative mix with those of another one.
    let limit = if weights.is_some() { u8::MAX } else { 63 };
    let header = |of: &Scales<8>, block: &mut [u8; BYTES]| affine::encode_header(of, limit, block);
    let write = |q: &[u8; 256], block: &mut [u8; BYTES]| pack_nibbles(q, &mut block[16..]);
    // SAFETY: the caller's promise.
    unsafe { affine::encode_blocks::<S, 32, 8, BYTES>(values, weights, blocks, (search, 63), header, write) }
}

impl Packed for Q4K {
    type Planes = planes::Four;

    const FILE_BYTES: usize = BYTES;
    const SUBS: usize = 8;
    const SCALE_BYTES: usize = 320;
    const MIN: bool = true;

    #[inline(always)]
    fn pack_row(block: &[u8], row: usize, planes: &mut [u8], scales: &mut [u8]) {
        let packed = block[16..].first_chunk().expect("128 bytes of nibbles");
        for (sub, planes) in planes.chunks_exact_mut(Self::Planes::COUNT * 64).enumerate() {
            Self::Planes::put(planes, row, &nibbles(packed, sub));
        }
        pack_scales(block, row, scales);
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
