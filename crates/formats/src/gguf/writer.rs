//! Writing a GGUF file, version 3: the header at once, then the data of one tensor after the other.

use std::collections::HashSet;
use std::path::Path;

use kernels::DType;

use super::header::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAX_DIMENSIONS, measure};
use super::to_value::ToValue;
use super::{MAGIC, MetadataBuilder};
use crate::{FormatError, NewFile};

pub(super) const VERSION: u32 = 3;
/// The largest memory page of common machines; beyond it an alignment wastes space and helps nobody.
const MAX_ALIGNMENT: u32 = 1 << 16;

/// A tensor that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTensor {
    pub name: String,
    pub dtype: DType,
    /// Row-major, outermost first; at most four dimensions, rows of whole blocks.
    pub shape: Vec<usize>,
}

/// Writes a file as a [`NewFile`]: it appears when it is finished.
#[derive(Debug)]
pub struct GgufWriter {
    file: NewFile,
    alignment: usize,
    /// Names and bytes, in file order.
    tensors: Vec<(String, usize)>,
    /// The tensor that is being written, and how many of its bytes were.
    at: usize,
    written: usize,
}

impl GgufWriter {
    /// Writes the header. Data is aligned to `general.alignment`, or to 32 bytes where the metadata has no such key.
    ///
    /// # Errors
    /// The folder cannot be written to, an alignment that is not a power of two or too large, a tensor name used twice, shapes that no
    /// file can have.
    pub fn create(target: &Path, metadata: &MetadataBuilder, tensors: &[NewTensor]) -> Result<Self, FormatError> {
        let alignment = metadata.u32(ALIGNMENT_KEY).unwrap_or(DEFAULT_ALIGNMENT);
        if !alignment.is_power_of_two() || alignment > MAX_ALIGNMENT {
            return Err(FormatError::Key {
                path: target.to_owned(),
                key: ALIGNMENT_KEY.to_owned(),
                problem: format!("expected a power of two up to {MAX_ALIGNMENT}, found {alignment}"),
            });
        }
        let alignment = alignment as usize;
        let sizes = sizes(target, tensors)?;

        let mut header = Vec::new();
        header.extend(MAGIC);
        VERSION.write(&mut header);
        (tensors.len() as u64).write(&mut header);
        (metadata.len() as u64).write(&mut header);
        metadata.write(&mut header);
        let mut offset = 0u64;
        for (tensor, bytes) in tensors.iter().zip(&sizes) {
            tensor.name.write(&mut header);
            (tensor.shape.len() as u32).write(&mut header);
            tensor.shape.iter().rev().for_each(|&n| (n as u64).write(&mut header));
            let id = tensor.dtype.ggml_id.ok_or_else(|| FormatError::Tensor {
                path: target.to_owned(),
                tensor: tensor.name.clone(),
                expected: "a type that GGUF files have".to_owned(),
                found: tensor.dtype.to_string(),
            })?;
            id.write(&mut header);
            offset.write(&mut header);
            offset = offset.saturating_add(*bytes as u64).next_multiple_of(alignment as u64);
        }
        header.resize(header.len().next_multiple_of(alignment), 0);

        let mut file = NewFile::create(target)?;
        file.write(&header)?;
        let tensors = tensors.iter().map(|t| t.name.clone()).zip(sizes).collect();
        Ok(Self { file, alignment, tensors, at: 0, written: 0 })
    }

    /// Appends data of the tensor `name`: any number of bytes, all of one tensor before the next, in the order of the header.
    ///
    /// # Errors
    /// It is another tensor's turn, there are more bytes than the tensor has, or the disk is full.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), FormatError> {
        let wrong = |expected: String, found: String| FormatError::Tensor {
            path: self.file.target().to_owned(),
            tensor: name.to_owned(),
            expected,
            found,
        };
        let Some((current, size)) = self.tensors.get(self.at) else {
            return Err(wrong("no more data".to_owned(), format!("{} bytes", bytes.len())));
        };
        if current != name {
            return Err(wrong(format!("data of {current}"), format!("{} bytes of another tensor", bytes.len())));
        }
        let left = size - self.written;
        if bytes.len() > left {
            return Err(wrong(format!("{left} more bytes"), bytes.len().to_string()));
        }
        self.file.write(bytes)?;
        self.written += bytes.len();
        if self.written == *size {
            self.file.write(&vec![0; size.next_multiple_of(self.alignment) - size])?;
            self.at += 1;
            self.written = 0;
        }
        Ok(())
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// Data is missing, or the disk is full.
    pub fn finish(self) -> Result<(), FormatError> {
        match self.tensors.get(self.at) {
            None => self.file.finish(),
            Some((name, size)) => Err(FormatError::Tensor {
                path: self.file.target().to_owned(),
                tensor: name.clone(),
                expected: format!("{size} bytes"),
                found: self.written.to_string(),
            }),
        }
    }
}

/// The bytes that each tensor takes.
fn sizes(path: &Path, tensors: &[NewTensor]) -> Result<Vec<usize>, FormatError> {
    let mut names = HashSet::new();
    tensors
        .iter()
        .map(|tensor| {
            let wrong = |(expected, found)| FormatError::Tensor {
                path: path.to_owned(),
                tensor: tensor.name.clone(),
                expected,
                found,
            };
            if !names.insert(tensor.name.as_str()) {
                return Err(wrong(("a name used once".to_owned(), "the same name again".to_owned())));
            }
            if tensor.shape.len() > MAX_DIMENSIONS as usize {
                let found = tensor.shape.len().to_string();
                return Err(wrong((format!("at most {MAX_DIMENSIONS} dimensions"), found)));
            }
            let shape: Vec<u64> = tensor.shape.iter().map(|&n| n as u64).collect();
            measure(&shape, Some(tensor.dtype)).map(|(_, bytes)| bytes).map_err(wrong)
        })
        .collect()
}
