//! What a model asks of any backend: compile a plan, take batches, answer when done.
//!
//! The backend owns the bytes of KV pages and of states; its caller owns the page tables, and says which state is whose.
//! A state is what layers that keep no keys and values keep of a sequence in their place: of a fixed size, and good for one
//! position, up to which it was computed.

use crate::plan::DecoderPlan;
use crate::quant::panel::BLOCK;

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum KvType {
    F32,
    #[default]
    F16,
    /// int8 with an f16 scale for each 32 values of a head.
    Q8_0,
}

impl KvType {
    /// Bytes of one stored key, or value, of `head_dim` numbers.
    pub fn bytes(self, head_dim: usize) -> usize {
        match self {
            Self::F32 => 4 * head_dim,
            Self::F16 => 2 * head_dim,
            Self::Q8_0 => (BLOCK + 2) * head_dim.div_ceil(BLOCK),
        }
    }
}

#[derive(Clone, Debug)]
pub struct ProgramOptions {
    pub kv: KvType,
    /// Threads of the hot path, the caller's included; at least 1.
    pub threads: usize,
    /// Whether BF16 weights are multiplied in BF16 arithmetic, to which their inputs are rounded, instead of f32.
    pub bf16: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    #[error("tensor {tensor}: {problem}")]
    Weight { tensor: String, problem: String },
    #[error("model: {0}")]
    Plan(String),
    #[error("batch: {0}")]
    Batch(String),
    #[error("cannot allocate {bytes} bytes for {what}")]
    Memory { what: &'static str, bytes: usize },
}

/// Called while a plan is compiled: file bytes prepared so far, and all of them.
pub type Observer<'a> = &'a mut dyn FnMut(usize, usize);

pub trait Backend {
    /// Prepares the weights for running. Weights may be released from memory as they are copied.
    ///
    /// # Errors
    /// A tensor whose type or shape this backend cannot run, or too little memory.
    fn compile(
        &self,
        plan: DecoderPlan,
        options: &ProgramOptions,
        observer: Observer,
    ) -> Result<Box<dyn Program>, BackendError>;
}

/// Which positions of a span give logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logits {
    None,
    Last,
    All,
}

/// The states of a span; programs without states do not look at them.
#[derive(Clone, Copy, Debug, Default)]
pub struct States<'a> {
    /// The sequence's own, in no other span of the batch: it stands at the span's first position and is left behind its last.
    /// A sequence begins with any state.
    pub own: u32,
    /// Copies to make on the way: of the state behind so many positions of the sequence, to this id. In ascending order.
    pub copies: &'a [(usize, u32)],
}

/// Consecutive new positions of one sequence.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    /// The input at each new position; not empty.
    pub tokens: &'a [u32],
    /// Position of the first of them: all before it are already in the pages.
    pub position: usize,
    /// The most positions that the sequence may ever have, the same in all of its spans: what some models choose their
    /// rotations by.
    pub reserved: usize,
    /// The sequence's pages in order, enough for `position + tokens.len()` positions.
    pub pages: &'a [u32],
    pub states: States<'a>,
    pub logits: Logits,
}

/// Names one submitted batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(pub u64);

/// The result of a batch.
#[derive(Debug, Default)]
pub struct Output {
    /// `[rows, vocab]`: a row for each position that asked for logits, in the batch's order.
    pub logits: Vec<f32>,
}

/// What a linear node was given.
#[derive(Clone, Copy, Debug)]
pub struct NodeInputs<'a> {
    pub rows: u64,
    /// The number of the node that was given the same, and stands for all that were.
    pub same_as: usize,
    /// Of each column the sum of its squares: `[cols]`.
    pub squares: &'a [f64],
    /// `[cols, span]`: sums of products with the columns of a column's group, from the first of its own sixteen columns on.
    pub products: &'a [f32],
}

/// A compiled model with its KV pages and states.
pub trait Program: Send {
    fn vocab(&self) -> usize;
    /// Positions in one page.
    fn page_positions(&self) -> usize;
    /// What a sequence with so many reserved positions makes of its keys: only sequences with the same answer may share
    /// pages.
    fn variant(&self, _reserved: usize) -> usize {
        0
    }
    /// Bytes of one page, keys and values of all layers.
    fn page_bytes(&self) -> usize;
    /// Pages that exist: ids are `0..pages()`.
    fn pages(&self) -> usize;
    /// Grows the storage to at least `pages` pages; existing pages keep their content.
    ///
    /// # Errors
    /// Too little memory; the storage is then as before.
    fn reserve(&mut self, pages: usize) -> Result<(), BackendError>;
    /// Copies the content of page `from` to page `to`.
    fn copy_page(&mut self, from: u32, to: u32);
    /// Bytes of one state; 0 where no layer has any, and then no state is asked for.
    fn state_bytes(&self) -> usize {
        0
    }
    /// Grows the storage to at least `states` states, whose ids are `0..states`; existing ones keep their content.
    ///
    /// # Errors
    /// Too little memory; the storage is then as before.
    fn reserve_states(&mut self, _states: usize) -> Result<(), BackendError> {
        Ok(())
    }
    /// Copies the content of state `from` to state `to`.
    fn copy_state(&mut self, _from: u32, _to: u32) {}
    /// From now on sums up what linear nodes are given, all but the head; [`Self::take_inputs`] tells. `spans` are in the
    /// order of nodes: products are summed of the columns of a group, this many, a multiple of sixteen; 0 or nothing for
    /// none.
    ///
    /// # Errors
    /// Too little memory, or a program that cannot.
    fn record_inputs(&mut self, _spans: &[usize]) -> Result<(), BackendError> {
        Err(BackendError::Plan("this program does not tell what its matrices are given".to_owned()))
    }
    /// Gives what linear nodes were given since the last call, by a node's number in
    /// [`DecoderPlan::linears`](crate::plan::DecoderPlan::linears). The bits do not depend on threads, nor on how rows were
    /// spread over batches.
    fn take_inputs(&mut self, _each: &mut dyn FnMut(usize, &NodeInputs)) {}
    /// Starts a batch: stores the spans' keys and values in their pages, moves their states on, and computes the logits that
    /// were asked for.
    ///
    /// # Errors
    /// A token outside the vocabulary, a page table too short, a page or a state id that does not exist, a state of another
    /// position; nothing is stored then.
    fn submit(&mut self, batch: &[Span]) -> Result<Ticket, BackendError>;
    /// The batch's output once, as soon as it is done; `None` while it runs.
    ///
    /// # Errors
    /// A ticket that is not under way.
    fn poll(&mut self, ticket: Ticket) -> Result<Option<Output>, BackendError>;
}

/// Submits a batch and waits for its output.
///
/// # Errors
/// As [`Program::submit`] and [`Program::poll`].
pub fn run(program: &mut dyn Program, batch: &[Span]) -> Result<Output, BackendError> {
    let ticket = program.submit(batch)?;
    loop {
        if let Some(output) = program.poll(ticket)? {
            return Ok(output);
        }
        std::thread::yield_now();
    }
}
