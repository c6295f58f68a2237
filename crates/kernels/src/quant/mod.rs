//! How values are stored: one file and one row of [`QUANT_TYPES`] for each type.

mod affine;
mod bf16;
mod descent;
mod encode;
mod f16;
mod f32;
mod grid;
mod group_affine;
mod iq1_m;
mod iq1_s;
mod iq2_s;
mod iq2_xs;
mod iq2_xxs;
mod iq3_s;
mod iq3_xxs;
mod iq4_nl;
mod iq4_xs;
mod lattice;
mod mlx;
mod mxfp4;
mod mxfp8;
mod neighbours;
mod nonlinear;
mod nonnegative;
mod nvfp4;
mod nvfp4_g16;
pub mod panel;
pub mod planes;
mod q1_0;
mod q2_0;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
pub mod search;
mod splits;
mod symmetric;
mod tq1_0;
mod tq2_0;
mod weights;

use crate::simd::Tier;

pub use f16::F16;
pub use f32::F32;
pub use group_affine::GroupAffine;
pub(crate) use q8_0::Q80;

/// Encodes whole blocks of finite values, to the bytes of ggml's reference quantizers on every tier. Scales that overflow
/// come out infinite or NaN.
pub type Encoder = fn(tier: Tier, values: &[f32], blocks: &mut [u8]);

/// Encodes whole rows by the importance of their columns, to the bytes of ggml's reference quantizers with an importance
/// matrix, on every tier. `values` is n × `importance.len()`, whose length is a multiple of the block; an importance is
/// finite and not negative. Where squares of values overflow, a scale comes out infinite or NaN.
pub type WeightedEncoder = fn(tier: Tier, values: &[f32], importance: &[f32], blocks: &mut [u8]);

/// A storage type; rows of it are whole blocks.
#[derive(Debug)]
pub struct QuantType {
    /// The name in the field, as GGUF tools print it: `Q4_K`.
    pub name: &'static str,
    /// The type's number in GGUF files, if they have the type.
    pub ggml_id: Option<u32>,
    /// Values in a block.
    pub block: usize,
    /// Bytes of a block.
    pub bytes: usize,
    /// Decodes whole blocks: `blocks` is n × `bytes`, `values` n × `block`.
    pub decode: fn(blocks: &[u8], values: &mut [f32]),
    /// Encodes whole blocks, where the type can be encoded without importance.
    pub encode: Option<Encoder>,
    /// Encodes whole rows by importance, where that gives other bytes than `encode` does, or nothing else does.
    pub encode_weighted: Option<WeightedEncoder>,
    /// Whether the scales of whole blocks are finite; of a float type, the values.
    pub finite: fn(blocks: &[u8]) -> bool,
    /// How the CPU runs it.
    pub run: panel::RunLayout,
}

/// Every type that can be read, each a file of this folder, but for those that differ in numbers alone ([`GroupAffine`]).
pub static QUANT_TYPES: [&QuantType; 30] = [
    &f32::TYPE,
    &f16::TYPE,
    &bf16::TYPE,
    &q1_0::TYPE,
    &q2_0::TYPE,
    &q4_0::TYPE,
    &q4_1::TYPE,
    &q5_0::TYPE,
    &q5_1::TYPE,
    &q8_0::TYPE,
    &q2_k::TYPE,
    &q3_k::TYPE,
    &q4_k::TYPE,
    &q5_k::TYPE,
    &q6_k::TYPE,
    &iq1_s::TYPE,
    &iq1_m::TYPE,
    &iq2_xxs::TYPE,
    &iq2_xs::TYPE,
    &iq2_s::TYPE,
    &iq3_xxs::TYPE,
    &iq3_s::TYPE,
    &iq4_nl::TYPE,
    &iq4_xs::TYPE,
    &mxfp4::TYPE,
    &nvfp4::TYPE,
    &tq1_0::TYPE,
    &tq2_0::TYPE,
    &mxfp8::TYPE,
    &nvfp4_g16::TYPE,
];

