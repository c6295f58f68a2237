//! Q4_0: 32 values, `d * (q - 8)`. Block: f16 `d`, 16 bytes with values 0–15 in the low nibbles and 16–31 in the high.

use super::{QuantType, f16_at};

pub(super) const BYTES: usize = 18;

pub(super) static TYPE: QuantType = QuantType { name: "Q4_0", ggml_id: 2, block: 32, bytes: BYTES, decode };

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (b, v) in blocks.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<32>().0) {
        let d = f16_at(b, 0);
        for i in 0..16 {
            v[i] = d * (f32::from(b[2 + i] & 15) - 8.0);
            v[i + 16] = d * (f32::from(b[2 + i] >> 4) - 8.0);
        }
    }
}
