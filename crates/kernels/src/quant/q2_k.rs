//! Q2_K: 256 values in sixteen sub-blocks of 16, `d * scale * q - dmin * min` with 4-bit scales and mins.
//! Block: 16 bytes with a scale in the low and a min in the high nibble, 64 bytes of bit pairs, f16 `d`, f16 `dmin`. Each
//! half of 128 values takes 32 bytes of pairs: quarter c (32 values) has its pairs at bit `2c` of byte i.

use super::affine::{self, Scales, Search};
use super::encode::{Encode, encode, finite_halves};
use super::panel::{self, Packed};
use super::planes::Planes;
use super::weights::{EncodeWeighted, MeanSquare, encode_weighted};
use super::{QuantType, f16_at, planes};
use crate::simd::Simd;

const BYTES: usize = 84;

pub(super) static TYPE: QuantType = QuantType {
    name: "Q2_K",
    ggml_id: 10,
    block: 256,
    bytes: BYTES,
    decode,
    encode: Some(encode::<Q2K>),
    encode_weighted: Some(encode_weighted::<Q2K>),
    finite: |blocks| finite_halves(blocks, BYTES, &[80, 82]),
    run: panel::quantized::<Q2K>(),
};

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (b, v) in blocks.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<256>().0) {
        let (d, dmin) = (f16_at(b, 80), f16_at(b, 82));
        for (sub, v) in v.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (i, (v, q)) in v.iter_mut().zip(pairs(b[16..].first_chunk().expect("64 bytes"), sub)).enumerate() {
                let both = b[2 * sub + i / 16];
                *v = d * f32::from(both & 15) * f32::from(q) - dmin * f32::from(both >> 4);
            }
        }
    }
}

/// The 32 two-bit values of sub-block pair `sub`.
#[inline(always)]
pub(super) fn pairs(b: &[u8; 64], sub: usize) -> [u8; 32] {
    let bytes: &[u8; 32] = &b.as_chunks().0[sub / 4];
    planes::bytes(planes::words(bytes).map(|w| w >> (sub % 4 * 2) & 0x0303_0303))
}

/// The lower two bits of a block's integers, as [`pairs`] finds them.
#[inline(always)]
pub(super) fn pack_pairs(q: &[u8; 256], b: &mut [u8]) {
    for (b, q) in b.as_chunks_mut::<32>().0.iter_mut().zip(q.as_chunks::<128>().0) {
        for (i, b) in b.iter_mut().enumerate() {
            *b = (0..4).fold(0, |bits, c| bits | (q[32 * c + i] & 3) << (2 * c));
        }
    }
}

/// How Q2_K is encoded and stands in panels.
struct Q2K;

impl Encode for Q2K {
    #[inline(always)]
    unsafe fn encode<S: Simd>(values: &[f32], blocks: &mut [u8]) {
        let search = Search { top: 3, first: -0.5, step: 0.1, candidates: 16, absolute: true };
        // SAFETY: the caller's promise.
        unsafe { encode_by::<S>(search, values, None, blocks) }
    }
}

impl EncodeWeighted for Q2K {
    const BLOCK: usize = 256;
    const MEAN_SQUARE: MeanSquare = MeanSquare::Block;

    #[inline(always)]
    unsafe fn encode_weighted<S: Simd>(values: &[f32], weights: &[f32], blocks: &mut [u8]) {
        // SAFETY: the caller's promise.
        unsafe { encode_by::<S>(Search::weighted(3), values, Some(weights), blocks) }
    }
}

/// Encodes blocks.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn encode_by<S: Simd>(search: Search, values: &[f32], weights: Option<&[f32]>, blocks: &mut [u8]) {
    let header = |of: &Scales<16>, block: &mut [u8; BYTES]| {
        for (both, (scale, offset)) in block.iter_mut().zip(of.scales.iter().zip(of.offsets)) {
            *both = scale | offset << 4;
        }
        block[80..82].copy_from_slice(&of.d);
        block[82..].copy_from_slice(&of.dmin);
        (std::array::from_fn(|i| block[i] & 15), std::array::from_fn(|i| block[i] >> 4))
    };
    let write = |q: &[u8; 256], block: &mut [u8; BYTES]| pack_pairs(q, &mut block[16..80]);
    // SAFETY: the caller's promise.
    unsafe { affine::encode_blocks::<S, 16, 16, BYTES>(values, weights, blocks, (search, 15), header, write) }
}

impl Packed for Q2K {
    type Planes = planes::Two;

    const FILE_BYTES: usize = BYTES;
    const SUBS: usize = 8;
    /// f16 `d` and `-dmin` of 16 rows, then the 16 rows' scales and mins of each 16 values.
    const SCALE_BYTES: usize = 320;
    const MIN: bool = true;
    const HALVES: bool = true;

    #[inline(always)]
    fn pack_row(block: &[u8], row: usize, planes: &mut [u8], scales: &mut [u8]) {
        let packed = block[16..].first_chunk().expect("64 bytes of pairs");
        for (sub, planes) in planes.chunks_exact_mut(Self::Planes::COUNT * 64).enumerate() {
            Self::Planes::put(planes, row, &pairs(packed, sub));
        }
        scales[2 * row..2 * row + 2].copy_from_slice(&block[80..82]);
        scales[32 + 2 * row] = block[82];
        scales[33 + 2 * row] = block[83] ^ 0x80;
        for (sub, both) in block[..16].iter().enumerate() {
            scales[64 + sub * 16 + row] = *both;
        }
    }

    #[inline(always)]
    unsafe fn scale<S: Simd>(scales: *const u8, sub: usize, half: usize) -> S::F {
        // SAFETY: the offset is below SCALE_BYTES.
        unsafe { S::mul(S::load_f16(scales), S::load_nibbles(scales.add(64 + (2 * sub + half) * 16)).0) }
    }

    #[inline(always)]
    unsafe fn min<S: Simd>(scales: *const u8, sub: usize, half: usize) -> S::F {
        // SAFETY: the offset is below SCALE_BYTES.
        unsafe { S::mul(S::load_f16(scales.add(32)), S::load_nibbles(scales.add(64 + (2 * sub + half) * 16)).1) }
    }
}
