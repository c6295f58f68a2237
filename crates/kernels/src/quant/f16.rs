//! F16: IEEE half precision, little-endian.

use half::f16;

use super::QuantType;
use super::encode::{Encode, encode, finite_halves, half};
use super::panel::{self, Element};
use crate::simd::{Kernel, LANES, Simd, Tier};

pub(super) static TYPE: QuantType = QuantType {
    name: "F16",
    ggml_id: Some(1),
    block: 1,
    bytes: 2,
    decode,
    encode: Some(encode::<F16>),
    encode_weighted: None,
    finite: |blocks| finite_halves(blocks, 2, &[0]),
    run: panel::float::<F16>(),
};

/// Takes the best tier, as all tiers give the same values.
fn decode(blocks: &[u8], values: &mut [f32]) {
    struct Decode<'a>(&'a [u8], &'a mut [f32]);
    impl Kernel for Decode<'_> {
        type Output = ();
        #[inline(always)]
        unsafe fn body<S: Simd>(self) {
            let (blocks, last_blocks) = self.0.as_chunks::<{ 2 * LANES }>();
            let (values, last_values) = self.1.as_chunks_mut::<LANES>();
            for (b, v) in blocks.iter().zip(values) {
                // SAFETY: the caller's promise; `b` has 32 bytes and `v` 16 values.
                unsafe { S::store(v.as_mut_ptr(), S::load_f16(b.as_ptr())) };
            }
            for (b, v) in last_blocks.as_chunks::<2>().0.iter().zip(last_values) {
                *v = f16::from_le_bytes(*b).to_f32();
            }
        }
    }
    let tier = Tier::detect().unwrap_or(Tier::Scalar);
    // SAFETY: a detected tier is available.
    unsafe { tier.run(Decode(blocks, values)) }
}

/// The encoding of F16, and the element of its panels.
pub struct F16;

impl Encode for F16 {
    #[inline(always)]
    unsafe fn encode<S: Simd>(values: &[f32], blocks: &mut [u8]) {
        let (values, last_values) = values.as_chunks::<LANES>();
        let (blocks, last_blocks) = blocks.as_chunks_mut::<{ 2 * LANES }>();
        for (v, b) in values.iter().zip(blocks) {
            // SAFETY: the caller's promise; `v` has 16 values and `b` 32 bytes.
            unsafe { S::store_f16(b.as_mut_ptr(), S::load(v.as_ptr())) };
        }
        for (v, b) in last_values.iter().zip(last_blocks.as_chunks_mut::<2>().0) {
            *b = half(*v);
        }
    }
}

impl Element for F16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const u8) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { S::load_f16(p) }
    }
}
