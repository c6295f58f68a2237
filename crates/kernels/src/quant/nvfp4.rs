//! NVFP4: 64 values in four sub-blocks of 16, `scale * v` with the values v of MXFP4. Block: four scales of 4 exponent and 3
//! mantissa bits (E4M3 without sign), 32 bytes of nibbles: each 8 bytes hold a sub-block, values 0–7 in the low nibbles and
//! 8–15 in the high.

use super::QuantType;
use super::encode::{Encode, encode};
use super::mxfp4::{Values, decode_nibbles, nearest_16};
use super::panel::{self, Packed};
use super::planes::{Coded, Four, Planes};
use crate::simd::Simd;

const BYTES: usize = 36;
/// The bits that stand for NaN, and for 0 in this format; the upper bit is not looked at elsewhere.
const NAN: u8 = 0x7F;

pub(super) static TYPE: QuantType = QuantType {
    name: "NVFP4",
    ggml_id: Some(40),
    block: 64,
    bytes: BYTES,
    decode,
    encode: Some(encode::<Nvfp4>),
    encode_weighted: None,
    // Any scale is a number.
    finite: |_| true,
    run: panel::quantized::<Nvfp4>(),
};

/// Half of what a scale stands for.
#[inline(always)]
pub(super) fn half_scale(bits: u8) -> f32 {
    // As a half, the bits stand for 2^-8 of the number.
    if bits == NAN { 0.0 } else { half::f16::from_bits(u16::from(bits & 0x7F) << 7).to_f32() * 128.0 }
}

/// The nearest scale, ties upwards, at most 448.
#[inline(always)]
fn scale_bits(v: f32) -> u8 {
    const LARGEST: u8 = 0x7E;
    if v <= 0.0 {
        return 0;
    }
    let bits = v.min(448.0).to_bits();
    // Exponents of E4M3 have a bias of 7.
    let exponent = (bits >> 23) as i32 - 127 + 7;
    if exponent <= 0 {
        return (v * 512.0 + 0.5).min(7.0) as u8;
    }
    // A mantissa that overflows makes the exponent larger by one.
    let rounded = (exponent << 3) as u32 + (bits >> 20 & 7) + (bits >> 19 & 1);
    rounded.min(LARGEST.into()) as u8
}

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (b, v) in blocks.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<64>().0) {
        for (sub, v) in v.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            decode_nibbles(half_scale(b[sub]), &b[4 + 8 * sub..12 + 8 * sub], v);
        }
    }
}

/// How NVFP4 is encoded and stands in panels.
struct Nvfp4;

impl Encode for Nvfp4 {
    #[inline(always)]
    unsafe fn encode<S: Simd>(values: &[f32], blocks: &mut [u8]) {
        for (x, b) in values.as_chunks::<64>().0.iter().zip(blocks.as_chunks_mut::<BYTES>().0) {
            for (sub, x) in x.as_chunks::<16>().0.iter().enumerate() {
                let magnitude = x.iter().fold(0.0, |m: f32, v| if m < v.abs() { v.abs() } else { m });
                b[sub] = scale_bits(magnitude / 6.0);
                // SAFETY: the caller's promise.
                let q = unsafe { nearest_16::<S>(x, half_scale(b[sub])) };
                for i in 0..8 {
                    b[4 + 8 * sub + i] = q[i] | q[8 + i] << 4;
                }
            }
        }
    }
}

impl Packed for Nvfp4 {
    type Planes = Coded<Four, Values>;

    const FILE_BYTES: usize = BYTES;
    const SUBS: usize = 2;
    /// The 16 rows' scales of each 16 values.
    const SCALE_BYTES: usize = 64;
    const BIAS: i32 = Values::BIAS;
    const HALVES: bool = true;
    const FEW: bool = false;

    #[inline(always)]
    fn pack_row(block: &[u8], row: usize, planes: &mut [u8], scales: &mut [u8]) {
        for (sub, planes) in planes.chunks_exact_mut(Self::Planes::COUNT * 64).enumerate() {
            let packed = &block[4 + 16 * sub..20 + 16 * sub];
            let q = std::array::from_fn(|i| packed[i / 16 * 8 + i % 8] >> (i % 16 / 8 * 4) & 15);
            Self::Planes::put(planes, row, &q);
        }
        for (sub, scale) in block[..4].iter().enumerate() {
            scales[16 * sub + row] = if *scale == NAN { 0 } else { scale & 0x7F };
        }
    }

    #[inline(always)]
    unsafe fn scale<S: Simd>(scales: *const u8, sub: usize, half: usize) -> S::F {
        // SAFETY: the offset is below SCALE_BYTES.
        unsafe { S::load_e4m3(scales.add((2 * sub + half) * 16)) }
    }
}
