//! From the size of a file to the types in it.

use formats::Checkpoint;
use kernels::DType;
use regex::Regex;

use super::error::AllocationError;
use super::table::Table;
use crate::quantize::{FILE_TYPES, TypeOptions};

/// Bytes of metadata that quantizing and a card add at most.
const ADDED: usize = 4096;
/// Bytes between one tensor's data and the next at most.
const PADDING: usize = 31;

/// What a file of a size is to hold.
#[derive(Clone, Debug)]
pub struct Allocation {
    pub types: TypeOptions,
    /// Of each row of the table.
    pub chosen: Vec<DType>,
    /// The divergence from the source by estimate, in nats.
    pub kl: f64,
}

/// Types for the tensors of `source`, so that the file has at most `target` bytes. What the table does not name stays as it
/// is.
///
/// # Errors
/// No types make a file that small.
pub fn allocate(source: &Checkpoint, table: &Table, target: usize) -> Result<Allocation, AllocationError> {
    let named = table.tensors.iter().filter_map(|row| source.tensor_info(&row.tensor));
    let fixed = source.total_bytes() - named.map(|info| info.bytes).sum::<usize>();
    let fixed = fixed + ADDED + PADDING * table.tensors.len();
    let (chosen, kl) = table.choose(target.saturating_sub(fixed)).map_err(|error| match error {
        AllocationError::TooSmall { least, .. } => AllocationError::TooSmall { target, least: least + fixed },
        error => error,
    })?;

    let bytes = |dtype: DType| {
        let of = chosen.iter().zip(&table.tensors).filter(|(t, _)| **t == dtype);
        of.map(|(t, row)| row.shape.iter().product::<usize>() / t.block * t.bytes).sum::<usize>()
    };
    // The file is named after the quantized type that most of it is in; types by name count in such a file alone.
    let quantized = FILE_TYPES.iter().filter(|file_type| !file_type.dtype.is_float());
    let file_type = quantized.rev().max_by_key(|file_type| bytes(file_type.dtype));
    let mut types = TypeOptions::new(file_type.expect("quantized types are made"));
    for (row, dtype) in table.tensors.iter().zip(&chosen) {
        let pattern = format!("^{}$", regex::escape(&row.tensor));
        let pattern = Regex::new(&pattern).map_err(|_| AllocationError::Name(row.tensor.clone()))?;
        types.tensors.push((pattern, *dtype));
    }
    Ok(Allocation { types, chosen, kl })
}
