//! Folders that appear whole or not at all.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{FormatError, NewFile};

/// A folder that is filled under a temporary name beside its target, which it becomes once it is finished. The temporary
/// folder is removed where filling ends before that.
#[derive(Debug)]
pub struct NewFolder {
    /// `None` once finished.
    temporary: Option<PathBuf>,
    target: PathBuf,
}

impl NewFolder {
    /// # Errors
    /// The folder around it cannot be written to.
    pub fn create(target: &Path) -> Result<Self, FormatError> {
        let temporary = beside(target, "part");
        fs::create_dir(&temporary).map_err(FormatError::io(&temporary))?;
        Ok(Self { temporary: Some(temporary), target: target.to_owned() })
    }

    /// Where the files lie until the folder is finished.
    pub fn path(&self) -> &Path {
        self.temporary.as_deref().unwrap_or(&self.target)
    }

    /// Adds a file with this content.
    ///
    /// # Errors
    /// The disk is full or broken.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), FormatError> {
        let mut file = NewFile::create(&self.path().join(name))?;
        file.write(content)?;
        file.finish()
    }

    /// Puts the folder in its place. What stood there is removed once the new one has its name.
    ///
    /// # Errors
    /// The disk is broken; what stood there stands there still.
    pub fn finish(mut self) -> Result<(), FormatError> {
        let Some(temporary) = self.temporary.take() else { return Ok(()) };
        let old = beside(&self.target, "old");
        let replaces = self.target.exists();
        let moved = (|| {
            if replaces {
                fs::rename(&self.target, &old)?;
            }
            fs::rename(&temporary, &self.target)
        })();
        if let Err(source) = moved {
            if replaces && !self.target.exists() {
                let _back = fs::rename(&old, &self.target);
            }
            let _removed = fs::remove_dir_all(&temporary);
            return Err(FormatError::Io { path: self.target.clone(), source });
        }
        if replaces {
            let _removed = if old.is_dir() { fs::remove_dir_all(&old) } else { fs::remove_file(&old) };
        }
        Ok(())
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            let _removed = fs::remove_dir_all(temporary);
        }
    }
}

/// A hidden name beside `target` that only this process uses.
fn beside(target: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".{}.{ending}", std::process::id()));
    target.with_file_name(name)
}
