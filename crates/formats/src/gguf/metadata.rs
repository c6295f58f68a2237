//! GGUF metadata: keys with typed values, read from the file when they are asked for.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kernels::plan::Bytes;

use super::from_value::FromValue;
use super::value::{Value, ValueType};
use crate::FormatError;

/// Where a value lies; it was checked when the header was read.
#[derive(Debug)]
pub(super) struct Entry {
    pub key: String,
    pub ty: ValueType,
    pub range: Range<usize>,
}

/// The keys and values of a header. Cheap to clone; values stay in the mapped file.
#[derive(Clone, Debug)]
pub struct Metadata {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    file: Bytes,
    entries: Vec<Entry>,
    by_key: HashMap<String, usize>,
}

impl Metadata {
    /// The keys of `entries` are distinct, as `by_key` maps each to its index.
    pub(super) fn new(path: &Path, file: Bytes, entries: Vec<Entry>, by_key: HashMap<String, usize>) -> Self {
        Self { shared: Arc::new(Shared { path: path.to_owned(), file, entries, by_key }) }
    }

    /// The file that the metadata comes from.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// All keys and values in file order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        self.shared.entries.iter().filter_map(|e| Some((e.key.as_str(), self.decode(e)?)))
    }

    pub fn value(&self, key: &str) -> Option<Value<'_>> {
        self.decode(&self.shared.entries[*self.shared.by_key.get(key)?])
    }

    /// All keys with the types and bytes of their values, in file order.
    pub(super) fn raw(&self) -> impl Iterator<Item = (&str, ValueType, &[u8])> {
        self.shared.entries.iter().filter_map(|e| Some((e.key.as_str(), e.ty, self.shared.file.get(e.range.clone())?)))
    }

    fn decode(&self, entry: &Entry) -> Option<Value<'_>> {
        Value::decode(entry.ty, self.shared.file.get(entry.range.clone())?)
    }

    /// The value of an optional key.
    ///
    /// # Errors
    /// The value is of another type or does not fit.
    pub fn get<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>, FormatError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match T::from_value(value) {
            Some(converted) => Ok(Some(converted)),
            None => Err(FormatError::Key {
                path: self.path().to_owned(),
                key: key.to_owned(),
                problem: format!("expected {}, found {value}", T::expected()),
            }),
        }
    }

    /// The value of a required key.
    ///
    /// # Errors
    /// There is no such key, or the value is of another type or does not fit.
    pub fn require<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T, FormatError> {
        self.get(key)?.ok_or_else(|| FormatError::MissingKey {
            path: self.path().to_owned(),
            key: key.to_owned(),
            expected: T::expected(),
        })
    }
}
