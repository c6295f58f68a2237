//! A compiled decoder: checks batches, cuts them into chunks of rows, and keeps the pages and states.

use super::forward::{Forward, Row, SpanStates};
use super::pages::Pages;
use super::states::States;
use super::weights::{Model, PackedLayer};
use crate::backend::{BackendError, KvType, Logits, NodeInputs, Output, Program, Span, Ticket};
use crate::ops::attention::PagePtr;
use crate::ops::cache::PAGE;
use crate::simd::Tier;
use crate::team::Team;

/// Rows of a batch that run through the layers together: enough to reuse each weight from cache, few enough to keep the
/// activations small.
pub const CHUNK: usize = 256;

pub struct CpuProgram {
    forward: Forward,
    pages: Pages,
    states: States,
    /// Batches that are done and have not been asked for.
    done: Vec<(Ticket, Output)>,
    submitted: u64,
}

impl CpuProgram {
    pub fn new(tier: Tier, model: Model, team: Team, kv: KvType) -> Result<Self, BackendError> {
        let pages = Pages::new(model.layers.iter().map(PackedLayer::stored), kv);
        let states = States::new(model.layers.iter());
        Ok(Self { forward: Forward::new(tier, model, team, CHUNK)?, pages, states, done: Vec::new(), submitted: 0 })
    }

    /// Checks all that the kernels rely on.
    fn check(&self, batch: &[Span]) -> Result<(), BackendError> {
        let wrong = |what: String| Err(BackendError::Batch(what));
        let vocab = self.vocab();
        for span in batch {
            if span.tokens.is_empty() {
                return wrong("expected at least one token in each span, found none".to_owned());
            }
            if let Some(token) = span.tokens.iter().find(|t| **t as usize >= vocab) {
                return wrong(format!("expected token ids below {vocab}, found {token}"));
            }
            if span.reserved < span.position + span.tokens.len() {
                let end = span.position + span.tokens.len();
                return wrong(format!("expected at least {end} reserved positions, found {}", span.reserved));
            }
            let needed = (span.position + span.tokens.len()).div_ceil(PAGE);
            if span.pages.len() < needed {
                return wrong(format!("expected {needed} pages, found {}", span.pages.len()));
            }
            if let Some(page) = span.pages.iter().find(|p| **p as usize >= self.pages.len()) {
                return wrong(format!("expected page ids below {}, found {page}", self.pages.len()));
            }
        }
        if self.states.bytes() > 0 { self.check_states(batch) } else { Ok(()) }
    }

    fn check_states(&self, batch: &[Span]) -> Result<(), BackendError> {
        let wrong = |what: String| Err(BackendError::Batch(what));
        let mut written: Vec<u32> = Vec::new();
        for span in batch {
            let (states, end) = (span.states, span.position + span.tokens.len());
            written.push(states.own);
            written.extend(states.copies.iter().map(|(_, state)| state));
            if let Some(state) = written.iter().find(|state| **state as usize >= self.states.count()) {
                return wrong(format!("expected state ids below {}, found {state}", self.states.count()));
            }
            let position = self.states.position(states.own);
            if span.position > 0 && position != span.position {
                return wrong(format!("expected a state of {} positions, found one of {position}", span.position));
            }
            let positions = states.copies.iter().map(|(position, _)| *position);
            if !positions.clone().is_sorted() || positions.clone().any(|p| p <= span.position || p > end) {
                let (first, found) = (span.position + 1, positions.collect::<Vec<_>>());
                return wrong(format!("expected copies of states behind positions {first} to {end}, found {found:?}"));
            }
        }
        let count = written.len();
        written.sort_unstable();
        written.dedup();
        if written.len() < count {
            return wrong(format!("expected {count} states, found {} ids", written.len()));
        }
        Ok(())
    }

    /// Where the states of a span lie, which are about to be computed.
    fn open_states(&mut self, span: &Span) -> SpanStates {
        if self.states.bytes() == 0 {
            return SpanStates::default();
        }
        self.states.set_position(span.states.own, span.position + span.tokens.len());
        for (position, state) in span.states.copies {
            self.states.set_position(*state, *position);
        }
        let copies = span.states.copies.iter().map(|(position, state)| (*position, self.states.ptr(*state)));
        SpanStates { own: Some(self.states.ptr(span.states.own)), copies: copies.collect() }
    }
}

impl Program for CpuProgram {
    fn vocab(&self) -> usize {
        self.forward.model().vocab
    }

    fn page_positions(&self) -> usize {
        PAGE
    }

    fn variant(&self, reserved: usize) -> usize {
        let long = self.forward.model().ropes.iter().filter_map(|rope| rope.long.as_ref());
        long.filter(|long| reserved > long.above).count()
    }

    fn page_bytes(&self) -> usize {
        self.pages.page_bytes()
    }

    fn pages(&self) -> usize {
        self.pages.len()
    }

    fn reserve(&mut self, pages: usize) -> Result<(), BackendError> {
        self.pages.reserve(pages)
    }

    fn copy_page(&mut self, from: u32, to: u32) {
        self.pages.copy(from as usize, to as usize);
    }

    fn state_bytes(&self) -> usize {
        self.states.bytes()
    }

    fn reserve_states(&mut self, states: usize) -> Result<(), BackendError> {
        self.states.reserve(states)
    }

    fn copy_state(&mut self, from: u32, to: u32) {
        if self.states.bytes() > 0 {
            self.states.copy(from as usize, to as usize);
        }
    }

    fn record_inputs(&mut self, spans: &[usize]) -> Result<(), BackendError> {
        self.forward.record_inputs(spans)
    }

    fn take_inputs(&mut self, each: &mut dyn FnMut(usize, &NodeInputs)) {
        self.forward.take_inputs(each);
    }

    fn submit(&mut self, batch: &[Span]) -> Result<Ticket, BackendError> {
        self.check(batch)?;
        let tables: Vec<Vec<PagePtr>> =
            batch.iter().map(|s| s.pages.iter().map(|p| PagePtr(self.pages.ptr(*p))).collect()).collect();
        let states: Vec<SpanStates> = batch.iter().map(|span| self.open_states(span)).collect();
        let rows: Vec<Row> = batch
            .iter()
            .enumerate()
            .flat_map(|(index, span)| {
                let last = span.tokens.len() - 1;
                span.tokens.iter().enumerate().map(move |(i, token)| Row {
                    span: index,
                    token: *token,
                    position: span.position + i,
                    reserved: span.reserved,
                    logits: match span.logits {
                        Logits::None => false,
                        Logits::Last => i == last,
                        Logits::All => true,
                    },
                })
            })
            .collect();
        let mut logits = vec![0.0; rows.iter().filter(|r| r.logits).count() * self.vocab()];
        let mut rest = logits.as_mut_slice();
        for chunk in rows.chunks(CHUNK) {
            let (now, later) = rest.split_at_mut(chunk.iter().filter(|r| r.logits).count() * self.vocab());
            self.forward.run(chunk, &tables, &self.pages, (&states, self.states.starts()), now);
            rest = later;
        }
        let ticket = Ticket(self.submitted);
        self.submitted += 1;
        self.done.push((ticket, Output { logits }));
        Ok(ticket)
    }

    fn poll(&mut self, ticket: Ticket) -> Result<Option<Output>, BackendError> {
        match self.done.iter().position(|(t, _)| *t == ticket) {
            Some(i) => Ok(Some(self.done.swap_remove(i).1)),
            None => Err(BackendError::Batch(format!("no batch under way has ticket {}", ticket.0))),
        }
    }
}
