//! Writing NumPy arrays: format version 1, float32 `[rows, cols]`, row-major.

use std::path::Path;

use crate::{FormatError, NewFile};

/// Headers are padded so that the data starts at a multiple of this.
const ALIGNMENT: usize = 64;

/// Writes an array row by row into a [`NewFile`].
#[derive(Debug)]
pub struct NpyWriter {
    file: NewFile,
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
        let mut writer = Self { file: NewFile::create(target)?, rows, cols, written: 0 };
        writer.file.write(&header(rows, cols))?;
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
        values.iter().try_for_each(|value| self.file.write(&value.to_le_bytes()))
    }

    /// Puts the finished file in its place.
    ///
    /// # Errors
    /// Values are missing, or the disk is full.
    pub fn finish(self) -> Result<(), FormatError> {
        if self.written != self.values() {
            return Err(self.wrong_count());
        }
        self.file.finish()
    }

    /// Values of the whole array.
    fn values(&self) -> usize {
        self.rows.saturating_mul(self.cols)
    }

    fn wrong_count(&self) -> FormatError {
        FormatError::Rows {
            path: self.file.target().to_owned(),
            expected: self.rows,
            cols: self.cols,
            written: self.written,
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
