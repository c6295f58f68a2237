//! Files that appear whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::FormatError;

/// A file that is written under a temporary name beside its target, which it replaces once it is finished and on the disk.
/// The temporary file is removed where writing ends before that.
#[derive(Debug)]
pub struct NewFile {
    /// `None` once finished.
    file: Option<BufWriter<File>>,
    temporary: PathBuf,
    target: PathBuf,
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
        Ok(Self { file: Some(BufWriter::new(file)), temporary, target: target.to_owned() })
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
        match &mut self.file {
            Some(file) => file.write_all(bytes).map_err(FormatError::io(&self.temporary)),
            None => Ok(()),
        }
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// The disk is full or broken.
    pub fn finish(mut self) -> Result<(), FormatError> {
        if let Some(file) = self.file.take() {
            let closed = file.into_inner().map_err(std::io::IntoInnerError::into_error).and_then(|f| f.sync_all());
            let moved = closed.and_then(|()| fs::rename(&self.temporary, &self.target));
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
            let _removed = fs::remove_file(&self.temporary);
        }
    }
}
