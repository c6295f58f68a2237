//! NVFP4 by sub-blocks of 16, for rows that are no whole blocks of four: MLX's folders may have them, GGUF files do not. Block:
//! the scale, 8 bytes of nibbles, values 0–7 in the low ones and 8–15 in the high.
//!
//! Every value is one of BF16, and so it stands in panels.

use super::encode::{Encode, encode};
use super::mxfp4::decode_nibbles;
use super::nvfp4::half_scale;
use super::panel::{self, RunLayout};
use super::{QuantType, bf16};
use crate::simd::{LANES, Simd};

const BYTES: usize = 9;

pub(super) static TYPE: QuantType = QuantType {
    name: "NVFP4_G16",
    ggml_id: None,
    block: 16,
    bytes: BYTES,
    decode,
    encode: Some(encode::<Nvfp4G16>),
    encode_weighted: None,
    // Any scale is a number.
    finite: |_| true,
    run: RunLayout { pack, ..panel::float::<bf16::Bf16>() },
};

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (b, v) in blocks.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<16>().0) {
        decode_nibbles(half_scale(b[0]), &b[1..], v);
    }
}

fn pack(rows: &[u8], cols: usize, panel: &mut [u8]) {
    panel.fill(0);
    let mut values = [0.0; 16];
    for (row, blocks) in rows.chunks_exact(cols / 16 * BYTES).enumerate() {
        for (block, b) in blocks.as_chunks::<BYTES>().0.iter().enumerate() {
            decode(b, &mut values);
            for (i, value) in values.iter().enumerate() {
                let at = ((16 * block + i) * LANES + row) * 2;
                panel[at..at + 2].copy_from_slice(&half::bf16::from_f32(*value).to_le_bytes());
            }
        }
    }
}

/// How NVFP4_G16 is encoded.
struct Nvfp4G16;

impl Encode for Nvfp4G16 {
    #[inline(always)]
    unsafe fn encode<S: Simd>(values: &[f32], blocks: &mut [u8]) {
        super::mlx::nvfp4_g16(values, blocks, |v| v);
    }
}