/// A handle to a row of [`QUANT_TYPES`], or to an affine type.
#[derive(Clone, Copy)]
pub struct DType(&'static QuantType);

impl DType {
    pub const F32: Self = Self(&f32::TYPE);
    pub const F16: Self = Self(&f16::TYPE);
    pub const BF16: Self = Self(&bf16::TYPE);
    pub const Q1_0: Self = Self(&q1_0::TYPE);
    pub const Q2_0: Self = Self(&q2_0::TYPE);
    pub const Q4_0: Self = Self(&q4_0::TYPE);
    pub const Q4_1: Self = Self(&q4_1::TYPE);
    pub const Q5_0: Self = Self(&q5_0::TYPE);
    pub const Q5_1: Self = Self(&q5_1::TYPE);
    pub const Q8_0: Self = Self(&q8_0::TYPE);
    pub const Q2_K: Self = Self(&q2_k::TYPE);
    pub const Q3_K: Self = Self(&q3_k::TYPE);
    pub const Q4_K: Self = Self(&q4_k::TYPE);
    pub const Q5_K: Self = Self(&q5_k::TYPE);
    pub const Q6_K: Self = Self(&q6_k::TYPE);
    pub const IQ1_S: Self = Self(&iq1_s::TYPE);
    pub const IQ1_M: Self = Self(&iq1_m::TYPE);
    pub const IQ2_XXS: Self = Self(&iq2_xxs::TYPE);
    pub const IQ2_XS: Self = Self(&iq2_xs::TYPE);
    pub const IQ2_S: Self = Self(&iq2_s::TYPE);
    pub const IQ3_XXS: Self = Self(&iq3_xxs::TYPE);
    pub const IQ3_S: Self = Self(&iq3_s::TYPE);
    pub const IQ4_NL: Self = Self(&iq4_nl::TYPE);
    pub const IQ4_XS: Self = Self(&iq4_xs::TYPE);
    pub const MXFP4: Self = Self(&mxfp4::TYPE);
    pub const MXFP8: Self = Self(&mxfp8::TYPE);
    pub const NVFP4: Self = Self(&nvfp4::TYPE);
    pub const NVFP4_G16: Self = Self(&nvfp4_g16::TYPE);
    pub const TQ1_0: Self = Self(&tq1_0::TYPE);
    pub const TQ2_0: Self = Self(&tq2_0::TYPE);

    /// The type with this number in GGUF files.
    pub fn from_ggml(id: u32) -> Option<Self> {
        Self::all().find(|t| t.ggml_id == Some(id))
    }

    /// The type with this name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|t| t.name.eq_ignore_ascii_case(name))
    }

    pub fn all() -> impl Iterator<Item = Self> {
        QUANT_TYPES.iter().copied().chain(&group_affine::TYPES).map(Self)
    }

    /// Those that GGUF files have.
    pub fn in_gguf() -> impl Iterator<Item = Self> {
        Self::all().filter(|t| t.ggml_id.is_some())
    }

    /// Bytes of a row of `cols` values, a multiple of the block.
    pub fn row_bytes(self, cols: usize) -> usize {
        cols / self.block * self.bytes
    }

    /// Whether values carry a floating-point number each, not a share of a block.
    pub fn is_float(self) -> bool {
        self.block == 1
    }

    /// Bits of storage per value.
    pub fn bits_per_weight(self) -> f64 {
        self.bytes as f64 * 8.0 / self.block as f64
    }
}

impl std::ops::Deref for DType {
    type Target = QuantType;
    fn deref(&self) -> &QuantType {
        self.0
    }
}

impl PartialEq for DType {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl Eq for DType {}

impl std::hash::Hash for DType {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl std::fmt::Debug for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name)
    }
}

/// The little-endian f16 at `bytes[at..at + 2]`.
#[inline]
fn f16_at(bytes: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_distinct_and_found_by_name_and_number() {
        for t in DType::all() {
            assert!(t.ggml_id.is_none_or(|id| DType::from_ggml(id) == Some(t)));
            assert_eq!(DType::from_name(&t.name.to_lowercase()), Some(t));
            assert_eq!(DType::all().filter(|o| o.name == t.name || *o == t).count(), 1);
        }
    }
}
