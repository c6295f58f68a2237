//! The importance matrix of a text, as llama-imatrix makes it: how strongly each column of each matrix is moved.
//!
//! The text is cut into windows of `context` tokens that follow one another; a rest is left out. Each window is a sequence
//! of its own, its first token replaced by BOS where the vocabulary adds one. Of each linear node in a layer the squares of
//! its inputs are summed up by column, and the inputs counted; of a mixture's experts, for each expert alone. Neither the
//! output matrix nor what stands outside the layers is looked at. Products of columns are summed up on demand, for a search
//! that lets errors make up for each other; not of experts.
//!
//! Work that was broken off goes on from a [partial result](partial), to the same bits.

mod error;
mod own_text;
pub mod partial;
mod sums;

use std::ops::ControlFlow;
use std::path::Path;

use formats::imatrix;
use kernels::backend::{Logits, Program, Span, run};

pub use error::CalibrateError;
use model::NodeTensor;
pub use own_text::{OWN_CONTEXT, own_text};
use sums::Sums;

use crate::cache::Cache;

/// Positions that are computed together where windows are short, so that weights are read for many.
const POSITIONS: usize = 512;

#[derive(Clone, Copy, Debug)]
pub struct CalibrateOptions {
    /// Tokens of a window; at least 1.
    pub context: usize,
    /// Replaces the first token of each window.
    pub bos: Option<u32>,
    /// Whether products of columns are summed, too.
    pub products: bool,
}

/// Sums over the windows done.
#[derive(Debug)]
pub struct Calibration {
    windows: usize,
    sums: Sums,
}

impl Calibration {
    /// Of no windows, for a program with these nodes.
    pub fn new(nodes: &[NodeTensor], options: &CalibrateOptions) -> Self {
        Self { windows: 0, sums: Sums::new(nodes, options.products) }
    }

    /// Windows done.
    pub fn windows(&self) -> usize {
        self.windows
    }

    /// How many tensors there are sums of.
    pub fn tensors(&self) -> usize {
        self.sums.tensors().len()
    }

    /// Experts that no token of the text was given to, and all: of each stack.
    pub fn unseen_experts(&self) -> (usize, usize) {
        let stacks = self.sums.tensors().iter().filter(|tensor| tensor.counts.len() > 1);
        let counts: Vec<u64> = stacks.flat_map(|tensor| tensor.counts.iter().copied()).collect();
        (counts.iter().filter(|count| **count == 0).count(), counts.len())
    }

    /// Computes the windows that are left of `tokens`. `progress` is told after each step, with the count of all windows,
    /// and may break off the work.
    ///
    /// # Errors
    /// A text shorter than a window, tokens outside the vocabulary, inputs that are not numbers, what `progress` broke off,
    /// or the backend's.
    pub fn run(
        &mut self,
        program: &mut dyn Program,
        tokens: &[u32],
        options: &CalibrateOptions,
        progress: &mut dyn FnMut(&Self, usize) -> ControlFlow<()>,
    ) -> Result<(), CalibrateError> {
        let context = options.context.max(1);
        check(program.vocab(), tokens, context)?;
        let sequences = (POSITIONS / context).max(1);
        let cache = Cache::new(program, sequences, context)?;
        program.record_inputs(self.sums.spans())?;
        let windows: Vec<&[u32]> = tokens.chunks_exact(context).collect();
        while self.windows < windows.len() {
            let batch = &windows[self.windows..windows.len().min(self.windows + sequences)];
            let inputs: Vec<Vec<u32>> = batch
                .iter()
                .map(|window| {
                    options.bos.into_iter().chain(window[usize::from(options.bos.is_some())..].iter().copied())
                })
                .map(Iterator::collect)
                .collect();
            let span = |(sequence, tokens)| Span {
                tokens,
                position: 0,
                reserved: context,
                pages: cache.pages(sequence),
                states: cache.states(sequence),
                logits: Logits::None,
            };
            let spans: Vec<Span> = inputs.iter().map(Vec::as_slice).enumerate().map(span).collect();
            run(program, &spans)?;
            self.sums.add(program)?;
            self.windows += batch.len();
            if progress(self, windows.len()).is_break() {
                return Err(CalibrateError::Interrupted);
            }
        }
        Ok(())
    }

    /// Writes the importance matrix, which names the text `dataset`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, target: &Path, dataset: &str, context: usize) -> Result<(), CalibrateError> {
        let chunks = (self.windows as u32, context as u32);
        let (entries, products) = (self.sums.entries(), self.sums.products());
        Ok(imatrix::write_with_products(target, &[dataset.to_owned()], chunks, &entries, &products)?)
    }
}

fn check(vocab: usize, tokens: &[u32], context: usize) -> Result<(), CalibrateError> {
    if tokens.len() < context {
        return Err(CalibrateError::ShortText { tokens: tokens.len(), context });
    }
    match tokens.iter().position(|token| *token as usize >= vocab) {
        Some(position) => Err(CalibrateError::UnknownToken { token: tokens[position], position, vocab }),
        None => Ok(()),
    }
}
