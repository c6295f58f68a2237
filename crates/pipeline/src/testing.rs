//! A program without arithmetic, for tests: pages store tokens, and logits are a hash of all tokens that a position sees
//! through its page table, so that a wrong page or position changes them.

use kernels::backend::{BackendError, Logits, Output, Program, Span, Ticket};

pub const VOCAB: usize = 13;
const PAGE: usize = 4;

#[derive(Default)]
pub struct HashProgram {
    pub pages: Vec<[u32; PAGE]>,
    pub done: Option<Output>,
    /// Positions computed so far.
    pub computed: usize,
    /// Added to every hash: programs of different salt are different models.
    pub salt: u64,
    /// Replaces the logits after this token.
    pub poison: Option<u32>,
}

/// `[VOCAB]` values that depend on every token.
pub fn hashed_logits(salt: u64, tokens: &[u32]) -> Vec<f32> {
    let mix = |h: u64, t: u64| (h ^ t).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    let hash = tokens.iter().fold(salt, |h, &t| mix(h, u64::from(t) + 1));
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
        self.pages.resize(pages.max(self.pages.len()), [999; PAGE]);
        Ok(())
    }
    fn copy_page(&mut self, from: u32, to: u32) {
        self.pages[to as usize] = self.pages[from as usize];
    }
    fn submit(&mut self, batch: &[Span]) -> Result<Ticket, BackendError> {
        let mut logits = Vec::new();
        for span in batch {
            self.computed += span.tokens.len();
            for (i, &token) in span.tokens.iter().enumerate() {
                let position = span.position + i;
                self.pages[span.pages[position / PAGE] as usize][position % PAGE] = token;
                let wanted = match span.logits {
                    Logits::None => false,
                    Logits::Last => i + 1 == span.tokens.len(),
                    Logits::All => true,
                };
                if wanted {
                    let seen: Vec<u32> =
                        span.pages.iter().flat_map(|&p| self.pages[p as usize]).take(position + 1).collect();
                    let row = hashed_logits(self.salt, &seen);
                    let poisoned = self.poison == Some(token);
                    logits.extend(row.into_iter().map(|v| if poisoned { f32::NAN } else { v }));
                }
            }
        }
        self.done = Some(Output { logits });
        Ok(Ticket(0))
    }
    fn poll(&mut self, _ticket: Ticket) -> Result<Option<Output>, BackendError> {
        Ok(self.done.take())
    }
}
