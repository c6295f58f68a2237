//! Text of a bounded length.

use std::io;

/// Collects what is written to it, and refuses more than its limit.
#[derive(Debug)]
pub(super) struct LimitedWriter {
    bytes: Vec<u8>,
    limit: usize,
    full: bool,
}

impl LimitedWriter {
    /// `limit` in bytes.
    pub fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit, full: false }
    }

    /// Whether something was refused.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// What was written, which is UTF-8 where only whole strings were.
    pub fn into_text(self) -> String {
        String::from_utf8(self.bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }
}

impl io::Write for LimitedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.limit - self.bytes.len() {
            self.full = true;
            return Err(io::Error::other("output limit"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
