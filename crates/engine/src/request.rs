//! What goes into the engine and what comes out of it.

use model::sampler::{SamplingError, SamplingParams};

/// Names a request in its engine; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// A sequence to continue.
#[derive(Clone, Debug)]
pub struct Request {
    /// The prompt.
    pub tokens: Vec<u32>,
    pub params: SamplingParams,
    /// The most tokens to generate; at least 1.
    pub max_tokens: usize,
    /// Tokens that end the answer; they are not part of it.
    pub stop_tokens: Vec<u32>,
}

/// Why a request cannot be taken.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AdmissionError {
    #[error("the prompt is empty; at least one token was expected")]
    EmptyPrompt,
    #[error("the prompt has {tokens} tokens, the context holds {context}")]
    PromptTooLong { tokens: usize, context: usize },
    #[error("token {token} at position {position} of the prompt is outside the vocabulary of {vocab}")]
    UnknownToken { token: u32, position: usize, vocab: usize },
    #[error("max_tokens is 0; at least 1 was expected")]
    NothingToGenerate,
    #[error(transparent)]
    Sampling(#[from] SamplingError),
}

/// Why a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model gave one of the stop tokens.
    Stop,
    /// `max_tokens` were generated.
    Length,
    /// The context is full.
    Context,
    Cancelled,
}

/// What a step did; of one request in this order: `Started`, any number of `Token`, then `Finished` or `Failed`.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The request left the queue. The first `reused` positions of its prompt need no computing.
    Started {
        id: RequestId,
        reused: usize,
    },
    /// A generated token and its position in the sequence.
    Token {
        id: RequestId,
        token: u32,
        position: usize,
    },
    Finished {
        id: RequestId,
        reason: FinishReason,
    },
    /// The model's logits gave no token.
    Failed {
        id: RequestId,
        error: SamplingError,
    },
}

impl Event {
    /// The request that this is about.
    pub fn id(&self) -> RequestId {
        match self {
            Self::Started { id, .. } | Self::Token { id, .. } | Self::Finished { id, .. } | Self::Failed { id, .. } => {
                *id
            }
        }
    }
}
