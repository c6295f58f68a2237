//! Why converting failed.

use formats::FormatError;
use kernels::DType;
use kernels::simd::TierError;
use model::ModelError;
use model::tokenizer::TokenizerError;

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
    #[error("tensor {tensor}: expected F32, F16 or BF16 in the source, found {found}")]
    Quantized { tensor: String, found: DType },

    #[error("tensor {tensor}: its values are too large for {dtype}")]
    TooLarge { tensor: String, dtype: DType },

    /// A type that can be read and run alone.
    #[error("tensor {tensor}: expected a type that can be made, found {dtype}, which can only be read")]
    NotMade { tensor: String, dtype: DType },

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
            Self::Quantized { .. } => {
                Some("say what to decode it to, as `--dtype f16`; the quality stays that of the quantized file")
            }
            Self::TooLarge { .. } => Some("BF16 holds numbers of any size that F32 does: `--dtype bf16`"),
            _ => None,
        }
    }
}

impl From<TokenizerError> for ConvertError {
    fn from(error: TokenizerError) -> Self {
        Self::Model(error.into())
    }
}
