//! Files that appear whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::FormatError;

/// After so many bytes the disk is set to work, so that little is left to wait for at the end.
const SYNC_EVERY: usize = 64 << 20;

/// A file that is written under a temporary name beside its target, which it replaces once it is finished and on the disk.
/// The temporary file is removed where writing ends before that.
#[derive(Debug)]
pub struct NewFile {
    /// `None` once finished.
    file: Option<BufWriter<File>>,
    temporary: PathBuf,
    target: PathBuf,
    /// There once the file is large.
    sync: Option<BackgroundSync>,
    /// Bytes since the last time that the disk was set to work.
    unsynced: usize,
}

impl NewFile {
    /// # Errors
    /// The folder cannot be written to.
    pub fn create(target: &Path) -> Result<Self, FormatError> {
        let mut name = OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        name.push(format!(".{}.part", std::process::id()));
        let temporary = target.with_file_name(name);
        let file = File::create(&temporary).map_err(FormatError::io(&temporary))?;
        let target = target.to_owned();
        Ok(Self { file: Some(BufWriter::new(file)), temporary, target, sync: None, unsynced: 0 })
    }

    /// The path of the finished file.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// The disk is full or broken.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(bytes).map_err(FormatError::io(&self.temporary))?;
        self.unsynced += bytes.len();
        if self.unsynced >= SYNC_EVERY {
            self.unsynced = 0;
            match &self.sync {
                Some(sync) => sync.start(),
                None => {
                    let sync = BackgroundSync::new(file.get_ref()).map_err(FormatError::io(&self.temporary))?;
                    self.sync = Some(sync);
                }
            }
        }
        Ok(())
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// The disk is full or broken.
    pub fn finish(mut self) -> Result<(), FormatError> {
        if let Some(file) = self.file.take() {
            let closed = file.into_inner().map_err(io::IntoInnerError::into_error).and_then(|f| f.sync_all());
            let synced = self.sync.take().map_or(Ok(()), BackgroundSync::finish);
            let moved = closed.and(synced).and_then(|()| fs::rename(&self.temporary, &self.target));
            if let Err(source) = moved {
                let _removed = fs::remove_file(&self.temporary);
                return Err(FormatError::Io { path: self.target.clone(), source });
            }
        }
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            let _synced = self.sync.take().map(BackgroundSync::finish);
            let _removed = fs::remove_file(&self.temporary);
        }
    }
}

/// A thread that brings a file's data to the disk while more is written.
#[derive(Debug)]
struct BackgroundSync {
    start: SyncSender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl BackgroundSync {
    fn new(file: &File) -> io::Result<Self> {
        let file = file.try_clone()?;
        let (start, started) = sync_channel(1);
        let thread = std::thread::Builder::new().name("sync".to_owned());
        let thread = thread.spawn(move || started.iter().try_for_each(|()| file.sync_data()))?;
        let sync = Self { start, thread };
        sync.start();
        Ok(sync)
    }

    /// Starts a round, unless one is waiting already. After an error there are no more.
    fn start(&self) {
        let _waiting = self.start.try_send(());
    }

    /// Waits, and gives the first error: the system reports an error of the disk only once.
    fn finish(self) -> io::Result<()> {
        drop(self.start);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that writes to the disk panicked")))
    }
}
