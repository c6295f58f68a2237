//! Q5_0: 32 values, `d * (q - 16)`. Block: f16 `d`, 32 fifth bits (bit i belongs to value i), then nibbles as in Q4_0.

use super::{QuantType, f16_at};

pub(super) const BYTES: usize = 22;

pub(super) static TYPE: QuantType = QuantType { name: "Q5_0", ggml_id: 6, block: 32, bytes: BYTES, decode };

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (b, v) in blocks.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<32>().0) {
        let d = f16_at(b, 0);
        for (value, q) in v.iter_mut().zip(quants(b[2..].first_chunk().expect("20 bytes follow"))) {
            *value = d * (f32::from(q) - 16.0);
        }
    }
}

/// The 32 five-bit values of a block's fifth bits and nibbles.
pub(super) fn quants(b: &[u8; 20]) -> [u8; 32] {
    let high = u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    std::array::from_fn(|i| {
        let nibble = if i < 16 { b[4 + i] & 15 } else { b[4 + i - 16] >> 4 };
        nibble | ((high >> i & 1) as u8) << 4
    })
}
