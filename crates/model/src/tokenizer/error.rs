//! What can be wrong with a tokenizer's description.

/// Why a tokenizer could not be built. Encoding and decoding themselves never fail.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file is not JSON, or not of a tokenizer's shape.
    #[error("tokenizer.json: {0}")]
    Json(#[from] serde_json::Error),
    /// The file is not JSON, or not of its shape.
    #[error("tekken.json: {0}")]
    Tekken(#[source] serde_json::Error),
    /// A part whose name we know and whose behaviour we do not have.
    #[error("{place}: {part} is not supported; expected {expected}")]
    Unsupported { place: &'static str, part: String, expected: String },
    /// A value that contradicts another, or that no tokenizer can have.
    #[error("{place}: expected {expected}, found {found}")]
    Invalid { place: String, expected: String, found: String },
    /// Reading the checkpoint failed.
    #[error(transparent)]
    Format(#[from] formats::FormatError),
}

impl TokenizerError {
    pub(super) fn invalid(place: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Invalid { place: place.into(), expected: expected.into(), found: found.into() }
    }
}
