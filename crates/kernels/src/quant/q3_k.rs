//! Q3_K: 256 values in sixteen sub-blocks of 16, `d * (scale - 32) * (q - 4)` with 6-bit scales.
//! Block: 32 bytes of third bits (bit s of byte i belongs to value i of the s-th 32), 64 bytes of bit pairs as in Q2_K,
//! 12 bytes of scales, f16 `d`.

use super::descent::{self, LEVELS};
use super::encode::{Encode, encode, finite_halves};
use super::panel::{self, Packed};
use super::planes::Planes;
use super::weights::{EncodeWeighted, MeanSquare, encode_weighted};
use super::{QuantType, f16_at, planes, q2_k, symmetric};
use crate::simd::Simd;

const BYTES: usize = 110;

pub(super) static TYPE: QuantType = QuantType {
    name: "Q3_K",
    ggml_id: 11,
    block: 256,
    bytes: BYTES,
    decode,
    encode: Some(encode::<Q3K>),
    encode_weighted: Some(encode_weighted::<Q3K>),
    finite: |blocks| finite_halves(blocks, BYTES, &[108]),
    run: panel::quantized::<Q3K>(),
};

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (b, v) in blocks.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<256>().0) {
        let d = f16_at(b, 108);
        let scales = scales(b[96..].first_chunk().expect("12 bytes of scales"));
        for (sub, v) in v.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (i, (v, q)) in v.iter_mut().zip(quants(b, sub)).enumerate() {
                *v = d * f32::from(scales[2 * sub + i / 16]) * (f32::from(q) - 4.0);
            }
        }
    }
}

/// The sixteen scales: the low nibbles of the first eight in the low nibbles of bytes 0–7, of the others in the high; the
/// upper two bits of scale j at bit `j / 4 * 2` of byte `8 + j % 4`. Each is 32 more than what it stands for.
fn scales(b: &[u8; 12]) -> [i8; 16] {
    std::array::from_fn(|j| {
        let low = b[j % 8] >> (j / 8 * 4) & 15;
        let high = b[8 + j % 4] >> (j / 4 * 2) & 3;
        (low | high << 4) as i8 - 32
    })
}

/// The inverse of [`scales`].
fn pack_scales(scales: &[i8; 16], b: &mut [u8]) {
    b.fill(0);
    for (j, scale) in scales.iter().enumerate() {
        let scale = (scale + 32) as u8;
        b[j % 8] |= (scale & 15) << (j / 8 * 4);
        b[8 + j % 4] |= scale >> 4 << (j / 4 * 2);
    }
}

/// The 32 three-bit values of sub-block pair `sub`, each 4 more than what it stands for.
#[inline(always)]
fn quants(b: &[u8; BYTES], sub: usize) -> [u8; 32] {
    let low = planes::words(&q2_k::pairs(b[32..].first_chunk().expect("64 bytes of pairs"), sub));
    let high = planes::words(b.first_chunk().expect("32 bytes of third bits"));
    planes::bytes(std::array::from_fn(|g| low[g] | (high[g] >> sub & 0x0101_0101) << 2))
}

/// How Q3_K is encoded and stands in panels.
struct Q3K;

impl Encode for Q3K {
    #[inline(always)]
    unsafe fn encode<S: Simd>(values: &[f32], blocks: &mut [u8]) {
        for (x, block) in values.as_chunks::<256>().0.iter().zip(blocks.as_chunks_mut::<BYTES>().0) {
            // SAFETY: the caller's promise.
            let fits = unsafe { S::run(descent::Fits(x)) };
            pack(descent::finish(x, &fits), block);
        }
    }
}

impl EncodeWeighted for Q3K {
    const BLOCK: usize = 256;
    const MEAN_SQUARE: MeanSquare = MeanSquare::TwiceBlock;

    #[inline(always)]
    unsafe fn encode_weighted<S: Simd>(values: &[f32], weights: &[f32], blocks: &mut [u8]) {
        // SAFETY: the caller's promise.
        unsafe { symmetric::encode_blocks::<S, BYTES>(values, weights, blocks, pack) }
    }
}

/// Writes a block of f16 `d`, scales and integers.
#[inline(always)]
fn pack((d, scales, q): ([u8; 2], [i8; 16], [u8; 256]), block: &mut [u8; BYTES]) {
    for i in 0..32 {
        block[i] = (0..8).fold(0, |bits, sub| bits | q[32 * sub + i] >> 2 << sub);
    }
    q2_k::pack_pairs(&q, &mut block[32..96]);
    pack_scales(&scales, &mut block[96..108]);
    block[108..].copy_from_slice(&d);
}

impl Packed for Q3K {
    type Planes = planes::Three;

    const FILE_BYTES: usize = BYTES;
    const SUBS: usize = 8;
    /// f16 `d` of 16 rows, then the 16 rows' scales of each 16 values.
    const SCALE_BYTES: usize = 288;
    const BIAS: i32 = LEVELS;
    const HALVES: bool = true;

    #[inline(always)]
    fn pack_row(block: &[u8], row: usize, planes: &mut [u8], out: &mut [u8]) {
        let whole = block.first_chunk().expect("a whole block");
        for (sub, planes) in planes.chunks_exact_mut(Self::Planes::COUNT * 64).enumerate() {
            Self::Planes::put(planes, row, &quants(whole, sub));
        }
        out[2 * row..2 * row + 2].copy_from_slice(&block[108..]);
        for (i, scale) in scales(block[96..].first_chunk().expect("12 bytes of scales")).iter().enumerate() {
            out[32 + i * 16 + row] = *scale as u8;
        }
    }

    #[inline(always)]
    unsafe fn scale<S: Simd>(scales: *const u8, sub: usize, half: usize) -> S::F {
        // SAFETY: the offset is below SCALE_BYTES.
        unsafe { S::mul(S::load_f16(scales), S::load_i8(scales.add(32 + (2 * sub + half) * 16))) }
    }
}
