//! Q8_0: 32 values, `d * q`. Block: f16 `d`, 32 signed bytes.

use super::encode::{Encode, SHIFT, encode, finite_halves, half, inverse};
use super::panel::{self, Packed};
use super::planes::Planes;
use super::{QuantType, f16_at, planes};
use crate::simd::{LANES, Simd};

pub(super) const BYTES: usize = 34;

pub(super) static TYPE: QuantType = QuantType {
    name: "Q8_0",
    ggml_id: 8,
    block: 32,
    bytes: BYTES,
    decode,
    encode: Some(encode::<Q80>),
    encode_weighted: None,
    finite: |blocks| finite_halves(blocks, BYTES, &[0]),
    run: panel::quantized::<Q80>(),
};

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (b, v) in blocks.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<32>().0) {
        let d = f16_at(b, 0);
        for i in 0..32 {
            v[i] = d * f32::from(b[2 + i] as i8);
        }
    }
}

/// How Q8_0 is encoded and stands in panels.
pub(crate) struct Q80;

impl Encode for Q80 {
    #[inline(always)]
    unsafe fn encode<S: Simd>(values: &[f32], blocks: &mut [u8]) {
        for (x, b) in values.as_chunks::<32>().0.iter().zip(blocks.as_chunks_mut::<BYTES>().0) {
            let (scale, quants) = b.split_at_mut(2);
            // SAFETY: the caller's promise; `x` and `quants` have two times 16 values.
            unsafe {
                let x = [S::load(x.as_ptr()), S::load(x.as_ptr().add(LANES))];
                let d = S::largest(S::max(S::abs(x[0]), S::abs(x[1]))) / 127.0;
                scale.copy_from_slice(&half(d));
                // 0 where the inverse is not finite, as in the reference's conversion of numbers that are not finite.
                let id = Some(inverse(d)).filter(|id| id.is_finite()).unwrap_or(0.0);
                for (x, q) in x.into_iter().zip(quants.as_chunks_mut::<LANES>().0) {
                    S::store_i8(q.as_mut_ptr().cast(), round_half_away::<S>(S::mul(x, S::splat(id))));
                }
            }
        }
    }
}

/// The nearest integers, ties away from zero.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn round_half_away<S: Simd>(v: S::F) -> S::I {
    // SAFETY: the caller's promise.
    unsafe {
        let zero = S::splat(0.0);
        let magnitude = S::abs(v);
        let even = S::sub(S::add(magnitude, S::splat(SHIFT)), S::splat(SHIFT));
        // What ties to even left below a tie is exactly a half.
        let below = S::select_lt(S::sub(magnitude, even), S::splat(0.5), zero, S::splat(1.0));
        let rounded = S::add(even, below);
        S::round(S::select_lt(v, zero, S::sub(zero, rounded), rounded))
    }
}

impl Packed for Q80 {
    type Planes = planes::Eight;

    const FILE_BYTES: usize = BYTES;
    const SUBS: usize = 1;
    const SCALE_BYTES: usize = 32;

    #[inline(always)]
    fn pack_row(block: &[u8], row: usize, planes: &mut [u8], scales: &mut [u8]) {
        let unsigned: [u8; 32] = std::array::from_fn(|i| block[2 + i] ^ 0x80);
        Self::Planes::put(planes, row, &unsigned);
        scales[2 * row..2 * row + 2].copy_from_slice(&block[..2]);
    }

    #[inline(always)]
    unsafe fn scale<S: Simd>(scales: *const u8, _sub: usize, _half: usize) -> S::F {
        // SAFETY: the offset is below SCALE_BYTES.
        unsafe { S::load_f16(scales) }
    }
}
