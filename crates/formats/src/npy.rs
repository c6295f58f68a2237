//! Writing NumPy arrays: format version 1, float32 `[rows, cols]`, row-major.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::FormatError;

/// Headers are padded so that the data starts at a multiple of this.
const ALIGNMENT: usize = 64;

/// Writes an array row by row into a temporary file beside its target, which it replaces when all rows are there. The
/// temporary file is removed where writing ends before that.
pub struct NpyWriter {
    /// `None` once finished.
    file: Option<BufWriter<File>>,
    temporary: PathBuf,
    target: PathBuf,
    rows: usize,
    cols: usize,
    /// Values written so far.
    written: usize,
}

impl NpyWriter {
    /// Starts an array `[rows, cols]`.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn create(target: &Path, rows: usize, cols: usize) -> Result<Self, FormatError> {
        let mut name = OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        name.push(format!(".{}.part", std::process::id()));
        let temporary = target.with_file_name(name);
        let file = File::create(&temporary).map_err(FormatError::io(&temporary))?;
        let target = target.to_owned();
        let mut writer = Self { file: Some(BufWriter::new(file)), temporary, target, rows, cols, written: 0 };
        writer.write_bytes(&header(rows, cols))?;
        Ok(writer)
    }

    /// Appends values in row-major order: any number of them, usually whole rows.
    ///
    /// # Errors
    /// The disk is full, or there are more values than the array has.
    pub fn write(&mut self, values: &[f32]) -> Result<(), FormatError> {
        self.written += values.len();
        if self.written > self.values() {
            return Err(self.wrong_count());
        }
        values.iter().try_for_each(|value| self.write_bytes(&value.to_le_bytes()))
    }

    /// Puts the finished file in its place.
    ///
    /// # Errors
    /// Values are missing, or the disk is full.
    pub fn finish(mut self) -> Result<(), FormatError> {
        if self.written != self.values() {
            return Err(self.wrong_count());
        }
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

    /// Values of the whole array.
    fn values(&self) -> usize {
        self.rows.saturating_mul(self.cols)
    }

    fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        match &mut self.file {
            Some(file) => file.write_all(bytes).map_err(FormatError::io(&self.temporary)),
            None => Ok(()),
        }
    }

    fn wrong_count(&self) -> FormatError {
        FormatError::Rows { path: self.target.clone(), expected: self.rows, cols: self.cols, written: self.written }
    }
}

impl Drop for NpyWriter {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            let _removed = fs::remove_file(&self.temporary);
        }
    }
}

/// Magic, version, u16 length, and a Python dictionary padded with spaces to the alignment, a line feed last.
fn header(rows: usize, cols: usize) -> Vec<u8> {
    let mut dictionary = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {cols}), }}");
    let before = b"\x93NUMPY\x01\x00".len() + 2;
    let unpadded = before + dictionary.len() + 1;
    dictionary.push_str(&" ".repeat(unpadded.next_multiple_of(ALIGNMENT) - unpadded));
    dictionary.push('\n');
    // Two numbers of at most twenty digits leave the dictionary far below 65,536 bytes.
    [b"\x93NUMPY\x01\x00", &(dictionary.len() as u16).to_le_bytes()[..], dictionary.as_bytes()].concat()
}
