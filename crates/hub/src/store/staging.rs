//! Where files wait until they are whole.
//!
//! A pull works in a folder of its own under the store's `tmp`, beside a lock file that it holds. A folder whose lock
//! is free belongs to nobody any more: its process was killed. Such folders go when the store is next opened.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::digest::Hasher;
use super::{Digest, Store};
use crate::error::At;
use crate::{HubError, Progress, Result};

const LOCK: &str = "lock";

/// Bytes copied at a time: large enough that the calls cost nothing, small enough that progress is smooth.
const CHUNK: usize = 256 << 10;

/// A folder for one pull; gone with all in it when dropped.
pub struct Staging {
    folder: TempDir,
    files: usize,
    _lock: File,
}

/// A file that is complete, synced and of known content, and not yet in the store.
#[derive(Debug)]
pub struct Staged {
    pub path: PathBuf,
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

impl Staging {
    pub(super) fn new(store: &Store) -> Result<Self> {
        // Between the folder and its lock, nobody may take the folder for an abandoned one.
        let _guard = store.lock()?;
        let parent = store.tmp();
        let folder = tempfile::Builder::new().prefix("pull-").tempdir_in(&parent).at("create a folder in", &parent)?;
        let path = folder.path().join(LOCK);
        let lock = File::create(&path).at("create", &path)?;
        lock.lock().at("lock", &path)?;
        Ok(Self { folder, files: 0, _lock: lock })
    }

    /// A new empty folder for files on their way.
    pub fn scratch(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::create_dir(&path).at("create", &path)?;
        Ok(path)
    }

    /// Copies all of `reader` into a new file. `unreadable` names the source when reading fails.
    pub fn copy(
        &mut self,
        reader: &mut dyn Read,
        progress: &dyn Progress,
        unreadable: impl FnOnce(io::Error) -> HubError,
    ) -> Result<Staged> {
        let path = self.folder.path().join(format!("blob-{}", self.files));
        self.files += 1;
        let mut file = File::create_new(&path).at("create", &path)?;
        let (mut hasher, mut size, mut chunk) = (Hasher::default(), 0, vec![0; CHUNK]);
        loop {
            let n = match reader.read(&mut chunk) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(error)),
            };
            file.write_all(&chunk[..n]).at("write", &path)?;
            hasher.update(&chunk[..n]);
            size += n as u64;
            progress.advance(n as u64);
        }
        file.sync_all().at("write", &path)?;
        Ok(Staged { path, digest: hasher.finish(), size })
    }
}

/// Removes what killed processes left in `tmp`. The store's lock is held. What cannot be removed stays: it harms nobody
/// and the next opening tries again.
pub(super) fn sweep(tmp: &Path) {
    for folder in fs::read_dir(tmp).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let free = match File::open(folder.join(LOCK)) {
            Ok(lock) => lock.try_lock().is_ok(),
            Err(error) => matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        };
        if free {
            let _ = if folder.is_dir() { fs::remove_dir_all(&folder) } else { fs::remove_file(&folder) };
        }
    }
}
