//! Q5_1: 32 values, `d * q + m`. Block: f16 `d`, f16 `m`, then fifth bits and nibbles as in Q5_0.

use super::{QuantType, f16_at, q5_0};

pub(super) const BYTES: usize = 24;

pub(super) static TYPE: QuantType = QuantType { name: "Q5_1", ggml_id: 7, block: 32, bytes: BYTES, decode };

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (b, v) in blocks.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<32>().0) {
        let (d, m) = (f16_at(b, 0), f16_at(b, 2));
        for (value, q) in v.iter_mut().zip(q5_0::quants(b[4..].first_chunk().expect("20 bytes follow"))) {
            *value = d * f32::from(q) + m;
        }
    }
}
