//! The header of one GGUF file.

use std::collections::HashMap;
use std::path::Path;

use kernels::DType;
use kernels::plan::Bytes;

use super::MAGIC;
use super::cursor::Cursor;
use super::metadata::{Entry, Metadata};
use crate::tensor::{RawType, TensorInfo};
use crate::{FormatError, sniff};

pub(super) const ALIGNMENT_KEY: &str = "general.alignment";
/// The alignment of data where the header names none.
pub(super) const DEFAULT_ALIGNMENT: u32 = 32;
/// Keys have at most this many bytes, by the format's rules.
const MAX_KEY: usize = 65_535;
/// The format's rules say 64 bytes; longer names exist.
const MAX_TENSOR_NAME: usize = 1_024;
pub(super) const MAX_DIMENSIONS: u32 = 4;
/// Keys and tensors that a header may have, far above what models have: a description takes ten times its bytes in memory.
const MAX_KEYS: usize = 1 << 16;
const MAX_TENSORS: usize = 1 << 20;
/// Bytes of a key's length, type and value.
const MIN_KEY_BYTES: usize = 8 + 4 + 1;
/// Bytes of a tensor's name length, dimension count, type and offset.
const MIN_TENSOR_BYTES: usize = 8 + 4 + 4 + 8;

/// A parsed header.
#[derive(Debug)]
pub struct Header {
    pub version: u32,
    pub metadata: Metadata,
    /// In the header's order.
    pub tensors: Vec<TensorInfo>,
}

impl Header {
    /// Parses the header of the file `bytes`; only the header itself is read. `path` is for messages.
    ///
    /// # Errors
    /// Anything that breaks the format's rules, a big-endian file, another version, data that lies outside the file.
    pub fn parse(bytes: Bytes, path: &Path) -> Result<Self, FormatError> {
        let mut cursor = Cursor::new(&bytes, path);
        let version = read_version(&mut cursor, &bytes, path)?;
        let tensor_count = cursor.count_up_to(MAX_TENSORS, MIN_TENSOR_BYTES)?;
        let key_count = cursor.count_up_to(MAX_KEYS, MIN_KEY_BYTES)?;
        let metadata = read_metadata(&mut cursor, key_count, bytes.clone(), path)?;
        let alignment = alignment(&metadata)?;

        let mut tensors = Vec::new();
        for _ in 0..tensor_count {
            tensors.push(read_tensor(&mut cursor, alignment)?);
        }
        // A file's length fits an i64, so that only on a 32-bit machine is there no next multiple.
        let data = cursor.position().checked_next_multiple_of(alignment).unwrap_or(usize::MAX);
        place(&mut tensors, data, bytes.len(), path)?;
        Ok(Self { version, metadata, tensors })
    }
}

/// Checks the magic and the version.
fn read_version(cursor: &mut Cursor, bytes: &[u8], path: &Path) -> Result<u32, FormatError> {
    let kind = |expected, found, hint| FormatError::Kind { path: path.to_owned(), expected, found, hint };
    if !bytes.starts_with(&MAGIC) {
        let guess = sniff::guess(bytes);
        return Err(kind("a GGUF file", guess.found, guess.hint));
    }
    cursor.take(MAGIC.len() as u64)?;
    let version = cursor.u32()?;
    match version {
        2 | 3 => Ok(version),
        _ if matches!(version.swap_bytes(), 1..=3) => Err(kind(
            "a little-endian GGUF file",
            "a big-endian one".to_owned(),
            Some("get the little-endian file of this model"),
        )),
        _ => Err(kind(
            "GGUF version 2 or 3",
            format!("version {version}"),
            (version == 1).then_some("convert the model again: version 1 was replaced in 2023"),
        )),
    }
}

fn read_metadata(cursor: &mut Cursor, count: usize, file: Bytes, path: &Path) -> Result<Metadata, FormatError> {
    let mut entries = Vec::new();
    let mut by_key = HashMap::new();
    for at in 0..count {
        cursor.within = "metadata";
        let start = cursor.position();
        let key = cursor.name(MAX_KEY)?;
        cursor.within = key;
        if by_key.insert(key.to_owned(), at).is_some() {
            return Err(cursor.error(start, "a key used once", "the same key again"));
        }
        let ty = cursor.value_type()?;
        let start = cursor.position();
        cursor.skip(ty, 0)?;
        entries.push(Entry { key: key.to_owned(), ty, range: start..cursor.position() });
    }
    Ok(Metadata::new(path, file, entries, by_key))
}

fn alignment(metadata: &Metadata) -> Result<usize, FormatError> {
    let alignment = metadata.get::<u32>(ALIGNMENT_KEY)?.unwrap_or(DEFAULT_ALIGNMENT);
    if !alignment.is_power_of_two() {
        return Err(FormatError::Key {
            path: metadata.path().to_owned(),
            key: ALIGNMENT_KEY.to_owned(),
            problem: format!("expected a power of two, found {alignment}"),
        });
    }
    Ok(alignment as usize)
}

