//! Random numbers and random blocks for the kernel tests.
#![allow(dead_code)]

use kernels::DType;
use kernels::quant::GroupAffine;
use kernels::simd::Tier;

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
        "Q2_K" => &[80, 82],
        "Q3_K" => &[108],
        "Q6_K" => &[208],
        "TQ1_0" => &[52],
        "TQ2_0" => &[64],
        "MXFP4" | "MXFP8" | "NVFP4" | "NVFP4_G16" | "IQ1_M" => &[],
        _ if dtype.ggml_id.is_none() => &[],
        _ => &[0],
    }
}

/// Writes the f16 scale of a block of IQ1_M.
fn put_iq1_m(block: &mut [u8], scale: u16) {
    for i in 0..4 {
        let nibble = (scale >> (4 * i) & 15) as u8;
        block[49 + 2 * i] = block[49 + 2 * i] & 15 | nibble << 4;
    }
}

/// Writes number `at` of a block of an affine type: its scale or its bias.
fn put_affine(affine: GroupAffine, block: &mut [u8], at: usize, number: f32) {
    let bytes = affine.scales.bytes;
    affine.scales.encode.expect("a float type")(Tier::Scalar, &[number], &mut block[at * bytes..(at + 1) * bytes]);
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
                    "Q2_K" => 0.05,
                    "Q3_K" => 0.01,
                    "Q4_K" | "Q5_K" => 0.004,
                    "Q6_K" | "IQ4_XS" => 0.0006,
                    "IQ1_S" | "IQ3_S" => 0.02,
                    "IQ2_XXS" | "IQ2_XS" | "IQ2_S" | "IQ3_XXS" => 0.01,
                    "IQ4_NL" => 0.02,
                    _ => 0.2,
                };
                // Exponents around that of 1/4, any sub-block's scales of up to 1, and a scale in four nibbles.
                match dtype.name {
                    "MXFP4" => out[start] = 122 + random.below(6) as u8,
                    "NVFP4" => out[start..start + 4].iter_mut().for_each(|scale| *scale %= 0x38),
                    "NVFP4_G16" => out[start] %= 0x38,
                    "MXFP8" => out[start] = 116 + random.below(4) as u8,
                    "IQ1_M" => put_iq1_m(&mut out[start..], half::f16::from_f32(random.uniform() * 0.02).to_bits()),
                    _ => {}
                }
                if let Some(affine) = GroupAffine::of(dtype) {
                    let numbers = [random.uniform() / (1 << affine.bits) as f32, random.uniform()];
                    numbers
                        .iter()
                        .enumerate()
                        .for_each(|(at, number)| put_affine(affine, &mut out[start..], at, *number));
                }
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
        match dtype.name {
            "MXFP4" | "MXFP8" => block[0] = [0, 1, 2, 127, 254, 255][random.below(6)],
            "IQ1_M" if random.below(4) == 0 => put_iq1_m(block, EXTREMES[random.below(6)]),
            "NVFP4" => block[random.below(4)] = [0, 1, 7, 0x7E, 0x7F, 0x80, 0xFF][random.below(7)],
            "NVFP4_G16" => block[0] = [0, 1, 7, 0x7E, 0x7F, 0x80, 0xFF][random.below(7)],
            _ => {}
        }
        if let Some(affine) = GroupAffine::of(dtype) {
            let extreme = [f32::INFINITY, f32::NEG_INFINITY, 1e-45, -6e-8, 0.0, 3e38][random.below(6)];
            if random.below(4) == 0 {
                put_affine(affine, block, random.below(2), extreme);
            }
        }
        for at in scales(dtype) {
            if !dtype.is_float() && random.below(4) == 0 {
                block[*at..at + 2].copy_from_slice(&EXTREMES[random.below(6)].to_le_bytes());
            }
        }
    }
}
