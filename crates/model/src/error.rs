//! What can be wrong with a model whose files are sound.

use std::path::{Path, PathBuf};

use formats::FormatError;

use crate::tokenizer::TokenizerError;

#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error(transparent)]
    Format(Box<FormatError>),

    #[error(transparent)]
    Tokenizer(Box<TokenizerError>),

    #[error("{}: architecture {found} is not supported; supported are {supported}", path.display())]
    Architecture { path: PathBuf, found: String, supported: String },

    /// A setting that asks for what the decoder does not do.
    #[error("{}: {key} is {found}; supported is {supported}", path.display())]
    Unsupported { path: PathBuf, key: String, found: String, supported: String },

    /// Settings that contradict one another.
    #[error("{}: expected {expected}, found {found}", path.display())]
    Config { path: PathBuf, expected: String, found: String },

    /// A tensor that does not fit the settings.
    #[error("{}: tensor {tensor}: expected {expected}, found {found}", path.display())]
    Tensor { path: PathBuf, tensor: String, expected: String, found: String },
}

impl ModelError {
    pub(crate) fn unsupported(path: &Path, key: &str, found: impl ToString, supported: impl ToString) -> Self {
        let (found, supported) = (found.to_string(), supported.to_string());
        Self::Unsupported { path: path.to_owned(), key: key.to_owned(), found, supported }
    }

    pub(crate) fn config(path: &Path, expected: impl ToString, found: impl ToString) -> Self {
        Self::Config { path: path.to_owned(), expected: expected.to_string(), found: found.to_string() }
    }

    pub(crate) fn tensor(path: &Path, tensor: &str, expected: impl ToString, found: impl ToString) -> Self {
        let (expected, found) = (expected.to_string(), found.to_string());
        Self::Tensor { path: path.to_owned(), tensor: tensor.to_owned(), expected, found }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Format(error) => error.hint(),
            Self::Tokenizer(error) => match error.as_ref() {
                TokenizerError::Format(error) => error.hint(),
                _ => None,
            },
            _ => None,
        }
    }
}

impl From<FormatError> for ModelError {
    fn from(error: FormatError) -> Self {
        Self::Format(Box::new(error))
    }
}

impl From<TokenizerError> for ModelError {
    fn from(error: TokenizerError) -> Self {
        Self::Tokenizer(Box::new(error))
    }
}
