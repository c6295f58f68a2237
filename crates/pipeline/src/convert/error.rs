//! Why converting failed.

use formats::FormatError;
use formats::mlx::Layout;
use kernels::DType;
use kernels::simd::TierError;
use model::ModelError;
use model::tokenizer::TokenizerError;

use super::plan::To;

#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    #[error(transparent)]
    Format(#[from] FormatError),

    #[error(transparent)]
    Model(#[from] ModelError),

    #[error(transparent)]
    Tier(#[from] TierError),

    #[error("expected a folder in Hugging Face layout, found a GGUF file")]
    AlreadyGguf,

    /// A quantized source, and no type to decode it to.
    #[error("tensor {tensor}: expected a type of {to}, found {found}")]
    Quantized { tensor: String, found: DType, to: &'static str },

    /// Numbers that the mode does not have.
    #[error("expected bits and groups of MLX, found {}", described(layout))]
    Layout { layout: Layout },

    #[error("tensor {tensor}: its values are too large for {dtype}")]
    TooLarge { tensor: String, dtype: DType },

    /// A type that can be read and run alone.
    #[error("tensor {tensor}: expected a type that can be made, found {dtype}, which can only be read")]
    NotMade { tensor: String, dtype: DType },

    /// Rows that do not fill their bytes.
    #[error(
        "tensor {tensor}: expected a multiple of 4 rows, of which each byte of a folder holds so many, found {rows}"
    )]
    Rows { tensor: String, rows: usize },

    /// Blocks with other numbers.
    #[error("tensor {tensor}: expected -1, 0 and 1 alone in a ternary matrix, found {found}")]
    NotTernary { tensor: String, found: f32 },

    /// A folder's factor multiplies biases, or is a reciprocal, which loses digits.
    #[error("tensor {tensor}: expected a factor with an exact reciprocal, for a ternary matrix with a bias")]
    Biased { tensor: String },

    /// A tensor that the other format has no name for.
    #[error("tensor {tensor}: expected a tensor of architecture {architecture}")]
    Unknown { tensor: String, architecture: &'static str },

    /// The tokenizer that was written is not the one that was read.
    #[error("the converted tokenizer gives other ids: {text:?} is {expected:?} in the source, {found:?} in the result")]
    Tokens { text: String, expected: Vec<u32>, found: Vec<u32> },

    #[error("interrupted")]
    Interrupted,
}

impl ConvertError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Format(error) => error.hint(),
            Self::Model(error) => error.hint(),
            Self::AlreadyGguf => Some("`edgeling quantize` changes the type of a GGUF file; `--to hf` makes a folder"),
            Self::Quantized { to, .. } if *to == To::Gguf.name() => Some(
                "say what to decode it to, as `--dtype f16`; the quality stays that of the quantized file. `edgeling quantize` \
                 gives the result another type",
            ),
            Self::Quantized { .. } => Some(
                "say what to decode it to, as `--dtype f16`; the quality stays that of the quantized file. `--to mlx --bits 4` \
                 quantizes it anew",
            ),
            Self::Rows { .. } | Self::NotTernary { .. } | Self::Biased { .. } => {
                Some("as floats, factors multiplied, it can be written: `--dtype bf16`")
            }
            Self::Layout { .. } => Some(
                "affine with 2, 3, 4, 5, 6 or 8 bits in groups of 32, 64 or 128; the other modes have one number of each",
            ),
            Self::TooLarge { .. } => Some("BF16 holds numbers of any size that F32 does: `--dtype bf16`"),
            _ => None,
        }
    }
}

fn described(Layout { mode, bits, group }: &Layout) -> String {
    format!("{} with {bits} bits in groups of {group}", mode.name())
}

impl From<TokenizerError> for ConvertError {
    fn from(error: TokenizerError) -> Self {
        Self::Model(error.into())
    }
}
