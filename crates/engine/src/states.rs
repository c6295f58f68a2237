//! Which states are in use: each by one holder, a running sequence or a kept prefix.

use kernels::backend::{BackendError, Program};

/// Bytes of states that may be kept beside those of running sequences.
const KEPT_BYTES: usize = 256 << 20;
/// The least number of states that may be kept, however large they are.
const LEAST_KEPT: usize = 2;

/// Hands out states and counts those that are kept; grows the program's storage as they are asked for.
#[derive(Debug)]
pub struct StatePool {
    free: Vec<u32>,
    /// States that the program has.
    count: usize,
    /// States that stand for a prefix, and the most of them.
    kept: usize,
    most_kept: usize,
}

impl StatePool {
    /// For a program with such states; `None` if it has none.
    pub fn new(state_bytes: usize) -> Option<Self> {
        let most_kept = KEPT_BYTES.checked_div(state_bytes)?.max(LEAST_KEPT);
        Some(Self { free: Vec::new(), count: 0, kept: 0, most_kept })
    }

    /// A state with undefined content.
    ///
    /// # Errors
    /// The program's storage cannot grow.
    pub fn take(&mut self, program: &mut dyn Program) -> Result<u32, BackendError> {
        if let Some(state) = self.free.pop() {
            return Ok(state);
        }
        program.reserve_states(self.count + 1)?;
        self.count += 1;
        Ok(self.count as u32 - 1)
    }

    /// Gives a running sequence's state back.
    pub fn release(&mut self, state: u32) {
        self.free.push(state);
    }

    /// Whether no more states may be kept.
    pub fn is_full(&self) -> bool {
        self.kept >= self.most_kept
    }

    /// Says that a state that was taken stands for a prefix from now on.
    pub fn keep(&mut self) {
        self.kept += 1;
    }

    /// Gives a kept state back.
    pub fn release_kept(&mut self, state: u32) {
        self.kept -= 1;
        self.free.push(state);
    }

    /// States with a holder.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.count - self.free.len()
    }
}
