//! BF16: the upper half of an IEEE single, little-endian.

use super::QuantType;

pub(super) static TYPE: QuantType = QuantType { name: "BF16", ggml_id: 30, block: 1, bytes: 2, decode };

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (v, b) in values.iter_mut().zip(blocks.as_chunks::<2>().0) {
        *v = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
    }
}
