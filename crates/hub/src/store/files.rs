//! Files that are whole or not there.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::At;
use crate::{HubError, Result};

/// Largest document that is read; registries bound manifests likewise.
const LARGEST_DOCUMENT: u64 = 4 << 20;

/// Puts `bytes` at `path` at once: a reader finds the file as before or as a whole, also after a power cut. `scratch`
/// is a folder of the same file system. One call at a time: the store's lock is held.
pub fn write_atomic(scratch: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = scratch.join("document");
    let mut file = File::create(&temporary).at("create", &temporary)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).at("write", &temporary)?;
    place(&temporary, path)
}

/// The bytes of a document that is to be written to `path`.
pub fn to_json(path: &Path, document: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(document).map_err(std::io::Error::from).at("write", path)
}

/// Renames a file that has been synced to `path`, and makes the rename last.
pub fn place(from: &Path, path: &Path) -> Result<()> {
    fs::rename(from, path).at("write", path)?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Makes the names in a folder last. Windows has no such call and needs none.
fn sync_folder(folder: &Path) -> Result<()> {
    if cfg!(unix) { File::open(folder).and_then(|f| f.sync_all()).at("write", folder) } else { Ok(()) }
}

/// The bytes of a document; `None` where there is no such file.
///
/// # Errors
/// A file that cannot be read or is larger than any document.
pub fn read_document(path: &Path) -> Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.at("open", path)?,
    };
    let mut bytes = Vec::new();
    file.take(LARGEST_DOCUMENT + 1).read_to_end(&mut bytes).at("read", path)?;
    if bytes.len() as u64 > LARGEST_DOCUMENT {
        return Err(HubError::store(path, format!("at most {LARGEST_DOCUMENT} bytes"), "more"));
    }
    Ok(Some(bytes))
}

/// Reads JSON that `path` held.
pub fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8], expected: &str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| HubError::store(path, expected, format!("{error}")))
}
