//! Metadata of a file that is yet to be written.

use std::path::Path;
use std::sync::Arc;

use kernels::plan::Bytes;

use super::metadata::Metadata;
use super::to_value::ToValue;
use super::value::ValueType;
use super::writer::VERSION;
use super::{Header, MAGIC};
use crate::FormatError;

/// Keys with their values, encoded, in the order in which they will stand in the file.
#[derive(Clone, Debug, Default)]
pub struct MetadataBuilder {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    key: String,
    ty: ValueType,
    bytes: Vec<u8>,
}

impl MetadataBuilder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key. A key that there was moves to the end.
    pub fn set<T: ToValue + ?Sized>(&mut self, key: &str, value: &T) {
        self.remove(key);
        let mut bytes = Vec::new();
        value.write(&mut bytes);
        self.entries.push(Entry { key: key.to_owned(), ty: T::TYPE, bytes });
    }

    /// Removes a key, if there is one of that name.
    pub fn remove(&mut self, key: &str) {
        self.entries.retain(|e| e.key != key);
    }

    pub fn contains(&self, key: &str) -> bool {
        self.entries.iter().any(|e| e.key == key)
    }

    /// The metadata as a reader of the file at `path` will see it.
    ///
    /// # Errors
    /// A key that is too long, or an array within arrays that goes too deep.
    pub fn read_back(&self, path: &Path) -> Result<Metadata, FormatError> {
        let mut header = Vec::new();
        header.extend(MAGIC);
        VERSION.write(&mut header);
        0u64.write(&mut header);
        (self.len() as u64).write(&mut header);
        self.write(&mut header);
        let len = header.len();
        let bytes = Bytes::new(Arc::new(header), 0..len).expect("the whole range of a source");
        Ok(Header::parse(bytes, path)?.metadata)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The value of a key that is a u32.
    pub(super) fn u32(&self, key: &str) -> Option<u32> {
        let entry = self.entries.iter().find(|e| e.key == key && e.ty == ValueType::U32)?;
        Some(u32::from_le_bytes(entry.bytes.as_slice().try_into().ok()?))
    }

    /// Appends all keys as they stand in a header.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for entry in &self.entries {
            entry.key.write(out);
            (entry.ty as u32).write(out);
            out.extend(&entry.bytes);
        }
    }
}

/// All keys of a file, with the same bytes.
impl From<&Metadata> for MetadataBuilder {
    fn from(metadata: &Metadata) -> Self {
        let entries = metadata.raw().map(|(key, ty, bytes)| Entry { key: key.to_owned(), ty, bytes: bytes.to_owned() });
        Self { entries: entries.collect() }
    }
}
