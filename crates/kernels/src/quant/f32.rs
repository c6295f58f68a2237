//! F32: IEEE single precision, little-endian.

use super::QuantType;

pub(super) static TYPE: QuantType = QuantType { name: "F32", ggml_id: 0, block: 1, bytes: 4, decode };

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (v, b) in values.iter_mut().zip(blocks.as_chunks::<4>().0) {
        *v = f32::from_le_bytes(*b);
    }
}
