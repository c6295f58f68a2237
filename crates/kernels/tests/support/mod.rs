//! Random numbers and random blocks for the kernel tests.
#![allow(dead_code)]

use kernels::DType;

/// SplitMix64, so that a failure repeats.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in -1..1.
    pub fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Normal, from twelve uniform numbers.
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() / 2.0
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// Where the f16 scales of a block stand.
fn scales(dtype: DType) -> &'static [usize] {
    match dtype.name {
        "Q4_1" | "Q5_1" | "Q4_K" | "Q5_K" => &[0, 2],
        "Q6_K" => &[208],
        _ => &[0],
    }
}

/// `rows` rows of `cols` random values in `dtype`, of about unit size.
pub fn random_rows(dtype: DType, rows: usize, cols: usize, random: &mut Random) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows * dtype.row_bytes(cols));
    for _ in 0..rows * cols / dtype.block {
        match dtype.name {
            "F32" => out.extend(random.normal().to_le_bytes()),
            "F16" => out.extend(half::f16::from_f32(random.normal()).to_le_bytes()),
            "BF16" => out.extend(half::bf16::from_f32(random.normal()).to_le_bytes()),
            _ => {
                let start = out.len();
                out.extend((0..dtype.bytes).map(|_| random.next() as u8));
                // The largest values of a block are about 2^bits / 2 (and times a 6- or 8-bit scale in K types).
                let size = match dtype.name {
                    "Q8_0" => 0.02,
                    "Q4_K" | "Q5_K" => 0.004,
                    "Q6_K" => 0.0006,
                    _ => 0.2,
                };
                for at in scales(dtype) {
                    let scale = half::f16::from_f32(random.uniform() * size);
                    out[start + at..start + at + 2].copy_from_slice(&scale.to_le_bytes());
                }
            }
        }
    }
    out
}

/// Overwrites scales here and there with infinite, denormal and zero ones.
pub fn spoil_scales(dtype: DType, blocks: &mut [u8], random: &mut Random) {
    const EXTREMES: [u16; 6] = [0x7C00, 0xFC00, 0x0001, 0x83FF, 0x0000, 0x7BFF];
    for block in blocks.chunks_exact_mut(dtype.bytes) {
        for at in scales(dtype) {
            if !dtype.is_float() && random.below(4) == 0 {
                block[*at..at + 2].copy_from_slice(&EXTREMES[random.below(6)].to_le_bytes());
            }
        }
    }
}
