//! A program without arithmetic, for tests: a page stores the tokens themselves, and logits are a hash of all tokens that a
//! position can see through its page table.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kernels::backend::{BackendError, Logits, Output, Program, Span, Ticket};

pub const VOCAB: usize = 23;
pub const PAGE: usize = 4;
/// What a page holds where nothing was stored.
const GARBAGE: u32 = 999;

#[derive(Default)]
pub struct HashProgram {
    pages: Vec<[u32; PAGE]>,
    done: Option<Output>,
    /// Positions computed in all batches.
    pub computed: Arc<AtomicUsize>,
}

/// `[VOCAB]` values that depend on every token and its position.
pub fn hashed_logits(tokens: &[u32]) -> Vec<f32> {
    let mix = |h: u64, t: u64| (h ^ t).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    let hash = tokens.iter().fold(1, |h, &t| mix(h, u64::from(t) + 1));
    (0..VOCAB as u64).map(|v| (mix(hash, v) >> 40) as f32 / 4e6).collect()
}

impl Program for HashProgram {
    fn vocab(&self) -> usize {
        VOCAB
    }
    fn page_positions(&self) -> usize {
        PAGE
    }
    fn page_bytes(&self) -> usize {
        PAGE * 4
    }
    fn pages(&self) -> usize {
        self.pages.len()
    }
    fn reserve(&mut self, pages: usize) -> Result<(), BackendError> {
        self.pages.resize(pages.max(self.pages.len()), [GARBAGE; PAGE]);
        Ok(())
    }
    fn copy_page(&mut self, from: u32, to: u32) {
        self.pages[to as usize] = self.pages[from as usize];
    }
    fn submit(&mut self, batch: &[Span]) -> Result<Ticket, BackendError> {
        let mut output = Output::default();
        for span in batch {
            for (i, &token) in span.tokens.iter().enumerate() {
                let position = span.position + i;
                self.pages[span.pages[position / PAGE] as usize][position % PAGE] = token;
            }
            let seen: Vec<u32> = span
                .pages
                .iter()
                .flat_map(|&p| self.pages[p as usize])
                .take(span.position + span.tokens.len())
                .collect();
            if span.logits == Logits::Last {
                output.logits.extend(hashed_logits(&seen));
            }
            self.computed.fetch_add(span.tokens.len(), Ordering::Relaxed);
        }
        self.done = Some(output);
        Ok(Ticket(0))
    }
    fn poll(&mut self, _ticket: Ticket) -> Result<Option<Output>, BackendError> {
        Ok(self.done.take())
    }
}
