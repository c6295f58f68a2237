//! Q6_K: 256 values in sixteen sub-blocks of 16, `d * scale * (q - 32)` with signed 8-bit scales.
//! Block: 128 bytes of low nibbles, 64 bytes of upper bit pairs, 16 scales, f16 `d`. Each half of 128 values takes 64
//! bytes of nibbles and 32 of bit pairs: quarter c (32 values) has its nibbles in bytes `c % 2 * 32 + i`, low for c < 2,
//! and its pairs at bit `2c` of byte i.

use super::encode::{Encode, encode, finite_halves};
use super::panel::{self, Packed};
use super::planes::Planes;
use super::weights::{EncodeWeighted, MeanSquare, encode_weighted};
use super::{QuantType, f16_at, planes, symmetric};
use crate::simd::Simd;

pub(super) const BYTES: usize = 210;

pub(super) static TYPE: QuantType = QuantType {
    name: "Q6_K",
    ggml_id: 14,
    block: 256,
    bytes: BYTES,
    decode,
    encode: Some(encode::<Q6K>),
    encode_weighted: Some(encode_weighted::<Q6K>),
    finite: |blocks| finite_halves(blocks, BYTES, &[208]),
    run: panel::quantized::<Q6K>(),
};

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (b, v) in blocks.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<256>().0) {
        let d = f16_at(b, 208);
        for (sub, v) in v.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (i, (v, q)) in v.iter_mut().zip(quants(b, sub)).enumerate() {
                let scale = b[192 + 2 * sub + i / 16] as i8;
                *v = d * f32::from(scale) * (f32::from(q) - 32.0);
            }
        }
    }
}

/// The 32 six-bit values of sub-block pair `sub`, each 32 more than what it stands for.
#[inline(always)]
fn quants(b: &[u8; BYTES], sub: usize) -> [u8; 32] {
    let (half, quarter) = (sub / 4, sub % 4);
    let low = planes::words(&b.as_chunks().0[half * 2 + quarter % 2]);
    let high = planes::words(&b[128..].as_chunks().0[half]);
    planes::bytes(std::array::from_fn(|g| {
        low[g] >> (quarter / 2 * 4) & 0x0F0F_0F0F | (high[g] >> (quarter * 2) & 0x0303_0303) << 4
    }))
}

/// Writes a block; the inverse of [`quants`].
#[inline(always)]
fn pack(q: &[u8; 256], scales: [i8; 16], d: [u8; 2], block: &mut [u8; BYTES]) {
    for (half, q) in q.as_chunks::<128>().0.iter().enumerate() {
        for i in 0..32 {
            let quarters = [q[i], q[i + 32], q[i + 64], q[i + 96]];
            block[64 * half + i] = quarters[0] & 15 | quarters[2] << 4;
            block[64 * half + 32 + i] = quarters[1] & 15 | quarters[3] << 4;
            block[128 + 32 * half + i] = (0..4).fold(0, |bits, c| bits | quarters[c] >> 4 << (2 * c));
        }
    }
    block[192..208].copy_from_slice(&scales.map(|s| s as u8));
    block[208..].copy_from_slice(&d);
}

/// How Q6_K is encoded and stands in panels.
struct Q6K;

impl Encode for Q6K {
    #[inline(always)]
    unsafe fn encode<S: Simd>(values: &[f32], blocks: &mut [u8]) {
        // SAFETY: the caller's promise.
        unsafe { encode_by::<S>(values, None, blocks) }
    }
}

impl EncodeWeighted for Q6K {
    const BLOCK: usize = 256;
    const MEAN_SQUARE: MeanSquare = MeanSquare::None;

    #[inline(always)]
    unsafe fn encode_weighted<S: Simd>(values: &[f32], weights: &[f32], blocks: &mut [u8]) {
        // SAFETY: the caller's promise.
        unsafe { encode_by::<S>(values, Some(weights), blocks) }
    }
}

/// Encodes blocks.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn encode_by<S: Simd>(values: &[f32], weights: Option<&[f32]>, blocks: &mut [u8]) {
    let (values, _) = values.as_chunks::<256>();
    for (i, (values, block)) in values.iter().zip(blocks.as_chunks_mut::<BYTES>().0).enumerate() {
        let weights = weights.map(|weights| &weights[256 * i..][..256]);
        // SAFETY: the caller's promise.
        let fits = unsafe { S::run(symmetric::Fits::<16> { values, weights, levels: 32 }) };
        match symmetric::finish(values, &fits) {
            Some((d, scales, q)) => pack(&q, scales, d, block),
            None => block.fill(0),
        }
    }
}

impl Packed for Q6K {
    type Planes = planes::Six;

    const FILE_BYTES: usize = BYTES;
    const SUBS: usize = 8;
    const SCALE_BYTES: usize = 288;
    const BIAS: i32 = 32;
    const HALVES: bool = true;

    #[inline(always)]
    fn pack_row(block: &[u8], row: usize, planes: &mut [u8], scales: &mut [u8]) {
        let whole = block.first_chunk().expect("a whole block");
        for (sub, planes) in planes.chunks_exact_mut(Self::Planes::COUNT * 64).enumerate() {
            Self::Planes::put(planes, row, &quants(whole, sub));
        }
        scales[2 * row..2 * row + 2].copy_from_slice(&block[208..]);
        for (i, scale) in block[192..208].iter().enumerate() {
            scales[32 + i * 16 + row] = *scale;
        }
    }

    #[inline(always)]
    unsafe fn scale<S: Simd>(scales: *const u8, sub: usize, half: usize) -> S::F {
        // SAFETY: the offset is below SCALE_BYTES.
        unsafe { S::mul(S::load_f16(scales), S::load_i8(scales.add(32 + (2 * sub + half) * 16))) }
    }
}
