//! Q4_K: 256 values in eight sub-blocks of 32, `d * scale * q - dmin * min` with 6-bit scales and mins.
//! Block: f16 `d`, f16 `dmin`, 12 bytes of scales and mins, 128 bytes of nibbles: each 32 bytes hold two sub-blocks,
//! the first in the low nibbles.

use super::{QuantType, f16_at};

pub(super) const BYTES: usize = 144;

pub(super) static TYPE: QuantType = QuantType { name: "Q4_K", ggml_id: 12, block: 256, bytes: BYTES, decode };

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (b, v) in blocks.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<256>().0) {
        let (d, dmin) = (f16_at(b, 0), f16_at(b, 2));
        let (scales, mins) = scales_and_mins(b[4..].first_chunk().expect("12 bytes of scales"));
        for (i, (value, q)) in v.iter_mut().zip(quants(b)).enumerate() {
            *value = d * f32::from(scales[i / 32]) * f32::from(q) - dmin * f32::from(mins[i / 32]);
        }
    }
}

/// The 256 four-bit values of a block.
pub(super) fn quants(b: &[u8; BYTES]) -> [u8; 256] {
    std::array::from_fn(|i| b[16 + i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15)
}

/// Eight 6-bit scales and eight 6-bit mins: the first four of each in bytes 0–3 and 4–7, the low nibbles of the others
/// in bytes 8–11 and their upper two bits on top of the first eight bytes.
pub(super) fn scales_and_mins(b: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for i in 0..4 {
        scales[i] = b[i] & 63;
        mins[i] = b[i + 4] & 63;
        scales[i + 4] = b[i + 8] & 15 | b[i] >> 6 << 4;
        mins[i + 4] = b[i + 8] >> 4 | b[i + 4] >> 6 << 4;
    }
    (scales, mins)
}