/// Reads a tensor's description; its offset still counts from the start of the data, and its size is not known where the
/// type is not.
fn read_tensor(cursor: &mut Cursor, alignment: usize) -> Result<TensorInfo, FormatError> {
    cursor.within = "tensor descriptions";
    let name = cursor.name(MAX_TENSOR_NAME)?;
    cursor.within = name;

    let start = cursor.position();
    let dimensions = cursor.u32()?;
    if dimensions > MAX_DIMENSIONS {
        return Err(cursor.error(start, format!("at most {MAX_DIMENSIONS} dimensions"), dimensions.to_string()));
    }
    let mut shape = Vec::with_capacity(dimensions as usize);
    for _ in 0..dimensions {
        shape.push(cursor.u64()?);
    }
    shape.reverse();
    let raw_type = RawType::Ggml(cursor.u32()?);

    let (shape, bytes) =
        measure(&shape, raw_type.dtype()).map_err(|(expected, found)| cursor.error(start, expected, found))?;

    let start = cursor.position();
    let offset = cursor.u64()?;
    match usize::try_from(offset) {
        Ok(offset) if offset.is_multiple_of(alignment) => {
            Ok(TensorInfo { name: name.to_owned(), raw_type, shape, bytes, file: 0, offset })
        }
        _ => Err(cursor.error(start, format!("an offset that is a multiple of {alignment}"), offset.to_string())),
    }
}

/// The shape as sizes in memory, and the bytes that a tensor of the shape takes; 0 bytes where the type is not known.
/// An error is what was expected and what was found.
pub(super) fn measure(shape: &[u64], dtype: Option<DType>) -> Result<(Vec<usize>, usize), (String, String)> {
    let too_large = || ("a shape that can be counted".to_owned(), format!("{shape:?}"));
    let sizes: Option<Vec<usize>> = shape.iter().map(|&n| usize::try_from(n).ok()).collect();
    let sizes = sizes.ok_or_else(too_large)?;
    if sizes.contains(&0) {
        return Err(("dimensions of at least 1".to_owned(), format!("{shape:?}")));
    }
    let elements = sizes.iter().try_fold(1usize, |n, &size| n.checked_mul(size)).ok_or_else(too_large)?;
    let Some(dtype) = dtype else { return Ok((sizes, 0)) };
    let cols = sizes.last().copied().unwrap_or(1);
    if !cols.is_multiple_of(dtype.block) {
        return Err((format!("rows of {dtype} in whole blocks of {} values", dtype.block), format!("{cols} values")));
    }
    let bytes = (elements / dtype.block).checked_mul(dtype.bytes).ok_or_else(too_large)?;
    Ok((sizes, bytes))
}

/// Makes offsets count from the start of the file, whose data starts at `data`, and checks that all data lies inside it. A
/// tensor of unknown type reaches to the next one.
fn place(tensors: &mut [TensorInfo], data: usize, file_len: usize, path: &Path) -> Result<(), FormatError> {
    let mut starts: Vec<usize> = tensors.iter().map(|t| t.offset).collect();
    starts.sort_unstable();
    for tensor in tensors {
        if tensor.dtype().is_none() {
            let next = starts.partition_point(|&start| start <= tensor.offset);
            let end = starts.get(next).copied().unwrap_or(file_len.saturating_sub(data));
            tensor.bytes = end.saturating_sub(tensor.offset);
        }
        let start = data.checked_add(tensor.offset);
        match start.and_then(|start| Some((start, start.checked_add(tensor.bytes)?))) {
            Some((start, end)) if end <= file_len => tensor.offset = start,
            _ => {
                return Err(FormatError::Damaged {
                    path: path.to_owned(),
                    offset: (data as u64).saturating_add(tensor.offset as u64),
                    part: tensor.name.clone(),
                    expected: format!("{} bytes of data", tensor.bytes),
                    found: format!("a file that ends at byte {file_len}"),
                    hint: Some("the file is incomplete: get it again"),
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::ValueType;

    #[test]
    fn value_types_are_listed_by_number() {
        for id in 0..13 {
            assert_eq!(ValueType::from_id(id).map(|t| t as u32), Some(id));
        }
        assert_eq!(ValueType::from_id(13), None);
    }

    #[test]
    fn sizes_are_checked_before_they_are_multiplied() {
        let q4_0 = DType::from_name("Q4_0");
        assert_eq!(measure(&[3, 64], q4_0), Ok((vec![3, 64], 3 * 2 * 18)));
        assert_eq!(measure(&[], Some(DType::F32)), Ok((vec![], 4)));
        assert!(measure(&[3, 63], q4_0).is_err());
        assert!(measure(&[0, 64], q4_0).is_err());
        assert!(measure(&[1 << 32, 1 << 32], q4_0).is_err());
        assert!(measure(&[1 << 62, 1], Some(DType::F32)).is_err());
    }
}
