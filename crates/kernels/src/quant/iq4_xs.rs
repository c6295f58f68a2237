//! IQ4_XS: 256 values in eight sub-blocks of 32, `d * (scale - 32) * VALUES[q]` with 6-bit scales and the sixteen values of
//! IQ4_NL. Block: f16 `d`, 16 bits with the upper two of each scale, 4 bytes with the lower four, 128 bytes of nibbles:
//! each 16 bytes hold a sub-block as in IQ4_NL.

use super::encode::{Encode, encode, finite_halves, half, inverse, nearest};
use super::iq4_nl::{Values, decode_32, encode_32};
use super::nonlinear::{self, SUB};
use super::panel::{self, Packed};
use super::planes::{Coded, Four, Planes, put_nibbles};
use super::weights::{EncodeWeighted, MeanSquare, encode_weighted};
use super::{QuantType, f16_at};
use crate::simd::{LANES, Simd};

const BYTES: usize = 136;

pub(super) static TYPE: QuantType = QuantType {
    name: "IQ4_XS",
    ggml_id: 23,
    block: 256,
    bytes: BYTES,
    decode,
    encode: Some(encode::<Iq4Xs>),
    encode_weighted: Some(encode_weighted::<Iq4Xs>),
    finite: |blocks| finite_halves(blocks, BYTES, &[0]),
    run: panel::quantized::<Iq4Xs>(),
};

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (b, v) in blocks.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<256>().0) {
        let (d, scales) = (f16_at(b, 0), scales(b));
        for (sub, v) in v.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            decode_32(d * f32::from(scales[sub]), &b[8..].as_chunks().0[sub], v);
        }
    }
}

/// The eight scales.
fn scales(b: &[u8; BYTES]) -> [i8; 8] {
    let high = u16::from_le_bytes([b[2], b[3]]);
    std::array::from_fn(|i| {
        let low = b[4 + i / 2] >> (i % 2 * 4) & 15;
        (low | ((high >> (2 * i) & 3) as u8) << 4) as i8 - 32
    })
}

/// How IQ4_XS is encoded and stands in panels.
struct Iq4Xs;

impl Encode for Iq4Xs {
    #[inline(always)]
    unsafe fn encode<S: Simd>(values: &[f32], blocks: &mut [u8]) {
        // SAFETY: the caller's promise.
        unsafe { encode_by::<S>(values, None, blocks) }
    }
}

impl EncodeWeighted for Iq4Xs {
    const BLOCK: usize = 256;
    const MEAN_SQUARE: MeanSquare = MeanSquare::TwiceBlock;

    #[inline(always)]
    unsafe fn encode_weighted<S: Simd>(values: &[f32], weights: &[f32], blocks: &mut [u8]) {
        // SAFETY: the caller's promise.
        unsafe { encode_by::<S>(values, Some(weights), blocks) }
    }
}

/// Encodes blocks.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn encode_by<S: Simd>(values: &[f32], weights: Option<&[f32]>, blocks: &mut [u8]) {
    let (blocks, _) = blocks.as_chunks_mut::<BYTES>();
    for (i, (values, blocks)) in values.chunks(LANES * SUB).zip(blocks.chunks_mut(LANES * SUB / 256)).enumerate() {
        let weights = weights.map(|weights| &weights[i * LANES * SUB..][..values.len()]);
        // SAFETY: the caller's promise.
        let scales = unsafe { S::run(nonlinear::Scales { values, weights }) };
        for ((x, block), scales) in values.as_chunks::<256>().0.iter().zip(blocks).zip(scales.as_chunks().0) {
            finish(x, scales, block);
        }
    }
}

/// Writes a block.
///
/// Squares that overflowed in a search would be a scale of 0, and nobody would know: `d` is NaN then.
#[inline(always)]
fn finish(x: &[f32; 256], scales: &[f32; 8], block: &mut [u8; BYTES]) {
    let (mut largest, mut magnitude) = (0.0, 0.0);
    for scale in scales {
        if scale.abs() > magnitude {
            (largest, magnitude) = (*scale, scale.abs());
        }
    }
    let overflowed = scales.iter().any(|scale| scale.is_nan());
    let d = if overflowed { f32::NAN } else { -largest / 32.0 };
    block[..8].fill(0);
    block[..2].copy_from_slice(&half(d));
    let mut high = 0u16;
    for (i, (x, scale)) in x.as_chunks::<SUB>().0.iter().zip(scales).enumerate() {
        let rounded = nearest(inverse(d) * scale).clamp(-32, 31);
        encode_32(x, inverse(d * rounded as f32), &mut block[8 + 16 * i..24 + 16 * i]);
        let six_bits = (rounded + 32) as u8;
        block[4 + i / 2] |= (six_bits & 15) << (i % 2 * 4);
        high |= u16::from(six_bits >> 4) << (2 * i);
    }
    block[2..4].copy_from_slice(&high.to_le_bytes());
}

impl Packed for Iq4Xs {
    type Planes = Coded<Four, Values>;

    const FILE_BYTES: usize = BYTES;
    const SUBS: usize = 8;
    /// f16 `d` of 16 rows, then the 16 rows' scales of each sub-block.
    const SCALE_BYTES: usize = 160;

    #[inline(always)]
    fn pack_row(block: &[u8], row: usize, planes: &mut [u8], out: &mut [u8]) {
        let planes = planes.chunks_exact_mut(Self::Planes::COUNT * 64);
        for (planes, nibbles) in planes.zip(block[8..].as_chunks().0) {
            put_nibbles(planes, row, nibbles);
        }
        out[2 * row..2 * row + 2].copy_from_slice(&block[..2]);
        for (sub, scale) in scales(block.first_chunk().expect("a whole block")).iter().enumerate() {
            out[32 + sub * 16 + row] = *scale as u8;
        }
    }

    #[inline(always)]
    unsafe fn scale<S: Simd>(scales: *const u8, sub: usize, _half: usize) -> S::F {
        // SAFETY: the offset is below SCALE_BYTES.
        unsafe { S::mul(S::load_f16(scales), S::load_i8(scales.add(32 + sub * 16))) }
    }
}
