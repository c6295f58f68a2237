//! A JSON file with typed access.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::FormatError;

/// Settings are kilobytes, indices of shards a few megabytes; more than this is no file of a model.
const MAX_BYTES: u64 = 64 << 20;

/// Reads a whole settings file.
///
/// # Errors
/// The file cannot be read or has over 64 MiB.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, FormatError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(FormatError::io(path))?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(FormatError::io(path))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(FormatError::Kind {
            path: path.to_owned(),
            expected: "a settings file of at most 64 MiB",
            found: "a larger one".to_owned(),
            hint: None,
        });
    }
    Ok(bytes)
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, FormatError> {
    serde_json::from_slice(&read_bytes(path)?).map_err(|source| FormatError::Json { path: path.to_owned(), source })
}

/// A parsed JSON file. Keys may be paths with dots: `rope_scaling.factor`. A key that is null counts as absent.
#[derive(Clone, Debug)]
pub struct JsonFile {
    path: PathBuf,
    value: Value,
}

impl JsonFile {
    /// # Errors
    /// The file cannot be read, is not JSON or not an object.
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        let value: Value = read_json(path)?;
        if !value.is_object() {
            return Err(FormatError::Kind {
                path: path.to_owned(),
                expected: "a JSON object",
                found: "another JSON value".to_owned(),
                hint: None,
            });
        }
        Ok(Self { path: path.to_owned(), value })
    }

    /// As [`Self::open`]; `None` where there is no such file.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_optional(path: &Path) -> Result<Option<Self>, FormatError> {
        if path.exists() { Self::open(path).map(Some) } else { Ok(None) }
    }

    /// A part of the file at `path`, which is an object.
    pub(crate) fn new(path: PathBuf, value: Value) -> Self {
        Self { path, value }
    }

    /// Gives a key a value where it has none.
    pub(crate) fn set_default(&mut self, key: &str, value: &Value) {
        if self.find(key).is_none() {
            self.value[key] = value.clone();
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole file.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The value at a key, unless it is null.
    pub fn find(&self, key: &str) -> Option<&Value> {
        let found = key.split('.').try_fold(&self.value, |value, part| value.get(part));
        found.filter(|value| !value.is_null())
    }

    /// The value of an optional key.
    ///
    /// # Errors
    /// The value is of another type.
    pub fn get<'a, T: Deserialize<'a>>(&'a self, key: &str) -> Result<Option<T>, FormatError> {
        let converted = self.find(key).map(T::deserialize).transpose();
        converted.map_err(|e| self.wrong(key, e.to_string()))
    }

    /// The value of a required key.
    ///
    /// # Errors
    /// There is no such key, or the value is of another type.
    pub fn require<'a, T: Deserialize<'a>>(&'a self, key: &str) -> Result<T, FormatError> {
        self.get(key)?.ok_or_else(|| FormatError::MissingKey {
            path: self.path.clone(),
            key: key.to_owned(),
            expected: type_name::<T>(),
        })
    }

    pub(crate) fn wrong(&self, key: &str, problem: String) -> FormatError {
        FormatError::Key { path: self.path.clone(), key: key.to_owned(), problem }
    }
}

/// What a key must be, for messages: the type's name without the modules it lies in.
fn type_name<T>() -> String {
    let parts = std::any::type_name::<T>().split_inclusive(['<', '&', ' ']);
    let names: String = parts.map(|part| part.rsplit_once("::").map_or(part, |(_, name)| name)).collect();
    format!("a value of type {names}")
}
