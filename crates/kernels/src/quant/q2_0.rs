//! Q2_0: 64 values, `d * (q - 1)`, q in two bits. Block: f16 `d`, 16 bytes of bit pairs: value i at bit `i % 4 * 2` of byte
//! `i / 4`.

use super::encode::{Encode, encode, finite_halves, half, inverse};
use super::panel::{self, Packed};
use super::planes::Planes;
use super::{QuantType, f16_at, planes};
use crate::simd::Simd;

const BYTES: usize = 18;

pub(super) static TYPE: QuantType = QuantType {
    name: "Q2_0",
    ggml_id: Some(42),
    block: 64,
    bytes: BYTES,
    decode,
    encode: Some(encode::<Q20>),
    encode_weighted: None,
    finite: |blocks| finite_halves(blocks, BYTES, &[0]),
    run: panel::quantized::<Q20>(),
};

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (b, v) in blocks.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<64>().0) {
        let d = f16_at(b, 0);
        for (i, v) in v.iter_mut().enumerate() {
            *v = (f32::from(b[2 + i / 4] >> (i % 4 * 2) & 3) - 1.0) * d;
        }
    }
}

/// How Q2_0 is encoded and stands in panels.
struct Q20;

impl Encode for Q20 {
    /// The largest magnitude is one unit, so that no value becomes two.
    #[inline(always)]
    unsafe fn encode<S: Simd>(values: &[f32], blocks: &mut [u8]) {
        for (x, b) in values.as_chunks::<64>().0.iter().zip(blocks.as_chunks_mut::<BYTES>().0) {
            let magnitude = x.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
            let inverse = inverse(magnitude);
            // What is not finite becomes the lowest, as in the reference's conversion of numbers that are not finite.
            let round = |v: f32| 1 + u8::from(v >= 0.5) - u8::from(v <= -0.5);
            let quant = |v: f32| if inverse.is_finite() { round(v * inverse) } else { 0 };
            b[..2].copy_from_slice(&half(magnitude));
            for (b, x) in b[2..].iter_mut().zip(x.as_chunks::<4>().0) {
                *b = (0..4).fold(0, |bits, i| bits | quant(x[i]) << (2 * i));
            }
        }
    }
}

impl Packed for Q20 {
    type Planes = planes::Two;

    const FILE_BYTES: usize = BYTES;
    const SUBS: usize = 2;
    const SCALE_BYTES: usize = 32;
    const BIAS: i32 = 1;
    const FEW: bool = false;

    #[inline(always)]
    fn pack_row(block: &[u8], row: usize, planes: &mut [u8], scales: &mut [u8]) {
        for (sub, planes) in planes.chunks_exact_mut(Self::Planes::COUNT * 64).enumerate() {
            let q = std::array::from_fn(|i| block[2 + 8 * sub + i / 4] >> (i % 4 * 2) & 3);
            Self::Planes::put(planes, row, &q);
        }
        scales[2 * row..2 * row + 2].copy_from_slice(&block[..2]);
    }

    #[inline(always)]
    unsafe fn scale<S: Simd>(scales: *const u8, _sub: usize, _half: usize) -> S::F {
        // SAFETY: the offset is below SCALE_BYTES.
        unsafe { S::load_f16(scales) }
    }
}
