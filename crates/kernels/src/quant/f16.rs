//! F16: IEEE half precision, little-endian.

use half::f16;

use super::QuantType;
use super::panel::{self, Element};
use crate::simd::Simd;

pub(super) static TYPE: QuantType =
    QuantType { name: "F16", ggml_id: 1, block: 1, bytes: 2, decode, run: panel::float::<F16>() };

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (v, b) in values.iter_mut().zip(blocks.as_chunks::<2>().0) {
        *v = f16::from_le_bytes(*b).to_f32();
    }
}

/// The element of panels of F16.
pub(crate) struct F16;

impl Element for F16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const u8) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { S::load_f16(p) }
    }
}
