//! Why calibrating failed.

use std::path::PathBuf;

use formats::FormatError;
use kernels::backend::BackendError;
use model::sampler::SamplingError;

#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    #[error("the text has {tokens} tokens, at least one window of {context} was expected")]
    ShortText { tokens: usize, context: usize },

    #[error("token {token} at position {position} is outside the vocabulary of {vocab}")]
    UnknownToken { token: u32, position: usize, vocab: usize },

    #[error("tensor {tensor}: its inputs are not numbers")]
    NotANumber { tensor: String },

    /// A partial result of another model, text or context.
    #[error("{}: expected the beginning of this calibration, found that of another model, text or context", path.display())]
    OtherPartial { path: PathBuf },

    #[error("interrupted")]
    Interrupted,

    #[error(transparent)]
    Sampling(#[from] SamplingError),

    #[error(transparent)]
    Backend(#[from] BackendError),

    #[error(transparent)]
    Format(#[from] FormatError),
}
