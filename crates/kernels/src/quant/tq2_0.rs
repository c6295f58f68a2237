//! TQ2_0: 256 values, `d * (q - 1)`, q in two bits. Block: 64 bytes of bit pairs, f16 `d`. Each half of 128 values takes 32
//! bytes of pairs as in Q2_K.

use super::encode::{Encode, encode, finite_halves, half, inverse};
use super::panel::{self, Packed};
use super::planes::Planes;
use super::{QuantType, f16_at, planes, q2_k};
use crate::simd::Simd;

const BYTES: usize = 66;

pub(super) static TYPE: QuantType = QuantType {
    name: "TQ2_0",
    ggml_id: Some(35),
    block: 256,
    bytes: BYTES,
    decode,
    encode: Some(encode::<Tq20>),
    encode_weighted: None,
    finite: |blocks| finite_halves(blocks, BYTES, &[64]),
    run: panel::quantized::<Tq20>(),
};

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (b, v) in blocks.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<256>().0) {
        let d = f16_at(b, 64);
        for (sub, v) in v.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let q = q2_k::pairs(b.first_chunk().expect("64 bytes of pairs"), sub);
            v.iter_mut().zip(q).for_each(|(v, q)| *v = (f32::from(q) - 1.0) * d);
        }
    }
}

/// f16 of the largest magnitude, and each value in units of it, rounded, plus 1.
#[inline(always)]
pub(super) fn trits(x: &[f32; 256]) -> ([u8; 2], [u8; 256]) {
    let magnitude = x.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
    let inverse = inverse(magnitude);
    let trit = |v: f32| {
        let v = v * inverse;
        // What is not finite becomes 0, as in the reference's conversion of numbers that are not finite.
        if !inverse.is_finite() { 1 } else { 1 + u8::from(v >= 0.5) - u8::from(v <= -0.5) }
    };
    (half(magnitude), x.map(trit))
}

/// How TQ2_0 is encoded and stands in panels.
struct Tq20;

impl Encode for Tq20 {
    #[inline(always)]
    unsafe fn encode<S: Simd>(values: &[f32], blocks: &mut [u8]) {
        for (x, block) in values.as_chunks::<256>().0.iter().zip(blocks.as_chunks_mut::<BYTES>().0) {
            let (d, q) = trits(x);
            q2_k::pack_pairs(&q, &mut block[..64]);
            block[64..].copy_from_slice(&d);
        }
    }
}

impl Packed for Tq20 {
    type Planes = planes::Two;

    const FILE_BYTES: usize = BYTES;
    const SUBS: usize = 8;
    const SCALE_BYTES: usize = 32;
    const BIAS: i32 = 1;

    #[inline(always)]
    fn pack_row(block: &[u8], row: usize, planes: &mut [u8], scales: &mut [u8]) {
        for (sub, planes) in planes.chunks_exact_mut(Self::Planes::COUNT * 64).enumerate() {
            Self::Planes::put(planes, row, &q2_k::pairs(block.first_chunk().expect("64 bytes of pairs"), sub));
        }
        scales[2 * row..2 * row + 2].copy_from_slice(&block[64..]);
    }

    #[inline(always)]
    unsafe fn scale<S: Simd>(scales: *const u8, _sub: usize, _half: usize) -> S::F {
        // SAFETY: the offset is below SCALE_BYTES.
        unsafe { S::load_f16(scales) }
    }
}
