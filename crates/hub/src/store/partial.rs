//! What a download has received so far: the folder `tmp/partial-KEY` of the store.
//!
//! ```text
//! lock      held by the process that downloads
//! data      the first bytes of the content
//! etag      the tag of the answer that they came in
//! ```
//!
//! KEY is a hash of the whole content, so that what was received from one server can be completed from another. The
//! bytes are checked when they are all there.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::Store;
use super::staging::LOCK;
use crate::Result;
use crate::error::At;

const PREFIX: &str = "partial-";
const DATA: &str = "data";
const ETAG: &str = "etag";

/// What nobody has gone on with for so long is given up.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Bytes read at a time.
const CHUNK: usize = 256 << 10;

pub struct Partial {
    folder: PathBuf,
    path: PathBuf,
    key: String,
    file: File,
    len: u64,
    _lock: File,
}

impl Partial {
    /// Takes the partial file of `key`, an empty one where there is none; `None` while another process has it.
    ///
    /// # Errors
    /// The store cannot be written.
    pub(super) fn claim(store: &Store, key: &str) -> Result<Option<Self>> {
        // Such folders are made and removed under the store's lock only: the file locked here is the folder's own.
        let _guard = store.lock()?;
        let folder = store.tmp().join(format!("{PREFIX}{key}"));
        fs::create_dir_all(&folder).at("create", &folder)?;
        let lock_path = folder.join(LOCK);
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path).at("open", &lock_path)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error).at("lock", &lock_path),
        }
        let path = folder.join(DATA);
        let mut file =
            File::options().create(true).truncate(false).read(true).write(true).open(&path).at("open", &path)?;
        let len = file.seek(SeekFrom::End(0)).at("read", &path)?;
        Ok(Some(Self { folder, path, key: key.to_owned(), file, len, _lock: lock }))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Bytes received.
    pub fn received(&self) -> u64 {
        self.len
    }

    /// Hands out all bytes received.
    pub fn read(&mut self, sink: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.file.rewind().at("read", &self.path)?;
        let (mut chunk, mut left) = (vec![0; CHUNK], self.len);
        while left > 0 {
            let most = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.file.read_exact(&mut chunk[..most]).at("read", &self.path)?;
            sink(&chunk[..most]);
            left -= most as u64;
        }
        Ok(())
    }

    /// Adds bytes at the end. They outlive the process at once.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).at("write", &self.path)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Forgets all bytes received.
    pub fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).and_then(|()| self.file.rewind()).at("write", &self.path)?;
        self.len = 0;
        let etag = self.folder.join(ETAG);
        if etag.exists() { fs::remove_file(&etag).at("remove", &etag) } else { Ok(()) }
    }

    /// The tag of the answer that the bytes came in.
    pub fn etag(&self) -> Option<String> {
        fs::read_to_string(self.folder.join(ETAG)).ok()
    }

    pub fn set_etag(&self, etag: Option<&str>) -> Result<()> {
        let path = self.folder.join(ETAG);
        etag.map_or(Ok(()), |etag| fs::write(&path, etag).at("write", &path))
    }

    /// Makes the bytes last: they are the whole content.
    pub(super) fn complete(&self) -> Result<()> {
        self.file.sync_all().at("write", &self.path)
    }

    /// Removes the folder. The store's lock is held. What cannot be removed goes when it is old.
    pub(super) fn remove(&self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Whether a folder of the store's `tmp` holds received bytes that a pull may go on from.
pub fn is_fresh(folder: &Path) -> bool {
    let is_partial = folder.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX));
    let data = || fs::metadata(folder.join(DATA)).ok().filter(|data| data.len() > 0);
    let age = |data: fs::Metadata| SystemTime::now().duration_since(data.modified().ok()?).ok();
    // A file of the future is as fresh as can be.
    is_partial && data().is_some_and(|data| age(data).is_none_or(|age| age < LONGEST))
}
