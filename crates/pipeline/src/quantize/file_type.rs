//! What a whole file is quantized to.

use kernels::DType;

/// A type for a file's tensors, or a mix of types around one.
#[derive(Debug)]
pub struct FileType {
    pub name: &'static str,
    /// The value of `general.file_type`.
    pub id: u32,
    /// What tensors get that no rule treats otherwise.
    pub dtype: DType,
    /// Which rules of the mix apply.
    pub(super) mix: Mix,
}

/// The kinds of mixes. M spends more bits than S on the layers and tensors that matter most, and L more than M.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mix {
    Plain,
    /// MXFP4 for the matrices of experts.
    Experts,
    /// Embeddings of more than three values.
    Ternary,
    Q2K,
    Q2KS,
    Q3KS,
    Q3KM,
    Q3KL,
    Q4KS,
    Q4KM,
    Q5KM,
    /// More bits for V, the output of attention and the first layers.
    Iq1,
    /// Likewise, but for the output of attention.
    Iq2Few,
    /// Around both types of more than two bits: IQ3_S for V, the output of attention and the first layers.
    Iq2,
    /// Fewer bits for Q and K.
    Iq3Xxs,
    /// Fewer bits for Q and K, and for the first matrices of the feed-forward part in middle layers.
    Iq3Xs,
    Iq3S,
    Iq3M,
    Iq4,
}

impl Mix {
    /// Whether the mix is one of those below three bits.
    pub fn is_low(self) -> bool {
        matches!(self, Self::Iq1 | Self::Iq2Few | Self::Iq2)
    }
}

const fn plain(name: &'static str, id: u32, dtype: DType) -> FileType {
    FileType { name, id, dtype, mix: Mix::Plain }
}

const fn mix(name: &'static str, id: u32, dtype: DType, mix: Mix) -> FileType {
    FileType { name, id, dtype, mix }
}

/// Every file type that can be made.
pub static FILE_TYPES: [FileType; 35] = [
    plain("F32", 0, DType::F32),
    plain("F16", 1, DType::F16),
    plain("BF16", 32, DType::BF16),
    plain("Q1_0", 40, DType::Q1_0),
    mix("Q2_0", 41, DType::Q2_0, Mix::Ternary),
    plain("Q4_0", 2, DType::Q4_0),
    plain("Q4_1", 3, DType::Q4_1),
    plain("Q5_0", 8, DType::Q5_0),
    plain("Q5_1", 9, DType::Q5_1),
    plain("Q8_0", 7, DType::Q8_0),
    mix("Q2_K", 10, DType::Q2_K, Mix::Q2K),
    mix("Q2_K_S", 21, DType::Q2_K, Mix::Q2KS),
    mix("Q3_K_S", 11, DType::Q3_K, Mix::Q3KS),
    mix("Q3_K_M", 12, DType::Q3_K, Mix::Q3KM),
    mix("Q3_K_L", 13, DType::Q3_K, Mix::Q3KL),
    mix("Q4_K_S", 14, DType::Q4_K, Mix::Q4KS),
    mix("Q4_K_M", 15, DType::Q4_K, Mix::Q4KM),
    plain("Q5_K_S", 16, DType::Q5_K),
    mix("Q5_K_M", 17, DType::Q5_K, Mix::Q5KM),
    plain("Q6_K", 18, DType::Q6_K),
    mix("IQ1_S", 24, DType::IQ1_S, Mix::Iq1),
    mix("IQ1_M", 31, DType::IQ1_M, Mix::Iq1),
    mix("IQ2_XXS", 19, DType::IQ2_XXS, Mix::Iq2Few),
    mix("IQ2_XS", 20, DType::IQ2_XS, Mix::Iq2Few),
    mix("IQ2_S", 28, DType::IQ2_XS, Mix::Iq2),
    mix("IQ2_M", 29, DType::IQ2_S, Mix::Iq2),
    mix("IQ3_XXS", 23, DType::IQ3_XXS, Mix::Iq3Xxs),
    mix("IQ3_XS", 22, DType::IQ3_S, Mix::Iq3Xs),
    mix("IQ3_S", 26, DType::IQ3_S, Mix::Iq3S),
    mix("IQ3_M", 27, DType::IQ3_S, Mix::Iq3M),
    mix("IQ4_NL", 25, DType::IQ4_NL, Mix::Iq4),
    mix("IQ4_XS", 30, DType::IQ4_XS, Mix::Iq4),
    mix("MXFP4_MOE", 38, DType::MXFP4, Mix::Experts),
    mix("TQ1_0", 36, DType::TQ1_0, Mix::Ternary),
    mix("TQ2_0", 37, DType::TQ2_0, Mix::Ternary),
];

impl FileType {
    /// The file type with this name, in any case. `Q3_K`, `Q4_K` and `Q5_K` mean their M mixes.
    pub fn from_name(name: &str) -> Option<&'static Self> {
        let is = |full: &str| name.eq_ignore_ascii_case(full);
        let full = match name {
            _ if is("Q3_K") => "Q3_K_M",
            _ if is("Q4_K") => "Q4_K_M",
            _ if is("Q5_K") => "Q5_K_M",
            name => name,
        };
        FILE_TYPES.iter().find(|t| t.name.eq_ignore_ascii_case(full))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_distinct() {
        for t in &FILE_TYPES {
            assert_eq!(FileType::from_name(&t.name.to_lowercase()).map(|t| t.id), Some(t.id));
            assert_eq!(FILE_TYPES.iter().filter(|o| o.id == t.id || o.name == t.name).count(), 1, "{}", t.name);
        }
        assert_eq!(FileType::from_name("q4_k").map(|t| t.name), Some("Q4_K_M"));
        assert_eq!(FileType::from_name("Q5_K").map(|t| t.name), Some("Q5_K_M"));
        assert!(FileType::from_name("Q6_K_M").is_none());
    }

    /// Every type can be asked for, by its own name or as a mix around it; but for NVFP4, which the
    /// reference makes no files of.
    #[test]
    fn every_type_has_a_file_type() {
        for dtype in DType::in_gguf().filter(|dtype| dtype.name != "NVFP4") {
            assert!(FILE_TYPES.iter().any(|t| t.dtype == dtype), "{dtype}");
        }
    }
}
