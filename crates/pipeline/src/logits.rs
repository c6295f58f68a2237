//! Logits of every position of a sequence.

use kernels::backend::{BackendError, Logits, Program, Span, run};

use crate::cache::{Cache, chunks};

/// Computes `tokens` as one sequence in batches of `chunk` positions (at least 1), and gives each batch's logits
/// `[positions, vocab]` to `sink` in order. The values do not depend on `chunk`. At least `reserved` positions are reserved
/// for the sequence, which some models choose their rotations by.
///
/// # Errors
/// The backend's, or the first of `sink`, which ends the work.
pub fn stream<E: From<BackendError>>(
    program: &mut dyn Program,
    tokens: &[u32],
    chunk: usize,
    reserved: usize,
    mut sink: impl FnMut(&[f32]) -> Result<(), E>,
) -> Result<(), E> {
    let cache = Cache::new(program, 1, tokens.len().max(reserved))?;
    for positions in chunks(0..tokens.len(), chunk) {
        let span = Span {
            tokens: &tokens[positions.clone()],
            position: positions.start,
            reserved: cache.positions,
            pages: cache.pages(0),
            states: cache.states(0),
            logits: Logits::All,
        };
        sink(&run(program, &[span])?.logits)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{HashProgram, hashed_logits};

    #[test]
    fn every_chunk_size_gives_the_same_rows() {
        let tokens: Vec<u32> = (0..11).collect();
        let expected: Vec<f32> = (1..=11).flat_map(|n| hashed_logits(0, &tokens[..n])).collect();
        for chunk in [1, 3, 4, 11, 64] {
            let mut rows = Vec::new();
            let sink = |part: &[f32]| {
                rows.extend_from_slice(part);
                Ok::<_, BackendError>(())
            };
            stream(&mut HashProgram::default(), &tokens, chunk, 0, sink).unwrap();
            assert_eq!(rows, expected, "{chunk}");
        }
    }

    #[test]
    fn an_error_of_the_sink_ends_the_work() {
        let mut program = HashProgram::default();
        let full = |_: &[f32]| Err(BackendError::Plan("full".into()));
        assert_eq!(stream(&mut program, &[1; 9], 4, 0, full).unwrap_err().to_string(), "model: full");
        assert_eq!(program.computed, 4);
    }
}
