//! Q5_K: as Q4_K with a fifth bit. Block: f16 `d`, f16 `dmin`, 12 bytes of scales and mins, 32 bytes of fifth bits
//! (bit s of byte i belongs to value i of sub-block s), 128 bytes of nibbles.

use super::{QuantType, f16_at, q4_k};

pub(super) const BYTES: usize = 176;

pub(super) static TYPE: QuantType = QuantType { name: "Q5_K", ggml_id: 13, block: 256, bytes: BYTES, decode };

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (b, v) in blocks.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<256>().0) {
        let (d, dmin) = (f16_at(b, 0), f16_at(b, 2));
        let (scales, mins) = q4_k::scales_and_mins(b[4..].first_chunk().expect("12 bytes of scales"));
        for (i, (value, q)) in v.iter_mut().zip(quants(b)).enumerate() {
            *value = d * f32::from(scales[i / 32]) * f32::from(q) - dmin * f32::from(mins[i / 32]);
        }
    }
}

/// The 256 five-bit values of a block.
pub(super) fn quants(b: &[u8; BYTES]) -> [u8; 256] {
    std::array::from_fn(|i| {
        let nibble = b[48 + i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15;
        nibble | (b[16 + i % 32] >> (i / 32) & 1) << 4
    })
}
