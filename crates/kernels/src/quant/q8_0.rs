//! Q8_0: 32 values, `d * q`. Block: f16 `d`, 32 signed bytes.

use super::{QuantType, f16_at};

pub(super) const BYTES: usize = 34;

pub(super) static TYPE: QuantType = QuantType { name: "Q8_0", ggml_id: 8, block: 32, bytes: BYTES, decode };

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (b, v) in blocks.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<32>().0) {
        let d = f16_at(b, 0);
        for i in 0..32 {
            v[i] = d * f32::from(b[2 + i] as i8);
        }
    }
}
