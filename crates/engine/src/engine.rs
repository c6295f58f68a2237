//! The state machine.

use std::collections::VecDeque;
use std::ops::Range;

use kernels::backend::{BackendError, Logits, Program, Span, States, run};

use crate::pages::PagePool;
use crate::prefix::{Copy, PrefixCache};
use crate::request::{AdmissionError, Event, FinishReason, Request, RequestId};
use crate::schedule::{Work, plan};
use crate::sequence::Sequence;
use crate::states::StatePool;

#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// The most positions of one sequence.
    pub context: usize,
    /// The most positions that one step computes; at least `max_sequences`, so that each that decodes has its turn.
    pub max_batch_tokens: usize,
    /// The most sequences that run at once; others wait.
    pub max_sequences: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("{name} is {found}, at least {least} was expected")]
    Options { name: &'static str, found: usize, least: usize },
    #[error("all pages of the KV cache are in use")]
    CacheFull,
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Runs requests on one program. What a sequence gets depends on its request alone, never on the others in its batches.
pub struct Engine {
    program: Box<dyn Program>,
    options: EngineOptions,
    waiting: VecDeque<Sequence>,
    /// In the order of admission.
    running: Vec<Sequence>,
    pool: PagePool,
    /// If the program has states.
    states: Option<StatePool>,
    prefixes: PrefixCache,
    /// What happened since the last step returned.
    events: Vec<Event>,
    next_id: u64,
}

impl Engine {
    /// The cache may grow to `max_sequences` full contexts; it grows as it is used.
    ///
    /// # Errors
    /// An option is 0, or `max_batch_tokens` is less than `max_sequences`.
    pub fn new(program: Box<dyn Program>, options: EngineOptions) -> Result<Self, EngineError> {
        let EngineOptions { context, max_batch_tokens, max_sequences } = options;
        let limits = [
            ("context", context, 1),
            ("max_sequences", max_sequences, 1),
            ("max_batch_tokens", max_batch_tokens, max_sequences),
        ];
        if let Some(&(name, found, least)) = limits.iter().find(|(_, found, least)| found < least) {
            return Err(EngineError::Options { name, found, least });
        }
        let pages = max_sequences.saturating_mul(context.div_ceil(program.page_positions()));
        Ok(Self {
            states: StatePool::new(program.state_bytes()),
            program,
            options,
            waiting: VecDeque::new(),
            running: Vec::new(),
            pool: PagePool::new(pages),
            prefixes: PrefixCache::default(),
            events: Vec::new(),
            next_id: 0,
        })
    }

    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Queues a request; its events carry the id.
    ///
    /// # Errors
    /// The request can never run; nothing is cut to make it fit.
    pub fn submit(&mut self, request: Request) -> Result<RequestId, AdmissionError> {
        let id = RequestId(self.next_id);
        let sequence = Sequence::new(id, request, self.options.context, self.program.vocab())?;
        self.next_id += 1;
        self.waiting.push_back(sequence);
        Ok(id)
    }

    /// Ends a request; the next step tells of it. False where it has ended already.
    pub fn cancel(&mut self, id: RequestId) -> bool {
        if let Some(at) = self.running.iter().position(|s| s.id == id) {
            let sequence = self.running.remove(at);
            self.retire(sequence);
        } else if let Some(at) = self.waiting.iter().position(|s| s.id == id) {
            self.waiting.remove(at);
        } else {
            return false;
        }
        self.events.push(Event::Finished { id, reason: FinishReason::Cancelled });
        true
    }

    /// Whether a step has nothing to do and nothing to tell.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty() && self.events.is_empty()
    }

    /// Admits what fits, computes one batch, draws the tokens that follow from it.
    ///
    /// # Errors
    /// The backend cannot run the batch. The sequences stay as they were: a later step tries again, or they can be cancelled.
    pub fn step(&mut self) -> Result<Vec<Event>, EngineError> {
        self.admit()?;
        let demands: Vec<_> = self.running.iter().map(Sequence::demand).collect();
        let work = plan(&demands, self.options.max_batch_tokens);
        if !work.is_empty() {
            for w in &work {
                self.make_writable(w)?;
            }
            let copies = work.iter().map(|w| self.copies(w)).collect::<Result<Vec<_>, _>>()?;
            let spans = work.iter().zip(&copies).map(|(w, copies)| {
                let sequence = &self.running[w.sequence];
                Span {
                    tokens: &sequence.tokens[w.positions.clone()],
                    position: w.positions.start,
                    reserved: sequence.reserved,
                    pages: &sequence.pages,
                    states: States { own: sequence.state.unwrap_or(0), copies },
                    logits: if w.draws { Logits::Last } else { Logits::None },
                }
            });
            let spans: Vec<_> = spans.collect();
            let output = run(&mut *self.program, &spans)?;
            self.settle(&work, &output.logits);
        }
        Ok(std::mem::take(&mut self.events))
    }

    /// Starts waiting requests while there is room, each after what it has in common with a finished one. The last position
    /// of a prompt is computed in any case, for its logits.
    fn admit(&mut self) -> Result<(), BackendError> {
        while self.running.len() < self.options.max_sequences && !self.waiting.is_empty() {
            let state = self.states.as_mut().map(|states| states.take(&mut *self.program)).transpose()?;
            let Some(mut sequence) = self.waiting.pop_front() else { break };
            let most = sequence.tokens.len() - 1; // No prompt is empty.
            let (page, variant) = (self.program.page_positions(), self.program.variant(sequence.reserved));
            let found =
                self.prefixes.find(variant, &sequence.tokens, most, page, &mut self.pool, self.states.is_some());
            if let (Some(own), Some(kept)) = (state, found.state) {
                self.program.copy_state(kept, own);
            }
            if state.is_some() {
                // Where this sequence leaves a kept one, others will; the end of a prompt is where the next turn begins.
                sequence.points = [found.common, most].map(|position| position / page * page).to_vec();
                sequence.points.retain(|position| *position > found.stored);
                sequence.points.dedup();
            }
            (sequence.state, sequence.stored, sequence.pages) = (state, found.stored, found.pages);
            self.events.push(Event::Started { id: sequence.id, reused: sequence.stored });
            self.running.push(sequence);
        }
        Ok(())
    }

    /// The copies that the work leaves of its sequence's state: as many as may be kept.
    fn copies(&mut self, work: &Work) -> Result<Vec<(usize, u32)>, BackendError> {
        let sequence = &mut self.running[work.sequence];
        let Range { start, end } = work.positions;
        for &position in sequence.points.iter().filter(|position| (start + 1..=end).contains(position)) {
            // A batch that failed has left them.
            if sequence.copies.iter().any(|copy| copy.position == position) {
                continue;
            }
            if !make_room(&mut self.prefixes, &mut self.pool, &mut self.states) {
                break;
            }
            if let Some(states) = &mut self.states {
                let state = states.take(&mut *self.program)?;
                states.keep();
                sequence.copies.push(Copy { position, state });
            }
        }
        let new = sequence.copies.iter().filter(|copy| (start + 1..=end).contains(&copy.position));
        Ok(new.map(|copy| (copy.position, copy.state)).collect())
    }

    /// Gives the sequence a page of its own for each position of the work: a new one, or a copy of a shared one.
    fn make_writable(&mut self, work: &Work) -> Result<(), EngineError> {
        let positions = self.program.page_positions();
        let pages = &mut self.running[work.sequence].pages;
        for index in work.positions.start / positions..work.positions.end.div_ceil(positions) {
            // Letting go of a kept prefix may free a page, or end the sharing of this one.
            while pages.get(index).is_none_or(|&page| !self.pool.is_exclusive(page)) {
                let Some(new) = self.pool.take(&mut *self.program)? else {
                    if self.prefixes.evict(&mut self.pool, &mut self.states) {
                        continue;
                    }
                    return Err(EngineError::CacheFull);
                };
                match pages.get_mut(index) {
                    Some(page) => {
                        self.program.copy_page(*page, new);
                        self.pool.release(&[*page]);
                        *page = new;
                    }
                    None => pages.push(new),
                }
            }
        }
        Ok(())
    }

    /// Takes in a batch's logits, `[sequences that draw, vocab]`.
    fn settle(&mut self, work: &[Work], logits: &[f32]) {
        let mut rows = logits.chunks_exact(self.program.vocab());
        let mut ended = Vec::new();
        for w in work {
            let sequence = &mut self.running[w.sequence];
            sequence.stored = w.positions.end;
            let Some(row) = w.draws.then(|| rows.next()).flatten() else { continue };
            let id = sequence.id;
            let end = match sequence.advance(row, self.options.context, &mut self.events) {
                Ok(None) => continue,
                Ok(Some(reason)) => Event::Finished { id, reason },
                Err(error) => Event::Failed { id, error },
            };
            self.events.push(end);
            ended.push(w.sequence);
        }
        for at in ended.into_iter().rev() {
            let sequence = self.running.remove(at);
            self.retire(sequence);
        }
    }

    /// Keeps what the sequence has stored for requests that begin alike.
    fn retire(&mut self, mut sequence: Sequence) {
        let stored = sequence.stored;
        let used = stored.div_ceil(self.program.page_positions());
        self.pool.release(&sequence.pages.split_off(used));
        if let Some(own) = sequence.state.filter(|_| stored > 0)
            && make_room(&mut self.prefixes, &mut self.pool, &mut self.states)
        {
            self.states.iter_mut().for_each(StatePool::keep);
            sequence.copies.push(Copy { position: stored, state: own });
            sequence.state = None;
        }
        if let Some(states) = &mut self.states {
            sequence.state.into_iter().for_each(|own| states.release(own));
            // Those of positions that were never computed.
            let unused = sequence.copies.extract_if(.., |copy| copy.position > stored);
            unused.for_each(|copy| states.release_kept(copy.state));
        }
        if stored > 0 {
            let (variant, tokens) = (self.program.variant(sequence.reserved), &sequence.tokens[..stored]);
            let (pages, copies) = (sequence.pages, sequence.copies);
            self.prefixes.keep(variant, tokens, pages, copies, &mut self.pool, &mut self.states);
        }
    }
}

/// Whether one more state may be kept, if need be after letting go of another.
fn make_room(prefixes: &mut PrefixCache, pool: &mut PagePool, states: &mut Option<StatePool>) -> bool {
    while states.as_ref().is_some_and(StatePool::is_full) {
        if !prefixes.evict_copy(pool, states) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests;
