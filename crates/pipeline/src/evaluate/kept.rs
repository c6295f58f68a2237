//! A base model's logits of some windows, in a file without a name: whatever ends the process, the file goes with it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::{ControlFlow, Range};

use kernels::backend::{Logits, Program};

use super::windows::{Reader, Windows};
use super::{EvaluateError, EvaluateOptions, LOGITS_AT_ONCE, check};
use crate::cache::chunks;

/// Logits f32 `[windows, scored positions, vocab]`, to the bit.
pub struct Kept {
    file: File,
    windows: Range<usize>,
    vocab: usize,
}

impl Kept {
    /// Computes the logits of the windows from `first` on, of as many as `bytes` have room for, but of one at least.
    /// `progress` is told the windows done and the windows that will be held, and may break off the work.
    ///
    /// # Errors
    /// As [`evaluate`](super::evaluate), or there is no room for the file.
    pub fn new(
        base: &mut dyn Program,
        tokens: &[u32],
        options: &EvaluateOptions,
        first: usize,
        bytes: u64,
        progress: &mut dyn FnMut((usize, usize)) -> ControlFlow<()>,
    ) -> Result<Self, EvaluateError> {
        check(base.vocab(), None, tokens, options)?;
        let all = Windows::new(tokens, options);
        let mut base = Reader::new(base, options.context)?;
        let (vocab, scored) = (base.vocab(), all.scored());
        let room = bytes / bytes_of(scored.len(), vocab);
        let last = first.saturating_add(usize::try_from(room).unwrap_or(usize::MAX).max(1)).min(all.all());
        let mut file = tempfile::tempfile().map_err(unkept)?;
        for window in first..last {
            let inputs = all.inputs(window);
            base.compute(&inputs, 0..scored.start, Logits::None)?;
            for positions in chunks(scored.clone(), LOGITS_AT_ONCE / vocab.max(1)) {
                let logits = base.compute(&inputs, positions, Logits::All)?;
                let bytes: Vec<u8> = logits.iter().flat_map(|v| v.to_le_bytes()).collect();
                file.write_all(&bytes).map_err(unkept)?;
            }
            if progress((window + 1 - first, last - first)).is_break() {
                return Err(EvaluateError::Interrupted);
            }
        }
        Ok(Self { file, windows: first..last, vocab })
    }

    /// The windows whose logits are held.
    pub fn windows(&self) -> Range<usize> {
        self.windows.clone()
    }

    pub(super) fn vocab(&self) -> usize {
        self.vocab
    }

    /// The logits `[positions, vocab]` of scored positions in a window that is held.
    pub(super) fn logits(
        &self,
        windows: &Windows,
        window: usize,
        positions: Range<usize>,
    ) -> Result<Vec<f32>, EvaluateError> {
        let scored = windows.scored();
        let before = (window - self.windows.start) as u64 * bytes_of(scored.len(), self.vocab);
        let at = before + bytes_of(positions.start - scored.start, self.vocab);
        let mut bytes = vec![0; positions.len() * self.vocab * size_of::<f32>()];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut bytes)).map_err(unkept)?;
        let (values, _) = bytes.as_chunks();
        Ok(values.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }
}

/// Bytes of the logits of so many positions.
fn bytes_of(positions: usize, vocab: usize) -> u64 {
    (positions * vocab * size_of::<f32>()) as u64
}

fn unkept(error: io::Error) -> EvaluateError {
    EvaluateError::Keep { folder: std::env::temp_dir().display().to_string(), error }
}
