//! PyTorch checkpoints: `pytorch_model.bin`, or shards that `pytorch_model.bin.index.json` lists.
//!
//! A file is a zip archive of one folder: `data.pkl`, a pickle that describes the tensors, and a member `data/KEY` for each
//! storage, never compressed. A pickle is a program for a stack machine that may call any function of Python; here a small
//! machine follows the few operations that state dictionaries need, and calls nothing.

mod pickle;
mod tensors;

use std::path::Path;

use crate::FormatError;
use crate::safetensors::open_weights;
use crate::tensor::TensorTable;

pub use tensors::parse;

pub(crate) const SINGLE_FILE: &str = "pytorch_model.bin";
pub(crate) const INDEX_FILE: &str = "pytorch_model.bin.index.json";

/// Opens all weights of `folder`.
///
/// # Errors
/// As [`parse`]; an index that names other files or tensors than there are.
pub(crate) fn open(folder: &Path) -> Result<TensorTable, FormatError> {
    open_weights(folder, SINGLE_FILE, INDEX_FILE, parse)
}
