//! The windows of a text, and a program that reads them one by one.

use std::ops::Range;

use kernels::backend::{BackendError, Logits, Program, Span, run};

use super::EvaluateOptions;
use crate::cache::Cache;

/// Some of a text's windows.
#[derive(Clone)]
pub(super) struct Windows<'a> {
    pub text: &'a [u32],
    /// Tokens of a window.
    pub context: usize,
    pub bos: Option<u32>,
    /// Which of the text's windows are meant.
    pub range: Range<usize>,
}

impl<'a> Windows<'a> {
    /// All windows of a text that has at least one.
    pub fn new(text: &'a [u32], options: &EvaluateOptions) -> Self {
        let EvaluateOptions { context, bos, .. } = *options;
        Self { text, context, bos, range: 0..text.len() / context }
    }

    /// How many the text has.
    pub fn all(&self) -> usize {
        self.text.len() / self.context
    }

    pub fn tokens(&self, window: usize) -> &'a [u32] {
        &self.text[window * self.context..][..self.context]
    }

    /// The tokens as the model is given them.
    pub fn inputs(&self, window: usize) -> Vec<u32> {
        let mut inputs = self.tokens(window).to_vec();
        inputs[0] = self.bos.unwrap_or(inputs[0]);
        inputs
    }

    /// The positions of a window whose predictions are scored.
    pub fn scored(&self) -> Range<usize> {
        self.context / 2..self.context - 1
    }
}

/// A program that reads windows one after the other.
pub(super) struct Reader<'a> {
    program: &'a mut dyn Program,
    cache: Cache,
}

impl<'a> Reader<'a> {
    /// # Errors
    /// Too little memory for a window.
    pub fn new(program: &'a mut dyn Program, context: usize) -> Result<Self, BackendError> {
        let cache = Cache::new(program, 1, context)?;
        Ok(Self { program, cache })
    }

    pub fn vocab(&self) -> usize {
        self.program.vocab()
    }

    /// Computes positions of a window whose positions before were computed last; the logits `[positions, vocab]` that were
    /// asked for.
    pub fn compute(
        &mut self,
        inputs: &[u32],
        positions: Range<usize>,
        logits: Logits,
    ) -> Result<Vec<f32>, BackendError> {
        let span = Span {
            tokens: &inputs[positions.clone()],
            position: positions.start,
            reserved: self.cache.positions,
            pages: self.cache.pages(0),
            states: self.cache.states(0),
            logits,
        };
        Ok(run(self.program, &[span])?.logits)
    }
}
