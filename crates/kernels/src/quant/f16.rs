//! F16: IEEE half precision, little-endian.

use half::f16;

use super::QuantType;

pub(super) static TYPE: QuantType = QuantType { name: "F16", ggml_id: 1, block: 1, bytes: 2, decode };

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (v, b) in values.iter_mut().zip(blocks.as_chunks::<2>().0) {
        *v = f16::from_le_bytes(*b).to_f32();
    }
}
