//! Files mapped into memory.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kernels::plan::{Bytes, Source};
use memmap2::Mmap;

use crate::FormatError;

/// A file mapped read-only.
///
/// A file that another process truncates while it is mapped ends this one with a bus error at the next read past the new
/// end; one that is overwritten in place shows the new bytes. Replacing a file by renaming over it is safe.
#[derive(Debug)]
pub struct MappedFile {
    path: PathBuf,
    map: Mmap,
}

impl MappedFile {
    /// Maps the file; nothing of it is read yet.
    ///
    /// # Errors
    /// The file cannot be opened or mapped, or is a folder.
    pub fn open(path: &Path) -> Result<Arc<Self>, FormatError> {
        let file = File::open(path).map_err(FormatError::io(path))?;
        if !file.metadata().map_err(FormatError::io(path))?.is_file() {
            return Err(FormatError::Kind {
                path: path.to_owned(),
                expected: "a file",
                found: "a folder or device".to_owned(),
                hint: None,
            });
        }
        // SAFETY: the mapping is read-only and private to this type. The promise that no one truncates or rewrites the
        // file meanwhile is the user's, as this type's documentation says.
        let map = unsafe { Mmap::map(&file) }.map_err(FormatError::io(path))?;
        Ok(Arc::new(Self { path: path.to_owned(), map }))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole file.
    pub fn bytes(self: &Arc<Self>) -> Bytes {
        let len = self.map.len();
        Bytes::new(self.clone(), 0..len).expect("the whole range of a source")
    }
}

impl Source for MappedFile {
    fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Drops the pages that `range` touches from this process. They are read from the file again when they are next used.
    fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if range.end <= self.map.len() && !range.is_empty() {
            // SAFETY: a shared mapping of a file that is never written through: dropped pages come back from the file with the
            // same bytes, so borrowed slices stay as they are.
            let _advice = unsafe {
                self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len())
            };
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_bytes_read_the_same() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let content: Vec<u8> = (0..100_000u32).map(|i| (i * 7 % 251) as u8).collect();
        std::fs::write(file.path(), &content).unwrap();
        let bytes = MappedFile::open(file.path()).unwrap().bytes();
        let part = bytes.slice(5_000..60_001).unwrap();
        assert_eq!(*part, content[5_000..60_001]);
        part.release();
        assert_eq!(*bytes, content[..]);
    }

    #[test]
    fn folders_and_absent_files_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        assert!(MappedFile::open(folder.path()).is_err());
        assert!(matches!(MappedFile::open(&folder.path().join("none")), Err(FormatError::Io { .. })));
    }
}
