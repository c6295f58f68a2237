//! Where files wait until they are whole.
//!
//! A pull works in a folder of its own under the store's `tmp`, beside a lock file that it holds. A folder whose lock
//! is free belongs to nobody any more: its process was killed. Such folders go when the store is next opened.
//!
//! What a download has received lies in a folder that is named by the content (see [`Partial`]) and outlives its process,
//! so that the next pull of that content goes on from there. One that nobody has touched for a month goes too.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::digest::Hasher;
use super::partial::{self, Partial};
use super::{Digest, Store};
use crate::error::At;
use crate::{HubError, Progress, Result};

pub(super) const LOCK: &str = "lock";

/// Between two looks at whether another process is done.
const POLL: Duration = Duration::from_millis(100);

/// Bytes copied at a time: large enough that the calls cost nothing, small enough that progress is smooth.
const CHUNK: usize = 256 << 10;

/// A folder for one pull; gone with all in it when dropped.
pub struct Staging {
    store: Store,
    folder: TempDir,
    files: usize,
    /// Downloads that are whole.
    partials: Vec<(Partial, Digest)>,
    _lock: File,
}

/// A content that a pull needs.
pub enum Content {
    /// It is on this machine.
    Whole(Staged),
    /// It is to be fetched from where the file ends.
    Partial(Partial),
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
        Ok(Self { store: store.clone(), folder, files: 0, partials: Vec::new(), _lock: lock })
    }

    /// Finds a content that `key` names: in the store as the blob `known`, among the files staged here, or what an
    /// earlier pull has left of it. Waits while another process fetches it.
    pub fn content(
        &mut self,
        key: &str,
        known: Option<&Digest>,
        size: u64,
        progress: &dyn Progress,
    ) -> Result<Content> {
        // The same content under two names: this pull holds its lock.
        if let Some((partial, digest)) = self.partials.iter().find(|(partial, _)| partial.key() == key) {
            let (from, digest) = (partial.path().to_owned(), digest.clone());
            return self.link(&from, digest, size).map(Content::Whole);
        }
        loop {
            if let Some(digest) = known {
                let blob = self.store.blob(digest);
                if fs::metadata(&blob).is_ok_and(|file| file.len() == size) {
                    match self.link(&blob, digest.clone(), size) {
                        Ok(staged) => {
                            progress.advance(size);
                            return Ok(Content::Whole(staged));
                        }
                        // Removed just now.
                        Err(HubError::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            if let Some(partial) = Partial::claim(&self.store, key)? {
                return Ok(Content::Partial(partial));
            }
            if progress.stopped() {
                return Err(HubError::Stopped);
            }
            thread::sleep(POLL);
        }
    }

    /// Takes a download that is whole and of this digest.
    pub fn keep(&mut self, partial: Partial, digest: Digest) -> Result<Staged> {
        partial.complete()?;
        let staged = Staged { path: partial.path().to_owned(), digest: digest.clone(), size: partial.received() };
        self.partials.push((partial, digest));
        Ok(staged)
    }

    /// Stages another name of a file: a hard link, or a copy where the file system has none.
    fn link(&mut self, from: &Path, digest: Digest, size: u64) -> Result<Staged> {
        let path = self.next_path();
        if fs::hard_link(from, &path).is_err() {
            fs::copy(from, &path).at("copy", from)?;
        }
        Ok(Staged { path, digest, size })
    }

    fn next_path(&mut self) -> PathBuf {
        self.files += 1;
        self.folder.path().join(format!("blob-{}", self.files))
    }

    /// Removes the folders of downloads that are in the store now. The store's lock is held.
    pub(super) fn finish(self) {
        for (partial, _) in &self.partials {
            partial.remove();
        }
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
        let path = self.next_path();
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
        if free && !partial::is_fresh(&folder) {
            let _ = if folder.is_dir() { fs::remove_dir_all(&folder) } else { fs::remove_file(&folder) };
        }
    }
}
