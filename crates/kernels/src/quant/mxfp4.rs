//! MXFP4: 32 values, `2^(e - 127) * v` with v among 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives. Block: the exponent e, 16
//! bytes with values 0–15 in the low nibbles and 16–31 in the high; bit 3 is the sign.
//!
//! Source: OCP Microscaling Formats (MX) Specification 1.0. Values are kept doubled, as integers, and scales halved.

use super::QuantType;
use super::encode::{Encode, encode};
use super::panel::{self, Packed};
use super::planes::{Codebook, Coded, Four, put_nibbles};
use crate::simd::{LANES, Simd};

const BYTES: usize = 17;
/// Twice what the nibbles stand for.
pub(super) const DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

pub(super) static TYPE: QuantType = QuantType {
    name: "MXFP4",
    ggml_id: Some(39),
    block: 32,
    bytes: BYTES,
    decode,
    encode: Some(encode::<Mxfp4>),
    encode_weighted: None,
    // An exponent of all ones is NaN.
    finite: |blocks| blocks.as_chunks::<BYTES>().0.iter().all(|block| block[0] != 0xFF),
    run: panel::quantized::<Mxfp4>(),
};

/// Half of what an exponent stands for: `2^(e - 128)`. An exponent of all ones is as any other, which is what the reference
/// makes of it.
#[inline(always)]
pub(super) fn half_scale(e: u8) -> f32 {
    match u32::from(e) {
        // Denormal numbers.
        e @ 0..2 => f32::from_bits(0x20_0000 << e),
        e => f32::from_bits((e - 1) << 23),
    }
}

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (b, v) in blocks.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<32>().0) {
        decode_nibbles(half_scale(b[0]), &b[1..], v);
    }
}

/// Values from their nibbles: the low ones first, then the high ones.
#[inline(always)]
pub(super) fn decode_nibbles(scale: f32, b: &[u8], v: &mut [f32]) {
    let (low, high) = v.split_at_mut(b.len());
    for ((low, high), b) in low.iter_mut().zip(high).zip(b) {
        *low = scale * f32::from(DOUBLED[usize::from(b & 15)]);
        *high = scale * f32::from(DOUBLED[usize::from(b >> 4)]);
    }
}

/// Which of the values is nearest to each of 16 numbers, the first of them; -0 is not among them.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(super) unsafe fn nearest_16<S: Simd>(x: &[f32], scale: f32) -> [u8; LANES] {
    let mut q = [0; LANES];
    // SAFETY: the caller's promise; `x` and `q` have 16 values.
    unsafe {
        let x = S::load(x.as_ptr());
        let (mut best, mut least) = (S::splat(0.0), S::abs(S::sub(S::splat(0.0), x)));
        for (i, value) in DOUBLED.iter().enumerate().skip(1) {
            let error = S::abs(S::sub(S::splat(f32::from(*value) * scale), x));
            best = S::select_lt(error, least, S::splat(i as f32), best);
            least = S::select_lt(error, least, error, least);
        }
        S::store_i8(q.as_mut_ptr().cast(), S::round(best));
    }
    q
}

/// How MXFP4 is encoded and stands in panels.
struct Mxfp4;

impl Encode for Mxfp4 {
    #[inline(always)]
    unsafe fn encode<S: Simd>(values: &[f32], blocks: &mut [u8]) {
        for (x, b) in values.as_chunks::<32>().0.iter().zip(blocks.as_chunks_mut::<BYTES>().0) {
            let magnitude = x.iter().fold(0.0, |m: f32, v| if m < v.abs() { v.abs() } else { m });
            // The logarithm is rounded to single precision before its whole part is taken.
            let log2 = f64::from(magnitude).log2() as f32;
            b[0] = if magnitude > 0.0 { (log2.floor() as i32 - 2 + 127) as u8 } else { 0 };
            let scale = half_scale(b[0]);
            let (low, high) = x.split_at(LANES);
            // SAFETY: the caller's promise. Not mapped: a closure would be compiled without the tier's instructions.
            let (low, high) = unsafe { (nearest_16::<S>(low, scale), nearest_16::<S>(high, scale)) };
            for i in 0..LANES {
                b[1 + i] = low[i] | high[i] << 4;
            }
        }
    }
}

/// The sixteen values as bytes.
pub(super) struct Values;

impl Values {
    pub const BIAS: i32 = 12;
}

impl Codebook for Values {
    const TABLE: [u8; 16] = {
        let mut table = [0; 16];
        let mut i = 0;
        while i < 16 {
            table[i] = (DOUBLED[i] as i32 + Self::BIAS) as u8;
            i += 1;
        }
        table
    };
}

impl Packed for Mxfp4 {
    type Planes = Coded<Four, Values>;

    const FILE_BYTES: usize = BYTES;
    const SUBS: usize = 1;
    /// The 16 rows' exponents.
    const SCALE_BYTES: usize = 16;
    const BIAS: i32 = Values::BIAS;

    #[inline(always)]
    fn pack_row(block: &[u8], row: usize, planes: &mut [u8], scales: &mut [u8]) {
        put_nibbles(planes, row, block[1..].first_chunk().expect("16 bytes of nibbles"));
        scales[row] = block[0];
    }

    #[inline(always)]
    unsafe fn scale<S: Simd>(scales: *const u8, _sub: usize, _half: usize) -> S::F {
        // SAFETY: the offset is below SCALE_BYTES.
        unsafe { S::load_e8m0(scales) }
    }
}
