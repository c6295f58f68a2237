//! Requests, scheduling and the paged KV cache.
//!
//! [`Engine`] is a state machine: requests go in, [`Engine::step`] computes one batch and tells what happened. `schedule`
//! decides what the batch holds, `pages` which pages of the cache belong to whom, `states` how many states there are, `prefix` what of a finished sequence a
//! later request can start from.

mod engine;
mod pages;
mod prefix;
mod request;
pub mod schedule;
mod sequence;
mod states;
#[cfg(test)]
mod testing;

pub use engine::{Engine, EngineError, EngineOptions};
pub use request::{AdmissionError, Event, FinishReason, Request, RequestId};
