//! Q1_0: 128 values, `d` or `-d`. Block: f16 `d`, 16 bytes of bits; bit `i % 8` of byte `i / 8` is set where value i is not
//! negative.

use super::encode::{Encode, encode, finite_halves, half};
use super::panel::{self, Packed};
use super::planes::{Codebook, Coded, One, Planes};
use super::{QuantType, f16_at};
use crate::simd::Simd;

const BYTES: usize = 18;

pub(super) static TYPE: QuantType = QuantType {
    name: "Q1_0",
    ggml_id: Some(41),
    block: 128,
    bytes: BYTES,
    decode,
    encode: Some(encode::<Q10>),
    encode_weighted: None,
    finite: |blocks| finite_halves(blocks, BYTES, &[0]),
    run: panel::quantized::<Q10>(),
};

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (b, v) in blocks.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<128>().0) {
        let d = f16_at(b, 0);
        for (i, v) in v.iter_mut().enumerate() {
            *v = if b[2 + i / 8] >> (i % 8) & 1 == 1 { d } else { -d };
        }
    }
}

/// How Q1_0 is encoded and stands in panels.
struct Q10;

impl Encode for Q10 {
    #[inline(always)]
    unsafe fn encode<S: Simd>(values: &[f32], blocks: &mut [u8]) {
        for (x, b) in values.as_chunks::<128>().0.iter().zip(blocks.as_chunks_mut::<BYTES>().0) {
            let sum = x.iter().fold(0.0, |sum, v| sum + v.abs());
            b[..2].copy_from_slice(&half(sum / 128.0));
            for (b, x) in b[2..].iter_mut().zip(x.as_chunks::<8>().0) {
                *b = (0..8).fold(0, |bits, i| bits | u8::from(x[i] >= 0.0) << i);
            }
        }
    }
}

/// What a bit stands for.
struct Signs;

impl Codebook for Signs {
    const TABLE: [u8; 16] = [0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
}

impl Packed for Q10 {
    type Planes = Coded<One, Signs>;

    const FILE_BYTES: usize = BYTES;
    const SUBS: usize = 4;
    const SCALE_BYTES: usize = 32;
    const BIAS: i32 = 1;
    const FEW: bool = false;

    #[inline(always)]
    fn pack_row(block: &[u8], row: usize, planes: &mut [u8], scales: &mut [u8]) {
        for (sub, planes) in planes.chunks_exact_mut(Self::Planes::COUNT * 64).enumerate() {
            let q = std::array::from_fn(|i| block[2 + 4 * sub + i / 8] >> (i % 8) & 1);
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
