//! A request under way.

use model::sampler::{Sampler, SamplingError};

use crate::prefix::Copy;
use crate::request::{AdmissionError, Event, FinishReason, Request, RequestId};
use crate::schedule::Demand;

#[derive(Debug)]
pub struct Sequence {
    pub id: RequestId,
    /// The prompt and what was generated.
    pub tokens: Vec<u32>,
    /// Pages in order of position.
    pub pages: Vec<u32>,
    /// Positions whose keys and values are in the pages.
    pub stored: usize,
    /// Its state, once it runs on a program with states.
    pub state: Option<u32>,
    /// Positions behind which its state is to be copied, ascending.
    pub points: Vec<usize>,
    /// What was copied.
    pub copies: Vec<Copy>,
    /// The most positions that it may ever have.
    pub reserved: usize,
    prompt: usize,
    max_tokens: usize,
    stop_tokens: Vec<u32>,
    sampler: Sampler,
}

impl Sequence {
    /// # Errors
    /// The request is empty, does not fit the context or the vocabulary, or asks for what the sampler cannot do.
    pub fn new(id: RequestId, request: Request, context: usize, vocab: usize) -> Result<Self, AdmissionError> {
        let Request { tokens, params, max_tokens, stop_tokens } = request;
        if tokens.is_empty() {
            return Err(AdmissionError::EmptyPrompt);
        }
        if tokens.len() > context {
            return Err(AdmissionError::PromptTooLong { tokens: tokens.len(), context });
        }
        if let Some(position) = tokens.iter().position(|&t| t as usize >= vocab) {
            return Err(AdmissionError::UnknownToken { token: tokens[position], position, vocab });
        }
        if max_tokens == 0 {
            return Err(AdmissionError::NothingToGenerate);
        }
        let sampler = Sampler::new(params)?;
        let prompt = tokens.len();
        let reserved = prompt.saturating_add(max_tokens).min(context);
        Ok(Self {
            id,
            tokens,
            pages: Vec::new(),
            stored: 0,
            state: None,
            points: Vec::new(),
            copies: Vec::new(),
            reserved,
            prompt,
            max_tokens,
            stop_tokens,
            sampler,
        })
    }

    pub fn demand(&self) -> Demand {
        Demand { stored: self.stored, tokens: self.tokens.len() }
    }

    /// Draws the token after the last from its logits `[vocab]`; gives the reason where the sequence ends with it.
    ///
    /// # Errors
    /// The logits give no token.
    pub fn advance(
        &mut self,
        logits: &[f32],
        context: usize,
        events: &mut Vec<Event>,
    ) -> Result<Option<FinishReason>, SamplingError> {
        let (id, position) = (self.id, self.tokens.len());
        let token = self.sampler.sample(logits, &self.tokens, position as u64)?;
        if self.stop_tokens.contains(&token) {
            return Ok(Some(FinishReason::Stop));
        }
        self.tokens.push(token);
        events.push(Event::Token { id, token, position });
        let reason = if self.tokens.len() - self.prompt >= self.max_tokens {
            Some(FinishReason::Length)
        } else if self.tokens.len() > context {
            // The position of this token, were it computed, would lie outside.
            Some(FinishReason::Context)
        } else {
            None
        };
        Ok(reason)
    }
}
