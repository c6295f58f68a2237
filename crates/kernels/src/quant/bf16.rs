//! BF16: the upper half of an IEEE single, little-endian.

use super::QuantType;
use super::encode::{Encode, encode};
use super::panel::{self, Element};
use crate::simd::Simd;

pub(super) static TYPE: QuantType = QuantType {
    name: "BF16",
    ggml_id: Some(30),
    block: 1,
    bytes: 2,
    decode,
    encode: Some(encode::<Bf16>),
    encode_weighted: None,
    finite: |blocks| blocks.as_chunks::<2>().0.iter().all(|b| u16::from_le_bytes(*b) & 0x7F80 != 0x7F80),
    run: panel::float::<Bf16>(),
};

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (v, b) in values.iter_mut().zip(blocks.as_chunks::<2>().0) {
        *v = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
    }
}

/// The encoding of BF16, and the element of its panels.
pub(super) struct Bf16;

impl Encode for Bf16 {
    /// Rounds to nearest, ties to even.
    #[inline(always)]
    unsafe fn encode<S: Simd>(values: &[f32], blocks: &mut [u8]) {
        for (v, b) in values.iter().zip(blocks.as_chunks_mut::<2>().0) {
            let bits = v.to_bits();
            *b = ((bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16) as u16).to_le_bytes();
        }
    }
}

impl Element for Bf16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const u8) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { S::load_bf16(p) }
    }
}
