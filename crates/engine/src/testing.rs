//! A program without arithmetic, for tests: a page stores the tokens themselves, and logits are a hash of all tokens that a
//! position can see through its page table.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kernels::backend::{BackendError, Logits, Output, Program, Span, Ticket};

pub const VOCAB: usize = 23;
pub const PAGE: usize = 4;
/// What a page holds where nothing was stored.
const GARBAGE: u32 = 999;

/// With states, their hash is of all tokens that went through a state.
#[derive(Default)]
pub struct HashProgram {
    /// Whether logits come from states too.
    with_states: bool,
    /// Positions and hash.
    states: Vec<(usize, u64)>,
    pages: Vec<[u32; PAGE]>,
    done: Option<Output>,
    /// Positions computed in all batches.
    pub computed: Arc<AtomicUsize>,
}

/// `[VOCAB]` values that depend on every token and its position.
pub fn hashed_logits(tokens: &[u32]) -> Vec<f32> {
    let hash = tokens.iter().fold(1, |h, &t| mix(h, u64::from(t) + 1));
    (0..VOCAB as u64).map(|v| (mix(hash, v) >> 40) as f32 / 4e6).collect()
}

fn mix(hash: u64, token: u64) -> u64 {
    (hash ^ token).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29)
}

impl HashProgram {
    pub fn with_states() -> Self {
        Self { with_states: true, ..Self::default() }
    }

    /// Moves the span's state on, and makes its copies.
    fn move_on(&mut self, span: &Span) {
        let (own, mut copies) = (span.states.own as usize, span.states.copies.iter());
        if span.position == 0 {
            self.states[own] = (0, 1);
        }
        assert_eq!(self.states[own].0, span.position, "a state of another position");
        let mut next = copies.next();
        for &token in span.tokens {
            let (position, hash) = self.states[own];
            self.states[own] = (position + 1, mix(hash, u64::from(token) + 1));
            while let Some(&(_, to)) = next.filter(|(at, _)| *at == position + 1) {
                assert_ne!(to as usize, own);
                self.states[to as usize] = self.states[own];
                next = copies.next();
            }
        }
        assert!(next.is_none(), "a copy outside the span");
    }
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
    fn state_bytes(&self) -> usize {
        // So large that a few may be kept.
        if self.with_states { 60 << 20 } else { 0 }
    }
    fn reserve_states(&mut self, states: usize) -> Result<(), BackendError> {
        self.states.resize(states.max(self.states.len()), (usize::MAX, 0));
        Ok(())
    }
    fn copy_state(&mut self, from: u32, to: u32) {
        self.states[to as usize] = self.states[from as usize];
    }
    fn submit(&mut self, batch: &[Span]) -> Result<Ticket, BackendError> {
        let mut output = Output::default();
        for span in batch {
            if self.with_states {
                self.move_on(span);
            }
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
            if self.with_states {
                // What the state has seen is what the pages hold.
                let through_pages = seen.iter().fold(1, |h, &t| mix(h, u64::from(t) + 1));
                assert_eq!(self.states[span.states.own as usize].1, through_pages);
            }
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
