//! MXFP8: 32 values, `2^(e - 127) * v` with v of 4 exponent and 3 mantissa bits (E4M3). Block: the exponent e, 32 bytes with
//! the values.
//!
//! Source: OCP Microscaling Formats (MX) Specification 1.0; the type is MLX's, to which a v of all ones is a number as any
//! other. Every value is one of BF16, and so it stands in panels.

use half::f16;

use super::encode::{Encode, encode};
use super::mxfp4::half_scale;
use super::panel::{self, RunLayout};
use super::{QuantType, bf16};
use crate::simd::{LANES, Simd};

const BYTES: usize = 33;

pub(super) static TYPE: QuantType = QuantType {
    name: "MXFP8",
    ggml_id: None,
    block: 32,
    bytes: BYTES,
    decode,
    encode: Some(encode::<Mxfp8>),
    encode_weighted: None,
    finite: |blocks| blocks.as_chunks::<BYTES>().0.iter().all(|block| block[0] != 0xFF),
    run: RunLayout { pack, ..panel::float::<bf16::Bf16>() },
};

/// What a byte stands for.
#[inline(always)]
fn number(bits: u8) -> f32 {
    // As a half, the lower seven bits stand for 2^-8 of the number.
    let magnitude = f16::from_bits(u16::from(bits & 0x7F) << 7).to_f32() * 256.0;
    if bits & 0x80 == 0 { magnitude } else { -magnitude }
}

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (b, v) in blocks.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<32>().0) {
        let scale = 2.0 * half_scale(b[0]);
        v.iter_mut().zip(&b[1..]).for_each(|(v, bits)| *v = scale * number(*bits));
    }
}

fn pack(rows: &[u8], cols: usize, panel: &mut [u8]) {
    panel.fill(0);
    let mut values = [0.0; 32];
    for (row, blocks) in rows.chunks_exact(cols / 32 * BYTES).enumerate() {
        for (block, b) in blocks.as_chunks::<BYTES>().0.iter().enumerate() {
            decode(b, &mut values);
            for (i, value) in values.iter().enumerate() {
                let at = ((32 * block + i) * LANES + row) * 2;
                panel[at..at + 2].copy_from_slice(&half::bf16::from_f32(*value).to_le_bytes());
            }
        }
    }
}

/// The nearest number's byte, ties to even, at most 448.
#[inline(always)]
pub(super) fn byte_of(v: f32) -> u8 {
    const LARGEST: u32 = 0x7E;
    let sign = (v.to_bits() >> 24 & 0x80) as u8;
    let magnitude = v.abs();
    let bits = if magnitude < 0.015_625 {
        // Multiples of 2^-9.
        (magnitude * 512.0).round_ties_even() as u32
    } else {
        // Exponents of E4M3 have a bias of 7, not of 127; a mantissa that overflows makes the exponent larger by one.
        let bits = magnitude.to_bits();
        (((bits + 0x7_FFFF + (bits >> 20 & 1)) >> 20) - (120 << 3)).min(LARGEST)
    };
    sign | bits as u8
}

/// How MXFP8 is encoded.
struct Mxfp8;

impl Encode for Mxfp8 {
    #[inline(always)]
    unsafe fn encode<S: Simd>(values: &[f32], blocks: &mut [u8]) {
        super::mlx::mxfp8(values, blocks, |v| v);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_numbers_are_the_nearest() {
        for bits in (0..=0x7E).chain(0x80..=0xFE) {
            assert_eq!(byte_of(number(bits)), bits, "{bits:#x}");
            if bits & 0x7F < 0x7E {
                let (this, next) = (number(bits), number(bits + 1));
                let even = if bits & 1 == 0 { bits } else { bits + 1 };
                assert_eq!(byte_of((this + next) / 2.0), even, "between {bits:#x} and the next");
                assert_eq!(byte_of(this * 0.52 + next * 0.48), bits);
            }
        }
        assert_eq!([byte_of(449.0), byte_of(f32::INFINITY), byte_of(-1e30)], [0x7E, 0x7E, 0xFE]);
    }
}
