//! IQ4_NL: 32 values, `d * VALUES[q]` with sixteen values that are denser around 0. Block: f16 `d`, 16 bytes with values
//! 0–15 in the low nibbles and 16–31 in the high.

use super::encode::{Encode, encode, finite_halves, half, inverse};
use super::nonlinear::{self, SUB, VALUES};
use super::panel::{self, Packed};
use super::planes::{Codebook, Coded, Four};
use super::weights::{EncodeWeighted, MeanSquare, encode_weighted};
use super::{QuantType, f16_at, planes};
use crate::simd::{LANES, Simd};

const BYTES: usize = 18;

pub(super) static TYPE: QuantType = QuantType {
    name: "IQ4_NL",
    ggml_id: 20,
    block: 32,
    bytes: BYTES,
    decode,
    encode: Some(encode::<Iq4Nl>),
    encode_weighted: Some(encode_weighted::<Iq4Nl>),
    finite: |blocks| finite_halves(blocks, BYTES, &[0]),
    run: panel::quantized::<Iq4Nl>(),
};

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (b, v) in blocks.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<32>().0) {
        decode_32(f16_at(b, 0), b[2..].first_chunk().expect("16 bytes of nibbles"), v);
    }
}

/// 32 values from their nibbles.
#[inline(always)]
pub(super) fn decode_32(scale: f32, b: &[u8; 16], v: &mut [f32; 32]) {
    for i in 0..16 {
        v[i] = scale * f32::from(VALUES[usize::from(b[i] & 15)]);
        v[i + 16] = scale * f32::from(VALUES[usize::from(b[i] >> 4)]);
    }
}

/// 16 bytes of nibbles of 32 values, of which `1 / scale` is given.
#[inline(always)]
pub(super) fn encode_32(x: &[f32; 32], inverse: f32, b: &mut [u8]) {
    for (i, b) in b.iter_mut().enumerate() {
        *b = nonlinear::nearest(inverse * x[i]) | nonlinear::nearest(inverse * x[i + 16]) << 4;
    }
}

/// The sixteen values as bytes.
pub(super) struct Values;

impl Codebook for Values {
    const TABLE: [u8; 16] = {
        let mut table = [0; 16];
        let mut i = 0;
        while i < 16 {
            table[i] = (VALUES[i] as u8) ^ 0x80;
            i += 1;
        }
        table
    };
    const WIDE: bool = true;
}

/// How IQ4_NL is encoded and stands in panels.
struct Iq4Nl;

impl Encode for Iq4Nl {
    #[inline(always)]
    unsafe fn encode<S: Simd>(values: &[f32], blocks: &mut [u8]) {
        // SAFETY: the caller's promise.
        unsafe { encode_by::<S>(values, None, blocks) }
    }
}

impl EncodeWeighted for Iq4Nl {
    const BLOCK: usize = 32;
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
    for (i, (values, blocks)) in values.chunks(LANES * SUB).zip(blocks.chunks_mut(LANES)).enumerate() {
        let weights = weights.map(|weights| &weights[i * LANES * SUB..][..values.len()]);
        // SAFETY: the caller's promise.
        let scales = unsafe { S::run(nonlinear::Scales { values, weights }) };
        for ((x, block), scale) in values.as_chunks::<SUB>().0.iter().zip(blocks).zip(scales) {
            block[..2].copy_from_slice(&half(scale));
            encode_32(x, inverse(scale), &mut block[2..]);
        }
    }
}

impl Packed for Iq4Nl {
    type Planes = Coded<Four, Values>;

    const FILE_BYTES: usize = BYTES;
    const SUBS: usize = 1;
    const SCALE_BYTES: usize = 32;

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
