//! What can be wrong with a checkpoint.

use std::io;
use std::path::{Path, PathBuf};

/// Says what was expected, what was found and where. The way out, where there is one, stands apart in [`Self::hint`].
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },

    /// Not the kind of file or folder that was asked for.
    #[error("{}: expected {expected}, found {found}", path.display())]
    Kind { path: PathBuf, expected: &'static str, found: String, hint: Option<&'static str> },

    /// A binary file that breaks its format's rules.
    #[error("{}: at byte {offset}, {part}: expected {expected}, found {found}", path.display())]
    Damaged { path: PathBuf, offset: u64, part: String, expected: String, found: String, hint: Option<&'static str> },

    /// The files of one checkpoint do not belong together.
    #[error("{}: expected {expected}, found {found}", path.display())]
    Mismatch { path: PathBuf, expected: String, found: String, hint: Option<&'static str> },

    #[error("{}: not valid JSON: {source}", path.display())]
    Json { path: PathBuf, source: serde_json::Error },

    /// A required key of the metadata or the configuration is absent.
    #[error("{}: no key {key}, expected {expected}", path.display())]
    MissingKey { path: PathBuf, key: String, expected: String },

    /// A key whose value has the wrong type or range.
    #[error("{}: key {key}: {problem}", path.display())]
    Key { path: PathBuf, key: String, problem: String },

    #[error("{}: no tensor {tensor} among {count}", path.display())]
    MissingTensor { path: PathBuf, tensor: String, count: usize },

    /// A tensor that is there but cannot be used.
    #[error("{}: tensor {tensor}: expected {expected}, found {found}", path.display())]
    Tensor { path: PathBuf, tensor: String, expected: String, found: String },

    #[error("{}: expected {expected} rows of {cols} values, {written} values were written", path.display())]
    Rows { path: PathBuf, expected: usize, cols: usize, written: usize },
}

impl FormatError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Kind { hint, .. } | Self::Damaged { hint, .. } | Self::Mismatch { hint, .. } => *hint,
            _ => None,
        }
    }

    /// An I/O error with its path; for `map_err`.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}
