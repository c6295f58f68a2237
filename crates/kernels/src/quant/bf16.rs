//! BF16: the upper half of an IEEE single, little-endian.

use super::QuantType;
use super::panel::{self, Element};
use crate::simd::Simd;

pub(super) static TYPE: QuantType =
    QuantType { name: "BF16", ggml_id: 30, block: 1, bytes: 2, decode, run: panel::float::<Bf16>() };

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (v, b) in values.iter_mut().zip(blocks.as_chunks::<2>().0) {
        *v = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
    }
}

/// The element of panels of BF16.
struct Bf16;

impl Element for Bf16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const u8) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { S::load_bf16(p) }
    }
}
