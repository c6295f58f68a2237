//! F32: IEEE single precision, little-endian.

use super::QuantType;
use super::panel::{self, Element};
use crate::simd::{Simd, Tier};

pub(super) static TYPE: QuantType = QuantType {
    name: "F32",
    ggml_id: Some(0),
    block: 1,
    bytes: 4,
    decode,
    encode: Some(encode),
    encode_weighted: None,
    finite: |blocks| blocks.as_chunks::<4>().0.iter().all(|b| f32::from_le_bytes(*b).is_finite()),
    run: panel::float::<F32>(),
};

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (v, b) in values.iter_mut().zip(blocks.as_chunks::<4>().0) {
        *v = f32::from_le_bytes(*b);
    }
}

fn encode(_tier: Tier, values: &[f32], blocks: &mut [u8]) {
    for (v, b) in values.iter().zip(blocks.as_chunks_mut::<4>().0) {
        *b = v.to_le_bytes();
    }
}

/// The element of panels of F32.
pub struct F32;

impl Element for F32 {
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const u8) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { S::load(p.cast()) }
    }
}
