//! Why no types were chosen.

use std::path::PathBuf;

use formats::FormatError;
use kernels::backend::BackendError;
use kernels::simd::TierError;
use model::ModelError;

use crate::evaluate::EvaluateError;
use crate::quantize::QuantizeError;

#[derive(Debug, thiserror::Error)]
pub enum AllocationError {
    #[error(transparent)]
    Format(#[from] FormatError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Tier(#[from] TierError),
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    #[error(transparent)]
    Quantize(#[from] QuantizeError),

    #[error("tensor {tensor}: expected F32, F16 or BF16 in the source, found {found}")]
    Quantized { tensor: String, found: kernels::DType },

    /// Of a table that was read.
    #[error("{path}: expected a table of measured sensitivities of this model, found {found}")]
    Table { path: PathBuf, found: String },

    #[error("a file of {target} bytes was asked for, the smallest that can be made has {least}")]
    TooSmall { target: usize, least: usize },

    #[error("tensor {0}: its name is too long")]
    Name(String),

    #[error("interrupted")]
    Interrupted,
}

impl AllocationError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Format(error) => error.hint(),
            Self::Quantize(error) => error.hint(),
            Self::Quantized { .. } => Some("give the F16, BF16 or F32 file: what a type costs shows against it alone"),
            Self::Table { .. } => Some("name another file with --table, or remove this one: it is measured anew then"),
            Self::Evaluate(EvaluateError::ShortText { .. }) => Some("give a longer text, or a smaller --context"),
            Self::TooSmall { .. } => Some("give more bytes, or a type of fewer bits"),
            _ => None,
        }
    }
}
