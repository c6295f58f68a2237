//! The pages and states of a few sequences that are laid out once and used again and again.

use std::ops::Range;

use kernels::backend::{BackendError, Program, States};

/// Page tables of `sequences` sequences of up to `positions` positions, none shared: the first has pages 0, 1, ….
pub struct Cache {
    pages: Vec<u32>,
    per_sequence: usize,
    /// Positions that each sequence may have.
    pub positions: usize,
}

impl Cache {
    /// # Errors
    /// Too little memory for the pages, or for the states.
    pub fn new(program: &mut dyn Program, sequences: usize, positions: usize) -> Result<Self, BackendError> {
        let per_sequence = positions.div_ceil(program.page_positions());
        let pages = per_sequence.saturating_mul(sequences);
        let too_many = BackendError::Memory { what: "the KV cache", bytes: pages.saturating_mul(program.page_bytes()) };
        let Ok(ids) = u32::try_from(pages) else { return Err(too_many) };
        program.reserve(pages)?;
        if program.state_bytes() > 0 {
            program.reserve_states(sequences)?;
        }
        Ok(Self { pages: (0..ids).collect(), per_sequence, positions })
    }

    /// The state of a sequence: its number.
    pub fn states(&self, sequence: usize) -> States<'static> {
        States { own: sequence as u32, copies: &[] }
    }

    pub fn pages(&self, sequence: usize) -> &[u32] {
        &self.pages[sequence * self.per_sequence..][..self.per_sequence]
    }
}

/// Cuts `positions` into pieces of at most `chunk`.
pub fn chunks(positions: Range<usize>, chunk: usize) -> impl Iterator<Item = Range<usize>> {
    let end = positions.end;
    positions.step_by(chunk.max(1)).map(move |start| start..end.min(start + chunk.max(1)))
}
