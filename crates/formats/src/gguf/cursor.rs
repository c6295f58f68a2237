//! Bounded reading of a GGUF header.

use std::path::Path;

use super::value::ValueType;
use crate::FormatError;

/// Arrays inside arrays, at most.
const MAX_DEPTH: usize = 4;

const INCOMPLETE: &str = "the file is incomplete or damaged: get it again";

/// A position in a header. No read goes past the end; all counts are compared with the bytes that are left.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    /// At most `bytes.len()`.
    at: usize,
    path: &'a Path,
    /// The key or tensor that is being read, for messages.
    pub within: &'a str,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8], path: &'a Path) -> Self {
        Self { bytes, at: 0, path, within: "header" }
    }

    pub fn position(&self) -> usize {
        self.at
    }

    /// An error at byte `offset`.
    pub fn error(&self, offset: usize, expected: impl Into<String>, found: impl Into<String>) -> FormatError {
        FormatError::Damaged {
            path: self.path.to_owned(),
            offset: offset as u64,
            part: self.within.to_owned(),
            expected: expected.into(),
            found: found.into(),
            hint: None,
        }
    }

    pub fn take(&mut self, len: u64) -> Result<&'a [u8], FormatError> {
        let rest = &self.bytes[self.at..];
        match usize::try_from(len).ok().and_then(|len| rest.get(..len)) {
            Some(taken) => {
                self.at += taken.len();
                Ok(taken)
            }
            None => Err(self.incomplete(len)),
        }
    }

    fn incomplete(&self, needed: u64) -> FormatError {
        FormatError::Damaged {
            path: self.path.to_owned(),
            offset: self.at as u64,
            part: self.within.to_owned(),
            expected: format!("{needed} more bytes"),
            found: format!("{} before the end of the file", self.bytes.len() - self.at),
            hint: Some(INCOMPLETE),
        }
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        match self.bytes[self.at..].first_chunk() {
            Some(chunk) => {
                self.at += N;
                Ok(*chunk)
            }
            None => Err(self.incomplete(N as u64)),
        }
    }

    pub fn u32(&mut self) -> Result<u32, FormatError> {
        self.chunk().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, FormatError> {
        self.chunk().map(u64::from_le_bytes)
    }

    /// A number of things of at least `min_bytes` each that all follow.
    pub fn count(&mut self, min_bytes: usize) -> Result<usize, FormatError> {
        let count = self.u64()?;
        match count.checked_mul(min_bytes as u64) {
            Some(bytes) if bytes <= (self.bytes.len() - self.at) as u64 => Ok(count as usize),
            bytes => Err(self.incomplete(bytes.unwrap_or(u64::MAX))),
        }
    }

    /// A number as of [`Self::count`] that is at most `limit`.
    pub fn count_up_to(&mut self, limit: usize, min_bytes: usize) -> Result<usize, FormatError> {
        let start = self.at;
        match self.count(min_bytes)? {
            count if count <= limit => Ok(count),
            count => Err(self.error(start, format!("a count of at most {limit}"), count.to_string())),
        }
    }

    pub fn string(&mut self) -> Result<&'a [u8], FormatError> {
        let len = self.u64()?;
        self.take(len)
    }

    /// The name of a key or tensor: UTF-8, at most `limit` bytes.
    pub fn name(&mut self, limit: usize) -> Result<&'a str, FormatError> {
        let start = self.at;
        let bytes = self.string()?;
        if bytes.len() > limit {
            return Err(self.error(
                start,
                format!("a name of at most {limit} bytes"),
                format!("{} bytes", bytes.len()),
            ));
        }
        std::str::from_utf8(bytes).map_err(|e| self.error(start, "a name in UTF-8", e.to_string()))
    }

    pub fn value_type(&mut self) -> Result<ValueType, FormatError> {
        let start = self.at;
        let id = self.u32()?;
        ValueType::from_id(id).ok_or_else(|| self.error(start, "a value type from 0 to 12", id.to_string()))
    }

    /// Checks a value and moves past it. `depth` is the number of arrays around it.
    pub fn skip(&mut self, ty: ValueType, depth: usize) -> Result<(), FormatError> {
        match ty {
            ValueType::String => self.string().map(drop),
            ValueType::Array => self.skip_array(depth),
            ValueType::Bool => self.skip_bools(1),
            _ => self.take(ty.min_bytes() as u64).map(drop),
        }
    }

    fn skip_array(&mut self, depth: usize) -> Result<(), FormatError> {
        if depth == MAX_DEPTH {
            return Err(self.error(self.at, format!("arrays nested at most {MAX_DEPTH} deep"), "one more"));
        }
        let element = self.value_type()?;
        let count = self.count(element.min_bytes())?;
        if element == ValueType::Bool {
            return self.skip_bools(count);
        }
        if element.is_fixed() {
            // `count` has checked that the product is no more than the bytes left.
            return self.take((count * element.min_bytes()) as u64).map(drop);
        }
        (0..count).try_for_each(|_| self.skip(element, depth + 1))
    }

    fn skip_bools(&mut self, count: usize) -> Result<(), FormatError> {
        let start = self.at;
        match self.take(count as u64)?.iter().enumerate().find(|(_, b)| **b > 1) {
            Some((i, byte)) => Err(self.error(start + i, "a bool, 0 or 1", byte.to_string())),
            None => Ok(()),
        }
    }
}
